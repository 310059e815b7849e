"""The border check collects every fault of a series as counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from common.errors import GeometryError, ImageError
from kits.medical.intake.conformance import REQUIRED_KEYWORDS, require_conformant

MakeCTSeries = Callable[..., Path]


@pytest.fixture
def slices(make_ct_series: MakeCTSeries, tmp_path: Path) -> list[Dataset]:
    folder = make_ct_series(tmp_path / "ct", np.zeros((4, 3, 3)))
    return [dcmread(path) for path in sorted(folder.iterdir())]


def test_a_valid_series_passes(slices: list[Dataset]):
    """The fixture of these tests states everything."""
    require_conformant(slices)


@pytest.mark.parametrize("keyword", REQUIRED_KEYWORDS)
def test_each_required_attribute_is_asked_for(slices: list[Dataset], keyword: str):
    """Absent in one slice of four."""
    delattr(slices[2], keyword)
    with pytest.raises(ImageError, match=f"no {keyword} in 1 of 4 slices"):
        require_conformant(slices)


def test_an_empty_attribute_is_a_missing_one(slices: list[Dataset]):
    """DICOM writes unknown values as empty ones."""
    for slice_ in slices:
        slice_.PixelSpacing = None
    with pytest.raises(GeometryError, match="no PixelSpacing in 4 of 4 slices"):
        require_conformant(slices)


@pytest.mark.parametrize("units", ["HU", "HU_MOD", None])
def test_hounsfield_units_by_any_of_their_names(slices: list[Dataset], units: str | None):
    """RescaleType may be absent, or HU_MOD for a modified Hounsfield scale."""
    for slice_ in slices:
        slice_.RescaleType = units
    require_conformant(slices)


def test_numbers_that_are_none(slices: list[Dataset]):
    """A position at infinity or a rescale that is not a number."""
    slices[0]["ImagePositionPatient"].value = [float("inf"), 0.0, 0.0]
    with pytest.raises(GeometryError, match="that is not a number in 1 of 4 slices"):
        require_conformant(slices)
    slices[1]["RescaleSlope"].value = float("nan")
    with pytest.raises(ImageError, match="a rescale that is not a number in 1 of 4 slices"):
        require_conformant(slices)


def test_small_differences_of_rounding_are_allowed(slices: list[Dataset]):
    """Cosines and spacing written with fewer digits in one slice."""
    slices[0].ImageOrientationPatient = [1, 0.0004, 0, -0.0004, 1, 0]
    slices[0].PixelSpacing = [0.7505, 0.7505]
    require_conformant(slices)
