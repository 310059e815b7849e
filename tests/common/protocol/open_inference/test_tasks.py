"""Requests mean tasks, by the model's modality or by the names of their parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from common.errors import InputError, MessageError
from common.protocol.open_inference.grpc_form import request_from_message, request_to_message
from common.protocol.open_inference.http_form import request_from_http, request_to_http
from common.protocol.open_inference.inference import InferRequest, InferTensor, tensor_of
from common.protocol.open_inference.tasks import request_of, tasks_of
from tests.common.protocol.open_inference_strategies import tasks


def asked(parameters: dict | None = None, **arrays) -> InferRequest:
    inputs = tuple(tensor_of(name, np.asarray(array)) for name, array in arrays.items())
    return InferRequest("m", inputs, parameters=parameters or {})


@given(tasks)
def test_any_task_survives_the_way_over_rest_and_grpc(task):
    request = request_of(task, model_name="m")
    content, json_bytes = request_to_http(request)
    over_rest, _ = request_from_http(content, model_name="m", json_bytes=json_bytes)
    over_grpc = request_from_message(request_to_message(request))
    for read in (over_rest, over_grpc):
        (copy,) = tasks_of(read, None)
        assert copy.digest() == task.digest()
        assert set(copy.parts) == set(task.parts)


class TestRows:
    def test_texts_are_rows(self):
        found = tasks_of(asked({"language": "de", "k": 1}, text=np.array(["a", "b"])), "text")
        assert [task.parts["text"].text for task in found] == ["a", "b"]
        assert found[0].parts["text"].language == "de"
        assert found[0].parameters == {"k": 1}
        (one,) = tasks_of(asked(text=np.array([["a"]])), "text")
        assert one.parts["text"].text == "a"

    @pytest.mark.parametrize(
        ("modality", "shape", "batch", "n", "row"),
        [
            ("image", (4, 5), None, 1, (4, 5)),
            ("image", (4, 5, 3), None, 1, (4, 5, 3)),
            ("image", (2, 4, 5, 3), None, 2, (4, 5, 3)),
            ("image", (2, 4, 5), True, 2, (4, 5)),
            ("volume", (2, 3, 4), None, 1, (2, 3, 4)),
            ("volume", (2, 2, 3, 4), None, 2, (2, 3, 4)),
            ("series", (5,), None, 1, (5,)),
            ("series", (5, 2), None, 1, (5, 2)),
            ("series", (5, 2), True, 5, (2,)),
            ("series", (3, 5, 2), None, 3, (5, 2)),
            ("tensor", (3, 2), None, 1, (3, 2)),
            ("tensor", (3, 2), True, 3, (2,)),
            ("tensor", (), None, 1, ()),
        ],
    )
    def test_one_axis_more_makes_a_batch(self, modality, shape, batch, n, row):
        parameters = {} if batch is None else {"batch": batch}
        data = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
        found = tasks_of(asked(parameters, **{modality: data}), modality)
        assert len(found) == n
        part = found[0].parts[modality]
        field = {"image": "pixels", "volume": "voxels"}.get(modality, "values")
        array = getattr(part, field)
        assert array.shape == row
        assert array.dtype == np.float32
        assert np.array_equal(array, data if n == 1 and not batch else data[0])

    def test_a_volume_has_its_spacing(self):
        for spacing in ("3.0,0.7,0.5", [3.0, 0.7, 0.5]):
            (task,) = tasks_of(asked({"spacing_mm": spacing}, volume=np.ones((2, 2, 2))), "volume")
            assert task.parts["volume"].spacing_mm == (3.0, 0.7, 0.5)
            assert task.parameters == {}

    def test_a_table_is_its_columns(self):
        (task,) = tasks_of(asked(close=[1.0, 2.0], day=np.array([["a"], ["b"]])), "table")
        assert task.parts["table"].columns["close"].tolist() == [1.0, 2.0]
        assert task.parts["table"].columns["day"].tolist() == ["a", "b"]

    def test_a_picture_is_asked_for_by_resolution_and_seed(self):
        (task,) = tasks_of(asked(image_request=[256, 7]), "image_request")
        assert (task.parts["image_request"].resolution, task.parts["image_request"].seed) == (
            256,
            7,
        )

    def test_deadlines_are_no_parameters_of_the_task(self):
        (task,) = tasks_of(asked({"timeout": 5_000_000, "priority": 0}, tensor=[1.0]), "tensor")
        assert task.parameters == {}


@pytest.mark.parametrize(
    ("modality", "request_"),
    [
        ("text", asked(tensor=[1.0])),
        ("text", asked(text=[1.0])),
        ("text", asked(text=np.array([["a", "b"]]))),
        ("text", asked({"language": "x y"}, text=np.array(["a"]))),
        ("text", asked(text=np.array([b"\xff"]))),
        ("text", asked(text=np.array([], dtype=np.str_))),
        ("image", asked(image=np.array(["a"]))),
        ("image", asked(image=[1.0])),
        ("image", asked(image=np.ones((2, 2)), other=np.ones(1))),
        ("image", asked({"batch": 1}, image=np.ones((2, 2)))),
        ("image", asked({"batch": True}, image=np.ones((2, 2)))),
        ("image", asked(image=np.ones((0, 2)))),
        ("image", asked(image=np.ones((0, 2, 2, 1)))),
        ("volume", asked({"spacing_mm": "1,2"}, volume=np.ones((1, 1, 1)))),
        ("volume", asked({"spacing_mm": "1,2,nan"}, volume=np.ones((1, 1, 1)))),
        ("volume", asked({"spacing_mm": [1, 2, 0]}, volume=np.ones((1, 1, 1)))),
        ("volume", asked({"spacing_mm": 3}, volume=np.ones((1, 1, 1)))),
        ("table", asked(a=[1, 2], b=[1])),
        ("table", asked(a=np.ones((2, 2)))),
        ("table", asked(a=np.array(["x\0"], dtype=object))),
        ("image_request", asked(image_request=[256.0, 7.0])),
        ("image_request", asked(image_request=[256])),
        ("image_request", asked(image_request=[0, 1])),
        ("tensor", asked({"sequence_id": 1}, tensor=[1.0])),
        ("tensor", asked({"priority": 2}, tensor=[1.0])),
        ("tensor", asked({"task_parameters": "[]"}, tensor=[1.0])),
        ("tensor", asked({"task_parameters": 3}, tensor=[1.0])),
        ("tensor", asked({"task_parameters": '{"a": NaN}'}, tensor=[1.0])),
        ("tensor", asked({"task_parameters": "[" * 100_000}, tensor=[1.0])),
        ("tensor", asked({"batch": True}, tensor=1.0)),
        (None, asked(image=np.ones((2, 2)))),
        (None, asked(**{"sound:a": [1.0]})),
        (None, asked(**{"table:a": [1.0]})),
        (None, asked(**{"image:a:b": np.ones((2, 2))})),
        (None, asked(**{"image:a": np.ones((2, 2)), "tensor:a": [1.0]})),
        (None, asked(**{"text:a": np.array(["x", "y"]), "tensor:b": [1.0]})),
    ],
)
def test_inputs_that_the_modality_has_not_are_refused(modality, request_):
    with pytest.raises(InputError):
        tasks_of(request_, modality)


def test_messages_show_names_and_never_values():
    request = InferRequest("m", (InferTensor("text", np.array([b"Jane \xff"], np.object_)),))
    with pytest.raises(MessageError) as caught:
        tasks_of(request, "text")
    assert "Jane" not in str(caught.value)
