"""Payloads of every kind, for the tests of the codec: strategies, and what it is to be equal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import ml_dtypes
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.protocol.messages.envelope import (
    Envelope,
    GradientFrame,
    LinkedAnswer,
    PartAnswer,
    SessionDelta,
    TransactionRecord,
)
from common.task import (
    Image,
    ImageRequest,
    Provenance,
    Result,
    Series,
    Table,
    Task,
    Tensor,
    Text,
    Volume,
)

NUMBERS = [
    *("?", "i1", "<i2", ">i2", "<i4", "<i8", "u1", "<u2", "<u4", "<u8", ">u8"),
    *("<f2", ">f2", "<f4", ">f4", "<f8", ml_dtypes.bfloat16, "<M8[D]", "<M8[ns]"),
]
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
json_objects = st.dictionaries(st.text(), json_values, max_size=3)
identifiers = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._~:-]{0,20}", fullmatch=True)


@st.composite
def numeric_arrays(draw, *, min_dims=0, max_dims=4, min_side=0):
    """Arrays of any bits (NaN of any payload, infinities), type, order of bytes and of memory."""
    dtype = np.dtype(draw(st.sampled_from(NUMBERS)))
    shape = draw(hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side))
    size = int(np.prod(shape)) * dtype.itemsize
    data = draw(st.binary(min_size=size, max_size=size))
    array = np.frombuffer(data, np.uint8)
    array = (array % 2).view(dtype) if dtype == np.bool_ else array.view(dtype)
    array = array.reshape(shape)
    return draw(st.sampled_from([array, np.asfortranarray(array), array.copy()]))


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@st.composite
def tables(draw):
    """Columns of one length, of numbers and of texts."""
    n_rows = draw(st.integers(0, 4))
    columns = {}
    for name in draw(st.lists(texts, min_size=1, max_size=3, unique=True)):
        if draw(st.booleans()):
            column = draw(st.lists(texts, min_size=n_rows, max_size=n_rows))
            columns[name] = np.array(column, dtype=draw(st.sampled_from(["O", "U40", "T"])))
        else:
            dtype = np.dtype(draw(st.sampled_from(NUMBERS[:-3])))
            columns[name] = draw(hnp.arrays(dtype, n_rows))
    return Table(columns)


spacings = st.tuples(*[st.floats(1e-3, 1e3)] * 3)
parts = st.one_of(
    st.builds(Text, texts, texts),
    st.builds(Image, numeric_arrays(min_dims=2, max_dims=3, min_side=1)),
    st.builds(ImageRequest, st.integers(1, 8192), st.integers(-(2**63), 2**63 - 1)),
    st.builds(Volume, numeric_arrays(min_dims=3, max_dims=3, min_side=1), spacings),
    st.builds(Series, numeric_arrays(min_dims=1, max_dims=2, min_side=1)),
    tables(),
    st.builds(Tensor, numeric_arrays()),
)
tasks = st.builds(Task, st.dictionaries(texts, parts, min_size=1, max_size=3), json_objects)
array_maps = st.dictionaries(texts, numeric_arrays(), max_size=3)
results = st.builds(Result, json_objects, array_maps)
provenances = st.builds(
    Provenance,
    *[texts] * 3,
    adapter=st.none() | texts,
    adapter_digest=st.none() | texts,
    software=st.dictionaries(texts, texts, max_size=2),
)
answers = st.builds(
    LinkedAnswer,
    texts,
    st.dictionaries(
        texts,
        st.builds(
            PartAnswer,
            results,
            provenances,
            reason=texts,
            rejected=st.lists(texts, max_size=2).map(tuple),
            cached=st.booleans(),
        ),
        max_size=2,
    ),
)
deltas = st.builds(
    SessionDelta,
    identifiers,
    st.integers(0, 2**63 - 1),
    st.dictionaries(texts.map(lambda text: "c" + text), json_values | results, max_size=3),
    st.lists(texts.map(lambda text: "r" + text), max_size=3, unique=True).map(tuple),
    author=identifiers,
)
records = st.builds(
    TransactionRecord,
    identifiers,
    texts,
    identifiers,
    texts,
    time=st.floats(allow_nan=False, allow_infinity=False),
)
frames = st.builds(
    GradientFrame,
    round=st.integers(0, 2**63 - 1),
    site=identifiers,
    n_samples=st.integers(0, 2**63 - 1),
    tensors=array_maps,
)
payloads = st.one_of(tasks, results, answers, deltas, records, frames)
envelopes = st.builds(
    Envelope,
    payloads,
    id=identifiers,
    trace_id=st.from_regex(r"[0-9a-f]{31}[1-9a-f]", fullmatch=True),
    deadline_ms=st.none() | st.integers(0, 2**53 - 1),
)


def same(a, b):
    """Says whether two values are equal to the last bit, their types included."""
    if isinstance(a, np.ndarray):
        facts = [(x.dtype, x.shape, x.tobytes(), x.flags.writeable) for x in (a, b)]
        return facts[0] == facts[1]
    if dataclasses.is_dataclass(a):
        fields = [field.name for field in dataclasses.fields(a)]
        return type(a) is type(b) and all(same(getattr(a, f), getattr(b, f)) for f in fields)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and repr(a) == repr(b)  # -0.0 is not 0.0
