"""Frames of an Enhanced CT object are read like the slices of a plain series."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import EnhancedCTImageStorage, RLELossless

from common.errors import ImageError, PixelDecodingError
from kits.medical.intake.frames import split_frames
from kits.medical.intake.series import read_series
from kits.medical.intake.volume import build_volume

MakeCTSeries = Callable[..., Path]

RAMP = np.arange(5 * 4 * 3).reshape(5, 4, 3) - 30


def _item(**attributes: object) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def _enhanced(folder: Path, order: list[int]) -> Dataset:
    """One Enhanced CT object that holds the slices in `folder` as frames in this order."""
    slices = [dcmread(path) for path in sorted(folder.iterdir())]
    multiframe = dcmread(folder / "slice_000.dcm")
    shared = _item(
        PlaneOrientationSequence=[_item(ImageOrientationPatient=slices[0].ImageOrientationPatient)],
        PixelMeasuresSequence=[
            _item(PixelSpacing=slices[0].PixelSpacing, SliceThickness=slices[0].SliceThickness)
        ],
    )
    for keyword in ("ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(multiframe, keyword)
    del multiframe.ImagePositionPatient, multiframe.RescaleSlope
    del multiframe.RescaleIntercept, multiframe.RescaleType
    multiframe.SOPClassUID = EnhancedCTImageStorage
    multiframe.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    multiframe.NumberOfFrames = len(order)
    multiframe.SharedFunctionalGroupsSequence = [shared]
    multiframe.PerFrameFunctionalGroupsSequence = [
        _item(
            PlanePositionSequence=[_item(ImagePositionPatient=slices[i].ImagePositionPatient)],
            PixelValueTransformationSequence=[
                _item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")
            ],
        )
        for i in order
    ]
    multiframe.PixelData = b"".join(slices[i].PixelData for i in order)
    return multiframe


@pytest.fixture
def plain(make_ct_series: MakeCTSeries, tmp_path: Path) -> Path:
    """The plain series that the Enhanced CT object is made of."""
    return make_ct_series(tmp_path / "plain", RAMP)


@pytest.mark.parametrize("compressed", [False, True])
def test_an_enhanced_ct_object_is_the_volume_of_its_frames(
    plain: Path, tmp_path: Path, compressed: bool
):
    """Frames in any order, native or RLE: the volume of the plain series."""
    multiframe = _enhanced(plain, [3, 0, 4, 1, 2])
    if compressed:
        frames = []
        for frame in split_frames(multiframe):
            frame.compress(RLELossless, generate_instance_uid=False)
            frames += generate_frames(frame.PixelData, number_of_frames=1)
        multiframe.file_meta.TransferSyntaxUID = RLELossless
        multiframe.PixelData = encapsulate(frames)
    path = tmp_path / "enhanced.dcm"
    multiframe.save_as(path)
    series = read_series(path)
    volume, expected = build_volume(series), build_volume(read_series(plain))
    np.testing.assert_array_equal(volume.hounsfield, RAMP)
    np.testing.assert_array_equal(volume.affine, expected.affine)
    assert [s.InstanceNumber for s in series.slices] == [2, 4, 5, 1, 3]
    assert len(series.instances) == 1
    assert series.instances[0].NumberOfFrames == 5


def test_a_plain_slice_stays_itself(plain: Path):
    """Nothing is split where there is one frame."""
    slice_ = dcmread(plain / "slice_000.dcm")
    assert split_frames(slice_) == (slice_,)


def test_missing_frames_are_counted(plain: Path):
    """Pixel data for four of five frames."""
    multiframe = _enhanced(plain, [0, 1, 2, 3, 4])
    multiframe.PixelData = multiframe.PixelData[:-1]
    with pytest.raises(PixelDecodingError, match="5 frame headers and 4 frames of pixels"):
        split_frames(multiframe)


def test_frames_that_are_no_hounsfield_units_are_refused(plain: Path, tmp_path: Path):
    """A perfusion map has unspecified units: its flavour is named."""
    multiframe = _enhanced(plain, [0, 1])
    multiframe.ImageType = ["DERIVED", "PRIMARY", "PERFUSION", "RCBF"]
    for group in multiframe.PerFrameFunctionalGroupsSequence:
        group.PixelValueTransformationSequence[0].RescaleType = "US"
    path = tmp_path / "map.dcm"
    multiframe.save_as(path)
    with pytest.raises(ImageError, match=r"rescale to US \(PERFUSION\) \(RCBF\) units"):
        read_series(path)
