"""Writes a reading as a TID 1500 Measurement Report (DICOM PS3.16) in a Comprehensive 3D SR.

The tree, under "Imaging Measurement Report":
    language, device observer, procedure reported;
    Image Library (TID 1600) with the slices that the groups below refer to, where they state
        what it asks for (every source slice is listed as evidence);
    Imaging Measurements: one group for the series (TID 1501: how many lesions, volume of the
        lungs), then one group for each lesion (TID 1411) that refers to its segment;
    Qualitative Evaluations: target region, conclusion, and each limitation as a comment.

Lengths are in mm, volumes in cubic centimetres (= ml), densities in HU, probabilities 0 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydicom import Dataset

from kits.medical.fusion import CaseReading, LesionReading
from kits.medical.intake.identifiers import derive_uid
from kits.medical.results import codes
from kits.medical.results.segmentation import FINDER_NAME, finding_site, finding_type
from kits.medical.results.source import (
    MANUFACTURER,
    MODEL_NAME,
    lesion_model,
    nameless_header,
    notices,
    result_uid,
    software_version,
    stamp,
)

__all__ = ["build_structured_report"]

SERIES_NUMBER = 9002
SERIES_TRACKING_IDENTIFIER = "Series"
_LIBRARY_NEEDS = ("PixelSpacing", "ImageOrientationPatient", "SliceThickness", "Rows", "Columns")

# Decimals written for each quantity: finer than it can be measured, coarse enough for DS.
_DECIMALS = {codes.MILLIMETRE: 2, codes.CUBIC_CENTIMETRE: 4, codes.HOUNSFIELD: 1, codes.UNITLESS: 4}


def build_structured_report(reading: CaseReading, segmentation: Dataset | None) -> Dataset:
    """Returns the reading as a TID 1500 report, unverified and preliminary.

    It is COMPLETE where lesions were searched for and PARTIAL where no lesion model applies
    to the body region: then it holds what was measured and described. UIDs are those of
    `result_uid`, date and time the source's.

    Args:
        reading: The reading to write; its datasets are not changed.
        segmentation: What `build_segmentation` returned for the same reading.

    Returns:
        A highdicom Comprehensive3DSR, ready to be saved.
    """
    from highdicom.sr import Comprehensive3DSR, MeasurementReport

    sources = [nameless_header(instance) for instance in reading.volume.series.instances]
    groups = [_series_group(reading)]
    if segmentation is not None:
        groups += [
            _lesion_group(number, lesion, reading, segmentation)
            for number, lesion in enumerate(reading.lesions, start=1)
        ]
    content = MeasurementReport(
        observation_context=_observer(),
        procedure_reported=codes.PROCEDURES.get(
            reading.region.name, codes.PROCEDURES["unknown"]
        ).code,
        imaging_measurements=groups,
        title=codes.TITLE.code,
        referenced_images=_library(sources, groups),
    )
    content[0].ContentSequence.append(_evaluations(reading))
    report = Comprehensive3DSR(
        evidence=[*sources, *([segmentation] if segmentation is not None else [])],
        content=content,
        series_instance_uid=result_uid("SR series", reading),
        series_number=SERIES_NUMBER,
        sop_instance_uid=result_uid("SR instance", reading),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=software_version(),
        is_complete=reading.region.lungs is not None,
        is_final=False,
        is_verified=False,
        series_description="Tandem reading (research use only)",
        coding_schemes=[_private_scheme()],
    )
    stamp(report, reading.volume.series)
    return report


def _observer() -> Any:
    from highdicom.sr import (
        DeviceObserverIdentifyingAttributes,
        ObservationContext,
        ObserverContext,
    )
    from pydicom.sr.codedict import codes as standard

    device = DeviceObserverIdentifyingAttributes(
        uid=derive_uid("device", MODEL_NAME, software_version()),
        name=MODEL_NAME,
        manufacturer_name=MANUFACTURER,
        model_name=f"{MODEL_NAME} {software_version()}",
    )
    return ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=standard.DCM.Device, observer_identifying_attributes=device
        )
    )


def _library(sources: Sequence[Dataset], groups: Sequence[Any]) -> list[Dataset] | None:
    """Returns the sources that `groups` refer to, or None where TID 1602 and 1604 want more."""
    referenced = {
        reference.ReferencedSOPInstanceUID
        for group in groups
        for item in group[0].ContentSequence
        for reference in item.get("ReferencedSOPSequence", ())
    }
    used = [source for source in sources if source.SOPInstanceUID in referenced]
    complete = all(source.get(keyword) for source in used for keyword in _LIBRARY_NEEDS)
    return used if complete else None


def _series_group(reading: CaseReading) -> Any:
    from highdicom.sr import (
        FindingSite,
        MeasurementsAndQualitativeEvaluations,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
    )

    region = codes.REGIONS.get(reading.region.name)
    measurements = []
    if reading.region.lungs is not None:
        measurements = [
            _measurement(codes.NUMBER_OF_LESIONS, len(reading.lesions), codes.COUNT),
            _measurement(
                codes.VOLUME,
                reading.region.lung_volume_ml,
                codes.CUBIC_CENTIMETRE,
                finding_sites=[FindingSite(codes.LUNG.code)],
            ),
        ]
    middle = reading.volume.source_slice(reading.volume.hounsfield.shape[0] // 2)
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=result_uid("series tracking", reading),
            identifier=SERIES_TRACKING_IDENTIFIER,
        ),
        finding_sites=None if region is None else [FindingSite(region.code)],
        measurements=measurements or None,
        source_images=[
            SourceImageForMeasurementGroup(
                referenced_sop_class_uid=middle.SOPClassUID,
                referenced_sop_instance_uid=middle.SOPInstanceUID,
            )
        ],
    )


def _lesion_group(
    number: int, lesion: LesionReading, reading: CaseReading, segmentation: Dataset
) -> Any:
    from highdicom.sr import (
        AlgorithmIdentification,
        QualitativeEvaluation,
        TrackingIdentifier,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )

    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=lesion.tracking_uid, identifier=lesion.identifier
        ),
        referenced_segment=_referenced_segment(number, lesion, reading, segmentation),
        finding_category=codes.MORPHOLOGICALLY_ABNORMAL.code,
        finding_type=finding_type(lesion, reading).code,
        finding_sites=_finding_sites(lesion, reading),
        algorithm_id=AlgorithmIdentification(
            name=FINDER_NAME, version=software_version(), manufacturer=MANUFACTURER
        ),
        measurements=_lesion_measurements(lesion, reading),
        qualitative_evaluations=[
            QualitativeEvaluation(
                name=codes.REPORT_SUPPORT.code,
                value=codes.SUPPORT_VALUES[lesion.report_support].code,
            )
        ],
    )


def _finding_sites(lesion: LesionReading, reading: CaseReading) -> list[Any] | None:
    from highdicom.sr import FindingSite

    site = finding_site(reading)
    if site is None:
        return None
    side = codes.LATERALITIES.get(lesion.laterality or "")
    return [FindingSite(site.code, laterality=None if side is None else side.code)]


def _referenced_segment(
    number: int, lesion: LesionReading, reading: CaseReading, segmentation: Dataset
) -> Any:
    """Returns the reference to a lesion's segment and to the source slices that it lies on.

    `ReferencedSegment.from_segmentation` of highdicom 0.28 cannot do it: it looks for the
    segment's number in each frame, and where there is one segment all frames share it.
    """
    from highdicom.sr import ReferencedSegment, SourceImageForSegmentation

    planes = np.flatnonzero(lesion.candidate.mask.any(axis=(1, 2))) + lesion.candidate.start[0]
    sources = [reading.volume.source_slice(int(d)) for d in planes]
    classes = {source.SOPInstanceUID: source.SOPClassUID for source in sources}
    return ReferencedSegment(
        sop_class_uid=segmentation.SOPClassUID,
        sop_instance_uid=segmentation.SOPInstanceUID,
        segment_number=number,
        source_images=[
            SourceImageForSegmentation(
                referenced_sop_class_uid=sop_class, referenced_sop_instance_uid=uid
            )
            for uid, sop_class in classes.items()
        ],
    )


def _lesion_measurements(lesion: LesionReading, reading: CaseReading) -> list[Any]:
    from highdicom.sr import AlgorithmIdentification

    sizes = lesion.measurements
    hounsfield = codes.HOUNSFIELD
    measurements = [
        _measurement(codes.LONG_AXIS, sizes.long_axis_mm, codes.MILLIMETRE),
        _measurement(codes.SHORT_AXIS, sizes.short_axis_mm, codes.MILLIMETRE),
        _measurement(codes.VOLUME, sizes.volume_ml, codes.CUBIC_CENTIMETRE),
        _measurement(codes.ATTENUATION, sizes.mean_hu, hounsfield, derivation=codes.MEAN.code),
        _measurement(
            codes.ATTENUATION, sizes.maximum_hu, hounsfield, derivation=codes.MAXIMUM.code
        ),
    ]
    if lesion.probability is not None:
        name, version = lesion_model(reading)
        measurements.append(
            _measurement(
                codes.LESION_PROBABILITY,
                lesion.probability,
                codes.UNITLESS,
                algorithm_id=AlgorithmIdentification(
                    name=name, version=version, manufacturer=MANUFACTURER
                ),
            )
        )
    return measurements


def _measurement(name: codes.Concept, value: float, unit: codes.Concept, **properties: Any) -> Any:
    from highdicom.sr import Measurement

    rounded = round(float(value), _DECIMALS[unit]) if unit in _DECIMALS else int(value)
    return Measurement(name=name.code, value=rounded, unit=unit.code, **properties)


def _evaluations(reading: CaseReading) -> Any:
    """Returns the Qualitative Evaluations container (TID 1500 rows 12 to 14)."""
    from highdicom.sr import (
        CodeContentItem,
        ContainerContentItem,
        ContentSequence,
        RelationshipTypeValues,
        TextContentItem,
    )

    contains = RelationshipTypeValues.CONTAINS
    container = ContainerContentItem(
        name=codes.QUALITATIVE_EVALUATIONS.code, relationship_type=contains
    )
    container.ContentSequence = ContentSequence()
    region = codes.REGIONS.get(reading.region.name)
    if region is not None:
        container.ContentSequence.append(
            CodeContentItem(codes.TARGET_REGION.code, region.code, contains)
        )
    texts = [(codes.CONCLUSION, reading.conclusion)]
    if reading.disagreement is not None:
        texts.append((codes.COMMENT, reading.disagreement))
    texts += [(codes.COMMENT, notice) for notice in notices(reading)]
    for name, text in texts:
        container.ContentSequence.append(TextContentItem(name.code, text, contains))
    return container


def _private_scheme() -> Any:
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    return CodingSchemeIdentificationItem(
        designator=codes.PRIVATE_SCHEME,
        name="Tandem private codes",
        responsible_organization=MANUFACTURER,
        uid=codes.PRIVATE_SCHEME_UID,
    )
