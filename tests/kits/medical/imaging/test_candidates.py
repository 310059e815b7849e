"""Nodules in a thorax made of shapes: found, and vessels mostly not."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import ImageError
from kits.medical.imaging.candidates import Candidate, find_candidates
from kits.medical.imaging.lungs import segment_lungs
from kits.medical.imaging.region import describe_region
from kits.phantom import NODULES, SPACING_MM, make_phantom

THORAX_SPACING_MM = (2.0, 1.4, 1.4)
# Centre (mm along D H W) and diameter: free in the lung, clear of the vessels.
FREE = (((40, 90, 80), 6.0), ((60, 170, 240), 9.0), ((150, 80, 255), 14.0), ((130, 180, 90), 25.0))
# Its centre 6 mm inside the lung's wall.
PLEURAL = ((100, 134, 53), 12.0)


@pytest.fixture(scope="module")
def thorax(empty_thorax, ellipsoid, grid):
    voxels = empty_thorax.copy()
    for centre, diameter in (*FREE, PLEURAL):
        radii = (diameter / 2,) * 3
        ball = ellipsoid(voxels.shape, THORAX_SPACING_MM, centre_mm=centre, radii_mm=radii)
        voxels[ball] = 30
    return grid(voxels, THORAX_SPACING_MM)


@pytest.fixture(scope="module")
def found(thorax):
    return find_candidates(thorax, segment_lungs(thorax).mask)


def _hits(found, spacing_mm, centre_mm, diameter_mm):
    centres = [np.multiply(c.centre, spacing_mm) for c in found]
    return [
        c
        for c, at in zip(found, centres, strict=True)
        if np.linalg.norm(at - centre_mm) <= diameter_mm / 4
    ]


@pytest.mark.parametrize(("centre", "diameter"), [*FREE, PLEURAL])
def test_a_nodule_is_found_once_at_its_place_and_size(found, centre, diameter):
    hits = _hits(found, THORAX_SPACING_MM, centre, diameter)
    assert len(hits) == 1
    volume = hits[0].mask.sum() * np.prod(THORAX_SPACING_MM)
    assert np.cbrt(6 / np.pi * volume) == pytest.approx(diameter, rel=0.15)


def test_few_vessels_are_taken_for_nodules(found):
    """28 tubes that cross and branch leave at most five lumps."""
    assert len(found) - len(FREE) - 1 <= 5


def test_the_roundest_come_first_and_no_two_overlap(found, thorax):
    assert [c.roundness for c in found] == sorted((c.roundness for c in found), reverse=True)
    count = sum(c.full_mask(thorax.hounsfield.shape).astype(int) for c in found)
    assert count.max() == 1


def test_at_most_as_many_as_asked_for_are_returned(thorax, found):
    few = find_candidates(thorax, segment_lungs(thorax).mask, maximum=2)
    assert [c.start for c in few] == [c.start for c in found[:2]]


def test_a_nodule_on_a_vessel_is_freed_from_it(grid):
    """A ball of 12 mm on a tube of 3 mm: the lump keeps the ball's size."""
    z, y, x = np.indices((40, 60, 60))
    ball = (z - 20) ** 2 + (y - 30) ** 2 + (x - 30) ** 2 <= 36
    tube = (z - 20) ** 2 + (y - 30) ** 2 <= 1.5**2
    voxels = np.where(ball | tube, 40, -850).astype(np.float32)
    found = find_candidates(grid(voxels, (1.0, 1.0, 1.0)), np.ones(voxels.shape, bool))
    assert len(found) == 1
    assert found[0].mask.sum() == pytest.approx(ball.sum(), rel=0.1)


def test_without_lungs_there_are_no_candidates(thorax):
    assert find_candidates(thorax, np.zeros(thorax.hounsfield.shape, bool)) == ()


def test_the_demonstration_phantom_gives_its_nodules_and_few_others(grid):
    """Every known nodule once; at most six pieces of vessel, none of them over 5 mm."""
    volume = grid(make_phantom(0), SPACING_MM)
    found = find_candidates(volume, describe_region(volume).lungs)
    hits = [_hits(found, SPACING_MM, n.centre_mm, n.diameter_mm) for n in NODULES]
    assert [len(h) for h in hits] == [1] * len(NODULES)
    others = [c for c in found if not any(c in h for h in hits)]
    assert len(others) <= 6
    assert all(c.mask.sum() * np.prod(SPACING_MM) < np.pi / 6 * 5**3 for c in others)


def test_a_candidate_lies_where_its_box_says():
    mask = np.zeros((2, 3, 4), bool)
    mask[1, 2, 3] = True
    candidate = Candidate((10, 20, 30), mask)
    assert candidate.centre == (11, 22, 33)
    assert np.argwhere(candidate.full_mask((12, 24, 36))).tolist() == [[11, 22, 33]]


def test_an_empty_candidate_is_refused():
    with pytest.raises(ImageError, match="with a voxel"):
        Candidate((0, 0, 0), np.zeros((2, 2, 2), bool))
