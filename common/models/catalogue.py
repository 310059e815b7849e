"""Opens the model that a name or folder stands for, given the part that it is to answer.

A model opened here can be opened again elsewhere: `recipe_of` says from what. So an engine
on several machines sends a name instead of weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from weakref import WeakKeyDictionary

from common.backbones import BUNDLED
from common.errors import RoutingError
from common.models.base import Model, ModelProfile
from common.task import Result, Task

__all__ = ["DeferredModel", "Recipe", "open_model", "recipe_of"]


@dataclass(frozen=True)
class Recipe:
    """What a model is opened from, here or on another machine.

    Args:
        spec: A name, a hub id, or a folder; a folder's path is kept from the root on, since
            other processes work in other places.
        part_name: The part that it is to answer.
    """

    spec: str | Path
    part_name: str

    def __post_init__(self) -> None:
        is_name = self.part_name == "series" or str(self.spec) in BUNDLED
        if not is_name and Path(self.spec).is_dir():
            object.__setattr__(self, "spec", Path(self.spec).absolute())


class DeferredModel:
    """A model that is known by its profile and opened where it is first asked.

    Args:
        profile: The profile of the model that the recipe opens.
        recipe: From what to open it.
    """

    def __init__(self, profile: ModelProfile, recipe: Recipe) -> None:
        self.profile = profile
        self.recipe = recipe

    @cached_property
    def _opened(self) -> Model:
        return open_model(self.recipe.spec, self.recipe.part_name)

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        """Returns what the model itself answers; the first call opens it in this process."""
        return self._opened.predict(tasks)


_recipes: WeakKeyDictionary[Model, Recipe] = WeakKeyDictionary()


def open_model(spec: str | Path, part_name: str, *, device: str = "cpu") -> Model:
    """Returns the model for parts named `part_name`.

    Args:
        spec: For "text" a bundled name ("minilm"), a folder or a hub id; for "image" a
            folder with a network (`common.models.network`); for "series" a name in
            `common.models.forecaster.FORECASTERS`.
        part_name: "text", "image" or "series".
        device: Where a network's weights are put, "cpu" or "cuda".

    Raises:
        RoutingError: Models for this part have to be given as objects.
        BackboneError: The named model is absent or damaged.
    """
    model = _open(spec, part_name, device)
    _recipes[model] = Recipe(spec, part_name)
    return model


def recipe_of(model: Model) -> Recipe | None:
    """Returns what `model` was opened from; None where it was given as an object."""
    if isinstance(model, DeferredModel):
        return model.recipe
    try:
        return _recipes.get(model)
    except TypeError:  # a class of the caller's that takes no weak reference
        return None


def _open(spec: str | Path, part_name: str, device: str) -> Model:
    if part_name == "text":
        from common.backbones import load_backbone
        from common.models.text import TextEncoder

        backbone = load_backbone(spec)
        backbone.model.to(device)
        return TextEncoder(backbone)
    if part_name == "image":
        from common.models.network import open_network

        return open_network(Path(spec), device=device)
    if part_name == "series":
        from common.models.forecaster import Forecaster

        return Forecaster.named(str(spec))
    raise RoutingError(
        f"model for part {part_name!r}",
        expected="a part named text, image or series when the model is given by name",
        found=repr(part_name),
        remedy="Give a Model object for other parts.",
    )
