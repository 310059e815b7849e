"""The event's probability is monotone, calibrated on dev, and survives JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from common.errors import InputError
from kits.finance.risk.event import EventModel, fit_event_model


def simulated(n, bias=0.0, seed=0):
    """Outcomes around forecasts; `bias` is what the period is calmer than forecast."""
    rng = np.random.default_rng(seed)
    forecast = rng.normal(-4, 0.4, n)
    return forecast, forecast - bias + rng.normal(0, 0.25, n)


def fitted(bias=0.0, m=600):
    forecast, outcome = simulated(1200)
    dev, dev_outcome = simulated(m, bias, seed=1)
    return fit_event_model(
        forecast, outcome, threshold=float(np.quantile(outcome, 0.8)),
        dev_forecast=dev, dev_outcome=dev_outcome, dev_company=np.arange(m) // 2,
    )  # fmt: skip


def test_probability_never_falls_with_the_forecast():
    """Whatever calibration was chosen."""
    for bias in (0.0, 0.3):
        p = fitted(bias).probability(np.linspace(-6, -2, 200))
        assert (np.diff(p) >= 0).all()
        assert ((p >= 0) & (p <= 1)).all()


def test_a_shifted_period_is_calibrated_on_dev():
    """Where dev is calmer than training the mean probability follows dev, not training."""
    model = fitted(bias=0.3)
    assert model.method in ("platt", "isotonic")
    new, outcome = simulated(4000, 0.3, seed=2)
    rate = (outcome > model.threshold).mean()
    assert model.probability(new).mean() == pytest.approx(rate, abs=0.03)
    raw = 1 / (1 + np.exp(-model.log_odds(new)))
    assert abs(raw.mean() - rate) > 0.05


def test_few_dev_events_choose_nothing():
    """The training fit is left as it is, and says so."""
    model = fitted(m=30)
    assert model.method == "as it is"
    assert 0 <= model.n_dev_events <= 30


def test_it_survives_json():
    """Probabilities of the model read back are the same; a damaged record is refused."""
    model = fitted(0.3)
    written = json.loads(json.dumps(model.to_json()))
    x = np.linspace(-5, -3, 9)
    np.testing.assert_array_equal(
        EventModel.from_json(written).probability(x), model.probability(x)
    )
    del written["slope"]
    with pytest.raises(InputError, match="KeyError"):
        EventModel.from_json(written)


def test_a_threshold_that_nobody_exceeds_is_refused():
    """There is nothing to fit."""
    forecast, outcome = simulated(50)
    with pytest.raises(InputError, match="0 events in 50 rows"):
        fit_event_model(
            forecast, outcome, threshold=9.0, dev_forecast=forecast, dev_outcome=outcome
        )
