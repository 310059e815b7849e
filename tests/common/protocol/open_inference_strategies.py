"""Arrays, tasks and results of every kind that the Open Inference Protocol can carry."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.task import (
    Image,
    ImageRequest,
    Result,
    Series,
    Table,
    Task,
    Tensor,
    Text,
    Volume,
)

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
PLAIN = [np.dtype(code) for code in ("?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8")]
FLOATS = [np.dtype(code) for code in ("f2", "f4", "f8")]
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)


def arrays(min_dims: int = 0, max_dims: int = 3, min_side: int = 1):
    """Arrays of every numeric datatype, bfloat16 among them."""
    shapes = hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=3)
    plain = st.sampled_from(PLAIN + FLOATS).flatmap(lambda dtype: hnp.arrays(dtype, shapes))
    half = hnp.arrays(np.dtype("f2"), shapes).map(lambda array: array.astype(BFLOAT16))
    return plain | half


text_arrays = st.lists(texts, min_size=1, max_size=3).map(lambda found: np.array(found, np.str_))
spacings = st.tuples(*[st.floats(0.001, 100)] * 3)
columns = st.integers(1, 3).flatmap(
    lambda n: st.dictionaries(
        texts,
        hnp.arrays(st.sampled_from(PLAIN + FLOATS), n)
        | st.lists(texts, min_size=n, max_size=n).map(lambda found: np.array(found, np.str_)),
        min_size=1,
        max_size=3,
    )
)
parts = st.one_of(
    st.builds(Text, texts, st.sampled_from(["en", "de-CH"])),
    st.builds(Image, arrays(2, 3)),
    st.builds(ImageRequest, st.integers(1, 8192), st.integers(-(2**63), 2**63 - 1)),
    st.builds(Volume, arrays(3, 3), spacings),
    st.builds(Series, arrays(1, 2)),
    st.builds(Table, columns),
    st.builds(Tensor, arrays(0, 3, min_side=0) | text_arrays),
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
tasks = st.builds(
    Task,
    st.dictionaries(texts, parts, min_size=1, max_size=3),
    st.dictionaries(texts, json_values, max_size=3),
)
names = st.sampled_from(["score", "values", "row0:a", "array:b", "c", ""]) | texts
results = st.lists(
    st.builds(
        Result,
        st.dictionaries(names, json_values, max_size=3),
        st.dictionaries(names, arrays(0, 2) | text_arrays, max_size=3),
    ),
    min_size=1,
    max_size=3,
)
