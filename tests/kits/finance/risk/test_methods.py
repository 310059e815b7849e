"""The table of methods is whole."""

from __future__ import annotations

import pytest

from common.errors import TableError
from kits.finance.risk.methods import METHODS, method_of


def test_members_are_methods_without_members_of_their_own() -> None:
    for spec in METHODS.values():
        assert all(not METHODS[name].members for name in spec.members)
        assert spec.filtered == bool(spec.model or spec.members)


def test_laws_and_pareto_tails_belong_to_filters() -> None:
    unfiltered = [spec for spec in METHODS.values() if not spec.filtered]
    assert {spec.tail for spec in unfiltered} == {"empirical"}
    assert all(not spec.decay for spec in METHODS.values() if spec.filtered)


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(TableError, match="historical, age-weighted"):
        method_of("monte-carlo")
