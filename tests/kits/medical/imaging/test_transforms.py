"""A lesion cut from a volume has the form that the network was trained on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import ImageError
from kits.medical.imaging.transforms import (
    NetworkForm,
    NodulePatch,
    crop_patch,
    network_input,
    network_planes,
)
from kits.medical.weights.lidc import read_nodules
from kits.medical.weights.masks import reader_mask

FORM = NetworkForm()
# Grey value to HU: any rising map will do, since the crop's scaling undoes it.
SLOPE_HU, INTERCEPT_HU = 7.3, -1013.0


@pytest.fixture(scope="module")
def nodules(tandem_data):
    try:
        return read_nodules(tandem_data)
    except FileNotFoundError as error:
        pytest.skip(str(error))


def _training_form(nodule):
    """What the training sees: `(size, size, 2 x slices)`, largest reader mask first."""
    areas = [-int(reader_mask(r).sum()) for r in nodule.readers]
    order = [int(k) for k in np.argsort(areas, kind="stable") if areas[k] < 0]
    spacing = (nodule.spacing_mm, nodule.spacing_mm)
    planes = [
        network_planes(NodulePatch(nodule.images[k], reader_mask(nodule.readers[k]), spacing), FORM)
        for k in order
    ]
    repeated = [planes[k % len(planes)] for k in range(FORM.slices)]
    return order, np.concatenate(repeated).transpose(1, 2, 0)


def _embedded(nodule, order, grid):
    """The crops of `order` as slices of a larger volume in HU, and their masks."""
    shape = (len(order), 200, 210)
    voxels, mask = np.zeros(shape, np.float32), np.zeros(shape, bool)
    for d, k in enumerate(order):
        image = nodule.images[k].astype(np.float32)
        voxels[d] = np.median(image)
        voxels[d, 30:158, 50:178] = image
        mask[d, 30:158, 50:178] = reader_mask(nodule.readers[k])
    spacing = (1.25, nodule.spacing_mm, nodule.spacing_mm)
    return grid(voxels * np.float32(SLOPE_HU) + np.float32(INTERCEPT_HU), spacing), mask


def test_real_crops_cut_back_from_a_volume_equal_the_training_form(nodules, grid):
    """Masks agree exactly, images to one grey value of 255 wherever the crop's extremes stay in
    view: the published crops are centred a few pixels off, so that some lose theirs.
    """
    shifts_grey = []
    for nodule in nodules[::6]:
        order, expected = _training_form(nodule)
        volume, mask = _embedded(nodule, order, grid)
        found = network_input(volume, mask)
        np.testing.assert_array_equal(found[..., 1::2], expected[..., 1::2])
        shifts_grey.append(255 * float(np.abs(found - expected)[..., 0::2].max()))
    agree = np.array(shifts_grey) <= 1.01
    assert agree.mean() > 0.9


def test_a_box_and_the_whole_mask_give_the_same(grid):
    """The lesion's box with its start stands for the mask of the volume."""
    rng = np.random.default_rng(0)
    volume = grid(rng.normal(-800, 100, (6, 150, 150)).astype(np.float32), (2.0, 0.7, 0.8))
    mask = np.zeros((6, 150, 150), bool)
    mask[2:5, 60:70, 20:32] = True
    boxed = network_input(volume, mask[2:5, 60:70, 20:32], start=(2, 60, 20))
    np.testing.assert_array_equal(boxed, network_input(volume, mask))


def test_the_mask_keeps_its_size_in_millimetres(grid):
    """A square of 14 mm covers 20 x 20 pixels of 0.7 mm, whatever the native spacing."""
    for spacing in (0.5, 0.7, 1.0):
        n = round(14 / spacing)
        mask = np.zeros((1, 160, 160), bool)
        mask[0, 70 : 70 + n, 60 : 60 + n] = True
        volume = grid(np.zeros(mask.shape, np.float32), (1.0, spacing, spacing))
        found = network_input(volume, mask)[..., 1]
        assert found.sum() == pytest.approx(400, rel=0.1)
        rows = np.flatnonzero(found.max(axis=1) > 0.5)
        assert abs((rows[0] + rows[-1]) / 2 - 31.5) <= 0.5


def test_a_lesion_of_one_slice_repeats_it(grid):
    mask = np.zeros((3, 140, 140), bool)
    mask[1, 60:70, 60:70] = True
    volume = grid(np.random.default_rng(1).normal(size=mask.shape).astype(np.float32), (1, 1, 1))
    found = network_input(volume, mask)
    np.testing.assert_array_equal(found[..., 0:2], found[..., 2:4])


def test_a_picture_smaller_than_the_crop_is_filled_up():
    plane = np.arange(400, dtype=np.float32).reshape(20, 20)
    patch = crop_patch(plane, np.ones((2, 2), bool), start=(9, 9), spacing_mm=(1, 1))
    assert patch.image.shape == patch.mask.shape == (128, 128)
    assert (patch.image[:20, :20].min(), patch.image.max()) == (0, 255)
    assert patch.mask.sum() == 4


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 139), st.integers(0, 199), st.floats(-2000, 0), st.floats(1, 4000))
def test_every_crop_spans_0_to_255_and_holds_its_mask(h, w, low, span):
    """Wherever the lesion lies, edges included, and whatever the densities."""
    plane = np.random.default_rng(5).random((140, 200)).astype(np.float32) * span + low
    patch = crop_patch(plane, np.ones((1, 1), bool), start=(h, w), spacing_mm=(0.7, 0.7))
    assert patch.image.shape == (128, 128)
    assert (patch.image.min(), patch.image.max()) == (0, 255)
    assert patch.mask.sum() == 1


def test_an_empty_mask_is_refused(grid):
    with pytest.raises(ImageError, match="at least one voxel"):
        network_input(grid(np.zeros((2, 9, 9), np.float32), (1, 1, 1)), np.zeros((2, 9, 9), bool))
