"""One setting chooses where models run."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest

from common.errors import MissingExtraError
from common.request import current_request, new_request
from common.routing.engine import Call, LocalEngine
from common.routing.engines import open_engine
from common.settings import Settings
from common.task import Result, Task
from tests.common.routing.ray_models import Doubler, a_task


def test_models_run_in_this_process_by_default() -> None:
    with open_engine(Settings()) as engine:
        assert isinstance(engine, LocalEngine)


def test_without_ray_the_extra_that_brings_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"tandem-kits\[ray\]"):
        open_engine(Settings(engine="ray"))


def test_placements_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_RAY_PLACEMENTS", '{"ct": {"gpus": 1, "scanner": 2}}')
    assert Settings().ray_placements == {"ct": {"gpus": 1.0, "scanner": 2.0}}


def test_a_model_sees_the_key_of_the_call_that_it_answers() -> None:
    class Telling(Doubler):
        def predict(self, tasks: Sequence[Task]) -> list[Result]:
            return [Result({"key": current_request().idempotency_key}) for _ in tasks]

    with open_engine(Settings()) as engine:
        future = engine.submit(Call(Telling(), (a_task(),), new_request(), "call-7"))
        assert future.result(10)[0].values["key"] == "call-7"
