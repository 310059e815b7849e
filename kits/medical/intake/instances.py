"""What a folder holds: DICOM objects by series and kind, read from their headers alone.

File names are never shown: exports often name files after patients.
"""

from __future__ import annotations

import struct
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    MediaStorageDirectoryStorage,
)

from common.errors import ImageError, MissingInputError
from kits.medical.intake.conformance import REQUIRED_KEYWORDS

__all__ = ["Instance", "count_kinds", "list_instances", "read_whole"]

CT_CLASSES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
# Objects about other objects; they are left out without being asked. PS3.3 C.7.3.1.1.1
COMPANION_MODALITIES = frozenset(
    ["DOC", "KO", "PR", "REG", "RTDOSE", "RTPLAN", "RTRECORD", "RTSTRUCT", "RWV", "SEG", "SR"]
)
HEADER_KEYWORDS = [
    "Columns",
    "ImageType",
    "Modality",
    "NumberOfFrames",
    "PixelSpacing",
    "Rows",
    "SOPClassUID",
    "SeriesInstanceUID",
    "SeriesNumber",
]
# Everything that intake asks a whole object for.
DECODED_KEYWORDS = (
    *REQUIRED_KEYWORDS,
    "BodyPartExamined",
    "GantryDetectorTilt",
    "LossyImageCompressionRatio",
    "PixelPaddingRangeLimit",
    "PixelPaddingValue",
    "SliceThickness",
)
DICM_OFFSET = 128  # PS3.10 7.1
# What pydicom raises on a file that ends early or is damaged.
READER_ERRORS = (
    AttributeError,
    EOFError,
    InvalidDicomError,
    KeyError,
    NotImplementedError,
    OSError,
    TypeError,
    ValueError,
    struct.error,
)


@dataclass(frozen=True)
class Instance:
    """One DICOM object on disk.

    Attributes:
        path: Its file; never to be shown.
        SeriesInstanceUID: The series that it says it belongs to.
        series_number: SeriesNumber, 0 where absent.
        kind: "CT", "CT localiser", "CT screen capture", or another Modality.
        is_companion: Whether it only describes or accompanies images (SR, SEG, localiser ...).
        shape: Frames, rows and columns; (0, 0, 0) without pixel data.
        remark: What a reader would miss in it ("without pixel data"), or "".
    """

    path: Path
    SeriesInstanceUID: str
    series_number: int
    kind: str
    is_companion: bool
    shape: tuple[int, int, int]
    remark: str


def list_instances(source: Path) -> tuple[tuple[Instance, ...], int]:
    """Returns the DICOM objects in a folder and its folders below, and how many files are none.

    A DICOMDIR counts as none: it repeats what the objects say. So do files without the DICM
    prefix of PS3.10.

    Raises:
        MissingInputError: `source` is not there.
        ImageError: A DICOM file cannot be read, or there is none.
    """
    if not source.exists():
        raise MissingInputError(
            "CT series",
            expected="a folder of DICOM files, or one DICOM file",
            found="nothing at the path given",
            remedy="Check the path.",
        )
    paths = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
    instances: list[Instance] = []
    n_damaged = 0
    dicom_paths = [path for path in paths if _has_dicm_prefix(path)]
    for path in dicom_paths:
        try:
            header = _read_header(path)
            if header.file_meta.get("MediaStorageSOPClassUID") != MediaStorageDirectoryStorage:
                instances.append(_instance(path, header))
        except READER_ERRORS:
            n_damaged += 1
    _require_readable(n_damaged, n_dicom=len(dicom_paths))
    if not instances:
        raise ImageError(
            "CT series",
            expected="at least one DICOM object",
            found=f"{len(paths)} files, none of them a DICOM object",
            remedy="Give the folder that the DICOM files (.dcm, IMxxx) lie in.",
        )
    return tuple(instances), len(paths) - len(instances)


def read_whole(instances: Sequence[Instance]) -> tuple[Dataset, ...]:
    """Reads the objects with their pixel data.

    Raises:
        ImageError: A file ends early or is damaged.
    """
    datasets = []
    n_damaged = 0
    for instance in instances:
        try:
            datasets.append(_read(instance.path))
        except READER_ERRORS:
            n_damaged += 1
    _require_readable(n_damaged, n_dicom=len(instances))
    return tuple(datasets)


def count_kinds(instances: Iterable[Instance]) -> tuple[str, ...]:
    """Returns counts in words, sorted: ("SEG x2", "US x1 (without pixel spacing)")."""
    counts = Counter((i.kind, i.remark) for i in instances)
    return tuple(
        f"{kind} x{count}" + (f" ({remark})" if remark else "")
        for (kind, remark), count in sorted(counts.items())
    )


def _has_dicm_prefix(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(DICM_OFFSET)
        return file.read(4) == b"DICM"


def _read(path: Path) -> Dataset:
    with warnings.catch_warnings():
        # pydicom's warnings quote the value they are about, which may be a name.
        warnings.simplefilter("ignore")
        dataset = dcmread(path)
        for keyword in DECODED_KEYWORDS:
            dataset.get(keyword)  # values are decoded when first asked for, with warnings or errors
    return dataset


def _read_header(path: Path) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dcmread(path, stop_before_pixels=True, specific_tags=list(HEADER_KEYWORDS))


def _instance(path: Path, header: Dataset) -> Instance:
    """Raises AttributeError where the header lacks what every object has (PS3.3 C.12.1)."""
    shape = tuple(int(header.get(k) or d) for k, d in _SHAPE) if "Rows" in header else (0, 0, 0)
    kind = _kind(header)
    remark = ""
    if "Rows" not in header:
        remark = "without pixel data"
    elif kind not in ("CT", "SEG") and "PixelSpacing" not in header:
        remark = "without pixel spacing"
    return Instance(
        path=path,
        SeriesInstanceUID=str(header.SeriesInstanceUID),
        series_number=int(header.get("SeriesNumber") or 0),
        kind=kind,
        is_companion=kind.startswith("CT ") or kind in COMPANION_MODALITIES or "Rows" not in header,
        shape=(shape[0], shape[1], shape[2]),
        remark=remark,
    )


_SHAPE = (("NumberOfFrames", 1), ("Rows", 0), ("Columns", 0))


def _kind(header: Dataset) -> str:
    modality = str(header.Modality)
    if modality != "CT":
        return modality
    if header.SOPClassUID not in CT_CLASSES:
        return "CT screen capture"
    if "LOCALIZER" in (header.get("ImageType") or []):
        return "CT localiser"
    return "CT"


def _require_readable(n_damaged: int, *, n_dicom: int) -> None:
    if n_damaged:
        raise ImageError(
            "CT series",
            expected="DICOM files that can be read to their end",
            found=f"{n_damaged} of {n_dicom} truncated or damaged",
            remedy="Send the series again, and compare file sizes with the sender's.",
        )
