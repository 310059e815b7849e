"""Measures a lesion: two diameters on an axial slice, volume and density.

Axis order `D H W`. A lesion's outline runs half-way between its voxels' centres and their
neighbours', so a row of n voxels is n spacings long.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist, squareform

from kits.medical.imaging.candidates import Candidate
from kits.medical.imaging.grid import HounsfieldGrid, Mask

__all__ = ["LesionMeasurements", "measure"]

Point = tuple[float, float, float]
Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LesionMeasurements:
    """Sizes and density of one lesion.

    Args:
        long_axis_mm: Longest diameter in the axial plane, on the slice where it is longest
            (RECIST 1.1, Eisenhauer et al., 2009).
        short_axis_mm: Widest extent at right angles to it on the same slice.
        volume_ml: Number of voxels times the volume of one.
        mean_hu: Mean density.
        maximum_hu: Greatest density.
        long_axis_endpoints: Two index points (d, h, w), not whole, in the volume.
        slice_index: The slice of both axes in the volume.
    """

    long_axis_mm: float
    short_axis_mm: float
    volume_ml: float
    mean_hu: float
    maximum_hu: float
    long_axis_endpoints: tuple[Point, Point]
    slice_index: int


def measure(candidate: Candidate, volume: HounsfieldGrid) -> LesionMeasurements:
    """Measures `candidate` in `volume`.

    Of equally long axes the first in slice and row order is taken. The short axis is the
    extent between two parallels to the long axis, which for a hollowed outline is wider than
    any one line inside it.
    """
    in_plane_mm = np.array(volume.spacing_mm[1:])
    outlines = {
        int(d): _outline(candidate.mask[d]) * in_plane_mm
        for d in np.flatnonzero(candidate.mask.any(axis=(1, 2)))
    }
    axes = {d: _longest(points_mm) for d, points_mm in outlines.items()}
    d = max(axes, key=lambda d: (round(float(np.linalg.norm(np.subtract(*axes[d]))), 9), -d))
    first, second = axes[d]
    along = (second - first) / np.linalg.norm(second - first)
    across_mm = outlines[d] @ np.array([-along[1], along[0]])
    values_hu = _voxels(candidate, volume)
    return LesionMeasurements(
        long_axis_mm=float(np.linalg.norm(second - first)),
        short_axis_mm=float(np.ptp(across_mm)),
        volume_ml=len(values_hu) * float(np.prod(volume.spacing_mm)) / 1000,
        mean_hu=float(values_hu.mean()),
        maximum_hu=float(values_hu.max()),
        long_axis_endpoints=(
            _in_volume(candidate, d, first / in_plane_mm),
            _in_volume(candidate, d, second / in_plane_mm),
        ),
        slice_index=candidate.start[0] + d,
    )


def _outline(mask: Mask) -> Points:
    """Returns points `(n, 2)` (h, w) half-way between inner and outer neighbours."""
    padded = np.pad(mask, 1)
    points = []
    for axis, step in ((0, -1), (0, 1), (1, -1), (1, 1)):
        edge = padded & ~np.roll(padded, -step, axis=axis)
        offset = np.zeros(2)
        offset[axis] = step / 2
        points.append(np.argwhere(edge) - 1 + offset)
    return np.concatenate(points)


def _longest(points_mm: Points) -> tuple[Points, Points]:
    distances = np.round(squareform(pdist(points_mm)), 9)
    first, second = np.unravel_index(int(distances.argmax()), distances.shape)
    return points_mm[first], points_mm[second]


def _voxels(candidate: Candidate, volume: HounsfieldGrid) -> npt.NDArray[np.float64]:
    box = tuple(slice(s, s + n) for s, n in zip(candidate.start, candidate.mask.shape, strict=True))
    return volume.hounsfield[box][candidate.mask].astype(np.float64)


def _in_volume(candidate: Candidate, d: int, point: Points) -> Point:
    _, h0, w0 = candidate.start
    return float(candidate.start[0] + d), float(h0 + point[0]), float(w0 + point[1])
