"""One setting chooses where models run."""

from __future__ import annotations

import sys

import pytest

from common.errors import MissingExtraError
from common.routing.engine import LocalEngine
from common.routing.engines import open_engine
from common.settings import Settings


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
