"""A residual link leaves price forecasts alone where there is no text, and finds what text says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import Ridge

from common.errors import InputError
from kits.finance.risk.residual import (
    ResidualLink,
    fit_residual_link,
    fit_signal_link,
    shrunken_weight,
)

FIT, CHOOSE = np.arange(400), np.arange(400, 600)
finite = st.floats(-10, 10, allow_nan=False)


def link(weight=0.7, seed=0):
    rng = np.random.default_rng(seed)
    return ResidualLink(
        rng.normal(-4, 0.1, 2), rng.normal(size=3), rng.normal(size=(3, 2)), weight, 1.0
    )


def simulated(effect, n=600, seed=0):
    """Residuals that are `effect` x a linear function of the first of 20 features, and noise."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 20))
    price = rng.normal(-4, 0.4, (n, 2))
    said = effect * features[:, :1] * [0.3, 0.2]
    return features, price, price + 0.1 + said + rng.normal(0, 0.3, (n, 2)), said


@given(arrays(np.float64, (5, 2), elements=finite), st.floats(0, 1))
def test_without_text_the_forecast_is_the_price_forecast(price, weight):
    """Bit for bit: no features, text switched off, rows of NaN, a weight of nothing."""
    fitted = link(weight)
    features = np.full((5, 3), np.nan)
    features[0] = 1.0
    np.testing.assert_array_equal(fitted.forecast(price), price)
    np.testing.assert_array_equal(fitted.forecast(price, features, sides="prices"), price)
    np.testing.assert_array_equal(fitted.forecast(price, features)[1:], price[1:])
    np.testing.assert_array_equal(link(0.0).forecast(price, features), price)


@given(arrays(np.float64, (4, 2), elements=finite), arrays(np.float64, (4, 3), elements=finite))
def test_the_sides_add_up(price, features):
    """Both = prices + (text - p0): the correction does not depend on the prices."""
    fitted = link()
    both = fitted.forecast(price, features)
    text = fitted.forecast(price, features, sides="text")
    np.testing.assert_allclose(both - price, text - fitted.price_centre, atol=1e-12)


def test_a_typical_text_changes_nothing():
    """At z0 the correction is zero."""
    fitted = link()
    price = np.full((1, 2), -4.0)
    np.testing.assert_array_equal(fitted.forecast(price, fitted.feature_centre[None]), price)


def test_what_text_says_is_recovered():
    """The correction follows the true one, and lowers the error on rows of its own."""
    features, price, outcome, said = simulated(1.0, n=1600)
    fitted = fit_residual_link(features, price, outcome, fit=FIT, choose=CHOOSE)
    new = slice(600, 1600)
    added = fitted.forecast(price[new], features[new]) - price[new]
    assert np.corrcoef(added.ravel(), said[new].ravel())[0, 1] > 0.95
    assert 0.7 < fitted.weight <= 1.0
    before = np.mean((outcome[new] - price[new]) ** 2)
    assert np.mean((outcome[new] - price[new] - added) ** 2) < 0.75 * before


def test_noise_gets_little_weight():
    """Without an effect the correction is far smaller than the noise, over 20 draws."""
    sizes = []
    for seed in range(20):
        features, price, outcome, _ = simulated(0.0, seed=seed)
        fitted = fit_residual_link(features, price, outcome, fit=FIT, choose=CHOOSE)
        sizes.append(np.abs(fitted.forecast(price, features) - price).mean())
    assert np.median(sizes) < 0.02


def test_rows_elsewhere_decide_nothing():
    """Outcomes outside both sets of rows may be anything."""
    features, price, outcome, _ = simulated(1.0, n=700)
    first = fit_residual_link(features, price, outcome, fit=FIT, choose=CHOOSE)
    outcome[600:] = np.nan
    second = fit_residual_link(features, price, outcome, fit=FIT, choose=CHOOSE)
    np.testing.assert_array_equal(first.coefficients, second.coefficients)
    assert first.weight == second.weight


def test_the_ridge_is_that_of_scikit_learn():
    """With fewer and with more features than rows, at the penalty that was chosen."""
    for n_features in (5, 90):
        rng = np.random.default_rng(n_features)
        features, outcome = rng.normal(size=(70, n_features)), rng.normal(size=(70, 2))
        fitted = fit_residual_link(
            features, np.zeros((70, 2)), outcome, fit=FIT[:50], choose=np.arange(50, 70),
            penalties=(3.0,),
        )  # fmt: skip
        centred = features[:50] - features[:50].mean(axis=0)
        scale = np.sqrt((centred**2).mean())
        peer = Ridge(alpha=3.0).fit(centred / scale, outcome[:50])
        np.testing.assert_allclose(fitted.coefficients, peer.coef_.T / scale, atol=1e-9)


def test_more_features_than_rows_are_no_obstacle():
    """The ridge is solved where the normal equations are singular."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 300))
    price = np.zeros((60, 1))
    outcome = rng.normal(size=(60, 1))
    rows = np.arange(60)
    fitted = fit_residual_link(features, price, outcome, fit=rows[:40], choose=rows[40:])
    assert np.isfinite(fitted.coefficients).all()


def test_a_contrary_or_constant_signal_gets_no_weight():
    """Nor is any amplified beyond 1."""
    residual = np.random.default_rng(0).normal(size=(50, 2))
    assert shrunken_weight(residual, -residual) == 0.0
    assert shrunken_weight(residual, np.ones((50, 2))) == 0.0
    assert shrunken_weight(residual, 0.5 * residual) == 1.0


def test_repeating_a_horizon_proves_nothing_more():
    """The weight of the same residual at four horizons is that of one."""
    rng = np.random.default_rng(1)
    residual, signal = rng.normal(size=(80, 1)), rng.normal(size=(80, 1))
    signal = signal + 0.4 * residual
    once = shrunken_weight(residual, signal)
    assert 0 < once < 1
    assert shrunken_weight(np.tile(residual, 4), np.tile(signal, 4)) == pytest.approx(once)


def test_a_tuned_signal_is_only_weighed():
    """Its own unit is kept: the true signal gets a weight near 1, a row without text none."""
    _, price, outcome, said = simulated(1.0)
    fitted = fit_signal_link(said, price, outcome, choose=CHOOSE)
    assert fitted.weight == pytest.approx(1.0, abs=0.1)
    signals = said.copy()
    signals[0] = np.nan
    np.testing.assert_array_equal(fitted.forecast(price, signals)[0], price[0])
    with pytest.raises(InputError, match="choose the weight on; found 5"):
        fit_signal_link(said, price, outcome, choose=CHOOSE[:5])


def test_rows_that_fit_and_choose_are_refused():
    """So are too few rows with text, and text alone without any."""
    features, price, outcome, _ = simulated(1.0)
    with pytest.raises(InputError, match="200 in both"):
        fit_residual_link(features, price, outcome, fit=FIT, choose=FIT[200:])
    features[:395] = np.nan
    with pytest.raises(InputError, match="found 5, 200"):
        fit_residual_link(features, price, outcome, fit=FIT, choose=CHOOSE)
    with pytest.raises(InputError, match="text features"):
        link().forecast(price, sides="text")
