"""Results survive the way through bytes; the dictionary form of a task is checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as Picture

from common.errors import InputError, MessageError, MissingInputError, TaskError
from common.protocol.messages.codec import result_from_bytes, result_to_bytes, task_from_dict
from common.task import Image, ImageRequest, Result, Series, Text

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
numeric_dtypes = st.sampled_from(["f2", "f4", "f8", "u1", "i2", "i4", "i8", "?"]).map(np.dtype)


@given(
    st.dictionaries(st.text(min_size=1), json_values, max_size=3),
    st.dictionaries(
        st.text("abc", min_size=1),
        hnp.arrays(numeric_dtypes, hnp.array_shapes(max_dims=3, max_side=3)),
        max_size=2,
    ),
)
def test_a_result_survives_the_way_through_bytes(values: dict, arrays: dict) -> None:
    copy = result_from_bytes(result_to_bytes(Result(values=values, arrays=arrays)))
    assert dict(copy.values) == values
    assert set(copy.arrays) == set(arrays)
    for name, array in arrays.items():
        assert copy.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(copy.arrays[name], array)


@pytest.mark.parametrize("buffer", [b"", b"no message", b"\x80\x04N."])
def test_foreign_bytes_are_refused(buffer: bytes) -> None:
    with pytest.raises(MessageError):
        result_from_bytes(buffer)


def test_the_articles_form_is_understood() -> None:
    task = task_from_dict(
        {"type": "multimodal", "text_prompt": "two words", "image_params": {"resolution": 1024}}
    )
    assert task.parts["text"] == Text("two words")
    assert task.parts["image"] == ImageRequest(1024)


def test_a_named_picture_is_loaded_at_the_resolution(tmp_path: Path) -> None:
    Picture.new("L", (10, 6), 7).save(tmp_path / "grey.png")
    task = task_from_dict(
        {"type": "image", "image_params": {"path": str(tmp_path / "grey.png"), "resolution": 4}}
    )
    part = task.parts["image"]
    assert isinstance(part, Image)
    assert part.pixels.shape == (4, 4)
    assert (part.pixels == 7).all()


def test_a_series_is_taken_as_floats() -> None:
    part = task_from_dict({"type": "series", "series": [1, 2]}).parts["series"]
    assert isinstance(part, Series)
    assert part.values.dtype == np.float64


@pytest.mark.parametrize(
    "form",
    [
        {"type": "multimodal"},
        {"type": "poem", "text_prompt": "x"},
        {"type": "image", "text_prompt": "x"},
        {"text_prompt": 3},
        {"text_prompt": "x", "colour": "red"},
        {"image_params": {"resolution": "big"}},
        {"image_params": {"width": 3}},
        {"image_params": 3},
        {"image_params": {"resolution": 0}},
        {"image_params": {"resolution": True}},
        {"image_params": {"seed": "x"}},
        {"image_params": {"path": "x.png", "resolution": 0}},
        {"image": [[1, 2], [3]]},
        {"image": [["a"]]},
        {"image": [[{}]]},
        {"image": [[10**400]]},
        {"image": []},
        {"series": [10**400]},
        {"type": ["text"], "text_prompt": "x"},
        {"text_prompt": "\ud800"},
        {"series": [1.0, float("nan")]},
        {"series": ["a"]},
        {"text_prompt": "x", "parameters": [1]},
    ],
)
def test_faulty_forms_are_refused(form: dict) -> None:
    with pytest.raises(InputError):
        task_from_dict(form)


@pytest.mark.parametrize("name", ["nowhere.png", "a" * 5000, "\0", "a/" * 3000, "\ud800"])
def test_an_absent_picture_is_named_as_such(name: str) -> None:
    with pytest.raises(MissingInputError):
        task_from_dict({"image_params": {"path": name}})


def test_a_picture_that_ends_early_is_refused(tmp_path: Path) -> None:
    Picture.effect_noise((64, 64), 50).save(tmp_path / "x.png")
    whole = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TaskError, match="whole PNG"):
        task_from_dict({"image": str(tmp_path / "x.png")})


def test_a_file_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no picture")
    with pytest.raises(TaskError, match="Pillow"):
        task_from_dict({"image": str(tmp_path / "x.png")})
