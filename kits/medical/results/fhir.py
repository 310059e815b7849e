"""Writes a reading as a FHIR R4 DiagnosticReport, and checks such a resource.

Everything that the report refers to is contained in it: one ImagingStudy, one Device (this
software and its models), one Observation for each lesion and one for the series. The patient
is a logical reference by PatientID, as DICOM has it; no name, birth date or sex is written.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from pydicom import Dataset

from kits.medical.fusion import CaseReading, LesionReading
from kits.medical.results import codes
from kits.medical.results.segmentation import finding_site, finding_type
from kits.medical.results.source import (
    MANUFACTURER,
    MODEL_NAME,
    notices,
    result_uid,
    software_version,
    source_header,
)

__all__ = ["build_diagnostic_report"]

Json = dict[str, Any]

_SERVICE_SECTION = "http://terminology.hl7.org/CodeSystem/v2-0074"
_OBSERVATION_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
_DIAGNOSTIC_IMAGING = codes.Concept("18748-4", "LN", "Diagnostic imaging study", "LOINC")
_LENGTH = ("mm", 2)
_VOLUME = ("mL", 4)
_DENSITY = ("[hnsf'U]", 1)
_PROBABILITY = ("1", 4)
_LESIONS = ("{lesions}", 0)
_STUDY_ID, _DEVICE_ID, _SERIES_ID = "study", "device", "series"


def build_diagnostic_report(reading: CaseReading) -> Json:
    """Returns the reading as a FHIR R4 DiagnosticReport, JSON values only.

    The status is preliminary: nobody has verified it. `effectiveDateTime` is the study's
    date, with its time only where the source gives an offset from UTC, as FHIR asks; it is
    absent where the source has no date. Equal readings give equal resources.

    Args:
        reading: The reading to write.
    """
    header = source_header(reading.volume.series.slices[0])
    observations = [_series_observation(reading, header)]
    observations += [_lesion_observation(lesion, reading, header) for lesion in reading.lesions]
    report: Json = {
        "resourceType": "DiagnosticReport",
        "identifier": [_identifier("SR instance", reading)],
        "contained": [_imaging_study(reading, header), _device(reading), *observations],
        "status": "preliminary",
        "category": [
            {
                "coding": [
                    {"system": _SERVICE_SECTION, "code": "RAD", "display": "Radiology"},
                    {"system": _SERVICE_SECTION, "code": "CT", "display": "CAT Scan"},
                ]
            }
        ],
        "code": {"coding": [_report_code(reading)]},
        "subject": _subject(header),
        **_effective(header),
        "imagingStudy": [{"reference": f"#{_STUDY_ID}"}],
        "result": [{"reference": f"#{observation['id']}"} for observation in observations],
        "conclusion": " ".join(
            text for text in (reading.conclusion, reading.disagreement, *notices(reading)) if text
        ),
    }
    return report


def _report_code(reading: CaseReading) -> dict[str, str]:
    concept = codes.PROCEDURES.get(reading.region.name, _DIAGNOSTIC_IMAGING)
    return concept.coding


def _identifier(kind: str, reading: CaseReading) -> Json:
    return {"system": "urn:dicom:uid", "value": f"urn:oid:{result_uid(kind, reading)}"}


def _subject(header: Dataset) -> Json:
    """Returns a logical reference by PatientID, or words where the source has none."""
    if not header.PatientID:
        return {"type": "Patient", "display": "Not identified in the source images"}
    identifier: Json = {
        "type": {
            "coding": [
                {
                    "system": "http://terminology.hl7.org/CodeSystem/v2-0203",
                    "code": "MR",
                    "display": "Medical record number",
                }
            ]
        },
        "value": str(header.PatientID),
    }
    if header.get("IssuerOfPatientID"):
        identifier["assigner"] = {"display": str(header.IssuerOfPatientID)}
    return {"type": "Patient", "identifier": identifier}


def _study_moment(header: Dataset) -> str | None:
    """Returns StudyDate and StudyTime as a FHIR dateTime, as exact as the source allows."""
    if not header.StudyDate:
        return None
    date = dt.date.fromisoformat(str(header.StudyDate)[:8])
    offset = str(header.get("TimezoneOffsetFromUTC") or "")
    digits = str(header.StudyTime)[:6]
    if len(offset) != 5 or not offset[1:].isdigit() or len(digits) != 6:
        return date.isoformat()
    time = f"{digits[:2]}:{digits[2:4]}:{digits[4:]}"
    return f"{date.isoformat()}T{time}{offset[:3]}:{offset[3:]}"


def _effective(header: Dataset) -> Json:
    moment = _study_moment(header)
    return {} if moment is None else {"effectiveDateTime": moment}


def _imaging_study(reading: CaseReading, header: Dataset) -> Json:
    series = reading.volume.series
    moment = _study_moment(header)
    study: Json = {
        "resourceType": "ImagingStudy",
        "id": _STUDY_ID,
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{series.StudyInstanceUID}"}],
        "status": "available",
        "subject": _subject(header),
        "numberOfSeries": 1,
        "numberOfInstances": len(series.instances),
        "series": [
            {
                "uid": str(series.SeriesInstanceUID),
                "modality": {"system": codes.FHIR_SYSTEMS["DCM"], "code": "CT"},
                "numberOfInstances": len(series.instances),
                "instance": [_instance(instance) for instance in series.instances],
            }
        ],
    }
    if moment is not None:
        study["started"] = moment
    return study


def _instance(instance: Dataset) -> Json:
    return {
        "uid": str(instance.SOPInstanceUID),
        "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{instance.SOPClassUID}"},
    }


def _device(reading: CaseReading) -> Json:
    versions: list[Json] = [{"value": software_version()}]
    versions += [
        {
            "type": {"text": f"weights of {provenance.model}"},
            "value": f"sha256:{provenance.model_digest}",
        }
        for provenance in reading.provenance
    ]
    return {
        "resourceType": "Device",
        "id": _DEVICE_ID,
        "manufacturer": MANUFACTURER,
        "deviceName": [{"name": MODEL_NAME, "type": "model-name"}],
        "version": versions,
        "note": [{"text": reading.limitations[0]}],
    }


def _observation(identifier: str, code: codes.Concept, header: Dataset) -> Json:
    return {
        "resourceType": "Observation",
        "id": identifier,
        "status": "preliminary",
        "category": [
            {"coding": [{"system": _OBSERVATION_CATEGORY, "code": "imaging", "display": "Imaging"}]}
        ],
        "code": {"coding": [code.coding]},
        "subject": _subject(header),
        **_effective(header),
        "device": {"reference": f"#{_DEVICE_ID}"},
        "derivedFrom": [{"reference": f"#{_STUDY_ID}"}],
    }


def _series_observation(reading: CaseReading, header: Dataset) -> Json:
    """Returns what was measured over the whole series, or why nothing was."""
    observation = _observation(_SERIES_ID, _DIAGNOSTIC_IMAGING, header)
    region = codes.REGIONS.get(reading.region.name)
    if region is not None:
        observation["bodySite"] = {"coding": [region.coding]}
    observation["note"] = [{"text": f"Body region: {reading.region.reason}"}]
    if reading.region.lungs is not None:
        observation["component"] = [
            _component(codes.NUMBER_OF_LESIONS, len(reading.lesions), _LESIONS),
            _component(codes.VOLUME, reading.region.lung_volume_ml, _VOLUME, text="Lung volume"),
        ]
    else:
        observation["dataAbsentReason"] = {
            "coding": [
                {
                    "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason",
                    "code": "not-performed",
                    "display": "Not Performed",
                }
            ]
        }
    return observation


def _lesion_observation(lesion: LesionReading, reading: CaseReading, header: Dataset) -> Json:
    sizes = lesion.measurements
    observation = _observation(lesion.identifier, finding_type(lesion, reading), header)
    observation["code"]["text"] = f"{finding_type(lesion, reading).meaning} candidate"
    observation["identifier"] = [
        {"system": "urn:dicom:uid", "value": f"urn:oid:{lesion.tracking_uid}"}
    ]
    site = finding_site(reading)
    if site is not None:
        side = codes.LATERALITIES.get(lesion.laterality or "")
        words = [side.meaning] if side is not None else []
        observation["bodySite"] = {
            "coding": [site.coding],
            "text": " ".join([*words, site.meaning]).capitalize(),
        }
    components = [
        _component(codes.LONG_AXIS, sizes.long_axis_mm, _LENGTH),
        _component(codes.SHORT_AXIS, sizes.short_axis_mm, _LENGTH),
        _component(codes.VOLUME, sizes.volume_ml, _VOLUME),
        _component(codes.ATTENUATION, sizes.mean_hu, _DENSITY, text="Mean attenuation"),
        _component(codes.ATTENUATION, sizes.maximum_hu, _DENSITY, text="Maximum attenuation"),
    ]
    if lesion.probability is not None:
        components.append(_component(codes.LESION_PROBABILITY, lesion.probability, _PROBABILITY))
    components.append(
        {
            "code": {"coding": [codes.REPORT_SUPPORT.coding]},
            "valueCodeableConcept": {
                "coding": [codes.SUPPORT_VALUES[lesion.report_support].coding]
            },
        }
    )
    observation["component"] = components
    return observation


def _component(
    name: codes.Concept, value: float, unit: tuple[str, int], *, text: str | None = None
) -> Json:
    code, decimals = unit
    return {
        "code": {"coding": [name.coding], "text": text or name.meaning},
        "valueQuantity": {
            "value": round(float(value), decimals),
            "unit": {"[hnsf'U]": "HU", "{lesions}": "lesions", "1": "1"}.get(code, code),
            "system": codes.FHIR_SYSTEMS["UCUM"],
            "code": code,
        },
    }
