"""A written SEG, read back, holds the lesions' masks where they lie, and what they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from highdicom.seg import Segmentation, segread
from pydicom import Dataset, dcmread
from pydicom.uid import EnhancedCTImageStorage

from kits.medical.fusion import CaseReading
from kits.medical.intake.series import read_series
from kits.medical.intake.volume import CTVolume, build_volume
from kits.medical.results import codes
from kits.medical.results.segmentation import build_segmentation, finding_site, finding_type

MakeReading = Callable[..., CaseReading]
MakeCTSeries = Callable[..., Path]


def _round_trip(segmentation: Dataset | None) -> Segmentation:
    assert segmentation is not None
    buffer = BytesIO()
    segmentation.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return segread(buffer)


def _masks(segmentation: Segmentation, reading: CaseReading) -> npt.NDArray[np.bool_]:
    """Every segment `(lesions, D, H, W)`, each frame placed by its own position."""
    volume = reading.volume
    masks = np.zeros((len(reading.lesions), *volume.hounsfield.shape), bool)
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    to_index = np.linalg.inv(volume.affine)
    frames = segmentation.pixel_array.reshape(-1, segmentation.Rows, segmentation.Columns)
    for frame, groups in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        index = (to_index @ [*position, 1.0])[:3]
        np.testing.assert_allclose(index, [round(index[0]), 0, 0], atol=1e-3)
        holder = groups if "SegmentIdentificationSequence" in groups else shared
        number = holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        masks[number - 1, round(index[0])] |= frame.astype(bool)
    return masks


def _expected(reading: CaseReading) -> npt.NDArray[np.bool_]:
    shape = reading.volume.hounsfield.shape
    return np.stack([lesion.candidate.full_mask(shape) for lesion in reading.lesions])


def test_the_masks_come_back(reading: CaseReading):
    """Write, read: the same voxels at the same places, one segment for each lesion."""
    segmentation = _round_trip(build_segmentation(reading))
    assert segmentation.number_of_segments == 2
    np.testing.assert_array_equal(_masks(segmentation, reading), _expected(reading))


@pytest.mark.parametrize(
    "path",
    [
        "pydicom-ct/CT_small.dcm",
        "dcmqi-ct3-seg-sr/data/segmentations/ct-3slice",
        "wg04-ct/CT2_J2KR",
    ],
)
def test_the_masks_come_back_on_real_ct(tandem_data: Path, make_reading: MakeReading, path: str):
    """Lesions placed by hand on real slices: the same voxels, in the source's space."""
    volume = build_volume(read_series(tandem_data / "medical" / "dicom" / path))
    d, h, w = (n // 2 for n in volume.hounsfield.shape)
    reading = make_reading(volume, [((d, h, w), 9.0), ((d, h // 2, w // 2), 5.0)])
    segmentation = _round_trip(build_segmentation(reading))
    np.testing.assert_array_equal(_masks(segmentation, reading), _expected(reading))


def test_highdicom_finds_them_by_source_image(reading: CaseReading):
    """Each frame refers to the slice that it lies on."""
    segmentation = _round_trip(build_segmentation(reading))
    expected = _expected(reading)
    planes = np.flatnonzero(expected.any(axis=(0, 2, 3)))
    uids = [reading.volume.series.slices[d].SOPInstanceUID for d in planes]
    found = segmentation.get_pixels_by_source_instance(uids)
    np.testing.assert_array_equal(np.moveaxis(found, -1, 0).astype(bool), expected[:, planes])


def test_a_segment_says_what_it_is_and_who_found_it(reading: CaseReading):
    """Category, type, site, tracking and the algorithm's identification."""
    segmentation = _round_trip(build_segmentation(reading))
    segment = segmentation.get_segment_description(1)
    assert segmentation.SegmentationType == "BINARY"
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    assert segment.SegmentDescription == "Candidate found by software, not verified"
    assert segment.segment_label == segment.tracking_id == "L1"
    assert segment.tracking_uid == reading.lesions[0].tracking_uid
    assert segment.segmented_property_category == codes.MORPHOLOGICALLY_ABNORMAL.code
    assert segment.segmented_property_type == codes.NODULE.code
    assert list(segment.anatomic_regions) == [codes.LUNG.code]
    assert segment.algorithm_identification.name == "Tandem lesion candidates"
    assert segment.algorithm_identification.family == codes.MORPHOLOGICAL_OPERATIONS.code


def test_lesions_that_share_voxels_stay_whole(volume: CTVolume, make_reading: MakeReading):
    """Overlapping lesions are stacked segments; none loses a voxel."""
    reading = make_reading(volume, [((5, 24, 18), 6.0), ((5, 26, 22), 6.0)])
    assert _expected(reading).all(axis=0).any()
    segmentation = _round_trip(build_segmentation(reading))
    assert segmentation.SegmentsOverlap == "YES"
    np.testing.assert_array_equal(_masks(segmentation, reading), _expected(reading))


def test_without_lesions_there_is_no_segmentation(volume: CTVolume, make_reading: MakeReading):
    """A SEG without segments is not valid DICOM, so none is made."""
    assert build_segmentation(make_reading(volume, [])) is None


def test_equal_readings_give_equal_bytes(reading: CaseReading):
    """Nothing in the file depends on the moment of writing."""
    first, second = BytesIO(), BytesIO()
    for buffer in (first, second):
        segmentation = build_segmentation(reading)
        assert segmentation is not None
        segmentation.save_as(buffer, enforce_file_format=True)
    assert first.getvalue() == second.getvalue()


def test_a_resampled_volume_keeps_its_own_grid(
    make_ct_series: MakeCTSeries, make_reading: MakeReading, tmp_path: Path
):
    """Uneven slices: frames on the volume's planes, in the source's frame of reference."""
    positions = [(-10.0, -20.0, z) for z in (0, 2, 4, 6, 9, 12, 15, 18)]
    folder = make_ct_series(
        tmp_path / "uneven", np.full((8, 40, 48), -800), positions_mm=positions, name="uneven"
    )
    volume = build_volume(read_series(folder), resample=True)
    assert volume.resampling is not None
    reading = make_reading(volume, [((4, 20, 20), 5.0)])
    segmentation = _round_trip(build_segmentation(reading))
    np.testing.assert_array_equal(_masks(segmentation, reading), _expected(reading))
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(volume.spacing_mm[0])
    assert segmentation.FrameOfReferenceUID == volume.series.FrameOfReferenceUID


def _item(**attributes: object) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def _as_enhanced(folder: Path, path: Path) -> Path:
    """Writes the slices in `folder` as one Enhanced CT object, in reversed order."""
    slices = [dcmread(file) for file in sorted(folder.iterdir())][::-1]
    first = slices[0]
    pixels = b"".join(slice_.PixelData for slice_ in slices)
    shared = _item(
        PlaneOrientationSequence=[_item(ImageOrientationPatient=first.ImageOrientationPatient)],
        PixelMeasuresSequence=[
            _item(PixelSpacing=first.PixelSpacing, SliceThickness=first.SliceThickness)
        ],
    )
    transformation = _item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")
    first.PerFrameFunctionalGroupsSequence = [
        _item(
            PlanePositionSequence=[_item(ImagePositionPatient=slice_.ImagePositionPatient)],
            PixelValueTransformationSequence=[transformation],
        )
        for slice_ in slices
    ]
    first.SharedFunctionalGroupsSequence = [shared]
    first.SOPClassUID = first.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    first.NumberOfFrames = len(slices)
    first.PixelData = pixels
    for keyword in ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing"):
        delattr(first, keyword)
    first.save_as(path)
    return path


def test_frames_of_an_enhanced_object_are_placed_too(
    series_folder: Path, make_reading: MakeReading, tmp_path: Path
):
    """The SEG refers to the one object and lies on its frames, in whatever order they are."""
    path = _as_enhanced(series_folder, tmp_path / "enhanced.dcm")
    reading = make_reading(build_volume(read_series(path)))
    segmentation = _round_trip(build_segmentation(reading))
    np.testing.assert_array_equal(_masks(segmentation, reading), _expected(reading))
    references = segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert [r.ReferencedSOPInstanceUID for r in references] == [dcmread(path).SOPInstanceUID]


def test_a_lossy_source_is_flagged(reading: CaseReading):
    """Where the series lost information, the SEG says so even if the header does not."""
    series = replace(reading.volume.series, lossy="JPEG-LS, ratio not stated")
    lossy = replace(reading, volume=replace(reading.volume, series=series))
    segmentation = _round_trip(build_segmentation(lossy))
    assert segmentation.LossyImageCompression == "01"
    assert segmentation.LossyImageCompressionRatio == 1.0  # these pixels are in fact native
    plain = build_segmentation(reading)
    assert plain is not None
    assert plain.LossyImageCompression == "00"


def test_a_doubtful_name_is_written_without_a_warning_that_quotes_it(
    make_ct_series: MakeCTSeries,
    make_reading: MakeReading,
    tmp_path: Path,
    recwarn: pytest.WarningsRecorder,
):
    """A name without components is the source's business; it stays out of warnings and logs."""
    folder = make_ct_series(
        tmp_path / "named", np.full((4, 16, 16), -800), header={"PatientName": "SECRETNAME"}
    )
    reading = make_reading(build_volume(read_series(folder)), [((2, 8, 8), 2.0)])
    segmentation = build_segmentation(reading)
    assert segmentation is not None
    assert segmentation.PatientName == "SECRETNAME"
    assert not [w for w in recwarn.list if "SECRETNAME" in str(w.message)]


def test_a_nodule_above_3_cm_is_a_mass(volume: CTVolume, make_reading: MakeReading):
    """Fleischner glossary; outside the chest nothing is called a nodule."""
    reading = make_reading(volume)
    lesion = reading.lesions[0]
    large = replace(lesion, measurements=replace(lesion.measurements, long_axis_mm=30.1))
    assert finding_type(lesion, reading) == codes.NODULE
    assert finding_type(large, reading) == codes.MASS
    head = make_reading(volume, region="head", scored=False)
    assert finding_type(large, head) == codes.LESION
    assert finding_site(head) == codes.REGIONS["head"]
    assert finding_site(make_reading(volume, region="unknown", scored=False)) is None
