"""Which models stand ready for a part of a task, and why the others do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import RoutingError
from common.models.base import Model

__all__ = ["Candidates", "choose"]


@dataclass(frozen=True)
class Candidates:
    """Models for one part, best first, with the reason and what was rejected.

    Args:
        models: At least one model, in the order in which they are tried.
        reason: Why the first one is first.
        rejected: One sentence for each model that cannot take the part.
    """

    models: tuple[Model, ...]
    reason: str
    rejected: tuple[str, ...]


def choose(part_name: str, modality: str, models: Sequence[Model]) -> Candidates:
    """Returns the models that accept `modality`, in the order given.

    Args:
        part_name: The part's name in the task, for the messages.
        modality: The part's modality.
        models: The models of the part's slot, the preferred one first.

    Raises:
        RoutingError: No model accepts the modality.
    """
    able = tuple(model for model in models if model.profile.modality == modality)
    rejected = tuple(
        f"{model.profile.name} takes {model.profile.modality}, not {modality}"
        for model in models
        if model.profile.modality != modality
    )
    if not able:
        raise RoutingError(
            f"part {part_name!r}",
            expected=f"a model that takes {modality}",
            found="; ".join(rejected) or "no model for this part",
            remedy=f"Give ModelRouter a model that takes {modality} under {part_name!r}.",
        )
    place = "only model that takes" if len(able) == 1 else f"first of {len(able)} models that take"
    reason = f"{able[0].profile.name} is the {place} {modality}"
    return Candidates(able, reason, rejected)
