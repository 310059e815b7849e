"""Newton's method finds what statsmodels finds, and says when there is nothing to find."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from sklearn.linear_model import LogisticRegression

from common.errors import ModelError
from common.evaluation.logistic import fit_logistic, logit, sigmoid


def simulated(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(2)
    design = np.column_stack([np.ones(n), random.normal(size=(n, 2))])
    return design, random.random(n) < sigmoid(design @ [-1.0, 2.0, -0.5])


def test_coefficients_covariance_and_likelihood_are_those_of_statsmodels() -> None:
    design, event = simulated()
    fit, peer = fit_logistic(design, event), sm.Logit(event.astype(float), design).fit(disp=0)
    assert fit.coefficients == pytest.approx(peer.params, abs=1e-7)
    assert np.sqrt(np.diag(fit.covariance)) == pytest.approx(peer.bse, rel=1e-5)
    assert fit.log_likelihood == pytest.approx(peer.llf)


def test_a_penalty_is_scikit_learns() -> None:
    design, event = simulated()
    fit = fit_logistic(design, event, penalty=[0.0, 5.0, 5.0])
    peer = LogisticRegression(C=0.2, tol=1e-10).fit(design[:, 1:], event)
    assert fit.coefficients[1:] == pytest.approx(peer.coef_[0], abs=1e-5)


def test_separated_classes_and_repeated_terms_are_refused() -> None:
    x = np.linspace(-1, 1, 40)
    with pytest.raises(ModelError, match="finite maximum"):
        fit_logistic(np.column_stack([np.ones(40), x, x]), x > 0.1)
    with pytest.raises(ModelError, match="finite maximum"):
        fit_logistic(np.column_stack([np.ones(40), x]), x > 0)


def test_sigmoid_and_logit_undo_one_another_without_overflow() -> None:
    assert sigmoid([-800.0, 0.0, 800.0]).tolist() == [0.0, 0.5, 1.0]
    x = np.linspace(-20, 20, 11)
    assert logit(sigmoid(x)) == pytest.approx(x, rel=1e-6)
