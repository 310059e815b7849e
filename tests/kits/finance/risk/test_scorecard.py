"""A card is data: additive to the last digit, readable without scikit-learn, tamper-evident."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InputError, MissingInputError, StoreError, TableError
from common.evaluation.calibration import AsItIs, Beta, Isotonic, Platt
from common.evaluation.logistic import logit
from kits.finance.risk.scorecard import (
    Characteristic,
    PointsScale,
    Scorecard,
    read_scorecard,
    write_scorecard,
)
from kits.finance.risk.weight_of_evidence import Binning

ROOT = Path(__file__).parents[4]
RATIO = Binning("ratio", (0.2, 0.5), (), (-0.7, 0.1, 0.9, 0.4, 0.0), (50, 30, 20, 10, 0),
                (5, 6, 9, 3, 0))  # fmt: skip
SECTOR = Binning("sector", (), (("mining",), ("trade",)), (0.3, -0.2, 0.05, 0.0), (40, 60, 10, 0),
                 (12, 9, 2, 0))  # fmt: skip


def card(calibration=None) -> Scorecard:
    return Scorecard(
        name="made",
        characteristics=(Characteristic(RATIO, 1.2), Characteristic(SECTOR, 0.8)),
        baseline_log_odds=-1.5,
        calibration=calibration or Platt(0.1, 0.9),
        scale=PointsScale(),
        facts={"train_rows": 110},
    )


def table() -> dict[str, np.ndarray]:
    return {
        "ratio": np.array([0.1, 0.3, 0.9, np.nan]),
        "sector": np.array(["mining", "trade", "never seen", ""]),
        "unused": np.array([1.0, 2.0, 3.0, 4.0]),
    }


def test_a_row_scores_what_its_bins_add_up_to() -> None:
    scored = card().apply(table())
    mean_ratio = (-0.7 * 50 + 0.1 * 30 + 0.9 * 20 + 0.4 * 10) / 110
    mean_sector = (0.3 * 40 - 0.2 * 60 + 0.05 * 10) / 110
    first = -1.5 + 1.2 * (-0.7 - mean_ratio) + 0.8 * (0.3 - mean_sector)
    assert scored.log_odds[0] == pytest.approx(first, abs=1e-12)
    assert scored.log_odds == pytest.approx(-1.5 + scored.contributions.sum(1))
    assert scored.probability_of_default[0] == pytest.approx(1 / (1 + np.exp(-0.1 - 0.9 * first)))


def test_twenty_points_double_the_odds_and_600_is_thirty_to_one() -> None:
    scale = PointsScale()
    assert scale.points(np.array([-np.log(30.0)]))[0] == pytest.approx(600)
    assert scale.points(np.array([-np.log(60.0)]))[0] == pytest.approx(620)


curves = st.sampled_from(
    [AsItIs(), Platt(0.2, 0.8), Beta(0.1, 0.7, 1.2), Isotonic((-3.0, 0.0), (0.05, 0.4))]
)


@given(st.integers(0, 3), curves)
def test_reasons_add_up_to_the_calibrated_log_odds(row: int, curve) -> None:
    explained = card(curve).explain(table(), row)
    total = explained.baseline_log_odds + sum(r.contribution for r in explained.reasons)
    assert total == pytest.approx(float(logit(explained.probability_of_default)), abs=1e-9)
    assert explained.reasons[-1].code == "CALIBRATION"
    added = [r.contribution for r in explained.reasons[:-1]]
    assert added == sorted(added, reverse=True)


def test_reasons_name_the_bin_and_never_the_value() -> None:
    explained = card().explain({**table(), "ratio": np.array([0.123456789] * 4)}, 0)
    assert "ratio is at most 0.2" in "".join(r.statement for r in explained.reasons)
    assert "0.1234" not in "".join(r.statement for r in explained.reasons)


def test_an_explanation_that_does_not_add_up_cannot_be_made() -> None:
    explained = card().explain(table(), 0)
    with pytest.raises(InputError, match="add up"):
        replace(explained, probability_of_default=0.5)


def test_a_certainty_has_no_explanation() -> None:
    certain = replace(card(AsItIs()), baseline_log_odds=-900.0)
    with pytest.raises(InputError, match="a PD between 0 and 1"):
        certain.explain(table(), 0)


def test_printed_points_add_up_to_the_score_but_for_rounding() -> None:
    rows = {(r["characteristic"], r["attribute"]): r["points"] for r in card().attributes()}
    printed = rows["ratio", "at most 0.2"] + rows["sector", "mining"]
    assert printed == pytest.approx(card().apply(table()).points[0], abs=1.01)


def test_a_card_reads_back_the_same_and_scores_the_same(tmp_path: Path) -> None:
    curve = Isotonic((-3.0, 0.0), (0.05, 0.4))
    again = read_scorecard(write_scorecard(card(curve), tmp_path / "card.json"))
    assert again == card(curve)
    assert again.digest == card(curve).digest
    assert (again.apply(table()).log_odds == card(curve).apply(table()).log_odds).all()


def test_a_card_is_applied_without_scikit_learn_scipy_or_pandas(tmp_path: Path) -> None:
    path = write_scorecard(card(), tmp_path / "card.json")
    program = (
        "import sys; from pathlib import Path; import numpy as np;"
        "from kits.finance.risk.scorecard import read_scorecard;"
        f"card = read_scorecard(Path({str(path)!r}));"
        "print(card.apply({'ratio': np.array([0.1]), 'sector': np.array(['trade'])}).points[0]);"
        "assert not {'sklearn', 'scipy', 'pandas', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    one = {"ratio": np.array([0.1]), "sector": np.array(["trade"])}
    assert float(done.stdout) == card().apply(one).points[0]


def test_an_edited_card_is_refused(tmp_path: Path) -> None:
    path = write_scorecard(card(), tmp_path / "card.json")
    written = json.loads(path.read_text())
    written["characteristics"][0]["coefficient"] = 0.1
    path.write_text(json.dumps(written))
    with pytest.raises(StoreError, match="another digest"):
        read_scorecard(path)
    path.write_text("{}")
    with pytest.raises(StoreError, match="KeyError"):
        read_scorecard(path)
    with pytest.raises(MissingInputError, match="scorecard"):
        read_scorecard(tmp_path / "absent.json")


def test_tables_without_a_column_and_rows_out_of_range_are_refused() -> None:
    with pytest.raises(TableError, match="no sector"):
        card().apply({"ratio": np.zeros(2)})
    with pytest.raises(TableError, match="row to explain"):
        card().explain(table(), 4)
    with pytest.raises(TableError, match="column sector"):
        card().apply({**table(), "sector": np.zeros(4)})
