"""Resampling of a tilted, uneven or incomplete stack onto a regular orthogonal grid.

The grid's axes: `D` along the direction in which the slices are stacked (for a tilted gantry
the table), `W` along the rows as far as they are square to it, `H` square to both. A head CT
tilted about the patient's left-right axis so becomes aligned with the LPS axes; an untilted
stack keeps its rows and columns and is interpolated between slices only.

The grid spans all slices. A point is looked up between the two slices on whose sides it truly
lies, at the pixels where it truly lies in both (linear in all three directions, so that a field
that is linear in the patient is reproduced exactly). Points that no slice covers hold -1024 HU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from kits.medical.intake.geometry import slice_normal, slice_positions_mm
from kits.medical.intake.pixels import AIR_HU
from kits.medical.intake.series import CTSeries

__all__ = ["Resampling", "resample_stack"]

# Rounding must not push a grid point off the slice it lies on.
EDGE_TOLERANCE_PIXELS = 1e-3

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Resampling:
    """How a volume was interpolated.

    Attributes:
        reason: What was irregular.
        gaps_mm: Gaps along the slice normal before, and how often each occurred.
        gantry_tilt_deg: Angle between stacking direction and slice normal before.
        spacing_mm: `(D, H, W)` after.
    """

    reason: str
    gaps_mm: tuple[tuple[float, int], ...]
    gantry_tilt_deg: float
    spacing_mm: tuple[float, float, float]

    @property
    def statement(self) -> str:
        """One sentence for every output."""
        spacing = " x ".join(f"{length:.2f}" for length in self.spacing_mm)
        return (
            f"Resampled by linear interpolation to {spacing} mm (D x H x W) because of: "
            f"{self.reason}."
        )


def resample_stack(stack: Float32, series: CTSeries) -> tuple[Float32, Float64, Resampling]:
    """Interpolates a stack of parallel slices onto a regular grid.

    Args:
        stack: `(D, H, W)` HU, slices in the order of `series.slices`.
        series: Where the slices lie.

    Returns:
        The volume `(D', H', W')`, its affine (d, h, w, 1) -> LPS mm, and what was done.
    """
    positions_mm = slice_positions_mm(series.slices)  # (D, 3)
    axes = _grid_axes(series, positions_mm)  # (3, 3): unit vectors of d, h, w in its columns
    origin_mm, spacing_mm, shape = _grid_extent(stack.shape, series, positions_mm, axes)
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing_mm
    affine[:3, 3] = origin_mm
    volume = np.empty(shape, dtype=np.float32)
    for d in range(shape[0]):
        coordinates = _stack_coordinates(d, affine, series, (stack.shape, shape))
        volume[d] = map_coordinates(stack, coordinates, order=1, mode="constant", cval=AIR_HU)
    d_mm, h_mm, w_mm = (float(length) for length in spacing_mm)
    geometry = series.geometry
    done = Resampling(
        reason="; ".join(geometry.problems),
        gaps_mm=geometry.gaps_mm,
        gantry_tilt_deg=geometry.gantry_tilt_deg,
        spacing_mm=(d_mm, h_mm, w_mm),
    )
    return volume, affine, done


def _grid_axes(series: CTSeries, positions_mm: Float64) -> Float64:
    along = positions_mm[-1] - positions_mm[0]
    along = along / np.linalg.norm(along)
    row = np.array(series.geometry.orientation[:3])
    width = row - (row @ along) * along
    width = width / np.linalg.norm(width)
    return np.stack([along, np.cross(along, width), width], axis=1)


def _grid_extent(
    stack_shape: tuple[int, ...], series: CTSeries, positions_mm: Float64, axes: Float64
) -> tuple[Float64, Float64, tuple[int, int, int]]:
    """Returns origin, spacing and shape of the grid that spans every pixel of every slice.

    Spacing along `D` is the median gap, in plane the pixel spacing, each changed slightly so
    that a whole number of steps spans the extent.
    """
    row, column = np.array(series.geometry.orientation).reshape(2, 3)
    row_spacing, column_spacing = series.geometry.pixel_spacing_mm
    down = column * row_spacing * (stack_shape[1] - 1)
    across = row * column_spacing * (stack_shape[2] - 1)
    corners_mm = np.concatenate(
        [positions_mm + shift for shift in (0 * down, down, across, down + across)]
    )
    local_mm = corners_mm @ axes  # (4 D, 3)
    low, high = local_mm.min(axis=0), local_mm.max(axis=0)
    gap_mm = float(np.median(np.diff(positions_mm @ axes[:, 0])))
    wanted_mm = np.array([gap_mm, row_spacing, column_spacing])
    steps = np.maximum(np.rint((high - low) / wanted_mm), 0).astype(int)
    spacing_mm = np.where(steps > 0, (high - low) / np.maximum(steps, 1), wanted_mm)
    depth, height, width = (int(n) + 1 for n in steps)
    return axes @ low, spacing_mm, (depth, height, width)


def _stack_coordinates(
    d: int, affine: Float64, series: CTSeries, shapes: tuple[tuple[int, ...], tuple[int, ...]]
) -> Float64:
    """Returns where the voxels of slice `d` of the grid lie in the stack.

    Between two slices the place of pixel (0, 0) runs straight from one to the other.

    Returns:
        Slice, row and column of each voxel, not whole, `(3, H', W')`.
    """
    stack_shape, (_, height, width) = shapes
    row, column = np.array(series.geometry.orientation).reshape(2, 3)
    directions = np.stack([slice_normal(series.slices[0]), column, row])  # (3, 3) by rows
    pixels_mm = slice_positions_mm(series.slices) @ directions.T  # (D, 3) of each pixel (0, 0)
    start = directions @ (affine[:3, 0] * d + affine[:3, 3])  # (3,) mm along normal, column, row
    down, across = directions @ affine[:3, 1], directions @ affine[:3, 2]
    h, w = np.arange(height)[:, None], np.arange(width)[None, :]
    along_mm, column_mm, row_mm = (start[i] + down[i] * h + across[i] * w for i in range(3))

    below = np.clip(np.searchsorted(pixels_mm[:, 0], along_mm) - 1, 0, len(pixels_mm) - 2)
    steps_mm = np.diff(pixels_mm, axis=0)  # (D - 1, 3)
    fraction = (along_mm - pixels_mm[below, 0]) / steps_mm[below, 0]
    row_spacing, column_spacing = series.geometry.pixel_spacing_mm
    coordinates = np.stack(
        [
            below + fraction,
            (column_mm - pixels_mm[below, 1] - fraction * steps_mm[below, 1]) / row_spacing,
            (row_mm - pixels_mm[below, 2] - fraction * steps_mm[below, 2]) / column_spacing,
        ]
    )
    ends = np.array(stack_shape, dtype=np.float64)[:, None, None] - 1
    nearest = np.clip(coordinates, 0.0, ends)
    return np.where(np.abs(coordinates - nearest) < EDGE_TOLERANCE_PIXELS, nearest, coordinates)
