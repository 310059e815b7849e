"""Checks a FHIR R4 DiagnosticReport further than its schema does: value sets, units, references.

`fhir.resources` checks types and cardinality, and takes any word for a status. What is checked
here comes from HL7 FHIR 4.0.1: the required value sets of the three resources, the categories,
UCUM units, the form of a dateTime (section 2.24.0.1), and the rules of contained resources
(dom-2 to dom-5, section 2.27).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from common.errors import DocumentError
from kits.medical.results.codes import FHIR_SYSTEMS

__all__ = ["check_diagnostic_report"]

_STATUSES = {
    # http://hl7.org/fhir/ValueSet/diagnostic-report-status
    "DiagnosticReport": "registered partial preliminary final amended corrected appended "
    "cancelled entered-in-error unknown",
    # http://hl7.org/fhir/ValueSet/observation-status
    "Observation": "registered preliminary final amended corrected cancelled entered-in-error "
    "unknown",
    # http://hl7.org/fhir/ValueSet/imagingstudy-status
    "ImagingStudy": "registered available cancelled entered-in-error unknown",
}
# Of http://hl7.org/fhir/ValueSet/diagnostic-service-sections and .../observation-category the
# members that a CT reading can have.
_CATEGORIES = {
    "DiagnosticReport": ("http://terminology.hl7.org/CodeSystem/v2-0074", ("RAD", "CT")),
    "Observation": (
        "http://terminology.hl7.org/CodeSystem/observation-category",
        ("imaging",),
    ),
}
_UNITS = ("mm", "cm", "mm3", "cm3", "mL", "[hnsf'U]", "1", "%", "{lesions}")
_TARGETS = {
    "result": "Observation",
    "imagingStudy": "ImagingStudy",
    "device": "Device",
    "derivedFrom": "ImagingStudy",
}
_DATE_TIME = re.compile(r"\d{4}(-\d{2}(-\d{2}(T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2}))?)?)?")

Json = Mapping[str, Any]


def check_diagnostic_report(resource: Json) -> None:
    """Raises one error with every fault of `resource`, or returns.

    Args:
        resource: A DiagnosticReport as JSON values.

    Raises:
        DocumentError: A status, category, unit, code system, dateTime or reference is wrong;
            the message names the places, never their contents beyond the coded word.
    """
    faults = list(_faults(resource))
    if faults:
        raise DocumentError(
            "FHIR DiagnosticReport",
            expected="R4 value sets, and references that resolve",
            found="; ".join(faults),
            remedy="Correct these elements before the resource is sent.",
        )


def _faults(resource: Json) -> Iterator[str]:
    kind = resource.get("resourceType")
    if kind != "DiagnosticReport":
        yield f"resourceType {kind!r}"
        return
    contained = resource.get("contained", [])
    for part in (resource, *contained):
        yield from _status_faults(part)
        yield from _category_faults(part)
    if not _codings(resource.get("code", {})):
        yield "DiagnosticReport.code without a coding"
    for path, value in _walk(resource, "DiagnosticReport"):
        yield from _value_faults(path, value)
    yield from _contained_faults(contained)
    yield from _reference_faults(resource, contained)


def _name(part: Json) -> str:
    return f"{part.get('resourceType')}#{part['id']}" if "id" in part else "DiagnosticReport"


def _status_faults(part: Json) -> Iterator[str]:
    allowed = _STATUSES.get(str(part.get("resourceType")))
    if allowed is not None and part.get("status") not in allowed.split():
        yield f"{_name(part)}.status {part.get('status')!r}"


def _category_faults(part: Json) -> Iterator[str]:
    if part.get("resourceType") not in _CATEGORIES:
        return
    system, allowed = _CATEGORIES[str(part["resourceType"])]
    found = [coding for category in part.get("category", []) for coding in _codings(category)]
    if not found:
        yield f"{_name(part)}.category without a coding"
    for coding in found:
        if coding.get("system") != system or coding.get("code") not in allowed:
            yield f"{_name(part)}.category {coding.get('code')!r}"


def _codings(concept: Json) -> list[Json]:
    codings: list[Json] = concept.get("coding", [])
    return codings


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, value
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _walk(child, f"{path}.{key}")
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _walk(child, f"{path}[{index}]")


def _value_faults(path: str, value: Any) -> Iterator[str]:
    leaf = path.rsplit(".", 1)[-1]
    if leaf == "valueQuantity":
        unit = (value.get("system"), value.get("code"))
        if unit[0] != FHIR_SYSTEMS["UCUM"] or unit[1] not in _UNITS:
            yield f"{path} in unit {unit[1]!r}"
        if not isinstance(value.get("value"), int | float):
            yield f"{path} without a number"
    elif leaf.startswith("coding["):
        system = str(value.get("system", ""))
        known = system in FHIR_SYSTEMS.values() or system.startswith(
            "http://terminology.hl7.org/CodeSystem/"
        )
        if not known or not value.get("code"):
            yield f"{path} of system {system!r}"
    elif leaf in ("effectiveDateTime", "started") and not _DATE_TIME.fullmatch(str(value)):
        yield f"{path} is no FHIR dateTime"


def _contained_faults(contained: list[Json]) -> Iterator[str]:
    identifiers = [part.get("id") for part in contained]
    for identifier in sorted({str(i) for i in identifiers if identifiers.count(i) > 1}):
        yield f"contained id {identifier!r} twice"
    for part in contained:
        if not part.get("id"):
            yield "a contained resource without id"
        if "contained" in part:
            yield f"{_name(part)} contains resources itself (dom-2)"
        if {"versionId", "lastUpdated", "security"} & set(part.get("meta", {})):
            yield f"{_name(part)}.meta (dom-4, dom-5)"


def _reference_faults(resource: Json, contained: list[Json]) -> Iterator[str]:
    kinds = {str(part.get("id")): part.get("resourceType") for part in contained}
    referenced = set()
    for path, value in _walk(resource, "DiagnosticReport"):
        if not isinstance(value, Mapping) or not isinstance(value.get("reference"), str):
            continue
        target = value["reference"].removeprefix("#")
        if not value["reference"].startswith("#"):
            continue
        referenced.add(target)
        element = re.sub(r"\[\d+\]$", "", path.rsplit(".", 1)[-1])
        if target not in kinds:
            yield f"{path} refers to #{target}, which is not contained"
        elif kinds[target] != _TARGETS.get(element, kinds[target]):
            yield f"{path} refers to a {kinds[target]}"
    for identifier in sorted(set(kinds) - referenced):
        yield f"contained #{identifier} is not referred to (dom-3)"
