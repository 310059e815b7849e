"""Requests that an OpenAPI document allows and forbids, tried one after the other."""

from __future__ import annotations

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def try_operation(operation, headers, *, examples):
    """Asserts that no request that the schema allows or forbids is answered with a 5xx."""
    modes = schemathesis.GenerationMode
    cases = st.one_of(
        operation.as_strategy(generation_mode=modes.POSITIVE),
        operation.as_strategy(generation_mode=modes.NEGATIVE),
    )

    @given(case=cases)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def answered(case):
        response = case.call(headers=headers)
        assert response.status_code < 500, f"{operation.label}: {response.text}"

    answered()
