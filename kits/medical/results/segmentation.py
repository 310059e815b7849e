"""Writes the lesions of a reading as a DICOM Segmentation (PS3.3 A.51), one segment each.

Axis order `D H W`; positions are DICOM patient coordinates (LPS+, mm).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.uid import JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes
from pydicom.valuerep import DSfloat

from kits.medical.fusion import CaseReading, LesionReading
from kits.medical.intake.series import CTSeries
from kits.medical.intake.volume import CTVolume
from kits.medical.results import codes
from kits.medical.results.source import (
    MANUFACTURER,
    MODEL_NAME,
    nameless_header,
    result_uid,
    software_version,
    stamp,
)

__all__ = ["FINDER_NAME", "build_segmentation", "finding_site", "finding_type"]

FINDER_NAME = "Tandem lesion candidates"
SERIES_NUMBER = 9001
"""Far above the numbers that scanners give their series, to keep results last in a list."""

_LOSSY_METHODS = (  # PS3.3 C.7.6.1.1.5.1; every other lossy syntax is JPEG
    (JPEGLSTransferSyntaxes, "ISO_14495_1"),
    (JPEG2000TransferSyntaxes, "ISO_15444_1"),
)


def build_segmentation(reading: CaseReading) -> Dataset | None:
    """Returns a BINARY Segmentation with one AUTOMATIC segment for each lesion.

    Segment n is lesion n of the reading. Frames lie on the source slices; for a resampled
    volume they lie on the volume's own planes, in the source's frame of reference. Planes
    without any lesion are left out. UIDs are those of `result_uid`.

    Args:
        reading: The reading to write; its datasets are not changed.

    Returns:
        A highdicom Segmentation, ready to be saved, or None where there is no lesion.
    """
    if not reading.lesions:
        return None
    from highdicom.seg import Segmentation, SegmentationTypeValues

    volume = reading.volume
    planes, pixels = _label_planes(reading)
    segmentation = Segmentation(
        **_placement(volume, planes),
        pixel_array=pixels,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _describe_segment(number, lesion, reading)
            for number, lesion in enumerate(reading.lesions, start=1)
        ],
        series_instance_uid=result_uid("SEG series", reading),
        series_number=SERIES_NUMBER,
        sop_instance_uid=result_uid("SEG instance", reading),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=software_version(),
        device_serial_number=software_version(),
        content_label="LESIONS",
        content_description="Lesion candidates, research use only",
        series_description="Tandem lesions (research use only)",
    )
    _fix_dimension_uid(segmentation, result_uid("SEG dimensions", reading))
    _flag_loss(segmentation, volume.series)
    stamp(segmentation, volume.series)
    return segmentation


def finding_type(lesion: LesionReading, reading: CaseReading) -> codes.Concept:
    """Returns nodule or mass for a lesion of the lung, by its long axis; lesion elsewhere.

    Args:
        lesion: A lesion of `reading`.
        reading: The reading.
    """
    if reading.region.name != "chest":
        return codes.LESION
    is_mass = lesion.measurements.long_axis_mm > codes.MASS_LONG_AXIS_MM
    return codes.MASS if is_mass else codes.NODULE


def finding_site(reading: CaseReading) -> codes.Concept | None:
    """Returns where the lesions lie: the lung in a chest, else the region, if it is known."""
    if reading.region.name == "chest":
        return codes.LUNG
    return codes.REGIONS.get(reading.region.name)


def _label_planes(reading: CaseReading) -> tuple[list[int], npt.NDArray[Any]]:
    """Returns the planes with lesions, and their labels `(n, H, W)`.

    Lesions that share a voxel cannot be labels: then the array is `(n, H, W, lesions)`.
    """
    _, height, width = reading.volume.hounsfield.shape
    boxes = [_box(lesion) for lesion in reading.lesions]
    planes = sorted({d for box in boxes for d in range(box[0].start, box[0].stop)})
    row_of = {d: row for row, d in enumerate(planes)}
    labels = np.zeros((len(planes), height, width), np.uint16)
    stacked = np.zeros((0,), np.uint8)
    for number, (lesion, box) in enumerate(zip(reading.lesions, boxes, strict=True), start=1):
        rows = slice(row_of[box[0].start], row_of[box[0].stop - 1] + 1)
        target = labels[rows, box[1], box[2]]
        if target[lesion.candidate.mask].any():
            stacked = _stack(reading, boxes, row_of, (len(planes), height, width))
            return planes, stacked
        target[lesion.candidate.mask] = number
    return planes, labels


def _stack(
    reading: CaseReading,
    boxes: list[tuple[slice, slice, slice]],
    row_of: dict[int, int],
    shape: tuple[int, int, int],
) -> npt.NDArray[np.uint8]:
    stacked = np.zeros((*shape, len(boxes)), np.uint8)
    for index, (lesion, box) in enumerate(zip(reading.lesions, boxes, strict=True)):
        rows = slice(row_of[box[0].start], row_of[box[0].stop - 1] + 1)
        stacked[rows, box[1], box[2], index] = lesion.candidate.mask
    return stacked


def _box(lesion: LesionReading) -> tuple[slice, slice, slice]:
    start, size = lesion.candidate.start, lesion.candidate.mask.shape
    d, h, w = (slice(int(a), int(a) + n) for a, n in zip(start, size, strict=True))
    return d, h, w


def _placement(volume: CTVolume, planes: list[int]) -> dict[str, Any]:
    """Returns highdicom's arguments that say where the planes lie.

    On the source's own single-frame slices they are those slices; on a resampled volume, or
    on frames of Enhanced CT objects, they are the volume's own positions.
    """
    series = volume.series
    if volume.resampling is not None or len(series.instances) != len(series.slices):
        return _placement_in_space(volume, planes)
    return {"source_images": _sources(volume, [volume.source_slice(d) for d in planes])}


def _sources(volume: CTVolume, instances: Sequence[Dataset]) -> list[Dataset]:
    """Returns headers of `instances`; the slice spacing stands in for an absent thickness.

    SliceThickness is type 2 in a CT image and type 1C in a segmentation (PS3.3 C.7.6.16.2.1).
    """
    headers = [nameless_header(instance) for instance in instances]
    for header in headers:
        if "SliceThickness" not in header and "NumberOfFrames" not in header:
            header.SliceThickness = DSfloat(volume.spacing_mm[0], auto_format=True)
    return headers


def _placement_in_space(volume: CTVolume, planes: list[int]) -> dict[str, Any]:
    from highdicom import (
        CoordinateSystemNames,
        PixelMeasuresSequence,
        PlaneOrientationSequence,
        PlanePositionSequence,
    )

    patient = CoordinateSystemNames.PATIENT
    row, column = (volume.affine[:3, axis] for axis in (2, 1))
    cosines = [*(row / np.linalg.norm(row)), *(column / np.linalg.norm(column))]
    positions = [volume.position_lps_mm((d, 0, 0)) for d in planes]
    depth_mm, height_mm, width_mm = volume.spacing_mm
    sources = _sources(volume, volume.series.instances)
    is_multiframe = "NumberOfFrames" in sources[0]
    return {
        "source_images": sources[:1] if is_multiframe else sources,
        "further_source_images": (sources[1:] or None) if is_multiframe else None,
        "pixel_measures": PixelMeasuresSequence(
            pixel_spacing=(height_mm, width_mm),
            slice_thickness=depth_mm,
            spacing_between_slices=depth_mm,
        ),
        "plane_orientation": PlaneOrientationSequence(patient, [float(x) for x in cosines]),
        "plane_positions": [PlanePositionSequence(patient, position) for position in positions],
    }


def _describe_segment(number: int, lesion: LesionReading, reading: CaseReading) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription

    site = finding_site(reading)
    description = SegmentDescription(
        segment_number=number,
        segment_label=lesion.identifier,
        segmented_property_category=codes.MORPHOLOGICALLY_ABNORMAL.code,
        segmented_property_type=finding_type(lesion, reading).code,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=FINDER_NAME,
            family=codes.MORPHOLOGICAL_OPERATIONS.code,
            version=software_version(),
            source=MANUFACTURER,
        ),
        tracking_uid=lesion.tracking_uid,
        tracking_id=lesion.identifier,
        anatomic_regions=None if site is None else [site.code],
    )
    description.SegmentDescription = "Candidate found by software, not verified"
    return description


def _fix_dimension_uid(segmentation: Dataset, uid: str) -> None:
    """Gives the Dimension Organization, which highdicom names at random, a UID that repeats."""
    for sequence in ("DimensionOrganizationSequence", "DimensionIndexSequence"):
        for item in segmentation[sequence].value:
            item.DimensionOrganizationUID = uid


def _flag_loss(segmentation: Dataset, series: CTSeries) -> None:
    """States that the source was compressed with loss where its own header does not.

    Method and ratio then come from the transfer syntax and the sizes (PS3.3 C.7.6.1.1.5.2).
    """
    if series.lossy is None or segmentation.LossyImageCompression == "01":
        return
    instance = series.instances[0]
    bits = int(instance.Rows) * int(instance.Columns) * int(instance.BitsAllocated)
    native_bytes = bits * int(instance.get("NumberOfFrames") or 1) / 8
    segmentation.LossyImageCompression = "01"
    segmentation.LossyImageCompressionRatio = round(native_bytes / len(instance.PixelData), 2)
    syntax = instance.file_meta.TransferSyntaxUID
    segmentation.LossyImageCompressionMethod = next(
        (method for group, method in _LOSSY_METHODS if syntax in group), "ISO_10918_1"
    )
