"""A small, valid CT series on disk, made with pydicom, for every test of the medical kit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

MakeCTSeries = Callable[..., Path]


def _series_header(name: str) -> Dataset:
    """Attributes of patient, study, series and equipment that every slice shares."""
    shared = Dataset()
    shared.SpecificCharacterSet = "ISO_IR 100"
    shared.PatientName = "Doe^Jane"
    shared.PatientID = "SECRET-4711"
    shared.PatientBirthDate = "19700101"
    shared.PatientSex = "F"
    shared.StudyInstanceUID = generate_uid(entropy_srcs=[name, "study"])
    shared.StudyDate = "20240102"
    shared.StudyTime = "030405"
    shared.StudyID = "1"
    shared.AccessionNumber = ""
    shared.ReferringPhysicianName = ""
    shared.SeriesInstanceUID = generate_uid(entropy_srcs=[name, "series"])
    shared.SeriesNumber = 1
    shared.FrameOfReferenceUID = generate_uid(entropy_srcs=[name, "frame of reference"])
    shared.PositionReferenceIndicator = ""
    shared.Manufacturer = "Tandem tests"
    shared.Modality = "CT"
    shared.SOPClassUID = CTImageStorage
    shared.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    shared.BodyPartExamined = "CHEST"
    shared.PatientPosition = "HFS"
    shared.AcquisitionNumber = 1
    shared.KVP = 120.0
    return shared


def _pixel_header(slice_: Dataset, stored: npt.NDArray[np.int16]) -> None:
    slice_.SamplesPerPixel = 1
    slice_.PhotometricInterpretation = "MONOCHROME2"
    slice_.Rows, slice_.Columns = stored.shape
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = 16, 16, 15
    slice_.PixelRepresentation = 1
    slice_.RescaleIntercept, slice_.RescaleSlope, slice_.RescaleType = -1024, 1, "HU"
    slice_.PixelData = stored.astype("<i2").tobytes()


@pytest.fixture(scope="session")
def make_ct_series() -> MakeCTSeries:
    """A function that writes one CT series of valid DICOM files and returns its folder.

    `make_ct_series(folder, hounsfield, spacing_mm=..., ...)`:

    Args:
        folder: Where to write; made if absent. Files are `slice_000.dcm`, `slice_001.dcm`, ...
        hounsfield: `(D, H, W)`, whole HU in [-31744, 31743] (stored int16, intercept -1024).
        spacing_mm: `(D, H, W)`.
        origin_mm: LPS position of voxel (0, 0, 0).
        orientation: ImageOrientationPatient, six cosines.
        positions_mm: One LPS position per slice, instead of even steps along the normal.
        name: Seeds every UID; equal names give one series (and one study).
        header: Keyword -> value, set on every slice; the value None deletes the attribute.
        edit: Called with (slice index, dataset) just before a slice is written.
    """

    def make(
        folder: Path,
        hounsfield: npt.NDArray[Any],
        *,
        spacing_mm: tuple[float, float, float] = (2.0, 0.75, 0.75),
        origin_mm: tuple[float, float, float] = (-100.0, -120.0, -50.0),
        orientation: Sequence[float] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        positions_mm: Sequence[Sequence[float]] | None = None,
        name: str = "series",
        header: Mapping[str, Any] | None = None,
        edit: Callable[[int, Dataset], None] | None = None,
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        normal = np.cross(orientation[:3], orientation[3:])
        for index, plane in enumerate(np.asarray(hounsfield)):
            slice_ = _series_header(name)
            position = np.array(origin_mm) + index * spacing_mm[0] * normal
            if positions_mm is not None:
                position = np.array(positions_mm[index])
            slice_.ImagePositionPatient = [round(float(value), 6) for value in position]
            slice_.ImageOrientationPatient = [round(float(value), 9) for value in orientation]
            slice_.PixelSpacing = [spacing_mm[1], spacing_mm[2]]
            slice_.SliceThickness = spacing_mm[0]
            slice_.InstanceNumber = index + 1
            slice_.SOPInstanceUID = generate_uid(entropy_srcs=[name, str(index)])
            _pixel_header(slice_, (plane + 1024).astype(np.int16))
            for keyword, value in (header or {}).items():
                if value is None:
                    delattr(slice_, keyword)
                else:
                    setattr(slice_, keyword, value)
            slice_.file_meta = FileMetaDataset()
            slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            if edit is not None:
                edit(index, slice_)
            slice_.save_as(folder / f"slice_{index:03}.dcm", enforce_file_format=True)
        return folder

    return make
