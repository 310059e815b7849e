"""Gaps, tilt and missing slices are measured from positions and orientations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from common.errors import GeometryError
from kits.medical.intake.geometry import (
    SeriesGeometry,
    describe_gaps,
    measure_geometry,
    order_slices,
    slice_normal,
)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
TABLE = np.array([0.0, 0.0, 1.0])


def _slices(
    positions_mm: Sequence[Sequence[float]],
    *,
    orientation: Sequence[float] = AXIAL,
    thickness_mm: float | None = 2.0,
) -> list[Dataset]:
    slices = []
    for index, position in enumerate(positions_mm):
        slice_ = Dataset()
        slice_.SOPInstanceUID = f"1.2.{index}"
        slice_.ImagePositionPatient = [round(float(value), 6) for value in position]
        slice_.ImageOrientationPatient = [round(float(value), 9) for value in orientation]
        slice_.PixelSpacing = [0.7, 0.7]
        if thickness_mm is not None:
            slice_.SliceThickness = thickness_mm
        slices.append(slice_)
    return slices


def _stack(heights_mm: Sequence[float], **options: float) -> SeriesGeometry:
    return measure_geometry(_slices([(0.0, 0.0, z) for z in heights_mm], **options))


def _tilted(degrees: float) -> tuple[float, ...]:
    """Row and column cosines of a gantry tilted about the left-right axis."""
    angle = math.radians(degrees)
    return (1.0, 0.0, 0.0, 0.0, math.cos(angle), -math.sin(angle))


@given(
    degrees=st.floats(min_value=-30, max_value=30).filter(lambda angle: abs(angle) > 3),
    step_mm=st.floats(min_value=0.5, max_value=10),
)
def test_a_gantry_tilt_is_recovered_from_the_positions(degrees: float, step_mm: float):
    """Slices step along the table while their normal is tilted; gaps shrink by the cosine."""
    slices = _slices([index * step_mm * TABLE for index in range(30)], orientation=_tilted(degrees))
    geometry = measure_geometry(order_slices(slices))
    assert geometry.gantry_tilt_deg == pytest.approx(abs(degrees), abs=1e-3)
    assert geometry.problems[0].startswith(f"gantry tilt {geometry.gantry_tilt_deg:.1f} degrees")
    gap_mm = step_mm * math.cos(math.radians(degrees))
    assert all(gap == pytest.approx(gap_mm, abs=0.011) for gap, _ in geometry.gaps_mm)


@given(
    degrees=st.floats(min_value=-89, max_value=89), step_mm=st.floats(min_value=0.5, max_value=10)
)
def test_an_oblique_stack_along_its_own_normal_is_regular(degrees: float, step_mm: float):
    """A reformatted series is oblique but not sheared: there is nothing to correct."""
    orientation = _tilted(degrees)
    normal = np.cross(orientation[:3], orientation[3:])
    slices = order_slices(
        _slices([i * step_mm * normal for i in range(12)], orientation=orientation)
    )
    geometry = measure_geometry(slices)
    assert geometry.problems == ()
    np.testing.assert_allclose(slice_normal(slices[0]), normal, atol=1e-6)


def test_positions_rounded_to_two_decimals_are_regular():
    """2/3 mm written as 0.67, 1.33, 2.00 is no unevenness."""
    assert _stack([round(index * 2 / 3, 2) for index in range(200)]).problems == ()


@pytest.mark.parametrize("n_missing", [1, 2])
def test_a_missing_slice_is_placed(n_missing: int):
    """The message says after which slice, between which positions, and how many."""
    heights = [z * 2.0 for z in range(20) if not 7 <= z < 7 + n_missing]
    (problem,) = _stack(heights).problems
    assert problem == (
        f"a gap of {2 + 2 * n_missing:.2f} mm where the others are 2.00 mm, {n_missing} missing "
        f"after slice 7 of {20 - n_missing} (between 12.00 and {14 + 2 * n_missing:.2f} mm "
        "along the slice normal)"
    )


def test_more_than_five_missing_places_are_counted():
    """A message stays readable."""
    geometry = _stack([2.0 * z for z in range(60) if z % 7 != 3])
    assert len(geometry.problems) == 6
    assert geometry.problems[-1] == "slices missing at 3 further places"


def test_every_gap_is_checked():
    """First gap, last gap and mean gap are all 2 mm; the two in the middle are not."""
    (problem,) = _stack([0.0, 2.0, 4.0, 5.5, 8.0, 10.0]).problems
    assert problem == "uneven gaps along the slice normal (2.00 x3, 1.50 x1, 2.50 x1 mm)"


def test_small_errors_that_add_up_are_seen():
    """Each gap is within 1 % of the median, the last slice is 1 mm off the grid."""
    heights = np.concatenate([[0.0], np.cumsum([2.0 * 0.992] * 60 + [2.0 * 1.008] * 60)])
    (problem,) = _stack(list(heights)).problems
    assert problem.startswith("positions that drift 0.96 mm")


def test_a_slice_that_lies_sideways_is_seen():
    """A reconstruction with another centre shifts the anatomy within the picture."""
    positions = [(3.0 if z == 5 else 0.0, 0.0, 2.0 * z) for z in range(11)]
    (problem,) = measure_geometry(_slices(positions)).problems
    assert problem == "slices up to 3.00 mm sideways of a straight stack"


def test_a_gap_that_thick_slices_fill_is_uneven_not_impossible():
    """Thin slices through the base, thick ones above: contiguous, so it can be resampled."""
    assert _stack([0, 1, 2, 3, 4, 5, 13, 21], thickness_mm=8.0).problems != ()
    with pytest.raises(GeometryError, match=r"found 8\.00 mm after slice 6 of 8"):
        _stack([0, 1, 2, 3, 4, 5, 13, 21], thickness_mm=1.0)


def test_a_single_slice_has_no_gaps_and_the_tilt_of_its_header():
    """One plane cannot be sheared: its tilt is stated, not a problem."""
    (slice_,) = _slices([(0, 0, 0)], thickness_mm=None)
    slice_.GantryDetectorTilt = -22.0
    geometry = measure_geometry([slice_])
    assert (geometry.gantry_tilt_deg, geometry.gaps_mm, geometry.problems) == (22.0, (), ())
    assert geometry.slice_thickness_mm is None


def test_gaps_are_described_by_size_and_count():
    """At most eight sizes are listed."""
    assert describe_gaps([(4.0, 13), (1.08, 1)]) == "4.00 x13, 1.08 x1"
    assert describe_gaps([(float(n), 1) for n in range(10)]).endswith("7.00 x1, and 2 more sizes")


def test_thickness_that_varies_is_none():
    """A single number would hide the change."""
    slices = _slices([(0, 0, z) for z in (0, 2, 4)])
    slices[1].SliceThickness = 4.0
    assert measure_geometry(slices).slice_thickness_mm is None
