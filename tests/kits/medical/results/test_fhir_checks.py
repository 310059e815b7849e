"""The check finds what the library lets through, and names all of it at once."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from fhir.resources.R4B.diagnosticreport import DiagnosticReport

from common.errors import DocumentError
from kits.medical.fusion import CaseReading
from kits.medical.results.fhir import build_diagnostic_report
from kits.medical.results.fhir_checks import check_diagnostic_report

Json = dict[str, Any]


@pytest.fixture
def resource(reading: CaseReading) -> Json:
    return deepcopy(build_diagnostic_report(reading))


def _lesion(resource: Json) -> Json:
    return next(part for part in resource["contained"] if part["id"] == "L1")


def _quantity(resource: Json) -> Json:
    quantity: Json = _lesion(resource)["component"][0]["valueQuantity"]
    return quantity


FAULTS: dict[str, tuple[Callable[[Json], Any], str]] = {
    "status": (lambda r: r.update(status="bogus"), "DiagnosticReport.status 'bogus'"),
    "observation status": (
        lambda r: _lesion(r).update(status="appended"),
        "Observation#L1.status 'appended'",
    ),
    "study status": (lambda r: r["contained"][0].update(status="done"), "ImagingStudy#study"),
    "category": (
        lambda r: r["category"][0]["coding"][0].update(code="XX"),
        "DiagnosticReport.category 'XX'",
    ),
    "category of another system": (
        lambda r: _lesion(r)["category"][0]["coding"][0].update(system="http://loinc.org"),
        "Observation#L1.category 'imaging'",
    ),
    "no category": (lambda r: _lesion(r).pop("category"), "Observation#L1.category without"),
    "no code": (lambda r: r["code"].clear(), "DiagnosticReport.code without"),
    "unit": (lambda r: _quantity(r).update(code="MM"), "in unit 'MM'"),
    "unit of another system": (lambda r: _quantity(r).update(system="urn:x"), "in unit 'mm'"),
    "value": (lambda r: _quantity(r).update(value="12"), "without a number"),
    "code system": (
        lambda r: r["code"]["coding"][0].update(system="http://example.org"),
        "of system 'http://example.org'",
    ),
    "time without offset": (
        lambda r: r.update(effectiveDateTime="2024-01-02T03:04:05"),
        "no FHIR dateTime",
    ),
    "dangling reference": (
        lambda r: r["result"].append({"reference": "#L9"}),
        "#L9, which is not contained",
    ),
    "reference to another type": (
        lambda r: r["result"].append({"reference": "#study"}),
        "refers to a ImagingStudy",
    ),
    "unreferenced part": (lambda r: r["result"].pop(), "#L2 is not referred to"),
    "part without id": (lambda r: r["contained"][1].pop("id"), "without id"),
    "part twice": (lambda r: r["contained"].append(_lesion(r)), "contained id 'L1' twice"),
    "nested parts": (lambda r: _lesion(r).update(contained=[]), "contains resources itself"),
    "meta": (lambda r: _lesion(r).update(meta={"versionId": "1"}), "meta (dom-4"),
    "another resource": (lambda r: r.update(resourceType="Bundle"), "resourceType 'Bundle'"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named(resource: Json, name: str):
    """One fault, one place in the message."""
    check_diagnostic_report(resource)
    break_it, words = FAULTS[name]
    break_it(resource)
    with pytest.raises(DocumentError) as caught:
        check_diagnostic_report(resource)
    assert words in caught.value.found


def test_all_faults_are_named_at_once(resource: Json):
    """Two faults, two places."""
    resource["status"] = "bogus"
    _quantity(resource)["code"] = "MM"
    with pytest.raises(DocumentError) as caught:
        check_diagnostic_report(resource)
    assert len(caught.value.found.split("; ")) == 2


def test_the_library_alone_takes_a_nonsense_status(resource: Json):
    """Why this check exists (fhir.resources 8)."""
    resource["status"] = "bogus"
    assert DiagnosticReport.model_validate(resource).status == "bogus"


def test_messages_hold_no_patient_data(resource: Json):
    """A fault beside the subject does not show the subject."""
    resource["subject"]["identifier"]["type"]["coding"][0]["system"] = "urn:x"
    with pytest.raises(DocumentError) as caught:
        check_diagnostic_report(resource)
    assert "SECRET" not in str(caught.value)
