"""Development finds what was simulated, chooses on dev, and refuses what would leak."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from common.errors import TableError
from common.evaluation.logistic import sigmoid
from common.evaluation.metrics import area_under_curve, expected_calibration_error
from kits.finance.risk.scorecard import read_scorecard, write_scorecard
from kits.finance.risk.scorecard_boosting import fit_bin_effects
from kits.finance.risk.scorecard_development import (
    ALL_METHODS,
    DevelopmentSample,
    FitMethod,
    develop_scorecard,
)
from kits.finance.risk.weight_of_evidence import bin_column


def simulated(n: int, seed: int) -> tuple[DevelopmentSample, np.ndarray]:
    """A rising number with missing values, a hump, a text, and noise; and the true log-odds."""
    random = np.random.default_rng(seed)
    rising, hump, noise = random.normal(size=(3, n))
    text = random.choice(["low", "high"], size=n)
    missing = random.random(n) < 0.1
    log_odds = -1.5 + rising + 1.2 * (np.abs(hump) < 0.7) + 0.8 * (text == "high")
    log_odds = np.where(missing, log_odds - rising + 1.0, log_odds)
    sample = DevelopmentSample(
        table={
            "rising": np.where(missing, np.nan, rising),
            "hump": hump,
            "noise": noise,
            "text": text.astype(np.str_),
        },
        default=random.random(n) < sigmoid(log_odds),
        group=np.array([f"{seed}-{i}" for i in range(n)]),
    )
    return sample, log_odds


@pytest.fixture(scope="module")
def samples() -> tuple[DevelopmentSample, DevelopmentSample]:
    return simulated(6000, 1)[0], simulated(3000, 2)[0]


@pytest.mark.parametrize("method", ALL_METHODS)
def test_each_method_recovers_most_of_the_true_ranking(samples, method: FitMethod) -> None:
    card = develop_scorecard("made", *samples, methods=[method])
    test, truth = simulated(4000, 3)
    scored = card.apply(test.table)
    ours = area_under_curve(scored.log_odds, test.default).value
    best = area_under_curve(truth, test.default).value
    lost = 0.01 if method == "boosting of any shape" else 0.06  # the hump has no trend
    assert ours > best - lost
    assert expected_calibration_error(scored.probability_of_default, test.default) < 0.03
    assert "noise" not in {c.binning.name for c in card.characteristics[:3]}


def test_the_method_with_the_smallest_dev_loss_is_chosen(samples) -> None:
    card = develop_scorecard("made", *samples)
    losses = card.facts["dev_log_losses"]
    assert card.facts["method"] == min(losses, key=losses.__getitem__) == "boosting of any shape"


@pytest.mark.parametrize("method", ["weight of evidence", "boosting"])
def test_the_pd_only_rises_or_only_falls_with_a_number(samples, method: FitMethod) -> None:
    card = develop_scorecard("made", *samples, methods=[method])
    at = np.linspace(-4, 4, 200)
    for name in ("rising", "hump"):
        table = {"rising": np.zeros(200), "hump": np.zeros(200), "noise": np.zeros(200),
                 "text": np.full(200, "low"), name: at}  # fmt: skip
        steps = np.diff(card.apply(table).log_odds)
        assert (steps >= -1e-12).all() or (steps <= 1e-12).all()


def test_boosted_effects_are_the_model_and_nothing_else(samples) -> None:
    """Bins merged, constant and effects read off: a refit must give scikit-learn's log-odds."""
    train, dev = samples
    binnings = [bin_column(n, v, train.default) for n, v in train.table.items()]
    fitted, constant = fit_bin_effects(
        binnings, (train.table, train.default), (dev.table, dev.default), trend="free"
    )
    log_odds = constant + sum(np.array(b.weights)[b.index(train.table[b.name])] for b in fitted)
    # boosting on log loss leaves the mean residual near zero, which a wrong constant would not
    assert np.mean(sigmoid(log_odds)) == pytest.approx(train.default.mean(), abs=0.005)
    text = next(b for b in fitted if b.name == "text")
    effect = dict(zip([level for (level,) in text.levels], text.weights, strict=False))
    assert effect["high"] - effect["low"] == pytest.approx(0.8, abs=0.2)


def test_unpenalised_weights_without_sign_are_scikit_learns(samples) -> None:
    """With columns that all help, the bound of 0 does not bind and ridge 1 is C = 1."""
    train, dev = samples
    card = develop_scorecard("made", train, dev, methods=["weight of evidence"])
    penalty = float(card.facts["setting"].removeprefix("ridge "))
    x = np.column_stack(
        [np.array(c.binning.weights)[c.binning.index(train.table[c.binning.name])]
         for c in card.characteristics]
    )  # fmt: skip
    peer = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=1000).fit(x, train.default)
    ours = [c.coefficient for c in card.characteristics]
    assert ours == pytest.approx(peer.coef_[0].tolist(), abs=2e-3)


def test_a_developed_card_is_saved_and_read_back(samples, tmp_path: Path) -> None:
    card = develop_scorecard("made", *samples, facts={"source": "simulated"})
    again = read_scorecard(write_scorecard(card, tmp_path / "card.json"))
    test = simulated(200, 5)[0].table
    assert (again.apply(test).points == card.apply(test).points).all()
    assert json.loads(json.dumps(again.facts))["source"] == "simulated"


def test_a_group_in_both_samples_is_refused(samples) -> None:
    train, dev = samples
    leaking = replace(dev, group=np.append(dev.group[:-1], train.group[0]))
    with pytest.raises(TableError, match="copied row"):
        develop_scorecard("made", train, leaking)


def test_columns_that_tell_nothing_make_no_card(samples) -> None:
    train, dev = samples
    noise = [replace(s, table={"noise": s.table["noise"]}) for s in (train, dev)]
    with pytest.raises(TableError, match="none of 1"):
        develop_scorecard("made", *noise)
