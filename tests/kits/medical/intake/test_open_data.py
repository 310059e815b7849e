"""Every folder and file of the open DICOM data gives the outcome that docs/medical.md states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from common.errors import GeometryError, ImageError
from kits.medical.intake.pixels import AIR_HU
from kits.medical.intake.series import read_series
from kits.medical.intake.volume import CTVolume, build_volume

Read = Callable[..., CTVolume]

# Paths below medical/dicom, the series asked for, and the shape read. Part of docs/medical.md.
READABLE = [
    ("dcmqi-ct3-seg-sr", None, (3, 512, 512)),
    ("dcmqi-ct3-seg-sr/data/segmentations/ct-3slice", None, (3, 512, 512)),
    ("philips-phantom-28", None, (28, 512, 512)),
    ("highdicom", "1", (1, 128, 128)),
    ("highdicom/ct_image.dcm", None, (1, 128, 128)),
    ("pydicom-ct/CT_small.dcm", None, (1, 128, 128)),
    ("pydicom-ct/J2K_pixelrep_mismatch.dcm", None, (1, 512, 512)),
    ("pydicom-ct/17106", None, (1, 16, 16)),
    *[
        (f"wg04-ct/CT{n}_{code}", None, (1, 512, 512))
        for n in (1, 2)
        for code in ("J2KI", "J2KR", "JLSL", "JLSN", "JPLL", "RLE")
    ],
    ("ct-transfer-syntaxes/CT1_J2KR", None, (1, 512, 512)),
    ("ct-transfer-syntaxes/CT2_J2KR", None, (1, 512, 512)),
    ("ct-transfer-syntaxes/CTImage.dcm", None, (1, 512, 512)),
]
REFUSED = [
    ("ge-head-tilt-28", None, GeometryError, r"gantry tilt 18\.5 degrees"),
    ("ct-transfer-syntaxes", None, ImageError, r"4 CT series: .*; US x1 \(without pixel spacing\)"),
    ("ct-transfer-syntaxes", "3", GeometryError, r"15 slices at 1 positions"),
    ("ct-transfer-syntaxes/no-pixel-data.dcm", None, ImageError, r"SR x1 \(without pixel data\)"),
    ("ct-transfer-syntaxes/no-pixel-spacing.dcm", None, ImageError, r"US x1 \(without pixel sp"),
    (
        "ct-transfer-syntaxes/CT0012.fragmented_no_bot_jpeg_baseline.51.dcm",
        None,
        ImageError,
        r"rescale to US \(PERFUSION\) \(RCBF\) units instead of HU in 2 of 2",
    ),
    ("enhanced-ct", None, ImageError, r"rescale to US \(PERFUSION\) \(RCBF\) units instead of HU"),
    ("highdicom", None, ImageError, r"1 CT series: \[1\] 1 slice of 128 x 128; DX x1"),
    ("highdicom/dx_image.dcm", None, ImageError, r"found DX x1"),
    ("highdicom/sr_document.dcm", None, ImageError, r"found SR x1 \(without pixel data\)"),
    ("highdicom/seg_image_ct_binary.dcm", None, ImageError, r"found SEG x1"),
    ("pydicom-ct", None, ImageError, r"3 CT series: .*\[2\] 4 slices of 16 x 16"),
    ("pydicom-ct", "2", GeometryError, r"found 202\.50 mm after slice 1 of 4"),
    ("wg04-ct", None, ImageError, r"4 CT series"),
    ("wg04-ct", "2", GeometryError, r"5 slices at 1 positions"),
]


@pytest.fixture(scope="module")
def read(tandem_data: Path) -> Read:
    """Reads a path below medical/dicom into a volume."""
    folder = tandem_data / "medical" / "dicom"
    if not folder.is_dir():
        pytest.skip("medical/dicom is absent from the open data folder")

    def read_volume(name: str, series: str | None = None, *, resample: bool = False) -> CTVolume:
        source = read_series(folder / name, SeriesInstanceUID=series)
        return build_volume(source, resample=resample)

    return read_volume


@pytest.mark.parametrize(("name", "series", "shape"), READABLE)
def test_readable(read: Read, name: str, series: str | None, shape: tuple[int, int, int]):
    """The volume has the stated shape and is not interpolated; one slice is told as one."""
    volume = read(name, series)
    assert volume.hounsfield.shape == shape
    assert volume.resampling is None
    assert (shape[0] == 1) == any("Single slice" in note for note in volume.notes)


@pytest.mark.parametrize(("name", "series", "error", "found"), REFUSED)
def test_refused(read: Read, name: str, series: str | None, error: type[Exception], found: str):
    """The message says what was found."""
    with pytest.raises(error, match=found):
        read(name, series)


@pytest.mark.parametrize("series", ["1", "2", "3", "4"])
def test_single_slices_in_a_folder_of_many_can_be_asked_for(read: Read, series: str):
    """wg04-ct holds two series of one slice and two of five copies in other codings."""
    if series in ("1", "3"):
        assert read("wg04-ct", series).hounsfield.shape == (1, 512, 512)
    else:
        with pytest.raises(GeometryError, match="5 slices at 1 positions"):
            read("wg04-ct", series)


@pytest.mark.parametrize("number", [1, 2])
def test_lossless_codings_of_one_slice_agree(read: Read, number: int):
    """JPEG 2000, JPEG-LS, JPEG lossless and RLE hold the same Hounsfield units."""
    one, *others = (read(f"wg04-ct/CT{number}_{c}") for c in ("JPLL", "J2KR", "JLSL", "RLE"))
    for other in others:
        np.testing.assert_array_equal(one.hounsfield, other.hounsfield)


@pytest.mark.parametrize(
    ("name", "lossy"),
    [
        ("wg04-ct/CT1_J2KI", "JPEG 2000 Image Compression, ratio 69.0"),
        ("wg04-ct/CT2_JLSN", "JPEG-LS Lossy (Near-Lossless) Image Compression, ratio 10.0"),
        ("wg04-ct/CT2_J2KR", None),
    ],
)
def test_loss_is_flagged(read: Read, name: str, lossy: str | None):
    """From header and transfer syntax; a note repeats it."""
    volume = read(name)
    assert volume.series.lossy == lossy
    assert any("compressed with loss" in note for note in volume.notes) == (lossy is not None)


def test_the_philips_phantom_is_read_beside_its_dicomdir(read: Read):
    """28 slices of 5 mm; the DICOMDIR under another name is no part of the series."""
    volume = read("philips-phantom-28")
    assert volume.series.geometry.gaps_mm == ((5.0, 27),)
    assert volume.series.left_out == ("files that hold no DICOM object x1",)
    assert volume.series.BodyPartExamined == "BRAIN"


def test_the_three_slices_of_dcmqi_are_thicker_than_their_gaps(read: Read):
    """1.25 mm slices every 1 mm: overlapping, regular; SEG, SR and RWV beside them left out."""
    volume = read("dcmqi-ct3-seg-sr")
    assert volume.spacing_mm == pytest.approx((1.0, 0.810547, 0.810547))
    assert volume.series.geometry.slice_thickness_mm == 1.25
    assert volume.series.left_out == (
        "RWV x1 (without pixel data)",
        "SEG x3",
        "SR x1 (without pixel data)",
        "files that hold no DICOM object x3",
    )


class TestTiltedHead:
    """A real head CT with a tilted gantry and two slice thicknesses (ge-head-tilt-28)."""

    def test_it_is_refused_with_tilt_and_gaps(self, read: Read):
        """A loader that takes the first or the mean gap would be wrong without saying so."""
        with pytest.raises(GeometryError) as caught:
            read("ge-head-tilt-28")
        assert "gantry tilt 18.5 degrees" in caught.value.found
        assert "4.00 x13, 1.08 x1, 7.00 x13 mm" in caught.value.found
        assert "along the slice normal" in caught.value.found
        assert "--resample" in caught.value.remedy

    def test_resampled_it_keeps_tissue_where_it_was(self, read: Read):
        """Pixels of a middle slice are found again at their LPS positions, interpolated there."""
        volume = read("ge-head-tilt-28", resample=True)
        assert volume.resampling is not None
        assert volume.resampling.gantry_tilt_deg == pytest.approx(18.5, abs=0.01)
        assert volume.hounsfield.min() == AIR_HU
        directions = volume.affine[:3, :3] / np.array(volume.spacing_mm)
        np.testing.assert_allclose(np.abs(directions), np.fliplr(np.eye(3)), atol=1e-6)
        slice_ = volume.series.slices[7]
        stored_hu = slice_.pixel_array * float(slice_.RescaleSlope) + slice_.RescaleIntercept
        origin = np.array([float(v) for v in slice_.ImagePositionPatient])
        row, column = np.array(volume.series.geometry.orientation).reshape(2, 3)
        h, w = np.mgrid[150:360:7, 150:360:7].reshape(2, -1)
        spacing = volume.series.geometry.pixel_spacing_mm
        points = origin + np.outer(h * spacing[0], column) + np.outer(w * spacing[1], row)
        index = np.linalg.solve(volume.affine[:3, :3], (points - volume.affine[:3, 3]).T)
        agreement = [
            np.corrcoef(map_coordinates(volume.hounsfield, index + shift, order=1), stored_hu[h, w])
            for shift in (0.0, [[0], [4], [0]])  # in place, and 2 mm further back
        ]
        assert agreement[0][0, 1] > 0.95 > agreement[1][0, 1] + 0.1
