"""Models by name and version: what is ready, what is refused, what an answer says."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import (
    DeadlineError,
    InputError,
    MessageError,
    ModelError,
    RoutingError,
    TandemError,
    UnknownNameError,
)
from common.models.base import ModelProfile
from common.protocol.open_inference.http_form import request_from_http, response_to_http
from common.protocol.open_inference.inference import DATATYPES, InferRequest, tensor_of
from common.request import new_request, serving
from common.routing.cache import ResultCache
from common.routing.engine import LocalEngine
from common.routing.router import ModelRouter
from common.serving.models import ServedModels
from common.serving.problems import problem_of
from common.task import Result, Task


class Scale:
    """Multiplies a series; counts how often it is asked and closed."""

    def __init__(self, factor: float, *, name: str = "scale") -> None:
        self.factor = factor
        self.calls = self.closed = 0
        self.profile = ModelProfile(
            name, "series", f"{factor}", shapes=((None,),), gives={"scaled": (None,)}
        )

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        self.calls += 1
        arrays = [self.factor * task.parts["series"].values for task in tasks]
        return [Result({"factor": self.factor}, {"scaled": array}) for array in arrays]

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def engine():
    with LocalEngine(2) as found:
        yield found


@pytest.fixture
def models(engine):
    return ServedModels(lambda one: ModelRouter(models=one, engine=engine))


def ask(name: str = "scale", version: str = "", **parameters) -> InferRequest:
    inputs = (tensor_of("series", np.array([1.0, 2.0])),)
    return InferRequest(name, inputs, model_version=version, parameters=parameters)


def scaled(models: ServedModels, **facts) -> list[float]:
    outputs = {t.name: t.data for t in models.infer(ask(**facts)).response.outputs}
    return outputs["scaled"][0].tolist()


def test_the_latest_version_is_meant_without_one(models):
    models.add("scale", lambda: Scale(2), version="1")
    models.add("scale", lambda: Scale(3), version="2")
    assert scaled(models) == [3.0, 6.0]
    assert scaled(models, version="1") == [2.0, 4.0]
    assert models.metadata("scale").versions == ("1", "2")
    assert models.infer(ask()).response.model_version == "2"


def test_names_that_could_be_paths_are_refused(models):
    for name in ("../up", "a/b", "", ".hidden", "a b", "x" * 129, "ü", "a\n"):
        with pytest.raises(InputError):
            models.add(name, lambda: Scale(1))
        with pytest.raises(InputError):
            models.add("scale", lambda: Scale(1), version=name)
        with pytest.raises(UnknownNameError) as caught:
            models.infer(ask(name))
        assert name == "" or name not in str(caught.value)
    models.add("scale", lambda: Scale(1))
    with pytest.raises(InputError, match="again"):
        models.add("scale", lambda: Scale(1))


def test_what_is_unloaded_is_not_ready_and_is_closed(models):
    made: list[Scale] = []

    def load() -> Scale:
        made.append(Scale(2))
        return made[-1]

    models.add("scale", load, load=False)
    assert not models.is_ready("scale")
    assert models.index() != models.index(ready=True) == []
    with pytest.raises(RoutingError, match="loaded"):
        models.infer(ask())
    with pytest.raises(RoutingError):
        models.metadata("scale")
    models.load("scale")
    assert scaled(models) == [2.0, 4.0]
    models.unload("scale")
    assert (made[0].closed, models.index()[0].reason) == (1, "unloaded")
    with pytest.raises(RoutingError):
        models.infer(ask())
    models.load("scale")
    models.close()
    assert [one.closed for one in made] == [1, 1]


def test_loading_again_takes_the_new_model(models):
    factors = iter((2, 3))
    models.add("scale", lambda: Scale(next(factors)))
    assert scaled(models) == [2.0, 4.0]
    models.load("scale")
    assert scaled(models) == [3.0, 6.0]
    with pytest.raises(MessageError):
        models.load("scale", {"config": "{}"})


def test_a_loader_that_fails_leaves_what_was_ready(models):
    factors = iter((2,))
    models.add("scale", lambda: Scale(next(factors)))
    with pytest.raises(ModelError, match="StopIteration"):
        models.load("scale")
    assert scaled(models) == [2.0, 4.0]
    assert models.index()[0].reason == "loading failed (StopIteration)"


def test_metadata_come_from_the_profile_and_the_answers(models):
    models.add("scale", lambda: Scale(2))
    before = models.metadata("scale")
    assert before.platform == "tandem_series"
    assert [(one.name, one.datatype, one.shape) for one in before.inputs] == [
        ("series", "FP64", (-1,))
    ]
    assert {one.name: one.datatype for one in before.outputs} == {
        "values": "BYTES",
        "scaled": "FP32",
    }
    models.infer(ask())
    after = {one.name: one.datatype for one in models.metadata("scale").outputs}
    assert after == {"values": "BYTES", "scaled": "FP64", "factor": "INT64"}


def test_an_answer_says_where_it_comes_from(models, engine, tmp_path):
    cache = ResultCache(tmp_path / "results")
    cached = ServedModels(lambda one: ModelRouter(models=one, engine=engine, cache=cache))
    model = Scale(2)
    cached.add("scale", lambda: model)
    with serving(new_request(trace_id="1" * 32)):
        first, second = cached.infer(ask()), cached.infer(ask())
    told = first.response.parameters
    assert told["trace_id"] == "1" * 32
    assert (told["model"], told["model_digest"]) == ("scale", "2")
    assert first.input_digest == first.provenance[0].input_digest == second.input_digest
    assert (told["cached"], second.response.parameters["cached"]) == (False, True)
    assert model.calls == 1
    cache.close()


def test_triton_s_timeout_is_a_deadline(models):
    models.add("scale", lambda: Scale(2))
    assert scaled(models, timeout=5_000_000) == [2.0, 4.0]
    assert scaled(models, timeout=0) == [2.0, 4.0]
    for wrong in (-1, "5", 0.5, True):
        with pytest.raises(MessageError):
            models.infer(ask(timeout=wrong))
    gone = new_request()
    gone.give_up()
    with serving(gone), pytest.raises(DeadlineError):
        models.infer(ask())


def test_every_model_of_a_router_is_served_by_its_name(models, engine):
    slots = {"series": [Scale(2, name="org/base"), Scale(3, name="other")], "x": Scale(4, name="x")}
    models.add_router(ModelRouter(models=slots, engine=engine))
    assert [one.name for one in models.index()] == ["org-base", "other", "x"]
    assert scaled(models, name="org-base") == [2.0, 4.0]


_names = st.sampled_from(["text", "image", "volume", "series", "tensor", "a", "text:a", ""])
_shapes = st.lists(st.integers(-1, 3), max_size=4)
_values = st.lists(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats(-2, 2) | st.text(max_size=3),
    max_size=9,
)
_parameters = st.dictionaries(
    st.sampled_from(["batch", "language", "spacing_mm", "timeout", "task_parameters", "x"]),
    st.booleans() | st.integers(0, 2**40) | st.text(max_size=4) | st.just("1,2,3"),
    max_size=3,
)
_tensors = st.fixed_dictionaries(
    {"name": _names, "datatype": st.sampled_from([*DATATYPES, "FP8"]), "shape": _shapes},
    optional={"data": _values, "parameters": st.just({"binary_data_size": 4})},
)
_bodies = st.fixed_dictionaries(
    {"inputs": st.lists(_tensors, min_size=1, max_size=2)},
    optional={"parameters": _parameters, "outputs": st.lists(st.just({"name": "same"}))},
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(_bodies, st.sampled_from(["text", "image", "volume", "series", "tensor", "table"]))
def test_any_request_is_answered_or_the_caller_s_fault(body, modality):
    """Over every modality: an answer that can be written, or a problem below 500."""
    served, refused = _served(), None
    try:
        asked, forms = request_from_http(orjson.dumps(body), model_name=modality)
        response_to_http(served.infer(asked).response, forms)
    except TandemError as error:
        refused = error
    late = isinstance(refused, DeadlineError)
    assert refused is None or late or problem_of(refused).status < 500


@cache
def _served() -> ServedModels:
    """A model for each modality that says how its part looks."""
    served = ServedModels(lambda one: ModelRouter(models=one, engine=LocalEngine(1)))
    for modality in ("text", "image", "volume", "series", "tensor", "table"):
        served.add(modality, lambda modality=modality: Shape(modality))
    return served


class Shape:
    """Says of each part what it is, in values and an array."""

    def __init__(self, modality: str) -> None:
        self.modality = modality
        self.profile = ModelProfile(modality, modality, "s")

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        parts = [task.parts[self.modality] for task in tasks]
        return [Result({"said": repr(part)[:20]}, {"same": np.zeros(2)}) for part in parts]


def test_models_come_and_go_while_others_ask(models):
    """Loading and unloading beside three callers: each answer is of one model, or none is ready."""
    factors = iter(range(2, 10_000))
    models.add("scale", lambda: Scale(next(factors)))
    stop, faults = threading.Event(), []

    def asking() -> None:
        while not stop.is_set():
            try:
                first, second = scaled(models)
            except RoutingError:
                continue
            except Exception as error:  # noqa: BLE001  # any is a fault
                faults.append(repr(error))
                return
            if second != 2 * first:
                faults.append("a mixture")

    threads = [threading.Thread(target=asking) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        models.load("scale")
        models.unload("scale")
    models.load("scale")
    stop.set()
    for thread in threads:
        thread.join(10)
    assert faults == []
