"""Says which part of the body a volume shows, from its voxels.

The header's BodyPartExamined is a hint that is compared, never believed: it may be empty,
copied from a protocol or wrong. Only a chest whose lungs were found is scored for nodules; all
else is described. Axis order `D H W`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from kits.medical.imaging.grid import HounsfieldGrid, Mask, Voxels
from kits.medical.imaging.lungs import AIR_HU, LungFields, enclosed, segment_lungs

__all__ = ["BodyRegion", "RegionName", "describe_region"]

RegionName = Literal["chest", "head", "abdomen", "phantom", "unknown"]

MINIMUM_SLICES = 5
MINIMUM_EXTENT_MM = 30.0
GRID_MM = 1.8
TISSUE_HU, BONE_HU = -300.0, 200.0
# Less air than this is one lung's base in an abdominal scan, or none.
MINIMUM_LUNG_ML = 500.0
# Each half of the body holds at least this share of the lungs.
MINIMUM_SIDE_SHARE = 0.15
MINIMUM_BODY_ML = 100.0
# A skull: rings of bone that enclose this much.
MINIMUM_CAVITY_ML = 300.0
BRAIN_HU = (0.0, 80.0)
MINIMUM_BRAIN_SHARE = 0.5
# Lung holds tissue; where the median lies below this there is air alone.
PLAIN_AIR_HU = -965.0
MINIMUM_HOLLOW_SHARE = 0.4
MINIMUM_SHELL_BONE_SHARE = 0.3
# A uniform phantom: the middle 98% of its smoothed inside lie this close together.
UNIFORM_RANGE_HU = 60.0
FAT_HU, ORGAN_HU = (-150.0, -30.0), (0.0, 150.0)
HINTS: dict[str, RegionName] = {
    # Defined terms of PS3.16 Annex L, as far as they name one of the regions.
    "CHEST": "chest",
    "LUNG": "chest",
    "THORAX": "chest",
    "BRAIN": "head",
    "HEAD": "head",
    "SKULL": "head",
    "ABDOMEN": "abdomen",
    "LIVER": "abdomen",
    "PELVIS": "abdomen",
    "PHANTOM": "phantom",
}


@dataclass(frozen=True, eq=False)
class BodyRegion:
    """What a volume shows.

    Args:
        name: The region.
        reason: What the voxels say, in one or more sentences.
        lung_volume_ml: Air-filled lung; 0 where no lungs were found.
        lungs: `(D, H, W)` bool with vessels and nodules filled in, for a chest; else None.
    """

    name: RegionName
    reason: str
    lung_volume_ml: float
    lungs: Mask | None


@dataclass(frozen=True, eq=False)
class _Body:
    """The largest connected body on a coarser grid: densities, its mask, a voxel's volume."""

    hounsfield: Voxels
    mask: Mask
    voxel_ml: float


def describe_region(volume: HounsfieldGrid, *, BodyPartExamined: str | None = None) -> BodyRegion:
    """Returns the region that `volume` shows.

    Args:
        volume: Hounsfield units and spacing.
        BodyPartExamined: The header's hint; where it is None, that of `volume.series`, if the
            volume has one.
    """
    series = getattr(volume, "series", None)
    hint = BodyPartExamined or getattr(series, "BodyPartExamined", None)
    region = _from_voxels(volume)
    hinted = HINTS.get((hint or "").strip().upper())
    if hinted is None or hinted == region.name:
        return region
    remark = f" BodyPartExamined says {hinted}; the voxels decide."
    return BodyRegion(region.name, region.reason + remark, region.lung_volume_ml, region.lungs)


def _from_voxels(volume: HounsfieldGrid) -> BodyRegion:
    n_slices = volume.hounsfield.shape[0]
    extent_mm = n_slices * volume.spacing_mm[0]
    if n_slices < MINIMUM_SLICES or extent_mm < MINIMUM_EXTENT_MM:
        slices = "1 slice" if n_slices == 1 else f"{n_slices} slices"
        return _without_lungs(
            "unknown",
            f"{slices} over {extent_mm:.0f} mm: a region is told from {MINIMUM_SLICES} slices over "
            f"{MINIMUM_EXTENT_MM:.0f} mm up.",
        )
    body = _body(volume)
    if body.mask.sum() * body.voxel_ml < MINIMUM_BODY_ML:
        return _without_lungs("unknown", f"Less than {MINIMUM_BODY_ML:.0f} ml of tissue.")
    return (
        _as_head(body)
        or _as_hollow_phantom(body)
        or _as_chest(segment_lungs(volume), body)
        or _as_uniform_phantom(body)
        or _as_abdomen(body)
        or _without_lungs("unknown", "No lungs, skull, uniform phantom or abdomen was found.")
    )


def _as_chest(fields: LungFields | None, body: _Body) -> BodyRegion | None:
    if fields is None:
        return None
    total_ml = sum(fields.air_ml)
    columns = np.flatnonzero(body.mask.any(axis=(0, 1))) / body.mask.shape[2]
    middle = round((columns[0] + columns[-1]) / 2 * fields.mask.shape[2])
    left_share = float(fields.mask[:, :, middle:].sum()) / float(fields.mask.sum())
    if total_ml < MINIMUM_LUNG_ML or min(left_share, 1 - left_share) < MINIMUM_SIDE_SHARE:
        return None
    parts = len(fields.air_ml)
    joined = "one connected part" if parts == 1 else f"{parts} parts"
    return BodyRegion(
        "chest",
        f"Lungs: {total_ml:.0f} ml of air inside the body in {joined}, "
        f"on average {fields.mean_hu:.0f} HU.",
        total_ml,
        fields.mask,
    )


def _as_head(body: _Body) -> BodyRegion | None:
    """Looks at what rings of bone enclose."""
    bone = ndimage.binary_closing(body.hounsfield > BONE_HU, np.ones((1, 5, 5)))
    cavity = ndimage.binary_erosion(enclosed(~bone), np.ones((1, 3, 3)))
    labels, count = ndimage.label(cavity)
    if not count:
        return None
    largest = labels == 1 + int(np.bincount(labels.ravel())[1:].argmax())
    cavity_ml = float(largest.sum()) * body.voxel_ml
    brain = _share(body.hounsfield[largest], BRAIN_HU)
    if cavity_ml < MINIMUM_CAVITY_ML or brain < MINIMUM_BRAIN_SHARE:
        return None
    return _without_lungs(
        "head",
        f"Rings of bone density enclose {cavity_ml:.0f} ml, {brain:.0%} of the density of brain.",
    )


def _as_hollow_phantom(body: _Body) -> BodyRegion | None:
    """Looks for a shell around plain air, which no living body is."""
    air = enclosed(body.hounsfield < AIR_HU) & body.mask
    air_ml = float(air.sum()) * body.voxel_ml
    if air_ml < MINIMUM_CAVITY_ML or air.sum() < MINIMUM_HOLLOW_SHARE * body.mask.sum():
        return None
    air_hu = float(np.median(body.hounsfield[air]))
    if air_hu > PLAIN_AIR_HU:
        return None
    bone = float(np.mean(body.hounsfield[body.mask & ~air] > BONE_HU))
    kind = "a head phantom" if bone > MINIMUM_SHELL_BONE_SHARE else "a hollow phantom"
    return _without_lungs(
        "phantom",
        f"A shell, {bone:.0%} of it of bone density, encloses {air_ml:.0f} ml of plain air "
        f"(median {air_hu:.0f} HU), where a patient has tissue: {kind}.",
    )


def _as_uniform_phantom(body: _Body) -> BodyRegion | None:
    inside = ndimage.binary_erosion(body.mask, np.ones((1, 3, 3)), iterations=4)
    if not inside.any():
        return None
    smooth = ndimage.uniform_filter(body.hounsfield, (1, 5, 5))[inside]
    low, median, high = (float(v) for v in np.percentile(smooth, [1, 50, 99]))
    if high - low > UNIFORM_RANGE_HU:
        return None
    return _without_lungs(
        "phantom",
        f"Uniform inside, of median density {median:.0f} HU, 98% of it within "
        f"{high - low:.0f} HU: a uniform phantom.",
    )


def _as_abdomen(body: _Body) -> BodyRegion | None:
    values_hu = body.hounsfield[body.mask]
    fat, organs = _share(values_hu, FAT_HU), _share(values_hu, ORGAN_HU)
    if fat < 0.05 or organs < 0.3:
        return None
    return _without_lungs(
        "abdomen",
        f"Body without lungs or skull: {organs:.0%} of the density of organs and muscle, "
        f"{fat:.0%} of that of fat.",
    )


def _body(volume: HounsfieldGrid) -> _Body:
    stride = [max(1, round(GRID_MM / mm)) for mm in volume.spacing_mm[1:]]
    coarse = volume.hounsfield[:, :: stride[0], :: stride[1]]
    voxel_ml = float(np.prod(volume.spacing_mm)) * stride[0] * stride[1] / 1000
    labels, count = ndimage.label(coarse > TISSUE_HU)
    if not count:
        return _Body(coarse, np.zeros(coarse.shape, bool), voxel_ml)
    largest = labels == 1 + int(np.bincount(labels.ravel())[1:].argmax())
    return _Body(coarse, largest | enclosed(~largest), voxel_ml)


def _share(values_hu: Voxels, bounds: tuple[float, float]) -> float:
    return float(np.mean((values_hu >= bounds[0]) & (values_hu <= bounds[1])))


def _without_lungs(name: RegionName, reason: str) -> BodyRegion:
    return BodyRegion(name, reason, 0.0, None)
