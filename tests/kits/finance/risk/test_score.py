"""Log-odds and probability are each other's inverse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kits.finance.risk.score import logit, probability


@given(st.floats(-30, 30))
def test_logit_undoes_probability(log_odds):
    """The round trip holds within what 1 - p can carry in float64."""
    assert logit(probability(log_odds)) == pytest.approx(log_odds, abs=1e-2, rel=1e-6)


@given(st.floats(-700, 700))
def test_probabilities_mirror(log_odds):
    """p(-x) = 1 - p(x), without overflow."""
    assert probability(-log_odds) == pytest.approx(1 - probability(log_odds), abs=1e-12)
