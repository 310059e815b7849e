"""Joins what the image shows with what the report says into one reading.

Positions are DICOM patient coordinates (LPS+, mm); array indices are `D H W`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from common.task import Provenance
from kits.medical.intake.report import Report
from kits.medical.language.findings import Finding

if TYPE_CHECKING:  # these files land beside this one
    from kits.medical.imaging.candidates import Candidate
    from kits.medical.imaging.measurements import LesionMeasurements
    from kits.medical.imaging.region import BodyRegion
    from kits.medical.intake.volume import CTVolume

__all__ = ["RESEARCH_USE", "CaseReading", "LesionReading", "ReportSupport"]

RESEARCH_USE = "Research use only; not a medical device."
ReportSupport = Literal["present", "absent", "uncertain", "not mentioned", "no report"]


@dataclass(frozen=True)
class LesionReading:
    """One lesion of the image and what both sources say of it.

    Args:
        identifier: "L1", "L2" ... by falling probability, then by falling long axis.
        tracking_uid: A DICOM UID ("2.25." and digits) that repeats for equal input.
        candidate: Where it lies in the volume.
        measurements: Its sizes, volume and density.
        probability: The lesion network's calibrated probability, 0 to 1; None where no lesion
            model applies to the body region.
        report_support: What the report says of it.
        matched_finding: Index into `CaseReading.findings` of the mention that it matches.
    """

    identifier: str
    tracking_uid: str
    candidate: Candidate
    measurements: LesionMeasurements
    probability: float | None
    report_support: ReportSupport
    matched_finding: int | None


@dataclass(frozen=True)
class CaseReading:
    """Everything that the results (SR, SEG, FHIR, PNG, JSON) show.

    Args:
        volume: The volume that was read.
        region: The body region that it shows.
        lesions: Its lesions, L1 first.
        findings: The report's findings, in the order of the text.
        report: The report, if one was given.
        disagreement: Where image and report differ, in sentences; None where they do not.
        conclusion: The reading in one or more sentences.
        limitations: What the reader must know; `RESEARCH_USE` comes first.
        provenance: Every model that answered.
        input_digest: sha256 over series, report and options.
    """

    volume: CTVolume
    region: BodyRegion
    lesions: tuple[LesionReading, ...]
    findings: tuple[Finding, ...]
    report: Report | None
    disagreement: str | None
    conclusion: str
    limitations: tuple[str, ...]
    provenance: tuple[Provenance, ...]
    input_digest: str
