"""Regions told from voxels: made ones, and the real series."""

from __future__ import annotations

import numpy as np
import pytest

from kits.medical.imaging.region import describe_region
from kits.medical.intake.series import read_series
from kits.medical.intake.volume import build_volume

SPACING_MM = (4.0, 2.0, 2.0)
SHAPE = (24, 150, 190)


def _cylinder(ellipsoid, density, *, radii_mm=(110.0, 150.0)):
    voxels = np.full(SHAPE, -1000, np.float32)
    disc = ellipsoid((1, *SHAPE[1:]), SPACING_MM, centre_mm=(0, 150, 190), radii_mm=(1, *radii_mm))[
        0
    ]
    voxels[:, disc] = density
    return voxels


def _noisy(voxels, sd=12.0):
    return voxels + np.random.default_rng(0).normal(0, sd, voxels.shape).astype(np.float32)


def test_a_thorax_is_a_chest_with_its_lungs(empty_thorax, grid, ellipsoid):
    """The mask holds the made lungs, vessels filled in, and little more."""
    region = describe_region(grid(empty_thorax, (2.0, 1.4, 1.4)))
    assert region.name == "chest"
    air = (empty_thorax < -600) & (empty_thorax > -950)
    assert air[region.lungs].sum() / air.sum() > 0.99
    assert region.lungs.sum() < 1.25 * air.sum()
    assert region.lung_volume_ml == pytest.approx(air.sum() * 2 * 1.4 * 1.4 / 1000, rel=0.05)


def test_a_wrong_header_is_noted_and_the_voxels_decide(empty_thorax, grid):
    region = describe_region(grid(empty_thorax, (2.0, 1.4, 1.4)), BodyPartExamined="HEAD")
    assert region.name == "chest"
    assert "BodyPartExamined says head" in region.reason


def test_a_uniform_cylinder_is_a_phantom(ellipsoid, grid):
    region = describe_region(grid(_noisy(_cylinder(ellipsoid, 0.0)), SPACING_MM))
    assert (region.name, region.lungs, region.lung_volume_ml) == ("phantom", None, 0.0)
    assert "uniform" in region.reason


def test_a_body_of_fat_and_organs_is_an_abdomen(ellipsoid, grid):
    voxels = _cylinder(ellipsoid, -100.0)
    organs = _cylinder(ellipsoid, 50.0, radii_mm=(90.0, 125.0))
    voxels[organs == 50] = 50
    voxels[:, 70:80, 90:100] = -990  # gas in the bowel
    region = describe_region(grid(_noisy(voxels), SPACING_MM))
    assert (region.name, region.lungs) == ("abdomen", None)


def test_gas_of_lung_volume_is_no_lung(ellipsoid, grid):
    """Two large cavities of plain air in a body are not taken for lungs."""
    voxels = _cylinder(ellipsoid, 40.0)
    voxels[4:20, 45:105, 40:80] = voxels[4:20, 45:105, 110:150] = -1000
    region = describe_region(grid(_noisy(voxels), SPACING_MM))
    assert region.lungs is None
    assert region.name != "chest"


def test_lung_density_on_one_side_alone_is_not_scored(ellipsoid, grid):
    voxels = _cylinder(ellipsoid, 40.0)
    voxels[2:22, 40:110, 25:75] = -850
    assert describe_region(grid(_noisy(voxels), SPACING_MM)).lungs is None


def test_air_alone_is_unknown(grid):
    region = describe_region(grid(np.full(SHAPE, -1000, np.float32), SPACING_MM))
    assert region.name == "unknown"


def test_a_single_slice_is_described_and_has_no_lungs(empty_thorax, grid):
    region = describe_region(grid(empty_thorax[50:51], (2.0, 1.4, 1.4)))
    assert (region.name, region.lungs) == ("unknown", None)
    assert region.reason.startswith("1 slice over 2 mm")


@pytest.mark.parametrize(
    ("folder", "name", "words"),
    [
        ("philips-phantom-28", "phantom", "a head phantom"),
        ("ge-head-tilt-28", "head", "density of brain"),
        ("dcmqi-ct3-seg-sr/data/segmentations/ct-3slice", "unknown", "3 slices"),
        ("pydicom-ct/CT_small.dcm", "unknown", "1 slice"),
    ],
)
def test_real_series_that_show_no_chest_are_never_given_lungs(tandem_data, folder, name, words):
    source = tandem_data / "medical" / "dicom" / folder
    if not source.exists():
        pytest.skip(f"{folder} is absent from the data")
    region = describe_region(build_volume(read_series(source), resample=True))
    assert (region.name, region.lungs) == (name, None)
    assert words in region.reason
