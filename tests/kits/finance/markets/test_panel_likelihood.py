"""The likelihood of many companies is that of arch for each, and its gradient is exact."""

from __future__ import annotations

import numpy as np
import pytest
from arch import arch_model
from hypothesis import given, settings
from hypothesis import strategies as st

from kits.finance.markets.panel_likelihood import (
    _FEW_COLUMNS,
    log_likelihood,
    log_likelihood_and_gradient,
    make_panel,
)

LENGTHS = (400, 650, 520)


def returns_of(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [0.0003 + 0.01 * rng.standard_t(5, size=n) for n in LENGTHS]


def theta_of(mu, omega, a, b, beta, nu) -> np.ndarray:  # type: ignore[no-untyped-def]
    return np.repeat([[mu], [omega], [a], [b], [beta], [nu]], len(LENGTHS), axis=1)


parameters = st.fixed_dictionaries(
    {
        "mu": st.floats(-0.1, 0.1),
        "omega": st.floats(0.01, 1.0),
        "a": st.floats(0.0, 0.3),
        "b": st.floats(0.0, 0.3),
        "beta": st.floats(0.0, 0.69),
        "nu": st.floats(2.5, 60.0),
    }
)


@pytest.mark.parametrize("asymmetric", [False, True])
@given(values=parameters, seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_it_equals_arch_at_the_same_parameters(asymmetric: bool, values: dict, seed: int) -> None:
    """Lengths differ, so the rows below a company's last day are tried as well."""
    if not asymmetric:
        values = values | {"b": values["a"]}
    series = returns_of(seed)
    panel = make_panel(series)
    found = log_likelihood(theta_of(**values), panel, asymmetric=asymmetric)
    for column, returns in enumerate(series):
        scale = 100 * panel.scale[column]
        gamma = [values["b"] - values["a"]] if asymmetric else []
        arch = arch_model(
            100 * returns, mean="Constant", p=1, o=int(asymmetric), q=1, dist="t", rescale=False
        ).fix(
            [
                values["mu"] * scale,
                values["omega"] * scale**2,
                values["a"],
                *gamma,
                values["beta"],
                values["nu"],
            ]
        )
        in_percent = found[column] - len(returns) * np.log(scale)
        assert in_percent == pytest.approx(arch.loglikelihood, rel=1e-11)


@pytest.mark.parametrize("asymmetric", [False, True])
@given(values=parameters, seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_the_gradient_is_that_of_differences(asymmetric: bool, values: dict, seed: int) -> None:
    values = values | {"a": values["a"] + 0.01, "b": values["b"] + 0.01, "beta": 0.5}
    if not asymmetric:
        values["b"] = values["a"]
    panel, theta = make_panel(returns_of(seed)), theta_of(**values)
    value, gradient = log_likelihood_and_gradient(theta, panel, asymmetric=asymmetric)
    np.testing.assert_allclose(value, log_likelihood(theta, panel, asymmetric=asymmetric))
    for row in range(6):
        h = np.zeros_like(theta)
        h[row] = 1e-5
        if not asymmetric and row == 2:
            h[3] = 1e-5  # a and b are one parameter
        if not asymmetric and row == 3:
            assert (gradient[row] == 0).all()
            continue
        above = log_likelihood(theta + h, panel, asymmetric=asymmetric)
        below = log_likelihood(theta - h, panel, asymmetric=asymmetric)
        np.testing.assert_allclose(gradient[row], (above - below) / 2e-5, rtol=1e-4, atol=1e-2)


def test_few_and_many_columns_take_the_same_steps() -> None:
    """A company's likelihood is the same to the last bit alone and among many others."""
    rng = np.random.default_rng(0)
    series = [rng.standard_t(5, size=300) for _ in range(_FEW_COLUMNS + 10)]
    theta = np.repeat([[0.0], [0.1], [0.05], [0.1], [0.8], [6.0]], len(series), axis=1)
    many = log_likelihood(theta, make_panel(series), asymmetric=True)
    few = log_likelihood(theta[:, :5], make_panel(series[:5]), asymmetric=True)
    np.testing.assert_allclose(many[:5], few, rtol=1e-14)
