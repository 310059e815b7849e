"""Resampling looks every voxel up where the slices truly lie, and says what it did."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kits.medical.intake.pixels import AIR_HU
from kits.medical.intake.series import read_series
from kits.medical.intake.volume import CTVolume, build_volume

MakeCTSeries = Callable[..., Path]

SHAPE = (9, 14, 12)
SPACING_MM = (3.0, 2.0, 1.5)


def _tilted(degrees: float) -> tuple[float, ...]:
    angle = math.radians(degrees)
    return (1.0, 0.0, 0.0, 0.0, math.cos(angle), -math.sin(angle))


def _field_hu(points_mm: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A field that is linear in the patient, `(..., 3)` -> `(...)`, in HU."""
    return points_mm @ np.array([3.0, -5.0, 7.0]) + 100.0


def _sampled(
    positions_mm: Sequence[Sequence[float]], orientation: Sequence[float]
) -> npt.NDArray[np.float64]:
    """The field at the pixels of slices at these positions, `(D, H, W)`."""
    row, column = np.array(orientation).reshape(2, 3)
    h, w = np.arange(SHAPE[1])[:, None, None], np.arange(SHAPE[2])[None, :, None]
    plane_mm = h * SPACING_MM[1] * column + w * SPACING_MM[2] * row  # (H, W, 3)
    return np.stack([_field_hu(np.array(position) + plane_mm) for position in positions_mm])


def _grid_points_mm(volume: CTVolume) -> npt.NDArray[np.float64]:
    index = np.indices(volume.hounsfield.shape).reshape(3, -1)
    points = volume.affine[:3, :3] @ index + volume.affine[:3, 3:]
    return points.T.reshape(*volume.hounsfield.shape, 3)


@settings(max_examples=20, deadline=None)
@given(
    degrees=st.sampled_from([-25.0, -10.0, 0.0, 18.5, 30.0]),
    uneven_mm=st.lists(st.sampled_from([2.0, 3.0, 4.5, 6.0]), min_size=8, max_size=8),
)
def test_a_linear_field_is_reproduced_at_true_positions(
    make_ct_series: MakeCTSeries,
    tmp_path_factory: pytest.TempPathFactory,
    degrees: float,
    uneven_mm: list[float],
):
    """Tilt, uneven gaps or both: every voxel inside holds the field at its own position.

    Stored values are whole HU, so that interpolation is off by 0.5 HU at most.
    """
    heights = np.concatenate([[0.0], np.cumsum(uneven_mm)])
    positions = [(-10.0, 5.0, float(z)) for z in heights]
    orientation = _tilted(degrees)
    folder = make_ct_series(
        tmp_path_factory.mktemp("series"),
        np.rint(_sampled(positions, orientation)),
        positions_mm=positions,
        orientation=orientation,
        spacing_mm=SPACING_MM,
        header={"SliceThickness": 6.0},
    )
    volume = build_volume(read_series(folder), resample=True)
    inside = volume.hounsfield > AIR_HU
    error = np.abs(volume.hounsfield - _field_hu(_grid_points_mm(volume)))
    assert error[inside].max() <= 0.51
    assert inside.mean() > 0.25
    np.testing.assert_allclose(
        volume.affine[:3, :3].T @ volume.affine[:3, :3],
        np.diag(np.square(volume.spacing_mm)),
        atol=1e-6,
    )


@pytest.fixture
def tilted(make_ct_series: MakeCTSeries, tmp_path: Path) -> CTVolume:
    """A tilted stack of even gaps, resampled."""
    positions = [(-10.0, 5.0, 3.0 * z) for z in range(SHAPE[0])]
    folder = make_ct_series(
        tmp_path / "tilted",
        np.full(SHAPE, 40),
        positions_mm=positions,
        orientation=_tilted(20),
        spacing_mm=SPACING_MM,
    )
    return build_volume(read_series(folder), resample=True)


def test_a_tilted_stack_becomes_aligned_with_the_patient(tilted: CTVolume):
    """D runs along the table, H to the back, W to the left: the LPS axes."""
    axes = tilted.affine[:3, :3] / np.array(tilted.spacing_mm)
    np.testing.assert_allclose(axes, np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]]), atol=1e-6)
    assert tilted.spacing_mm == pytest.approx(SPACING_MM, rel=0.05)


def test_outside_the_slices_is_air_and_inside_is_untouched(tilted: CTVolume):
    """The corners of the box that no slice reaches hold -1024 HU, without a blurred rim."""
    np.testing.assert_array_equal(np.unique(tilted.hounsfield), [AIR_HU, 40])
    assert tilted.hounsfield[0, 0, 0] == AIR_HU
    # Each table-parallel column of tissue is as long as the stack: the share within is known.
    depth_mm = tilted.spacing_mm[0] * (tilted.hounsfield.shape[0] - 1)
    assert (tilted.hounsfield == 40).mean() == pytest.approx(24.0 / depth_mm, rel=0.1)


def test_the_resampling_is_stated(tilted: CTVolume):
    """Reason, gaps and tilt before, spacing after; the first note says it all."""
    done = tilted.resampling
    assert done is not None
    assert done.gantry_tilt_deg == pytest.approx(20, abs=1e-3)
    assert done.gaps_mm == ((2.82, 8),)  # 3 mm x cos 20 degrees
    assert done.spacing_mm == tilted.spacing_mm
    assert tilted.notes[0] == done.statement
    assert done.statement.startswith("Resampled by linear interpolation to ")
    assert "gantry tilt 20.0 degrees" in done.statement


def test_the_nearest_source_slice_is_found(tilted: CTVolume):
    """Slices of the grid point to slices of the series in the same order, end to end."""
    heights = [
        float(tilted.source_slice(d).ImagePositionPatient[2])
        for d in range(tilted.hounsfield.shape[0])
    ]
    assert heights == sorted(heights)
    assert (heights[0], heights[-1]) == (0.0, 24.0)


def test_a_missing_slice_is_filled_between_its_neighbours(
    make_ct_series: MakeCTSeries, tmp_path: Path
):
    """The others keep their values; only the missing plane is interpolated."""
    planes = np.arange(10) * 10.0
    kept = [0, 1, 2, 3, 5, 6, 7, 8, 9]
    stack = np.broadcast_to((planes[kept] ** 2)[:, None, None], (9, 5, 4))
    positions = [(0.0, 0.0, 2.0 * z) for z in kept]
    folder = make_ct_series(tmp_path / "ct", stack, positions_mm=positions)
    volume = build_volume(read_series(folder), resample=True)
    expected = planes**2
    expected[4] = (expected[3] + expected[5]) / 2
    np.testing.assert_allclose(volume.hounsfield[:, 2, 2], expected, rtol=1e-5)
    assert volume.spacing_mm == pytest.approx((2.0, 0.75, 0.75))
