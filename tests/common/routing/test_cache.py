"""The cache answers for the same content only, and never unpickles."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import diskcache
import numpy as np
import pytest

from common.errors import ModelError
from common.models.base import ModelProfile
from common.routing.cache import ResultCache
from common.task import Result, Task, Text

PROFILE = ModelProfile(name="m", modality="text", digest="d", adapter="a", adapter_digest="e")
TASK = Task({"text": Text("words")})


@pytest.fixture
def cache(tmp_path: Path):
    cache = ResultCache(tmp_path / "results")
    yield cache
    cache.close()


def test_a_stored_result_is_returned_and_counted(cache: ResultCache) -> None:
    assert cache.get(PROFILE, TASK) is None
    cache.put(PROFILE, TASK, Result(values={"v": 1}, arrays={"x": np.arange(3)}))
    copy = cache.get(PROFILE, TASK)
    assert copy is not None
    assert copy.values["v"] == 1
    assert copy.arrays["x"].tolist() == [0, 1, 2]
    assert (cache.hits, cache.misses) == (1, 1)


@pytest.mark.parametrize("field", ["name", "digest", "adapter_digest"])
def test_another_model_or_adapter_has_another_key(field: str) -> None:
    changed = dataclasses.replace(PROFILE, **{field: "other"})
    assert ResultCache.key(changed, TASK) != ResultCache.key(PROFILE, TASK)


def test_another_input_has_another_key() -> None:
    other = Task({"text": Text("words ")})
    assert ResultCache.key(PROFILE, other) != ResultCache.key(PROFILE, TASK)


def test_a_second_process_would_find_it(cache: ResultCache, tmp_path: Path) -> None:
    cache.put(PROFILE, TASK, Result(values={"v": 1}))
    again = ResultCache(tmp_path / "results")
    assert again.get(PROFILE, TASK) is not None
    again.close()


def test_the_folder_is_for_its_owner_only(cache: ResultCache, tmp_path: Path) -> None:
    assert (tmp_path / "results").stat().st_mode & 0o777 == 0o700


def test_a_pickled_value_is_refused(cache: ResultCache, tmp_path: Path) -> None:
    """A value that another program pickled into the store is not loaded (CVE-2025-69872)."""
    foreign = diskcache.Cache(str(tmp_path / "results"))
    foreign.set(ResultCache.key(PROFILE, TASK), {"not": "bytes"})
    foreign.close()
    with pytest.raises(ModelError, match="pickled"):
        cache.get(PROFILE, TASK)
