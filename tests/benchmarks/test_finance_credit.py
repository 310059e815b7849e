"""The credit benchmark: its verdict, its models on a small panel, its panels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.credit_models import MODELS, CreditProtocol, control_areas, score_fold
from benchmarks.credit_panels import PANELS, read_panel
from benchmarks.finance_credit import judge, read_protocol
from common.errors import MissingInputError
from common.evaluation.intervals import Interval
from common.evaluation.metrics import area_under_curve
from kits.finance.risk.credit_panel import CreditPanel, duplicate_groups, split_panel

CONFIG = Path(__file__).parents[2] / "benchmarks" / "configs" / "finance.credit.json"


@pytest.fixture(scope="module")
def protocol() -> CreditProtocol:
    return read_protocol(CONFIG, quick=True)


@pytest.fixture(scope="module")
def panel() -> CreditPanel:
    random = np.random.default_rng(0)
    x, noise = random.normal(size=(2, 1500))
    columns = {
        "x": np.where(random.random(1500) < 0.1, np.nan, x),
        "noise": noise,
        "text": random.choice(["a", "b"], 1500).astype(np.str_),
    }
    default = random.random(1500) < 1 / (1 + np.exp(1 - 2 * x))
    return CreditPanel("made", columns, default, duplicate_groups(columns), None, "row hash")


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([(0.1, 0.01, 0.2), (0.2, 0.1, 0.3)], "exceeded"),
        ([(0.1, 0.01, 0.2), (0.0, -0.1, 0.1)], "not shown"),
        ([(0.1, 0.01, 0.2), (-0.2, -0.3, -0.1)], "contradicted"),
        ([], "not shown"),
    ],
)
def test_the_verdict_rests_on_the_intervals_of_all_default_panels(gains, verdict) -> None:
    assert judge([Interval(*gain) for gain in gains]) == verdict


@pytest.mark.parametrize("name", MODELS)
def test_each_model_tells_defaults_apart_and_is_calibrated_on_dev(name, panel, protocol) -> None:
    split = split_panel(panel, 0)
    scored = score_fold(name, panel, split, protocol)
    assert len(scored.probability) == len(split.test)
    assert area_under_curve(scored.log_odds, panel.default[split.test]).value > 0.75
    assert scored.probability.mean() == pytest.approx(panel.default[split.test].mean(), abs=0.08)


def test_shuffled_outcomes_tell_nobody_apart(panel, protocol) -> None:
    areas = [
        a for fold in range(5) for a in control_areas(panel, split_panel(panel, fold), protocol)
    ]
    assert len(areas) == 5 * protocol.shuffles
    assert np.mean(areas) == pytest.approx(0.5, abs=0.1)


def test_the_whole_protocol_names_every_panel() -> None:
    assert set(read_protocol(CONFIG, quick=False).panels) == set(PANELS)


@pytest.mark.parametrize(
    ("name", "rows", "defaults"),
    [
        ("taiwan_default", 30_000, 6636),
        ("german_credit", 1000, 300),
        ("hmeq", 5960, 1189),
        ("polish_1year", 7027, 271),
        ("polish_5year", 5910, 410),
        ("ratings", 7805, 2706),
    ],
)
def test_panels_are_read_whole_and_without_protected_traits(
    name: str, rows: int, defaults: int, tandem_data: Path
) -> None:
    read = read_panel(name, tandem_data)
    assert (len(read.default), int(read.default.sum())) == (rows, defaults)
    told = " ".join(read.columns).lower().split()
    assert not {"sex", "marriage", "age", "age_in_years", "foreign_worker", "id", "cik"} & set(told)


def test_an_absent_panel_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="credit panel hmeq"):
        read_panel("hmeq", tmp_path)
