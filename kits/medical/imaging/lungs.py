"""Segments the lungs: air inside the body, closed so that pleural nodules lie within.

Axis order `D H W`. The work is done on every n-th voxel of a slice, about 2 mm apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from kits.medical.imaging.grid import HounsfieldGrid, Mask

__all__ = ["AIR_HU", "LungFields", "enclosed", "segment_lungs"]

AIR_HU = -400.0
GRID_MM = 1.8
CLOSING_MM = 10.0
# A part of the lungs; smaller pockets of air are airways, bowel, sinuses.
MINIMUM_PART_ML = 80.0
# Lung tissue with its air; trachea, bowel gas and hollow phantoms lie near -1000.
PART_HU = (-940.0, -500.0)
IN_PLANE = np.array([[[0] * 3] * 3, [[0, 1, 0], [1, 1, 1], [0, 1, 0]], [[0] * 3] * 3])


@dataclass(frozen=True, eq=False)
class LungFields:
    """What was found.

    Args:
        mask: `(D, H, W)` bool; vessels and nodules filled in.
        air_ml: Volume of each part of air, the largest first, before filling.
        mean_hu: Mean density of that air.
    """

    mask: Mask
    air_ml: tuple[float, ...]
    mean_hu: float


def enclosed(mask: Mask) -> Mask:
    """Returns the voxels of `mask` `(D, H, W)` that are cut off, in their slice, from its edge."""
    labels, count = ndimage.label(mask, IN_PLANE)
    edges = (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1])
    reaches_edge = np.zeros(count + 1, bool)
    reaches_edge[np.concatenate([edge.ravel() for edge in edges])] = True
    reaches_edge[0] = True
    inside: Mask = ~reaches_edge[labels]
    return inside


def segment_lungs(volume: HounsfieldGrid) -> LungFields | None:
    """Returns the lungs, or None where no air in the body has the density of lung."""
    stride = [1, *(max(1, round(GRID_MM / mm)) for mm in volume.spacing_mm[1:])]
    coarse = volume.hounsfield[:, :: stride[1], :: stride[2]]
    spacing_mm = [mm * step for mm, step in zip(volume.spacing_mm, stride, strict=True)]
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    labels, count = ndimage.label(enclosed(coarse < AIR_HU))
    numbers = np.arange(1, count + 1)
    if not count:
        return None
    sizes_ml = np.bincount(labels.ravel(), minlength=count + 1)[1:] * voxel_ml
    means_hu = ndimage.mean(coarse, labels, numbers)
    kept = (sizes_ml >= MINIMUM_PART_ML) & (means_hu > PART_HU[0]) & (means_hu < PART_HU[1])
    if not kept.any():
        return None
    lungs = np.isin(labels, numbers[kept])
    return LungFields(
        mask=_magnified(_closed(lungs, spacing_mm), stride, volume.hounsfield.shape),
        air_ml=tuple(sorted((float(v) for v in sizes_ml[kept]), reverse=True)),
        mean_hu=float(coarse[lungs].mean()),
    )


def _closed(lungs: Mask, spacing_mm: list[float]) -> Mask:
    """Closes slice by slice with a disc, then fills the holes of each slice."""
    margin = [int(np.ceil(CLOSING_MM / mm)) + 1 for mm in spacing_mm[1:]]
    closed = np.zeros_like(lungs)
    for d in np.flatnonzero(lungs.any(axis=(1, 2))):
        padded = np.pad(lungs[d], [(m, m) for m in margin])
        grown = ndimage.distance_transform_edt(~padded, sampling=spacing_mm[1:]) <= CLOSING_MM
        shrunk = ndimage.distance_transform_edt(grown, sampling=spacing_mm[1:]) > CLOSING_MM
        closed[d] = (shrunk | padded)[margin[0] : -margin[0], margin[1] : -margin[1]]
    return closed | enclosed(~closed)


def _magnified(mask: Mask, stride: list[int], shape: tuple[int, ...]) -> Mask:
    rows = np.minimum(np.arange(shape[1]) // stride[1], mask.shape[1] - 1)
    columns = np.minimum(np.arange(shape[2]) // stride[2], mask.shape[2] - 1)
    whole: Mask = mask[:, rows][:, :, columns]
    return whole
