"""The FHIR resource validates as R4B, says what the reading says, and holds no name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fhir.resources.R4B.diagnosticreport import DiagnosticReport

from kits.medical.fusion import CaseReading
from kits.medical.intake.series import read_series
from kits.medical.intake.volume import CTVolume, build_volume
from kits.medical.results import codes
from kits.medical.results.fhir import build_diagnostic_report
from kits.medical.results.fhir_checks import check_diagnostic_report
from kits.medical.results.segmentation import build_segmentation
from kits.medical.results.structured_report import build_structured_report

MakeReading = Callable[..., CaseReading]
MakeCTSeries = Callable[..., Path]


@pytest.fixture(scope="module")
def resource(reading: CaseReading) -> dict[str, Any]:
    return build_diagnostic_report(reading)


def _part(resource: dict[str, Any], identifier: str) -> dict[str, Any]:
    return next(part for part in resource["contained"] if part["id"] == identifier)


@pytest.mark.parametrize("region", ["chest", "head", "abdomen", "phantom", "unknown"])
@pytest.mark.parametrize("n_lesions", [0, 2])
def test_it_validates_as_r4b_and_by_our_own_check(
    volume: CTVolume, make_reading: MakeReading, region: str, n_lesions: int
):
    """fhir.resources takes it, gives it back unchanged, and the value sets hold."""
    balls = [((5, 24, 18), 6.0), ((8, 40, 44), 3.5)][:n_lesions]
    reading = make_reading(volume, balls, region=region, scored=region == "chest")
    resource = build_diagnostic_report(reading)
    check_diagnostic_report(resource)
    text = json.dumps(resource)
    back = json.loads(DiagnosticReport.model_validate_json(text).model_dump_json())
    assert back == json.loads(text)


def test_a_lesion_is_an_observation_with_components(reading: CaseReading, resource: dict[str, Any]):
    """Sizes in mm, volume in mL, density in HU, probability, and the report's support."""
    lesion, sizes = reading.lesions[0], reading.lesions[0].measurements
    observation = _part(resource, "L1")
    values = {
        component["code"]["text"]: (
            component["valueQuantity"]["value"],
            component["valueQuantity"]["code"],
        )
        for component in observation["component"]
        if "valueQuantity" in component
    }
    assert values == {
        "Long axis": (round(sizes.long_axis_mm, 2), "mm"),
        "Short axis": (round(sizes.short_axis_mm, 2), "mm"),
        "Volume": (round(sizes.volume_ml, 4), "mL"),
        "Mean attenuation": (round(sizes.mean_hu, 1), "[hnsf'U]"),
        "Maximum attenuation": (round(sizes.maximum_hu, 1), "[hnsf'U]"),
        codes.LESION_PROBABILITY.meaning: (round(lesion.probability or -1, 4), "1"),
    }
    support = observation["component"][-1]["valueCodeableConcept"]["coding"][0]
    assert support["code"] == codes.SUPPORT_VALUES["present"].value
    assert observation["code"]["text"] == "Nodule candidate"
    assert observation["bodySite"]["text"] == "Right lung"
    assert observation["identifier"][0]["value"] == f"urn:oid:{lesion.tracking_uid}"


def test_it_refers_to_the_study_and_to_its_results(reading: CaseReading, resource: dict[str, Any]):
    """One ImagingStudy with every slice; each observation is a result."""
    study = _part(resource, "study")
    series = reading.volume.series
    assert study["identifier"][0]["value"] == f"urn:oid:{series.StudyInstanceUID}"
    instances = {instance["uid"] for instance in study["series"][0]["instance"]}
    assert instances == {slice_.SOPInstanceUID for slice_ in series.slices}
    results = [result["reference"] for result in resource["result"]]
    assert results == ["#series", "#L1", "#L2"]


def test_its_identifier_is_the_structured_reports(reading: CaseReading, resource: dict[str, Any]):
    """Both files are one result: the FHIR report names the SR's SOP instance."""
    report = build_structured_report(reading, build_segmentation(reading))
    assert resource["identifier"][0]["value"] == f"urn:oid:{report.SOPInstanceUID}"


def test_the_conclusion_carries_every_limitation(reading: CaseReading, resource: dict[str, Any]):
    """A reader of the conclusion alone is warned."""
    for sentence in (reading.conclusion, reading.disagreement, *reading.limitations):
        assert sentence in resource["conclusion"]


def test_the_patient_is_an_identifier_and_no_name(resource: dict[str, Any]):
    """A logical reference by PatientID; name, birth date and sex are nowhere."""
    assert resource["subject"]["identifier"]["value"] == "SECRET-4711"
    text = json.dumps(resource)
    assert "Doe" not in text
    assert "1970" not in text
    assert "gender" not in text


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({}, "2024-01-02"),
        ({"TimezoneOffsetFromUTC": "+0130"}, "2024-01-02T03:04:05+01:30"),
        ({"StudyDate": ""}, None),
    ],
)
def test_the_time_is_as_exact_as_the_source(
    make_ct_series: MakeCTSeries,
    make_reading: MakeReading,
    tmp_path: Path,
    header: dict[str, str],
    expected: str | None,
):
    """FHIR wants an offset with a time; DICOM often has none, and then the date stands alone."""
    folder = make_ct_series(tmp_path / "dated", np.full((3, 8, 8), -800), header=header)
    reading = make_reading(build_volume(read_series(folder)), [])
    resource = build_diagnostic_report(reading)
    assert resource.get("effectiveDateTime") == expected
    assert _part(resource, "study").get("started") == expected
    check_diagnostic_report(resource)


def test_a_source_without_an_identifier_has_a_subject_in_words(
    make_ct_series: MakeCTSeries, make_reading: MakeReading, tmp_path: Path
):
    """ImagingStudy.subject is required; nothing is invented for it."""
    folder = make_ct_series(tmp_path / "x", np.full((3, 8, 8), -800), header={"PatientID": ""})
    resource = build_diagnostic_report(make_reading(build_volume(read_series(folder)), []))
    check_diagnostic_report(resource)
    assert resource["subject"] == {
        "type": "Patient",
        "display": "Not identified in the source images",
    }


def test_a_region_without_lungs_says_that_nothing_was_measured(
    volume: CTVolume, make_reading: MakeReading
):
    """Data absent, not performed; no number stands where none was measured."""
    resource = build_diagnostic_report(make_reading(volume, [], region="head", scored=False))
    series = _part(resource, "series")
    assert "component" not in series
    assert series["dataAbsentReason"]["coding"][0]["code"] == "not-performed"


def test_equal_readings_give_equal_resources(reading: CaseReading, resource: dict[str, Any]):
    """Down to the order of the keys; a different conclusion shows."""
    assert json.dumps(build_diagnostic_report(reading)) == json.dumps(resource)
    other = replace(reading, conclusion="Another.")
    assert build_diagnostic_report(other) != resource
