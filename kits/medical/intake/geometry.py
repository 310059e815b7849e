"""Where the slices of a CT series lie in the patient, and whether they form a regular stack.

Positions are LPS+ millimetres (PS3.3 C.7.6.2.1.1). The slice normal is the cross product of
the row and column cosines of ImageOrientationPatient; slices are ordered along it, so that
index 0 is the lowest. Every gap is measured along that normal and every one is checked: the
first gap or the mean gap says nothing about the others.

Tolerances, and why:
    gaps: within 1 % of their median, the bound of highdicom 0.28 (`highdicom.spatial`), or
        0.02 mm where that is more: positions are often written with two decimals, so that a
        gap between two of them is off by 0.01 mm, and so is the median.
    drift and sideways offset: half an in-plane pixel over the whole stack; beyond it a voxel
        would be named by its neighbour's position.
    cosines: 0.001, which moves a pixel 250 mm from the origin by 0.25 mm.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from common.errors import GeometryError

__all__ = [
    "COSINE_TOLERANCE",
    "SeriesGeometry",
    "describe_gaps",
    "measure_geometry",
    "order_slices",
    "slice_normal",
    "slice_positions_mm",
]

COSINE_TOLERANCE = 1e-3
GAP_TOLERANCE_RELATIVE = 0.01
GAP_TOLERANCE_MM = 0.02
# Two missing slices in a row are bridged when resampling is asked for; to bridge more would
# invent tissue that was never imaged.
LONGEST_BRIDGED_GAP = 3.5

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SeriesGeometry:
    """The geometry of an ordered stack of parallel slices.

    Attributes:
        gantry_tilt_deg: Angle between the stacking direction and the slice normal; of a
            single slice, the size of its GantryDetectorTilt.
        gaps_mm: Gap along the slice normal, rounded to 0.01 mm, and how often it occurs, in
            order of first occurrence; empty for a single slice.
        pixel_spacing_mm: Between rows, between columns (PixelSpacing).
        slice_thickness_mm: SliceThickness, or None where it is absent or varies.
        orientation: ImageOrientationPatient, normalised: row cosines, then column cosines.
        problems: What keeps the stack from being a regular grid, in words; empty if nothing.
    """

    gantry_tilt_deg: float
    gaps_mm: tuple[tuple[float, int], ...]
    pixel_spacing_mm: tuple[float, float]
    slice_thickness_mm: float | None
    orientation: tuple[float, float, float, float, float, float]
    problems: tuple[str, ...]


def measure_geometry(slices: Sequence[Dataset]) -> SeriesGeometry:
    """Returns the geometry of `slices`, which `order_slices` has ordered.

    Raises:
        GeometryError: Two slices lie at one position, or a gap is too long to be bridged.
    """
    positions_mm = slice_positions_mm(slices)  # (D, 3)
    normal = slice_normal(slices[0])
    along_mm = positions_mm @ normal  # (D,)
    gaps_mm = np.diff(along_mm)
    row_spacing, column_spacing = (float(value) for value in slices[0].PixelSpacing)
    thickness_mm = _slice_thicknesses_mm(slices)
    problems: list[str] = []
    tilt_deg = abs(float(slices[0].get("GantryDetectorTilt") or 0.0))
    if len(slices) > 1:
        _require_distinct_positions(along_mm)
        _require_bridgeable_gaps(along_mm, thickness_mm)
        half_pixel_mm = min(row_spacing, column_spacing) / 2
        tilt_deg, sideways = _sideways_problems(positions_mm, normal, half_pixel_mm)
        problems = sideways + _gap_problems(along_mm, half_pixel_mm)
    same_thickness = thickness_mm is not None and np.ptp(thickness_mm) < GAP_TOLERANCE_MM
    return SeriesGeometry(
        gantry_tilt_deg=tilt_deg,
        gaps_mm=_count(gaps_mm),
        pixel_spacing_mm=(row_spacing, column_spacing),
        slice_thickness_mm=float(thickness_mm[0])
        if thickness_mm is not None and same_thickness
        else None,
        orientation=_orientation(slices[0]),
        problems=tuple(problems),
    )


def order_slices(slices: Sequence[Dataset]) -> tuple[Dataset, ...]:
    """Returns `slices` in rising order along their common normal.

    The order does not depend on the order given, file names or InstanceNumber.
    """
    normal = slice_normal(slices[0])
    along_mm = slice_positions_mm(slices) @ normal
    keys = [
        (round(float(along), 4), str(slice_.SOPInstanceUID))
        for along, slice_ in zip(along_mm, slices, strict=True)
    ]
    return tuple(slices[index] for index in sorted(range(len(slices)), key=keys.__getitem__))


def slice_normal(slice_: Dataset) -> Float64:
    """Returns the unit normal `(3,)` of a slice: row cosines x column cosines."""
    orientation = _orientation(slice_)
    return np.cross(orientation[:3], orientation[3:])


def slice_positions_mm(slices: Sequence[Dataset]) -> Float64:
    """Returns ImagePositionPatient of each slice, `(D, 3)`: the centre of its first pixel."""
    return np.array([[float(v) for v in slice_.ImagePositionPatient] for slice_ in slices])


def describe_gaps(gaps_mm: Sequence[tuple[float, int]]) -> str:
    """Returns gaps and counts in words, such as "4.00 x13, 1.08 x1, 7.00 x13"."""
    shown = [f"{gap:.2f} x{count}" for gap, count in gaps_mm[:8]]
    if len(gaps_mm) > len(shown):
        shown.append(f"and {len(gaps_mm) - len(shown)} more sizes")
    return ", ".join(shown)


def _orientation(slice_: Dataset) -> tuple[float, float, float, float, float, float]:
    cosines = np.array([float(value) for value in slice_.ImageOrientationPatient])
    row = cosines[:3] / np.linalg.norm(cosines[:3])
    column = cosines[3:] - (cosines[3:] @ row) * row  # rounding leaves them not quite square
    column = column / np.linalg.norm(column)
    r0, r1, r2 = (float(value) for value in row)
    c0, c1, c2 = (float(value) for value in column)
    return (r0, r1, r2, c0, c1, c2)


def _slice_thicknesses_mm(slices: Sequence[Dataset]) -> Float64 | None:
    values = [slice_.get("SliceThickness") for slice_ in slices]
    if any(value is None for value in values):
        return None
    return np.array([float(value) for value in values])


def _count(gaps_mm: Float64) -> tuple[tuple[float, int], ...]:
    return tuple(Counter(round(float(gap), 2) for gap in gaps_mm).items())


def _gap_tolerance_mm(median_mm: float) -> float:
    return max(GAP_TOLERANCE_RELATIVE * median_mm, GAP_TOLERANCE_MM)


def _require_distinct_positions(along_mm: Float64) -> None:
    gaps_mm = np.diff(along_mm)
    same = np.flatnonzero(gaps_mm < GAP_TOLERANCE_MM / 2)
    if same.size == 0:
        return
    raise GeometryError(
        "CT series",
        expected="one slice at each position",
        found=f"{same.size + np.unique(along_mm.round(2)).size} slices at "
        f"{np.unique(along_mm.round(2)).size} positions; the first repeated position is "
        f"{along_mm[same[0]]:.2f} mm along the slice normal",
        remedy="Give one reconstruction or one phase at a time, each in a folder of its own.",
    )


def _require_bridgeable_gaps(along_mm: Float64, thickness_mm: Float64 | None) -> None:
    gaps_mm = np.diff(along_mm)
    limit_mm = np.full(gaps_mm.shape, float(np.median(gaps_mm)))
    if thickness_mm is not None:
        limit_mm = np.maximum(limit_mm, np.maximum(thickness_mm[:-1], thickness_mm[1:]))
    limit_mm = LONGEST_BRIDGED_GAP * limit_mm
    too_long = np.flatnonzero(gaps_mm > limit_mm)
    if too_long.size == 0 or gaps_mm.size == 1:
        return
    first = int(too_long[0])
    raise GeometryError(
        "CT series",
        expected=f"no gap longer than {limit_mm[first]:.2f} mm ({LONGEST_BRIDGED_GAP} usual gaps)",
        found=f"{gaps_mm[first]:.2f} mm {_place(along_mm, first)}; gaps along the slice normal "
        f"{describe_gaps(_count(gaps_mm))} mm",
        remedy="Send the whole series again; so long a gap is not bridged by resampling either.",
    )


def _place(along_mm: Float64, gap: int) -> str:
    return (
        f"after slice {gap + 1} of {along_mm.size} (between {along_mm[gap]:.2f} and "
        f"{along_mm[gap + 1]:.2f} mm along the slice normal)"
    )


def _sideways_problems(
    positions_mm: Float64, normal: Float64, half_pixel_mm: float
) -> tuple[float, list[str]]:
    """Returns the tilt in degrees, and what is wrong with the slices' sideways places.

    The slope is the median of those over half the stack (as Theil-Sen, long baselines only),
    so that one displaced slice is told as displaced and not as a tilt of all.
    """
    offsets_mm = positions_mm - positions_mm[0]
    along_mm = offsets_mm @ normal  # (D,)
    sideways_mm = offsets_mm - np.outer(along_mm, normal)  # (D, 3)
    half = len(along_mm) // 2
    rise_mm = sideways_mm[half:] - sideways_mm[:-half]
    slope = np.median(rise_mm / (along_mm[half:] - along_mm[:-half])[:, None], axis=0)  # (3,)
    tilt_deg = math.degrees(math.atan(float(np.linalg.norm(slope))))
    problems = []
    if float(np.linalg.norm(slope)) * along_mm[-1] > half_pixel_mm:
        problems.append(
            f"gantry tilt {tilt_deg:.1f} degrees (the slices are stacked at that angle to "
            "their normal)"
        )
    residual_mm = sideways_mm - np.outer(along_mm, slope)
    scatter_mm = np.linalg.norm(residual_mm - np.median(residual_mm, axis=0), axis=1)
    if scatter_mm.max() > half_pixel_mm:
        problems.append(f"slices up to {scatter_mm.max():.2f} mm sideways of a straight stack")
    return tilt_deg, problems


def _gap_problems(along_mm: Float64, half_pixel_mm: float) -> list[str]:
    gaps_mm = np.diff(along_mm)
    median_mm = float(np.median(gaps_mm))
    tolerance_mm = _gap_tolerance_mm(median_mm)
    odd = np.flatnonzero(np.abs(gaps_mm - median_mm) > tolerance_mm)
    multiples = np.rint(gaps_mm / median_mm)
    missing = [
        int(gap)
        for gap in odd
        if multiples[gap] >= 2
        and abs(gaps_mm[gap] - multiples[gap] * median_mm) <= multiples[gap] * tolerance_mm
    ]
    problems = [
        f"a gap of {gaps_mm[gap]:.2f} mm where the others are {median_mm:.2f} mm, "
        f"{int(multiples[gap]) - 1} missing {_place(along_mm, gap)}"
        for gap in missing[:5]
    ]
    if len(missing) > 5:
        problems.append(f"slices missing at {len(missing) - 5} further places")
    if odd.size > len(missing):
        shown = describe_gaps(_count(gaps_mm))
        problems.append(f"uneven gaps along the slice normal ({shown} mm)")
    drift_mm = np.abs(along_mm - np.linspace(along_mm[0], along_mm[-1], along_mm.size)).max()
    if odd.size == 0 and drift_mm > half_pixel_mm:
        problems.append(f"positions that drift {drift_mm:.2f} mm from an even grid")
    return problems
