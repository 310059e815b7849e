"""What every slice of a CT series must state before its pixels mean anything.

The border check of the medical kit: all faults of a series are collected and told at once,
as counts of slices, never with their values.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from pydicom.dataset import Dataset

from common.errors import GeometryError, ImageError
from kits.medical.intake.geometry import COSINE_TOLERANCE

__all__ = ["REQUIRED_KEYWORDS", "require_conformant"]

# Required by the CT Image IOD (PS3.3 A.3.3), or by the functional groups of A.38.1.4.
IMAGE_KEYWORDS = (
    "BitsAllocated",
    "BitsStored",
    "Columns",
    "FrameOfReferenceUID",
    "HighBit",
    "PhotometricInterpretation",
    "PixelData",
    "PixelRepresentation",
    "RescaleIntercept",
    "RescaleSlope",
    "Rows",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
)
GEOMETRY_KEYWORDS = ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing")
REQUIRED_KEYWORDS = (*IMAGE_KEYWORDS, *GEOMETRY_KEYWORDS)
SPACING_TOLERANCE_MM = 1e-3  # in-plane spacing is one number per reconstruction, often rounded


def require_conformant(slices: Sequence[Dataset]) -> None:
    """Raises unless every slice states what is needed, and all agree where they must.

    Checks, in this order: required attributes are there; rescale gives HU; one sample per
    pixel, monochrome; spacing, position and orientation are usable numbers; all slices share
    rows, columns, pixel spacing, orientation, frame of reference and study.

    Raises:
        GeometryError: Only spacing, position, orientation or size are at fault.
        ImageError: Something else is at fault as well.
    """
    image_faults = _missing(slices, IMAGE_KEYWORDS)
    image_faults += _count(slices, _pixel_fault) + _count(slices, _rescale_fault)
    geometry_faults = _missing(slices, GEOMETRY_KEYWORDS)
    if not geometry_faults:
        geometry_faults += _count(slices, _geometry_fault)
    if not image_faults and not geometry_faults:
        image_faults += _disagreements(slices, ("FrameOfReferenceUID", "StudyInstanceUID"))
        geometry_faults += _geometry_disagreements(slices)
    faults = image_faults + geometry_faults
    if faults:
        kind = ImageError if image_faults else GeometryError
        raise kind(
            "CT series",
            expected="slices with pixel data, rescale to HU, spacing, position and orientation, "
            "all of one size and orientation",
            found="; ".join(faults),
            remedy="Ask for the original slices of one reconstruction, as the scanner made them.",
        )


def _missing(slices: Sequence[Dataset], keywords: Sequence[str]) -> list[str]:
    faults = []
    for keyword in keywords:
        n_missing = sum(_is_empty(slice_, keyword) for slice_ in slices)
        if n_missing:
            faults.append(f"no {keyword} in {n_missing} of {len(slices)} slices")
    return faults


def _is_empty(slice_: Dataset, keyword: str) -> bool:
    return keyword not in slice_ or slice_[keyword].value in (None, "", b"")


def _count(slices: Sequence[Dataset], fault_of: Callable[[Dataset], str | None]) -> list[str]:
    counts = Counter(fault for slice_ in slices if (fault := fault_of(slice_)))
    return [f"{fault} in {n} of {len(slices)} slices" for fault, n in sorted(counts.items())]


def _pixel_fault(slice_: Dataset) -> str | None:
    """Returns the first thing that keeps the pixels from being one grey image."""
    if slice_.get("SamplesPerPixel", 1) != 1:
        return "several samples per pixel (colour)"
    if slice_.get("PhotometricInterpretation", "MONOCHROME2") not in ("MONOCHROME1", "MONOCHROME2"):
        return "a photometric interpretation that is not monochrome"
    if int(slice_.get("NumberOfFrames") or 1) != 1:
        return "several frames without frame headers"
    return None


def _rescale_fault(slice_: Dataset) -> str | None:
    """Returns the first thing that keeps rescaled values from being Hounsfield units."""
    if (slice_.get("RescaleType") or "HU") not in ("HU", "HU_MOD"):
        return f"rescale to {_rescale_type(slice_)} units instead of HU"
    if not _are_finite(slice_, "RescaleSlope") or not _are_finite(slice_, "RescaleIntercept"):
        return "a rescale that is not a number"
    return "a rescale slope of 0" if slice_.get("RescaleSlope") == 0 else None


def _rescale_type(slice_: Dataset) -> str:
    """Returns the units, and for a derived map its flavour, as PS3.3 C.8.16.1 names it."""
    flavours = [str(value) for value in slice_.get("ImageType", [])][2:]
    derived = [f for f in flavours if f not in ("AXIAL", "VOLUME", "NONE")]
    return " ".join([str(slice_.RescaleType)[:16], *(f"({f[:16]})" for f in derived)])


def _are_finite(slice_: Dataset, keyword: str) -> bool:
    value = slice_.get(keyword)
    if value is None:
        return True  # told as missing
    values = [value] if isinstance(value, str | float | int) else list(value)
    return all(math.isfinite(float(v)) for v in values)


def _geometry_fault(slice_: Dataset) -> str | None:
    if not all(_are_finite(slice_, keyword) for keyword in GEOMETRY_KEYWORDS):
        return "a position, orientation or spacing that is not a number"
    spacing = list(slice_.PixelSpacing)
    if len(spacing) != 2 or min(float(value) for value in spacing) <= 0:
        return "a pixel spacing that is not two lengths above 0 mm"
    if len(slice_.ImagePositionPatient) != 3 or len(slice_.ImageOrientationPatient) != 6:
        return "a position or orientation with the wrong number of values"
    row, column = np.array(slice_.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    lengths = np.array([np.linalg.norm(row), np.linalg.norm(column)])
    if np.abs(lengths - 1).max() > COSINE_TOLERANCE or abs(row @ column) > COSINE_TOLERANCE:
        return "row and column cosines that are not two unit vectors at a right angle"
    return None


def _disagreements(slices: Sequence[Dataset], keywords: Sequence[str]) -> list[str]:
    faults = []
    for keyword in keywords:
        n_values = len({str(slice_[keyword].value) for slice_ in slices})
        if n_values > 1:
            faults.append(f"{n_values} different {keyword} among {len(slices)} slices")
    return faults


def _geometry_disagreements(slices: Sequence[Dataset]) -> list[str]:
    sizes = Counter((int(s.Rows), int(s.Columns)) for s in slices)
    faults = []
    if len(sizes) > 1:
        shown = ", ".join(f"{r} x {c} pixels x{n}" for (r, c), n in sorted(sizes.items())[:5])
        faults.append(f"slices of different sizes ({shown})")
    spacings = np.array([[float(v) for v in s.PixelSpacing] for s in slices])
    if np.ptp(spacings, axis=0).max() > SPACING_TOLERANCE_MM:
        faults.append(
            f"pixel spacings from {spacings.min():.4f} to {spacings.max():.4f} mm in one series"
        )
    cosines = np.array([[float(v) for v in s.ImageOrientationPatient] for s in slices])
    if np.ptp(cosines, axis=0).max() > COSINE_TOLERANCE:
        n_orientations = len(np.unique(cosines.round(2), axis=0))
        faults.append(f"slices that are not parallel ({n_orientations} orientations)")
    return faults
