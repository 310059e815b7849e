"""Sizes of shapes whose true sizes are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kits.medical.imaging.candidates import Candidate
from kits.medical.imaging.measurements import measure

SPACING_MM = (1.0, 0.7, 0.5)


def _whole(mask):
    return Candidate((0, 0, 0), mask)


def test_an_ellipsoid_has_the_axes_and_volume_of_its_formula(ellipsoid, grid):
    """Axes 2a and 2b in the plane, volume 4/3 pi abc, to a voxel's diagonal and to 2%."""
    shape, radii = (30, 60, 60), (10.0, 12.0, 8.0)
    mask = ellipsoid(shape, SPACING_MM, centre_mm=(14, 20, 15), radii_mm=radii)
    found = measure(_whole(mask), grid(np.where(mask, 40.0, -850.0), SPACING_MM))
    assert found.long_axis_mm == pytest.approx(24, abs=0.86)
    assert found.short_axis_mm == pytest.approx(16, abs=0.86)
    assert found.volume_ml == pytest.approx(4 / 3 * np.pi * 10 * 12 * 8 / 1000, rel=0.02)
    assert (found.mean_hu, found.maximum_hu) == (40, 40)
    assert found.slice_index == 14


def test_a_row_of_voxels_is_as_long_as_their_spacings(grid):
    """4 voxels of 0.5 mm: 2.0 mm long, 0.7 mm wide; the ends lie on the outer edges."""
    candidate = Candidate((3, 5, 6), np.ones((1, 1, 4), bool))
    found = measure(candidate, grid(np.zeros((8, 8, 12), np.float32), SPACING_MM))
    assert found.long_axis_mm == pytest.approx(2.0)
    assert found.short_axis_mm == pytest.approx(0.7)
    assert found.long_axis_endpoints == ((3.0, 5.0, 5.5), (3.0, 5.0, 9.5))


def test_the_long_axis_may_lie_oblique(grid):
    """A diagonal of 3-4-5 steps: 5 units between end voxels, and half a step at both ends."""
    mask = np.zeros((1, 40, 40), bool)
    for t in np.linspace(0, 1, 200):
        mask[0, round(5 + 24 * t), round(5 + 18 * t)] = True
    found = measure(_whole(mask), grid(np.zeros(mask.shape, np.float32), (1.0, 1.0, 1.0)))
    assert found.long_axis_mm == pytest.approx(30, abs=1.0)
    assert found.short_axis_mm < 3


def test_the_slice_is_the_one_where_the_lesion_is_longest(grid):
    mask = np.zeros((3, 10, 10), bool)
    mask[0, 2, 2:5] = mask[1, 2, 1:9] = mask[2, 3, 3] = True
    found = measure(_whole(mask), grid(np.zeros(mask.shape, np.float32), (1.0, 1.0, 1.0)))
    assert (found.slice_index, found.long_axis_mm) == (1, pytest.approx(8))


def test_density_is_that_of_the_voxels_alone(grid):
    voxels = np.full((2, 4, 4), -850, np.float32)
    voxels[0, 1, 1:3] = (20, 60)
    candidate = Candidate((0, 1, 1), np.ones((1, 1, 2), bool))
    found = measure(candidate, grid(voxels, (1.0, 1.0, 1.0)))
    assert (found.mean_hu, found.maximum_hu) == (40, 60)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.4, 2.0), st.floats(0.4, 2.0))
def test_the_short_axis_is_never_longer_than_the_long_one(seed, h_mm, w_mm):
    """The width at right angles to a set's diameter is at most that diameter."""
    from types import SimpleNamespace

    mask = np.random.default_rng(seed).random((2, 7, 6)) > 0.6
    mask[0, 3, 3] = True
    volume = SimpleNamespace(
        hounsfield=np.zeros(mask.shape, np.float32), spacing_mm=(1, h_mm, w_mm)
    )
    found = measure(_whole(mask), volume)
    assert 0 < found.short_axis_mm <= found.long_axis_mm + 1e-6
