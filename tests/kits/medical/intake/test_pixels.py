"""Stored pixels of every transfer syntax become the right Hounsfield units, or an error."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000, MPEG2MPML, JPEGBaseline8Bit, JPEGExtended12Bit, RLELossless

from common.errors import PixelDecodingError
from kits.medical.intake import pixels as pixels_module
from kits.medical.intake.pixels import describe_loss, hounsfield, padding_hu, stored_pixels

MakeCTSeries = Callable[..., Path]

FLAT = np.full((1, 6, 5), -50)
needs_gdcm = pytest.mark.skipif(find_spec("gdcm") is None, reason="python-gdcm is not installed")

# The file's end of ct-transfer-syntaxes/CTImage.dcm_* -> greatest difference in HU from the
# uncompressed slice. Lossless: none. Lossy: 8-bit JPEG (4.50) has steps of 32.12 HU, 12-bit
# JPEG steps of 2.0 HU; printed by tests/reference/ct_transfer_syntaxes.py with pydicom 3.0.2,
# pylibjpeg-libjpeg 2.5.0, pylibjpeg-openjpeg 2.6.0 and python-gdcm 3.2.6, rounded up.
GREATEST_DIFFERENCE_HU = {
    "BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2": 0,
    "DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99": 0,
    "JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90": 0,
    "JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91": 5,
    "JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80": 0,
    "JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81": 1,
    "JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55": 37,
    "JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70": 0,
    "JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57": 0,
    "JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50": 65,
    "JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51": 37,
    "JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53": 37,
    "LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1": 0,
    "LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2": 0,
    "RLELosslessTransferSyntax_1.2.840.10008.1.2.5": 0,
}


def _variant(tandem_data: Path, name: str) -> Dataset:
    folder = tandem_data / "medical" / "dicom" / "ct-transfer-syntaxes"
    if not folder.is_dir():
        pytest.skip("medical/dicom is absent from the open data folder")
    return dcmread(folder / (f"CTImage.dcm_{name}.dcm" if name else "CTImage.dcm"))


def _first_slice(folder: Path) -> Dataset:
    return dcmread(folder / "slice_000.dcm")


@pytest.mark.parametrize(("name", "bound_hu"), GREATEST_DIFFERENCE_HU.items())
def test_every_transfer_syntax_gives_the_same_slice(tandem_data: Path, name: str, bound_hu: float):
    """Lossless ones are identical, lossy ones within the stated bound and flagged as lossy."""
    slice_ = _variant(tandem_data, name)
    if slice_.file_meta.TransferSyntaxUID in pixels_module.GDCM_ONLY and not find_spec("gdcm"):
        pytest.skip("python-gdcm is not installed")
    difference = np.abs(hounsfield(slice_) - hounsfield(_variant(tandem_data, "")))
    assert difference.max() <= bound_hu
    assert (describe_loss([slice_]) is None) == (bound_hu == 0)


@pytest.mark.parametrize("name", ["JPEGProcess6_8", "JPEGProcess10_12"])
def test_jpeg_processes_without_gdcm_are_refused_by_name(
    tandem_data: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    """Without python-gdcm the message says which transfer syntax and which package."""
    monkeypatch.setattr(pixels_module, "find_spec", lambda _name: None)
    suffix = {"JPEGProcess6_8": "53", "JPEGProcess10_12": "55"}[name]
    slice_ = _variant(tandem_data, f"{name}TransferSyntax_1.2.840.10008.1.2.4.{suffix}")
    with pytest.raises(PixelDecodingError, match=r"\(Process (6|10) and (8|12)\).*python-gdcm"):
        hounsfield(slice_)


def test_a_transfer_syntax_without_decoder_is_refused_by_name(
    make_ct_series: MakeCTSeries, tmp_path: Path
):
    """No image codec reads a film."""
    slice_ = _first_slice(make_ct_series(tmp_path / "ct", FLAT))
    slice_.PixelData = encapsulate([b"\x00\x01\xff\xd9"])
    slice_.file_meta.TransferSyntaxUID = MPEG2MPML
    with pytest.raises(PixelDecodingError, match=r"MPEG2 Main Profile"):
        hounsfield(slice_)


@pytest.mark.parametrize(
    "name",
    [
        name
        if "JPEGProcess6_8" not in name and "JPEGProcess10_12" not in name
        else pytest.param(name, marks=needs_gdcm)
        for name in GREATEST_DIFFERENCE_HU
        if name.split("_")[-1].startswith(("1.2.840.10008.1.2.4", "1.2.840.10008.1.2.5"))
    ],
)
def test_a_truncated_codestream_is_refused(tandem_data: Path, name: str):
    """Some codecs would fill the rest up with grey; the missing end gives it away."""
    slice_ = _variant(tandem_data, name)
    frame = next(iter(generate_frames(slice_.PixelData, number_of_frames=1)))
    slice_.PixelData = encapsulate([frame[: len(frame) // 2]])
    with pytest.raises(PixelDecodingError, match=r"truncated|without its end marker"):
        hounsfield(slice_)


def test_truncated_and_oversized_native_pixels(make_ct_series: MakeCTSeries, tmp_path: Path):
    """Half a slice is refused, with its position instead of its file name."""
    slice_ = _first_slice(make_ct_series(tmp_path / "ct", FLAT))
    slice_.PixelData = slice_.PixelData[:30]
    with pytest.raises(PixelDecodingError, match=r"slice at \(-100\.00, -120\.00, -50\.00\) mm"):
        hounsfield(slice_)


def test_a_codestream_of_another_size_is_refused(
    make_ct_series: MakeCTSeries, tmp_path: Path, tandem_data: Path
):
    """A 512 x 512 picture under a 6 x 5 header cannot be placed in millimetres."""
    slice_ = _first_slice(make_ct_series(tmp_path / "ct", FLAT))
    slice_.PixelData = _variant(
        tandem_data, "JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90"
    ).PixelData
    slice_.file_meta.TransferSyntaxUID = JPEG2000
    with pytest.raises(PixelDecodingError):
        hounsfield(slice_)


def test_rescale_is_each_slices_own(make_ct_series: MakeCTSeries, tmp_path: Path):
    """HU = slope x stored + intercept, with fractions kept."""
    folder = make_ct_series(tmp_path / "ct", FLAT, header={"RescaleSlope": 0.5})
    np.testing.assert_array_equal(hounsfield(_first_slice(folder)), (-50 + 1024) * 0.5 - 1024)


def test_monochrome1_does_not_invert_hounsfield_units(make_ct_series: MakeCTSeries, tmp_path: Path):
    """The photometric interpretation is about the display alone."""
    header = {"PhotometricInterpretation": "MONOCHROME1"}
    folder = make_ct_series(tmp_path / "ct", FLAT, header=header)
    np.testing.assert_array_equal(hounsfield(_first_slice(folder)), -50)


@pytest.mark.parametrize(("representation", "expected"), [(0, 64536 - 1024), (1, -1000 - 1024)])
def test_signedness_follows_the_pixel_representation(
    make_ct_series: MakeCTSeries, tmp_path: Path, representation: int, expected: int
):
    """The same 16 bits are 64536 or -1000."""
    slice_ = _first_slice(make_ct_series(tmp_path / "ct", FLAT))
    slice_.PixelData = np.full((6, 5), 64536, dtype="<u2").tobytes()
    slice_.PixelRepresentation = representation
    np.testing.assert_array_equal(hounsfield(slice_), expected)


def test_bits_above_bits_stored_are_ignored(make_ct_series: MakeCTSeries, tmp_path: Path):
    """Old scanners keep overlays in the four bits above a 12-bit value."""
    slice_ = _first_slice(make_ct_series(tmp_path / "ct", FLAT))
    slice_.PixelRepresentation, slice_.BitsStored, slice_.HighBit = 0, 12, 11
    slice_.PixelData = np.full((6, 5), 0x9000 | 974, dtype="<u2").tobytes()
    np.testing.assert_array_equal(stored_pixels(slice_), 974)


def test_a_j2k_stream_whose_sign_contradicts_the_header(tandem_data: Path):
    """Unsigned codestream, signed header: the padding comes out at -2000, not at 6192."""
    path = tandem_data / "medical" / "dicom" / "pydicom-ct" / "J2K_pixelrep_mismatch.dcm"
    if not path.is_file():
        pytest.skip("medical/dicom is absent from the open data folder")
    values = hounsfield(dcmread(path))
    assert values[0, 0] == -2000
    assert (values.min(), values.max()) == (-2000, 1896)


class TestPadding:
    """Pixels that no ray measured become -1024 HU, if they are what the header says."""

    @pytest.fixture
    def slice_(self, make_ct_series: MakeCTSeries, tmp_path: Path) -> Dataset:
        plane = np.array([[[-3024, -3000, 0], [40, -1024, -900]]])
        return _first_slice(make_ct_series(tmp_path / "ct", plane))

    @pytest.mark.parametrize("value", [-2000, 63536])
    def test_the_padding_value_in_either_signedness(self, slice_: Dataset, value: int):
        """Writers confuse US and SS: 63536 is -2000."""
        slice_.add_new("PixelPaddingValue", "US" if value > 0 else "SS", value)
        expected = [[-1024, -3000, 0], [40, -1024, -900]]
        np.testing.assert_array_equal(hounsfield(slice_), expected)
        assert padding_hu(slice_) == (-3024.0, True)

    def test_the_padding_range(self, slice_: Dataset):
        """From PixelPaddingValue to PixelPaddingRangeLimit, both included."""
        slice_.add_new("PixelPaddingValue", "SS", -2000)
        slice_.add_new("PixelPaddingRangeLimit", "SS", -1976)
        expected = [[-1024, -1024, 0], [40, -1024, -900]]
        np.testing.assert_array_equal(hounsfield(slice_), expected)

    def test_a_padding_value_that_tissue_can_have_is_not_believed(self, slice_: Dataset):
        """Padding at 40 HU would punch holes into muscle."""
        slice_.add_new("PixelPaddingValue", "SS", 1064)
        assert padding_hu(slice_) == (40.0, False)
        assert hounsfield(slice_)[1, 0] == 40

    def test_no_padding_value(self, slice_: Dataset):
        """Values stay as they are."""
        assert padding_hu(slice_) is None
        assert hounsfield(slice_)[0, 0] == -3024


class TestLoss:
    """Loss is told from the header, which outlives the codestream, or the transfer syntax."""

    @pytest.fixture
    def slice_(self, make_ct_series: MakeCTSeries, tmp_path: Path) -> Dataset:
        return _first_slice(make_ct_series(tmp_path / "ct", FLAT))

    def test_a_decompressed_slice_stays_lossy(self, slice_: Dataset):
        """Method and ratio come from the header; the last of several steps counts."""
        slice_.LossyImageCompression = "01"
        assert describe_loss([slice_]) == "method not stated"
        slice_.LossyImageCompressionMethod = ["ISO_15444_1", "ISO_10918_1"]
        slice_.LossyImageCompressionRatio = [3.0, 12.34]
        assert describe_loss([slice_]) == "ISO_10918_1, ratio 12.3"

    @pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGExtended12Bit])
    def test_a_lossy_process_is_lossy_whatever_the_header_says(self, slice_: Dataset, syntax: str):
        """The DCT processes always lose."""
        slice_.LossyImageCompression = "00"
        slice_.file_meta.TransferSyntaxUID = syntax
        assert "ratio not stated" in str(describe_loss([slice_]))

    @pytest.mark.parametrize(("stated", "flagged"), [(None, True), ("00", False)])
    def test_a_syntax_that_may_lose_is_flagged_unless_denied(
        self, slice_: Dataset, stated: str | None, flagged: bool
    ):
        """JPEG 2000 (4.91) may hold lossless data, which only the header can say."""
        slice_.LossyImageCompression = stated
        slice_.file_meta.TransferSyntaxUID = JPEG2000
        assert (describe_loss([slice_]) is not None) is flagged

    def test_lossless_syntaxes(self, slice_: Dataset):
        """RLE and native data lose nothing."""
        assert describe_loss([slice_]) is None
        slice_.file_meta.TransferSyntaxUID = RLELossless
        assert describe_loss([slice_]) is None
