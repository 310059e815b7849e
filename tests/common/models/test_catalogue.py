"""A model opened by name can be opened again elsewhere; one given as an object cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.errors import RoutingError
from common.models.base import Model
from common.models.catalogue import DeferredModel, Recipe, open_model, recipe_of
from common.models.forecaster import Forecaster
from common.task import Series, Task, Text
from tests.tiny_bert import make_tiny_bert


def test_a_model_remembers_the_name_that_it_was_opened_from() -> None:
    assert recipe_of(open_model("naive", "series")) == Recipe("naive", "series")


def test_a_folder_is_remembered_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tiny_bert(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    assert recipe_of(open_model("tiny", "text")) == Recipe(tmp_path / "tiny", "text")


def test_a_model_given_as_an_object_has_no_recipe() -> None:
    class Slotted:
        __slots__ = ("profile",)

        def predict(self, tasks: object) -> list[object]:
            return []

    assert recipe_of(Forecaster.named("naive")) is None
    assert recipe_of(Slotted()) is None  # type: ignore[arg-type]  # its profile is never read


def test_a_deferred_model_answers_as_the_one_that_it_stands_for(tmp_path: Path) -> None:
    folder = make_tiny_bert(tmp_path / "tiny")
    opened = open_model(folder, "text")
    deferred = DeferredModel(opened.profile, Recipe(folder, "text"))
    assert isinstance(deferred, Model)
    assert recipe_of(deferred) == Recipe(folder, "text")
    task = Task({"text": Text("the bank")})
    here, there = opened.predict([task])[0], deferred.predict([task])[0]
    np.testing.assert_array_equal(here.arrays["embedding"], there.arrays["embedding"])


def test_other_parts_ask_for_an_object() -> None:
    with pytest.raises(RoutingError, match="Give a Model object"):
        open_model("naive", "smell")


def test_a_forecaster_named_like_a_folder_stays_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "naive").mkdir()
    monkeypatch.chdir(tmp_path)
    model = open_model("naive", "series")
    assert recipe_of(model) == Recipe("naive", "series")
    assert model.predict([Task({"s": Series(np.ones(4))})])
