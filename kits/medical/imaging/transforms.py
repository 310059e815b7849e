"""Brings a lesion into the form that the nodule network was trained on.

The published LIDC crops fix the first half of the form: 128 x 128 native pixels of an axial
slice around the lesion, each scaled from its least to its greatest value to 8 bits, with a
mask beside it. The second half is shared by training and inference: both are sampled on a
grid of fixed spacing around the mask's centre. What the scaling loses is the absolute
density: air, bone and contrast medium in the crop decide how bright a lesion looks.

Axis order `D H W` for volumes, `H W` for slices, `H W C` for the network's input, whose
channels are image, mask, image, mask ... of the slices from the largest area down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from common.errors import ImageError
from kits.medical.imaging.grid import HounsfieldGrid, Mask, Voxels

__all__ = ["NetworkForm", "NodulePatch", "crop_patch", "network_input", "network_planes"]

Pixels8 = npt.NDArray[np.uint8]
Planes = npt.NDArray[np.float32]
Plane = tuple[int, int]


@dataclass(frozen=True)
class NetworkForm:
    """The numbers that fix the network's input; config.json carries them.

    Args:
        crop_pixels: Side of the native crop in which the densities are scaled.
        size: Side of the network's input in pixels.
        spacing_mm: Pixel spacing of the network's input.
        slices: Axial slices of one lesion, the largest first.
    """

    crop_pixels: int = 128
    size: int = 64
    spacing_mm: float = 0.7
    slices: int = 3


@dataclass(frozen=True, eq=False)
class NodulePatch:
    """One slice of one lesion as the training set holds it.

    Args:
        image: `(P, P)` uint8, least value 0, greatest 255 (all 0 where all are equal).
        mask: `(P, P)` bool, at least one pixel.
        spacing_mm: Pixel spacing `(H, W)`.
    """

    image: Pixels8
    mask: Mask
    spacing_mm: tuple[float, float]


def network_input(
    volume: HounsfieldGrid,
    mask: Mask,
    *,
    start: tuple[int, int, int] = (0, 0, 0),
    form: NetworkForm | None = None,
) -> Planes:
    """Returns the network's input `(size, size, 2 x slices)` for one lesion.

    A lesion of fewer slices than the form wants repeats them in turn, so that the mean over
    slices keeps its meaning.

    Args:
        volume: Hounsfield units and spacing.
        mask: The lesion, `(d, h, w)`, in a box of the volume.
        start: The box's first voxel in the volume (d, h, w).
        form: The form of the network; the default is that of the bundled one.

    Raises:
        ImageError: The mask is empty.
    """
    form = form or NetworkForm()
    planes = []
    for d in _largest_slices(mask, form.slices):
        patch = crop_patch(
            volume.hounsfield[start[0] + d],
            mask[d],
            start=start[1:],
            spacing_mm=volume.spacing_mm[1:],
            crop_pixels=form.crop_pixels,
        )
        planes.append(network_planes(patch, form))
    repeated = [planes[k % len(planes)] for k in range(form.slices)]
    return np.ascontiguousarray(np.concatenate(repeated).transpose(1, 2, 0))


def crop_patch(
    plane_hu: Voxels,
    mask: Mask,
    *,
    start: Plane,
    spacing_mm: tuple[float, float],
    crop_pixels: int = 128,
) -> NodulePatch:
    """Cuts the native crop around a mask's centre and scales it to 8 bits.

    The crop's centre is the centre of the mask's bounding box, as in the published crops (to a
    few pixels); near the edge of the picture it slides inwards. A picture smaller than the
    crop is filled up with its own least value, which leaves the scaling as it is.

    Args:
        plane_hu: One axial slice `(H, W)`.
        mask: The lesion on it, `(h, w)`, in a box of the slice.
        start: The box's first pixel (h, w).
        spacing_mm: Pixel spacing `(H, W)`.
        crop_pixels: Side of the crop.
    """
    whole = np.zeros(plane_hu.shape, bool)
    box = tuple(slice(s, s + n) for s, n in zip(start, mask.shape, strict=True))
    whole[box] = mask
    centre = _box_centre(whole)
    window = tuple(
        _window(round(c), side=n, length=crop_pixels)
        for c, n in zip(centre, plane_hu.shape, strict=True)
    )
    missing = [(0, max(0, crop_pixels - n)) for n in plane_hu.shape]
    pixels = plane_hu[window]
    return NodulePatch(
        image=np.pad(_scaled_to_8_bits(pixels), missing),
        mask=np.pad(whole[window], missing),
        spacing_mm=spacing_mm,
    )


def network_planes(patch: NodulePatch, form: NetworkForm) -> Planes:
    """Samples image and mask around the mask's centre: `(2, size, size)`, both 0 to 1.

    Bilinear; beyond the crop the image continues with its edge and the mask with nothing.
    """
    step = np.array([form.spacing_mm / mm for mm in patch.spacing_mm])  # pixels of the crop
    offset = np.array(_box_centre(patch.mask)) - step * (form.size - 1) / 2
    shape = (form.size, form.size)
    image = ndimage.affine_transform(
        patch.image.astype(np.float32) / np.float32(255),
        step,
        offset=offset,
        output_shape=shape,
        order=1,
        mode="nearest",
    )
    mask = ndimage.affine_transform(
        patch.mask.astype(np.float32), step, offset=offset, output_shape=shape, order=1
    )
    return np.stack([image, mask]).astype(np.float32)


def _largest_slices(mask: Mask, count: int) -> Sequence[int]:
    areas = mask.sum(axis=(1, 2))
    if not areas.any():
        raise ImageError(
            "lesion mask",
            expected="at least one voxel",
            found="none",
            remedy="Leave empty candidates out.",
        )
    order = np.argsort(-areas, kind="stable")[:count]
    return [int(d) for d in order if areas[d] > 0]


def _box_centre(mask: Mask) -> tuple[float, float]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(rows[0] + rows[-1]) / 2, float(columns[0] + columns[-1]) / 2


def _window(centre: int, *, side: int, length: int) -> slice:
    first = min(max(0, centre - length // 2), max(0, side - length))
    return slice(first, min(side, first + length))


def _scaled_to_8_bits(pixels: Voxels) -> Pixels8:
    low, high = float(pixels.min()), float(pixels.max())
    if high <= low:
        return np.zeros(pixels.shape, np.uint8)
    scaled: Pixels8 = np.floor((pixels.astype(np.float64) - low) / (high - low) * 255).astype(
        np.uint8
    )
    return scaled
