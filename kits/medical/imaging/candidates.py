"""Finds round, solid lumps in the lungs: what a nodule network then scores.

The classical way: voxels above a threshold inside the closed lung mask, opened at rising
radii so that thinner vessels fall off, and kept where the lump is compact and mostly free
of solid neighbours (a branching point of vessels is not). It finds solid nodules of 3 to
30 mm; ground-glass ones, which stay below the threshold, are missed, and so are lesions
outside the lung mask. Axis order `D H W`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from common.errors import ImageError
from kits.medical.imaging.grid import HounsfieldGrid, Mask

__all__ = ["Candidate", "find_candidates"]

# Half-way between lung (about -850 HU) and soft tissue (about 40 HU).
SOLID_HU = -400.0
DIAMETER_MM = (3.0, 30.0)
# Radii of the openings; 0 takes whole connected components.
OPENING_RADII_MM = (0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
MAXIMUM_ELONGATION = 2.0
# Share of solid voxels in the shell 1 to 3 mm around the lump.
MAXIMUM_ATTACHMENT = 0.3
SHELL_MM = (1.0, 3.0)
# Half-thickness of the lump over that of what runs on from it: a piece of vessel has 1.
MINIMUM_THICKENING = 1.6
MINIMUM_VOXELS = 6
# A smaller lump that an opening freed cannot be told from a bend of the vessel.
MINIMUM_FREED_MM = 4.5

Index = tuple[int, int, int]
Spacing = tuple[float, float, float]
Distances = npt.NDArray[np.float64]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A lump of voxels in a box of the volume.

    Args:
        start: The box's first voxel in the volume (d, h, w).
        mask: `(d, h, w)` bool, at least one voxel; made read-only.
        roundness: Shortest over longest principal axis, 0 to 1.
    """

    start: Index
    mask: Mask
    roundness: float = 1.0

    def __post_init__(self) -> None:
        if self.mask.ndim != 3 or not self.mask.any() or min(self.start) < 0:
            raise ImageError(
                "lesion candidate",
                expected="a three-dimensional mask with a voxel, at an index from 0 up",
                found=f"shape {self.mask.shape}, {int(self.mask.sum())} voxels at {self.start}",
                remedy="Leave empty candidates out.",
            )
        mask = self.mask.astype(bool, copy=True)
        mask.setflags(write=False)
        object.__setattr__(self, "mask", mask)

    @property
    def centre(self) -> tuple[float, float, float]:
        """The mean voxel index (d, h, w) in the volume."""
        d, h, w = np.argwhere(self.mask).mean(axis=0) + self.start
        return float(d), float(h), float(w)

    def full_mask(self, shape: tuple[int, ...]) -> Mask:
        """Returns the candidate's mask in a volume of `shape` (D, H, W)."""
        whole = np.zeros(shape, bool)
        box = tuple(slice(s, s + n) for s, n in zip(self.start, self.mask.shape, strict=True))
        whole[box] = self.mask
        return whole


def find_candidates(
    volume: HounsfieldGrid, lungs: Mask, *, maximum: int = 50
) -> tuple[Candidate, ...]:
    """Returns at most `maximum` lumps that do not overlap, the roundest first.

    Equal input gives equal output. The mask of a lump that an opening freed from a vessel is
    grown back by the opening's radius.

    Args:
        volume: Hounsfield units and spacing.
        lungs: `(D, H, W)`, the lungs with vessels and nodules filled in
            (`BodyRegion.lungs`).
        maximum: How many to return.
    """
    if not lungs.any():
        return ()
    lung_box = ndimage.find_objects(lungs.astype(np.uint8))[0]
    inside = lungs[lung_box]
    free = (volume.hounsfield[lung_box] > SOLID_HU) & inside
    padded = ndimage.distance_transform_edt(np.pad(free, 1), sampling=volume.spacing_mm)
    solid_mm = padded[1:-1, 1:-1, 1:-1]  # distance to the next voxel that is not solid
    found: list[Candidate] = []
    for radius_mm in OPENING_RADII_MM:
        for box, lump in _opened(free, solid_mm, radius_mm, volume.spacing_mm):
            candidate = _judge(lump, solid_mm[box], inside[box], volume.spacing_mm)
            smallest_mm = MINIMUM_FREED_MM if radius_mm > 0 else DIAMETER_MM[0]
            if candidate is None or _sphere_mm(lump, volume.spacing_mm) < smallest_mm:
                continue
            free[box] &= ~lump
            offset = [b.start + s.start for b, s in zip(lung_box, box, strict=True)]
            found.append(_shifted(candidate, offset))
    found.sort(key=lambda c: (-c.roundness, c.start))
    return tuple(found[:maximum])


def _opened(
    free: Mask, solid_mm: Distances, radius_mm: float, spacing_mm: Spacing
) -> Iterator[tuple[Box, Mask]]:
    """Yields the lumps of one opening, each in a box with a margin for its shell.

    Lumps too small or too wide to be kept are passed over early.
    """
    cores = free & (solid_mm > radius_mm)
    labels, _ = ndimage.label(cores, np.ones((3, 3, 3)) if radius_mm == 0 else None)
    reach = radius_mm + SHELL_MM[1]
    margin = [int(np.ceil(reach / mm)) for mm in spacing_mm]
    for label, tight in enumerate(ndimage.find_objects(labels), start=1):
        extent_mm = [(s.stop - s.start) * mm for s, mm in zip(tight, spacing_mm, strict=True)]
        if max(extent_mm) > 1.5 * DIAMETER_MM[1]:
            continue
        box = _widened(tight, margin, labels.shape)
        core = labels[box] == label
        if radius_mm == 0:
            yield box, core
        else:
            away_mm = ndimage.distance_transform_edt(~core, sampling=spacing_mm)
            yield box, free[box] & (away_mm <= radius_mm)


def _judge(lump: Mask, solid_mm: Distances, inside: Mask, spacing_mm: Spacing) -> Candidate | None:
    """Returns the lump as a candidate in its box's coordinates, or None if it is none."""
    diameter_mm = _sphere_mm(lump, spacing_mm)
    if lump.sum() < MINIMUM_VOXELS or not DIAMETER_MM[0] <= diameter_mm <= DIAMETER_MM[1]:
        return None
    roundness = _roundness(lump, spacing_mm)
    if roundness * MAXIMUM_ELONGATION < 1:
        return None
    away_mm = ndimage.distance_transform_edt(~lump, sampling=spacing_mm)
    shell = inside & (away_mm > SHELL_MM[0]) & (away_mm <= SHELL_MM[1])
    if shell.any():
        around_mm = solid_mm[shell]
        if float((around_mm > 0).mean()) > MAXIMUM_ATTACHMENT:
            return None
        if float(solid_mm[lump].max()) < MINIMUM_THICKENING * float(around_mm.max()):
            return None
    tight = ndimage.find_objects(lump.astype(np.uint8))[0]
    start = (tight[0].start, tight[1].start, tight[2].start)
    return Candidate(start, lump[tight], roundness)


def _sphere_mm(lump: Mask, spacing_mm: Spacing) -> float:
    """Returns the diameter of the sphere with the lump's volume."""
    return float(np.cbrt(6 / np.pi * lump.sum() * np.prod(spacing_mm)))


def _roundness(lump: Mask, spacing_mm: Spacing) -> float:
    """Returns shortest over longest principal axis; a voxel's own width counts (s^2 / 12)."""
    points_mm = np.argwhere(lump) * spacing_mm
    covariance = np.cov(points_mm, rowvar=False, bias=True) + np.diag(np.square(spacing_mm)) / 12
    variances = np.linalg.eigvalsh(covariance)
    return float(np.sqrt(variances[0] / variances[-1]))


def _shifted(candidate: Candidate, offset: list[int]) -> Candidate:
    d, h, w = (s + o for s, o in zip(candidate.start, offset, strict=True))
    return Candidate((d, h, w), candidate.mask, candidate.roundness)


def _widened(box: Box, margin: list[int], shape: tuple[int, ...]) -> Box:
    d, h, w = (
        slice(max(0, s.start - m), min(n, s.stop + m))
        for s, m, n in zip(box, margin, shape, strict=True)
    )
    return d, h, w
