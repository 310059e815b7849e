"""Joins what the image shows with what the report says into one reading.

No fused number is made up: a lesion's probability is the network's own, and the reading says in
words where image and report agree. Positions are DICOM patient coordinates (LPS+, mm); array
indices are `D H W`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from common.errors import InputError
from common.task import Provenance, digest_of
from common.versions import software_versions
from kits.medical import wording
from kits.medical.imaging.candidates import Candidate
from kits.medical.imaging.measurements import LesionMeasurements
from kits.medical.imaging.region import BodyRegion
from kits.medical.intake.identifiers import derive_uid
from kits.medical.intake.report import Report
from kits.medical.intake.volume import CTVolume
from kits.medical.language.descriptors import Laterality
from kits.medical.language.findings import Finding
from kits.medical.language.statements import Statement, state_lesions
from kits.medical.matching import Match, Place, ReportSupport, match_report, place_lesions

__all__ = ["RESEARCH_USE", "CaseReading", "LesionReading", "ReportSupport", "fuse"]

RESEARCH_USE = "Research use only; not a medical device."


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
        matched_finding: Index into `CaseReading.findings` of the mention that says so.
        laterality: The side that it lies on; None across the midline or where it is unknown.
    """

    identifier: str
    tracking_uid: str
    candidate: Candidate
    measurements: LesionMeasurements
    probability: float | None
    report_support: ReportSupport
    matched_finding: int | None
    laterality: Laterality | None = None


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
        input_digest: sha256 over series, report, options, models and this program's version.
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


@dataclass(frozen=True)
class _Seen:
    """One candidate, before it has a name."""

    candidate: Candidate
    measurements: LesionMeasurements
    probability: float | None
    place: Place
    match: Match


def fuse(
    volume: CTVolume,
    region: BodyRegion,
    *,
    candidates: Sequence[tuple[Candidate, LesionMeasurements]],
    probabilities: Sequence[float] | None = None,
    report: Report | None = None,
    findings: Sequence[Finding] = (),
    provenance: Sequence[Provenance] = (),
) -> CaseReading:
    """Returns the reading of one case; either side, image or report, may say nothing.

    Every candidate becomes a lesion. A report's nodules and masses are matched with lesions only
    where the lungs were found, since elsewhere no candidates are sought.

    Args:
        volume: The volume that was read.
        region: The body region that it shows.
        candidates: Each candidate with its measurements, in any order.
        probabilities: The network's probability of each, in the same order; None without one.
        report: The report, if there is one.
        findings: What `extract_findings(report)` returned.
        provenance: Of every model that answered.

    Raises:
        InputError: There are not as many probabilities as candidates.
    """
    seen = _ordered(_see(volume, region, candidates, probabilities))
    statements: tuple[Statement, ...] = ()
    unmatched: tuple[Statement, ...] = ()
    if report is not None:
        statements = state_lesions(report.text, findings)
        matches, unmatched = match_report(
            [item.place for item in seen],
            statements,
            findings,
            pixel_spacing_mm=max(volume.spacing_mm[1:]),
        )
        seen = [replace(item, match=match) for item, match in zip(seen, matches, strict=True)]
    lesions = tuple(_lesion(number, item, volume) for number, item in enumerate(seen, start=1))
    described = [
        wording.DescribedLesion(
            lesion.identifier,
            item.place,
            item.measurements.short_axis_mm,
            item.probability,
            item.match.support,
        )
        for lesion, item in zip(lesions, seen, strict=True)
    ]
    is_compared = report is not None and region.lungs is not None
    return CaseReading(
        volume=volume,
        region=region,
        lesions=lesions,
        findings=tuple(findings),
        report=report,
        disagreement=wording.disagreement(described, unmatched) if is_compared else None,
        conclusion=wording.conclusion(
            region.name, described, findings, statements, is_sought=region.lungs is not None
        ),
        limitations=(
            RESEARCH_USE,
            *_limitations(volume, region, report, is_scored=bool(provenance)),
        ),
        provenance=tuple(provenance),
        input_digest=_input_digest(volume, report, provenance),
    )


def _see(
    volume: CTVolume,
    region: BodyRegion,
    candidates: Sequence[tuple[Candidate, LesionMeasurements]],
    probabilities: Sequence[float] | None,
) -> list[_Seen]:
    if probabilities is not None and len(probabilities) != len(candidates):
        raise InputError(
            "lesion probabilities",
            expected=f"one for each of {len(candidates)} candidates",
            found=str(len(probabilities)),
            remedy="Give the network's answers in the order of the candidates.",
        )
    sizes = [(candidate.centre, sizes.long_axis_mm) for candidate, sizes in candidates]
    places = place_lesions(volume, region.lungs, sizes)
    scores: Sequence[float | None] = probabilities or [None] * len(candidates)
    return [
        _Seen(candidate, sizes, score, place, Match("no report"))
        for (candidate, sizes), score, place in zip(candidates, scores, places, strict=True)
    ]


def _ordered(seen: Sequence[_Seen]) -> list[_Seen]:
    return sorted(
        seen,
        key=lambda s: (-(s.probability or 0.0), -s.measurements.long_axis_mm, s.candidate.start),
    )


def _lesion(number: int, seen: _Seen, volume: CTVolume) -> LesionReading:
    return LesionReading(
        identifier=f"L{number}",
        tracking_uid=_tracking_uid(volume, seen.candidate),
        candidate=seen.candidate,
        measurements=seen.measurements,
        probability=seen.probability,
        report_support=seen.match.support,
        matched_finding=seen.match.finding,
        laterality=seen.place.laterality,
    )


def _tracking_uid(volume: CTVolume, candidate: Candidate) -> str:
    """Returns a UID of the lesion itself: it stays when a report or a network is added."""
    return derive_uid(
        "lesion",
        volume.series.digest,
        volume.series.SeriesInstanceUID,
        repr(volume.resampling is not None),
        repr((tuple(map(int, candidate.start)), candidate.mask.shape)),
        digest_of(candidate.mask.tobytes()),
    )


def _limitations(
    volume: CTVolume, region: BodyRegion, report: Report | None, *, is_scored: bool
) -> list[str]:
    limits = []
    if region.lungs is None:
        limits.append(
            f"No lesion model covers what this series shows ({region.name}): lesions were neither "
            "sought nor scored."
        )
        if report is not None:
            limits.append("The report's findings were not compared with the image.")
    else:
        limits.append(
            "Candidates are solid, round lumps of 3 to 30 mm inside the lungs; others are missed."
        )
        if is_scored:
            limits.append(
                "A probability says how suspicious readers would call the lump if it is a nodule; "
                "vessels and scars get one too. It was calibrated on one public data set."
            )
    if report is not None and region.lungs is not None:
        limits.append(
            f"Candidates under {wording.FOLLOWED_DIAMETER_MM:g} mm are not held against the report."
        )
    if report is None:
        limits.append("No report was given: nothing was compared with the image.")
    left_out = volume.series.left_out
    if left_out:
        limits.append(f"Not read, beside the series: {', '.join(left_out)}.")
    return [*limits, *volume.notes]


def _input_digest(volume: CTVolume, report: Report | None, provenance: Sequence[Provenance]) -> str:
    """Returns the digest of all that decides the results; their UIDs derive from it."""
    series = volume.series
    models = sorted({(p.model, p.model_digest, p.adapter_digest or "") for p in provenance})
    pieces = [
        series.digest,
        series.StudyInstanceUID,
        series.SeriesInstanceUID,
        "resampled" if volume.resampling is not None else "as stored",
        report.digest if report is not None else "no report",
        software_versions().get("tandem-kits", "0"),
        repr(models),
    ]
    return digest_of(*(piece.encode() for piece in pieces))
