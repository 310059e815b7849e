"""Which lesion of the image a report speaks of: by size, side and, where it decides, lobe.

Lobes are not segmented, so a stated lobe only chooses between lesions that fit otherwise: an
upper lobe prefers the upper half of the lungs, a lower lobe the lower half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from kits.medical.intake.volume import CTVolume
from kits.medical.language.descriptors import Laterality
from kits.medical.language.findings import Finding
from kits.medical.language.statements import Statement, denials, sides_agree

__all__ = ["Match", "Place", "ReportSupport", "match_report", "place_lesions", "size_tolerance_mm"]

READER_LIMIT_MM = 1.73
"""Two readers' diameters of one nodule under 2 cm differ by less, 95% limits of agreement (Revel
et al. 2004, Radiology 231:453)."""
READER_LIMIT_RELATIVE = 0.21
"""The same as a share of the longest diameter, for subsolid nodules and different readers (Kim et
al. 2016, PLoS ONE 11:e0148853)."""
MASS_MM = 30.0
"""A larger lesion is a mass, not a nodule (Hansell et al. 2008, Radiology 246:697)."""
LUNG_STRIDE = 4  # the lungs' outline is wanted to a few millimetres only

ReportSupport = Literal["present", "absent", "uncertain", "not mentioned", "no report"]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Place:
    """A lesion as a report would describe it.

    Args:
        long_axis_mm: Its long axis.
        laterality: The side of the body that it lies on; None where it crosses the midline of
            the lungs, or where no lungs were found.
        is_upper: Whether it lies in the upper half of the lungs; None without lungs.
        position_lps_mm: Its centre.
    """

    long_axis_mm: float
    laterality: Laterality | None
    is_upper: bool | None
    position_lps_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Match:
    """What the report says of one lesion, and the index of the mention that says it."""

    support: ReportSupport
    finding: int | None = None


def size_tolerance_mm(stated_mm: float, *, pixel_spacing_mm: float) -> float:
    """Returns by how much a stated and a measured diameter of one lesion may differ.

    That is the disagreement of two readers, in mm or relative, whichever is more, and one pixel.
    """
    return max(READER_LIMIT_MM, READER_LIMIT_RELATIVE * stated_mm) + pixel_spacing_mm


def place_lesions(
    volume: CTVolume,
    lungs: Mask | None,
    lesions: Sequence[tuple[tuple[float, float, float], float]],
) -> tuple[Place, ...]:
    """Returns where each lesion lies, in a report's terms.

    Args:
        volume: The volume, whose affine leads to LPS mm.
        lungs: `(D, H, W)`, or None.
        lesions: Centre (d, h, w) and long axis in mm of each.
    """
    middle = _lung_middle_lps_mm(volume, lungs)
    return tuple(_place(volume.position_lps_mm(c), size, middle) for c, size in lesions)


def match_report(
    places: Sequence[Place],
    statements: Sequence[Statement],
    findings: Sequence[Finding],
    *,
    pixel_spacing_mm: float,
) -> tuple[tuple[Match, ...], tuple[Statement, ...]]:
    """Matches lesions with a report's statements, each counted statement with one lesion at most.

    Sized statements choose first, and closest sizes first. Statements of an uncounted number
    ("multiple nodules up to 5 mm") then speak for every lesion left that fits them; denials for
    the others.

    Returns:
        One match for each lesion, and the statements that fit no lesion.
    """
    pairs = sorted(
        (rank, s, p)
        for s, statement in enumerate(statements)
        for p, place in enumerate(places)
        if (rank := _rank(statement, place, pixel_spacing_mm)) is not None
    )
    chosen: dict[int, int] = {}
    used: set[int] = set()
    for _, s, p in pairs:
        if p not in chosen and (s not in used or statements[s].is_open):
            chosen[p] = s
            used.add(s)
    fitting = {s for _, s, _ in pairs if statements[s].is_open}
    matches = tuple(
        _match(place, statements[chosen[p]] if p in chosen else None, findings)
        for p, place in enumerate(places)
    )
    unmatched = tuple(
        statement for s, statement in enumerate(statements) if s not in used and s not in fitting
    )
    return matches, unmatched


def _match(place: Place, statement: Statement | None, findings: Sequence[Finding]) -> Match:
    if statement is not None:
        return Match("present" if statement.is_certain else "uncertain", statement.finding)
    concept = "mass" if place.long_axis_mm > MASS_MM else "nodule"
    for denial in denials(findings):
        if denial.concept == concept and sides_agree(denial.laterality, place.laterality):
            return Match("absent", findings.index(denial))
    return Match("not mentioned")


def _rank(
    statement: Statement, place: Place, pixel_spacing_mm: float
) -> tuple[bool, bool, bool, float] | None:
    """Orders the pairs that fit, best first; None where the pair does not fit."""
    if not sides_agree(statement.laterality, place.laterality):
        return None
    difference = 0.0
    if statement.size_mm is not None:
        tolerance = size_tolerance_mm(statement.size_mm, pixel_spacing_mm=pixel_spacing_mm)
        difference = (place.long_axis_mm - statement.size_mm) / tolerance
        if statement.is_open:  # the size is that of the largest
            difference = max(difference, 0.0)
        if abs(difference) > 1:
            return None
    wrong_half = place.is_upper is not None and statement.lobe in (
        ("lower lobe",) if place.is_upper else ("upper lobe",)
    )
    return statement.is_open, statement.size_mm is None, wrong_half, round(abs(difference), 6)


def _place(
    position: tuple[float, float, float],
    long_axis_mm: float,
    middle: tuple[float, float] | None,
) -> Place:
    if middle is None:
        return Place(long_axis_mm, None, None, position)
    from_midline_mm = position[0] - middle[0]
    side: Laterality | None = "left" if from_midline_mm > 0 else "right"  # x grows to the left
    if abs(from_midline_mm) < long_axis_mm / 2:
        side = None
    return Place(long_axis_mm, side, position[2] > middle[1], position)


def _lung_middle_lps_mm(volume: CTVolume, lungs: Mask | None) -> tuple[float, float] | None:
    """Returns x of the lungs' midline and z of their half height, halfway between their ends."""
    if lungs is None:
        return None
    indices = np.argwhere(lungs[:, ::LUNG_STRIDE, ::LUNG_STRIDE])
    if len(indices) == 0:
        return None
    scaled = indices * np.array([1, LUNG_STRIDE, LUNG_STRIDE])
    affine: npt.NDArray[Any] = volume.affine
    positions = scaled @ affine[:3, :3].T + affine[:3, 3]  # (n, 3)
    low, high = positions.min(axis=0), positions.max(axis=0)
    return float(low[0] + high[0]) / 2, float(low[2] + high[2]) / 2
