"""JSON and results read back equal, or are refused before they are stored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InputError, MessageError, StoreError, TooLargeError
from common.protocol.stored_value import read_value, store_value
from common.task import Result

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_json_reads_back_equal(value):
    stored = store_value(value, limit_bytes=1 << 20)
    assert read_value(stored.kind, stored.content) == value


def test_a_result_reads_back_with_its_arrays():
    result = Result({"label": "x"}, {"a": np.arange(6, dtype=np.float16).reshape(2, 3)})
    stored = store_value(result, limit_bytes=1 << 20)
    copy = read_value(stored.kind, stored.content)
    assert dict(copy.values) == {"label": "x"}
    assert copy.arrays["a"].dtype == np.float16
    np.testing.assert_array_equal(copy.arrays["a"], result.arrays["a"])


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {1: 2},
        float("nan"),
        [float("inf")],
        {1, 2},
        b"bytes",
        np.float64(1).astype(np.float32),
        np.arange(3),
        object(),
        nested(100_000),
        Result({"x": float("nan")}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_read_back_otherwise_is_refused(value):
    with pytest.raises(InputError):
        store_value(value, limit_bytes=1 << 30)


def test_the_refusal_does_not_show_the_value():
    with pytest.raises(MessageError) as caught:
        store_value({"name": {"Jane Doe"}}, limit_bytes=100)
    assert "Jane" not in f"{caught.value!s}{caught.value.__cause__}"


def test_a_large_value_is_refused():
    assert store_value("x" * 98, limit_bytes=100).content == b'"' + b"x" * 98 + b'"'
    with pytest.raises(TooLargeError, match="at most 100 bytes; found 101"):
        store_value("x" * 99, limit_bytes=100)


@pytest.mark.parametrize(
    ("kind", "content"), [("json", b"{"), ("json", b"\xff"), ("result", b"no"), ("other", b"1")]
)
def test_damaged_content_is_a_fault_of_the_store(kind, content):
    with pytest.raises(StoreError, match="stored value"):
        read_value(kind, content)
