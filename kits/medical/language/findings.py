"""What a chest-CT report says is there, is not there, or may be there, with exact offsets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "Laterality", "Status"]

Status = Literal["present", "absent", "uncertain"]
Laterality = Literal["left", "right", "bilateral"]


@dataclass(frozen=True)
class Finding:
    """One mention of a concept.

    `report.text[start:end]` is the mention and `report.text[sentence_start:sentence_end]` its
    sentence.

    Args:
        concept: Key of the concept in `terms.CONCEPTS`, such as "nodule".
        status: What the report says of it here.
        start: Offset of the mention's first character.
        end: Offset one past its last.
        sentence_start: Offset of the sentence's first character.
        sentence_end: Offset one past its last.
        laterality: The side named with it, if any.
        lobe: "upper lobe", "middle lobe", "lower lobe" or "lingula", if one is named.
        size_mm: The largest diameter given with it, in mm, if any.
        section: Key of its section ("findings", "impression", "body" ...).
    """

    concept: str
    status: Status
    start: int
    end: int
    sentence_start: int
    sentence_end: int
    laterality: Laterality | None
    lobe: str | None
    size_mm: float | None
    section: str
