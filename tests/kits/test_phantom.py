"""The phantom is a valid, regular CT series whose nodules are where it says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

from kits.phantom import NODULES, SPACING_MM, make_phantom, write_phantom_series


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom_series(tmp_path_factory.mktemp("phantom") / "series")


def test_equal_seeds_give_equal_voxels_and_others_do_not() -> None:
    first = make_phantom(0)
    assert np.array_equal(first, make_phantom(0))
    assert not np.array_equal(first, make_phantom(1))


@pytest.mark.parametrize("nodule", NODULES, ids=lambda n: f"{n.diameter_mm:.0f}mm")
def test_each_nodule_is_solid_at_its_centre_and_lung_around(nodule) -> None:
    voxels = make_phantom(0)
    d, h, w = (round(c / s) for c, s in zip(nodule.centre_mm, SPACING_MM, strict=True))
    assert voxels[d, h, w] > -100
    beyond = round((nodule.diameter_mm / 2 + 2.5) / SPACING_MM[1])
    assert voxels[d, h - beyond, w] < -700


def test_files_hold_the_voxels_in_order(series: Path) -> None:
    voxels = make_phantom(0)
    for index in (0, 35, 71):
        header = pydicom.dcmread(series / f"slice-{index:03d}.dcm")
        hounsfield = header.pixel_array * header.RescaleSlope + header.RescaleIntercept
        np.testing.assert_array_equal(hounsfield, voxels[index])
        assert float(header.ImagePositionPatient[2]) == pytest.approx(index * SPACING_MM[0])


@pytest.mark.external
def test_dciodvfy_finds_no_error(series: Path, debian_tool) -> None:
    done = subprocess.run(
        [debian_tool("dciodvfy"), str(series / "slice-010.dcm")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Error" not in done.stderr + done.stdout
