"""Stored pixels of one CT slice, decoded and turned into Hounsfield units.

Compressed pixels are decoded by the pylibjpeg plugins of pydicom wherever these can, so that
the values do not depend on which other codecs a machine has. JPEG processes 6 & 8 and 10 & 12
(PS3.5 A.4.1, retired), which no pydicom plugin knows, go to python-gdcm where it is installed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import UID

from common.errors import PixelDecodingError

__all__ = ["AIR_HU", "describe_loss", "hounsfield", "padding_hu", "stored_pixels"]

AIR_HU = -1024.0
"""What a voxel holds that no ray measured; the least value of a 12-bit CT scale."""

# A padding value of -900 HU or more could be tissue; above 3071 HU no 12-bit scale reaches.
TISSUE_HU = (-900.0, 3071.0)

JPEG_PROCESS_6_8 = UID("1.2.840.10008.1.2.4.53")
JPEG_PROCESS_10_12 = UID("1.2.840.10008.1.2.4.55")
GDCM_ONLY = (JPEG_PROCESS_6_8, JPEG_PROCESS_10_12)

# Sequential, spectral-selection and progressive DCT: JPEG processes that always lose.
ALWAYS_LOSSY = (
    UID("1.2.840.10008.1.2.4.50"),
    UID("1.2.840.10008.1.2.4.51"),
    *GDCM_ONLY,
)
# JPEG-LS near-lossless, JPEG 2000 and HTJ2K: may lose (PS3.5 A.4.3, A.4.4, A.4.11).
POSSIBLY_LOSSY = (
    UID("1.2.840.10008.1.2.4.81"),
    UID("1.2.840.10008.1.2.4.91"),
    UID("1.2.840.10008.1.2.4.203"),
)
# Their codestreams all end with the marker EOI or EOC, FF D9.
ENDS_WITH_MARKER = "1.2.840.10008.1.2.4."
END_MARKER = b"\xff\xd9"
PADDING_BYTES = 16  # writers even out a frame's length with 00 or FF after the marker

# What pydicom, the pylibjpeg plugins and gdcm raise on damaged data.
DECODER_ERRORS = (
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)

Pixels = npt.NDArray[np.generic]


def hounsfield(slice_: Dataset) -> npt.NDArray[np.float32]:
    """Returns the slice in Hounsfield units, `(H, W)` float32.

    HU = RescaleSlope x stored + RescaleIntercept (PS3.3 C.11.1.1.2), with this slice's own
    values. Padding becomes `AIR_HU`. MONOCHROME1 only turns the display round (PS3.3
    C.7.6.3.1.2): Hounsfield units stay as they are.

    Raises:
        PixelDecodingError: The pixels cannot be decoded.
    """
    stored = stored_pixels(slice_).astype(np.float64)
    values = stored * float(slice_.RescaleSlope) + float(slice_.RescaleIntercept)
    bounds, padding = _padding_bounds(slice_), padding_hu(slice_)
    if bounds is not None and padding is not None and padding[1]:
        values[(stored >= bounds[0]) & (stored <= bounds[1])] = AIR_HU
    return values.astype(np.float32)


def padding_hu(slice_: Dataset) -> tuple[float, bool] | None:
    """Returns what PixelPaddingValue stands for in HU, and whether it is believed.

    A padding value that tissue can have too, such as 0 HU, would cut holes into the patient:
    it is not believed and those pixels are kept. None where the slice states no padding.
    """
    bounds = _padding_bounds(slice_)
    if bounds is None:
        return None
    value_hu = bounds[0] * float(slice_.RescaleSlope) + float(slice_.RescaleIntercept)
    return value_hu, not TISSUE_HU[0] <= value_hu <= TISSUE_HU[1]


def stored_pixels(slice_: Dataset) -> Pixels:
    """Returns the decoded stored values of a single-frame slice, `(H, W)`, integers.

    Raises:
        PixelDecodingError: No decoder for the transfer syntax is installed, or the pixel
            data is truncated or damaged. Damage that leaves a valid codestream of the right
            size cannot be seen.
    """
    syntax = slice_.file_meta.TransferSyntaxUID
    try:
        if syntax.is_encapsulated:
            _require_end_marker(slice_)
        pixels = _gdcm_pixels(slice_) if syntax in GDCM_ONLY else _pydicom_pixels(slice_)
    except DECODER_ERRORS as error:
        if isinstance(error, PixelDecodingError):
            raise
        raise _damaged(slice_, "its pixel data is truncated or damaged") from error
    if pixels.shape != (slice_.Rows, slice_.Columns):
        raise _damaged(slice_, f"an array of shape {pixels.shape}")
    return pixels


def describe_loss(slices: Sequence[Dataset]) -> str | None:
    """Returns how the pixels were compressed with loss, or None where they were not.

    Loss is stated by LossyImageCompression (PS3.3 C.7.6.1.1.5), which outlives the
    compressed form, or follows from the transfer syntax.
    """
    stated = [s for s in slices if s.get("LossyImageCompression") == "01"]
    if stated:
        methods = sorted({_first(s, "LossyImageCompressionMethod") for s in stated} - {""})
        ratios = [float(r) for s in stated if (r := _first(s, "LossyImageCompressionRatio"))]
        words = ["/".join(methods) or _syntax_name(stated[0])]
        words += [f"ratio {max(ratios):.1f}"] if ratios else []
        return ", ".join(words)
    for slice_ in slices:
        syntax = slice_.file_meta.TransferSyntaxUID
        if syntax in ALWAYS_LOSSY:
            return f"{syntax.name}, ratio not stated"
        if syntax in POSSIBLY_LOSSY and slice_.get("LossyImageCompression") != "00":
            return f"{syntax.name}, which may lose; the header does not say"
    return None


def _first(slice_: Dataset, keyword: str) -> str:
    value = slice_.get(keyword)
    if value is None or isinstance(value, str | float | int):
        return str(value or "")
    return str(value[-1]) if len(value) else ""  # the last step of several


def _syntax_name(slice_: Dataset) -> str:
    syntax = slice_.file_meta.TransferSyntaxUID
    return str(syntax.name) if syntax.is_encapsulated else "method not stated"


def _padding_bounds(slice_: Dataset) -> tuple[int, int] | None:
    """Returns least and greatest stored padding value (PS3.3 C.7.5.1.1.2), or None."""
    value = slice_.get("PixelPaddingValue")
    if value is None:
        return None
    limit = slice_.get("PixelPaddingRangeLimit")
    ends = [_as_stored(slice_, int(v)) for v in (value, value if limit is None else limit)]
    return min(ends), max(ends)


def _as_stored(slice_: Dataset, value: int) -> int:
    """Returns `value` in the signedness of the pixels; writers confuse US and SS here."""
    span = 1 << int(slice_.BitsAllocated)
    if slice_.PixelRepresentation == 1 and value >= span // 2:
        return value - span
    if slice_.PixelRepresentation == 0 and value < 0:
        return value + span
    return value


def _require_end_marker(slice_: Dataset) -> None:
    """Raises unless the codestream has its end: some codecs fill up what is missing."""
    if not slice_.file_meta.TransferSyntaxUID.startswith(ENDS_WITH_MARKER):
        return
    if END_MARKER not in _codestream(slice_)[-PADDING_BYTES:]:
        raise _damaged(slice_, "a codestream without its end marker")


def _codestream(slice_: Dataset) -> bytes:
    return bytes(next(iter(generate_frames(slice_.PixelData, number_of_frames=1))))


def _pydicom_pixels(slice_: Dataset) -> Pixels:
    syntax = slice_.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return np.asarray(pixel_array(slice_))
    try:
        plugins = get_decoder(syntax).available_plugins
    except NotImplementedError:
        plugins = ()
    if not plugins:
        raise _undecodable(slice_, remedy="Install the codecs: pip install 'tandem-kits[medical]'.")
    plugin = "pylibjpeg" if "pylibjpeg" in plugins else plugins[0]
    return np.asarray(pixel_array(slice_, decoding_plugin=plugin))


def _gdcm_pixels(slice_: Dataset) -> Pixels:
    """Decodes one frame with python-gdcm, `(H, W)`; the calls follow gdcm's own classes."""
    if find_spec("gdcm") is None:
        raise _undecodable(slice_, remedy="Install the codec: pip install python-gdcm.")
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(_codestream(slice_))
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    bitmap = gdcm.Image()
    bitmap.SetNumberOfDimensions(2)
    bitmap.SetDimensions((slice_.Columns, slice_.Rows, 1))
    bitmap.SetDataElement(element)
    bitmap.SetPhotometricInterpretation(
        gdcm.PhotometricInterpretation(
            gdcm.PhotometricInterpretation.GetPIType(slice_.PhotometricInterpretation)
        )
    )
    syntax = gdcm.TransferSyntax.GetTSType(str(slice_.file_meta.TransferSyntaxUID))
    bitmap.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    bits = (int(slice_.BitsAllocated), int(slice_.BitsStored), int(slice_.HighBit))
    bitmap.SetPixelFormat(gdcm.PixelFormat(1, *bits, int(slice_.PixelRepresentation)))
    buffer = bitmap.GetBuffer().encode("utf-8", "surrogateescape")
    kind = "i" if slice_.PixelRepresentation == 1 else "u"
    pixels = np.frombuffer(buffer, dtype=f"<{kind}{bits[0] // 8}")
    return pixels.reshape(slice_.Rows, slice_.Columns)


def _undecodable(slice_: Dataset, *, remedy: str) -> PixelDecodingError:
    return PixelDecodingError(
        "CT slice",
        expected="a transfer syntax that an installed codec decodes",
        found=str(slice_.file_meta.TransferSyntaxUID.name),
        remedy=remedy,
    )


def _damaged(slice_: Dataset, found: str) -> PixelDecodingError:
    position = ", ".join(f"{float(value):.2f}" for value in slice_.ImagePositionPatient)
    return PixelDecodingError(
        f"CT slice at ({position}) mm",
        expected=f"{slice_.Rows} x {slice_.Columns} pixels in "
        f"{slice_.file_meta.TransferSyntaxUID.name}",
        found=found,
        remedy="Send the series again, and compare its size with the sender's.",
    )
