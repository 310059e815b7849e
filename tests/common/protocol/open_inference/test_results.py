"""Results become outputs with the rows in front, and come back as they were."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given

from common.errors import MessageError, ModelError
from common.protocol.open_inference.grpc_form import response_from_message, response_to_message
from common.protocol.open_inference.http_form import (
    OutputForms,
    response_from_http,
    response_to_http,
)
from common.protocol.open_inference.inference import InferResponse, InferTensor
from common.protocol.open_inference.results import outputs_of, results_of, select_outputs
from common.task import Result
from tests.common.protocol.open_inference_strategies import results


@given(results)
def test_any_results_survive_the_way_over_rest_and_grpc(found):
    response = InferResponse("m", "1", outputs_of(found))
    pieces, json_bytes = response_to_http(response, OutputForms(raw=True))
    over_rest = response_from_http(b"".join(pieces), json_bytes=json_bytes)
    over_grpc = response_from_message(response_to_message(response))
    for read in (over_rest, over_grpc):
        for copy, result in zip(results_of(read), found, strict=True):
            assert dict(copy.values) == dict(result.values)
            assert set(copy.arrays) == set(result.arrays)
            for name, array in result.arrays.items():
                assert copy.arrays[name].dtype == array.dtype
                assert copy.arrays[name].shape == array.shape
                assert copy.arrays[name].tobytes() == array.tobytes()


def test_arrays_are_stacked_and_plain_values_are_outputs_too():
    rows = [
        Result({"score": 0.5, "label": "up", "n": 1, "who": None}, {"e": np.zeros(3, np.float32)}),
        Result({"score": 0.25, "label": "down", "n": 2.5}, {"e": np.ones(3, np.float32)}),
    ]
    outputs = {tensor.name: tensor for tensor in outputs_of(rows)}
    assert outputs["e"].shape == (2, 3)
    assert outputs["score"].data.tolist() == [0.5, 0.25]
    assert outputs["label"].data.tolist() == [b"up", b"down"]
    assert set(outputs) == {"e", "values", "score", "label"}  # n is no one kind, who is no number
    assert json.loads(outputs["values"].data[0]) == rows[0].values


def test_arrays_of_unequal_shape_stand_row_by_row():
    rows = [Result({}, {"mask": np.zeros(n)}) for n in (2, 3)]
    assert [t.name for t in outputs_of(rows)] == ["row0:mask", "row1:mask", "values"]


def test_a_model_s_faulty_values_are_its_own_fault():
    for result in (
        Result({"x": float("nan")}),
        Result({"x": object()}),
        Result({}, {"x": np.zeros(1, complex)}),
    ):
        with pytest.raises(ModelError):
            outputs_of([result])


def test_outputs_are_chosen_by_name():
    outputs = outputs_of([Result({"score": 0.5}, {"e": np.zeros(3)})])
    assert [t.name for t in select_outputs(outputs, ("score", "e"))] == ["score", "e"]
    assert select_outputs(outputs, ()) == outputs
    with pytest.raises(MessageError, match="'e', 'values', 'score'"):
        select_outputs(outputs, ("nothing",))


def test_foreign_responses_are_refused():
    values = InferTensor("values", np.array([b"[1"], np.object_))
    for outputs in ((), (values,), (InferTensor("values", np.zeros(2)),)):
        with pytest.raises(MessageError):
            results_of(InferResponse("m", "1", outputs))
