"""A written SR, read back, says what the reading says, and refers to what it was made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom.sr import Comprehensive3DSR, srread
from pydicom import Dataset
from pydicom.uid import SegmentationStorage

from kits.medical.fusion import CaseReading
from kits.medical.intake.series import read_series
from kits.medical.intake.volume import CTVolume, build_volume
from kits.medical.results import codes
from kits.medical.results.segmentation import build_segmentation
from kits.medical.results.structured_report import build_structured_report

MakeReading = Callable[..., CaseReading]
MakeCTSeries = Callable[..., Path]


def _build(reading: CaseReading) -> Dataset:
    return build_structured_report(reading, build_segmentation(reading))


def _round_trip(reading: CaseReading) -> Comprehensive3DSR:
    buffer = BytesIO()
    _build(reading).save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return srread(buffer)


@pytest.fixture(scope="module")
def report(reading: CaseReading) -> Comprehensive3DSR:
    """The report of two scored lesions, written and read back."""
    return _round_trip(reading)


def _texts(report: Comprehensive3DSR) -> list[tuple[str, str]]:
    """(meaning, text) of the items of the Qualitative Evaluations container."""
    container = report.ContentSequence[-1]
    assert container.ConceptNameCodeSequence[0].CodeValue == "C0034375"
    return [
        (item.ConceptNameCodeSequence[0].CodeMeaning, item.TextValue)
        for item in container.ContentSequence
        if item.ValueType == "TEXT"
    ]


def _value(group: Any, concept: codes.Concept, derivation: codes.Concept | None = None) -> float:
    found = [
        m
        for m in group.get_measurements(concept.code)
        if derivation is None or m.derivation == derivation.code
    ]
    assert len(found) == 1
    return float(found[0].value)


def test_a_lesions_measurements_come_back(reading: CaseReading, report: Comprehensive3DSR):
    """To the decimals that are written, with UCUM units."""
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert len(groups) == len(reading.lesions)
    for group, lesion in zip(groups, reading.lesions, strict=True):
        sizes = lesion.measurements
        assert _value(group, codes.LONG_AXIS) == round(sizes.long_axis_mm, 2)
        assert _value(group, codes.SHORT_AXIS) == round(sizes.short_axis_mm, 2)
        assert _value(group, codes.VOLUME) == round(sizes.volume_ml, 4)
        assert _value(group, codes.ATTENUATION, codes.MEAN) == round(sizes.mean_hu, 1)
        assert _value(group, codes.ATTENUATION, codes.MAXIMUM) == round(sizes.maximum_hu, 1)
        assert _value(group, codes.LESION_PROBABILITY) == round(lesion.probability or -1, 4)
        units = {m.unit.value for m in group.get_measurements()}
        assert units == {"mm", "cm3", "[hnsf'U]", "1"}


def test_a_lesion_is_identified_and_coded(reading: CaseReading, report: Comprehensive3DSR):
    """Tracking, category, type, site, and what the text report says of it."""
    groups = report.content.get_volumetric_roi_measurement_groups()
    for group, lesion in zip(groups, reading.lesions, strict=True):
        assert group.tracking_identifier == lesion.identifier
        assert group.tracking_uid == lesion.tracking_uid
        assert group.finding_category == codes.MORPHOLOGICALLY_ABNORMAL.code
        assert group.finding_type == codes.NODULE.code
        assert [site.value for site in group.finding_sites] == [codes.LUNG.code]
        sides = [site.laterality for site in group.finding_sites]
        expected = codes.LATERALITIES[lesion.laterality].code if lesion.laterality else None
        assert sides == [expected]
        support = group.get_qualitative_evaluations(codes.REPORT_SUPPORT.code)
        assert [s.value for s in support] == [codes.SUPPORT_VALUES[lesion.report_support].code]


def test_the_probability_names_its_network(reading: CaseReading, report: Comprehensive3DSR):
    """The measurement carries the algorithm that made it, not the one that found the lesion."""
    group = report.content.get_volumetric_roi_measurement_groups()[0]
    probability = group.get_measurements(codes.LESION_PROBABILITY.code)[0]
    names = {
        item.ConceptNameCodeSequence[0].CodeMeaning: item.TextValue
        for item in probability[0].ContentSequence
        if item.ValueType == "TEXT"
    }
    assert names["Algorithm Name"] == reading.provenance[0].model
    assert names["Algorithm Version"] == "ab" * 8


def test_each_lesion_refers_to_its_segment(reading: CaseReading, report: Comprehensive3DSR):
    """Lesion n lies in segment n, and the SEG and every slice are listed as evidence."""
    segmentation = build_segmentation(reading)
    assert segmentation is not None
    for number, group in enumerate(report.content.get_volumetric_roi_measurement_groups(), 1):
        segment = group.referenced_segment
        assert segment.referenced_sop_instance_uid == segmentation.SOPInstanceUID
        assert list(segment.referenced_segment_numbers) == [number]
    evidence = {(uid, sop_class) for _, _, uid, sop_class in report.get_evidence()}
    slices = reading.volume.series.slices
    assert (segmentation.SOPInstanceUID, SegmentationStorage) in evidence
    assert {(s.SOPInstanceUID, s.SOPClassUID) for s in slices} < evidence


def test_a_single_lesion_refers_to_its_segment_too(volume: CTVolume, make_reading: MakeReading):
    """With one segment highdicom keeps its number in the groups that all frames share."""
    reading = make_reading(volume, [((5, 24, 18), 6.0)])
    group = _round_trip(reading).content.get_volumetric_roi_measurement_groups()[0]
    segment = group.referenced_segment
    assert list(segment.referenced_segment_numbers) == [1]
    planes = reading.lesions[0].candidate.full_mask(volume.hounsfield.shape).any(axis=(1, 2))
    sources = {
        image.referenced_sop_instance_uid for image in segment.source_images_for_segmentation
    }
    expected = {volume.series.slices[d].SOPInstanceUID for d in np.flatnonzero(planes)}
    assert sources == expected


def test_the_series_is_measured_as_a_whole(reading: CaseReading, report: Comprehensive3DSR):
    """How many lesions, and the volume of the lungs."""
    group = report.content.get_image_measurement_groups()[0]
    assert group.tracking_identifier == "Series"
    assert _value(group, codes.NUMBER_OF_LESIONS) == 2
    assert _value(group, codes.VOLUME) == reading.region.lung_volume_ml


def test_the_report_is_preliminary_and_states_its_limits(
    reading: CaseReading, report: Comprehensive3DSR
):
    """Nobody verified it; conclusion, disagreement and every limitation are in the text."""
    flags = (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag)
    assert flags == ("COMPLETE", "UNVERIFIED", "PRELIMINARY")
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert _texts(report) == [
        ("Conclusion", "2 lesions were found."),
        ("Comment", "The report mentions fewer nodules."),
        ("Comment", "Research use only; not a medical device."),
        ("Comment", "Tested on solid nodules only."),
    ]


def test_a_volume_note_is_in_the_text(reading: CaseReading):
    """Loss and resampling reach the report through the volume's notes."""
    note = "Pixels were compressed with loss (ISO_10918_1, ratio 12.0)."
    noted = replace(reading, volume=replace(reading.volume, notes=(note,)))
    assert ("Comment", note) in _texts(_round_trip(noted))


def test_without_lesions_the_report_still_counts(volume: CTVolume, make_reading: MakeReading):
    """None found in a chest: a COMPLETE report with the number 0 and no reference to a SEG."""
    report = _round_trip(make_reading(volume, []))
    assert report.CompletionFlag == "COMPLETE"
    assert report.content.get_volumetric_roi_measurement_groups() == []
    group = report.content.get_image_measurement_groups()[0]
    assert _value(group, codes.NUMBER_OF_LESIONS) == 0


def test_a_region_without_a_lesion_model_is_described(volume: CTVolume, make_reading: MakeReading):
    """A head: PARTIAL, no lesion measured, the region named."""
    report = _round_trip(make_reading(volume, [], region="head", scored=False))
    assert report.CompletionFlag == "PARTIAL"
    group = report.content.get_image_measurement_groups()[0]
    assert group.get_measurements() == []
    assert [site.value for site in group.finding_sites] == [codes.REGIONS["head"].code]
    region = report.ContentSequence[-1].ContentSequence[0]
    assert region.ConceptCodeSequence[0].CodeValue == codes.REGIONS["head"].value


def test_a_lesion_that_no_model_scored_has_no_probability(
    volume: CTVolume, make_reading: MakeReading
):
    """No number stands where no model answered."""
    reading = make_reading(volume, region="unknown", scored=False)
    group = _round_trip(reading).content.get_volumetric_roi_measurement_groups()[0]
    assert group.get_measurements(codes.LESION_PROBABILITY.code) == []
    assert group.finding_type == codes.LESION.code


def test_slices_without_thickness_stay_out_of_the_image_library(
    make_ct_series: MakeCTSeries, make_reading: MakeReading, tmp_path: Path
):
    """TID 1604 wants the thickness; without it the slices are evidence only."""
    folder = make_ct_series(
        tmp_path / "thin", np.full((4, 16, 16), -800), header={"SliceThickness": ""}
    )
    reading = make_reading(build_volume(read_series(folder)), [((2, 8, 8), 2.0)])
    report = _round_trip(reading)
    assert len(report.get_evidence()) == 5
    names = [i.ConceptNameCodeSequence[0].CodeMeaning for i in report.ContentSequence]
    assert "Image Library" not in names


@pytest.mark.parametrize("scored", [True, False])
def test_equal_readings_give_equal_bytes(volume: CTVolume, make_reading: MakeReading, scored: bool):
    """Nothing in the file depends on the moment of writing."""
    written = []
    for _ in range(2):
        buffer = BytesIO()
        _build(make_reading(volume, scored=scored)).save_as(buffer, enforce_file_format=True)
        written.append(buffer.getvalue())
    assert written[0] == written[1]
