"""The sentences of a reading: its conclusion, and where image and report differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kits.medical.language.descriptors import Laterality
from kits.medical.language.findings import Finding
from kits.medical.language.statements import LESION_CONCEPTS, Statement
from kits.medical.language.terms import CONCEPTS
from kits.medical.matching import Place, ReportSupport

__all__ = ["DescribedLesion", "conclusion", "disagreement"]

LISTED_LESIONS = 5  # a sentence holds no more; reading.json lists all


@dataclass(frozen=True)
class DescribedLesion:
    """What the sentences need of a lesion."""

    identifier: str
    place: Place
    probability: float | None
    support: ReportSupport


def conclusion(
    region_name: str,
    lesions: Sequence[DescribedLesion],
    findings: Sequence[Finding],
    *,
    is_sought: bool,
) -> str:
    """Returns what the image shows and what the report states, without weighing them.

    Args:
        region_name: Name of the body region.
        lesions: The lesions, L1 first.
        findings: The report's findings.
        is_sought: Whether lesions were sought in this region at all.
    """
    return " ".join([_image_says(region_name, lesions, is_sought), *_report_says(findings)])


def disagreement(
    lesions: Sequence[DescribedLesion],
    unmatched: Sequence[Statement],
    *,
    threshold: float | None,
) -> str | None:
    """Returns where image and report differ, in sentences, or None where they do not.

    Args:
        lesions: The lesions, with what the report says of each.
        unmatched: What the report states and no lesion fits.
        threshold: Lesions that the report leaves out count from this probability on.
    """
    shown = [lesion for lesion in lesions if _counts(lesion, threshold)]
    denied = [lesion for lesion in shown if lesion.support == "absent"]
    omitted = [lesion for lesion in shown if lesion.support == "not mentioned"]
    sentences = [_report_only(s, bool(lesions)) for s in unmatched if s.is_certain]
    if denied:
        sentences.append(f"The report denies nodules that the image suggests: {_listed(denied)}.")
    if omitted:
        sentences.append(
            f"The image suggests what the report does not mention: {_listed(omitted)}."
        )
    return " ".join(sentences) or None


def _counts(lesion: DescribedLesion, threshold: float | None) -> bool:
    return threshold is None or lesion.probability is None or lesion.probability >= threshold


def _image_says(region_name: str, lesions: Sequence[DescribedLesion], is_sought: bool) -> str:
    if not is_sought:
        return (
            f"Body region: {region_name}. Lesions were not sought: the nodule network reads lungs "
            "only."
        )
    if not lesions:
        return "The image shows no nodule candidate in the lungs."
    count = "1 nodule candidate" if len(lesions) == 1 else f"{len(lesions)} nodule candidates"
    return f"The image shows {count} in the lungs: {_listed(lesions)}."


def _report_says(findings: Sequence[Finding]) -> list[str]:
    sentences = []
    for opening, status in (("The report states", "present"), ("It doubts", "uncertain")):
        named = [f for f in findings if f.status == status and f.concept not in LESION_CONCEPTS]
        labels = list(dict.fromkeys(CONCEPTS[f.concept].label for f in named))
        lesions = [f for f in findings if f.status == status and f.concept in LESION_CONCEPTS]
        labels = [*dict.fromkeys(_mention(f) for f in lesions), *labels]
        if labels:
            sentences.append(f"{opening}: {', '.join(labels)}.")
    if findings and not sentences:
        sentences.append("The report states none of the findings looked for.")
    return sentences


def _mention(finding: Finding) -> str:
    return CONCEPTS[finding.concept].label + _attributes(finding.size_mm, finding.laterality)


def _attributes(size_mm: float | None, laterality: Laterality | None) -> str:
    size = f" of {size_mm:g} mm" if size_mm is not None else ""
    return size + _where(laterality)


def _where(laterality: Laterality | None) -> str:
    if laterality is None:
        return ""
    return " in both lungs" if laterality == "bilateral" else f" in the {laterality} lung"


def _report_only(statement: Statement, has_lesions: bool) -> str:
    label = CONCEPTS[statement.concept].label
    plural = {"nodule": "pulmonary nodules", "mass": "pulmonary masses"}[statement.concept]
    what = plural if statement.is_open else f"a {label}"
    stated = what + _attributes(statement.size_mm, statement.laterality)
    if statement.size_mm is not None and has_lesions:
        return f"The report states {stated}; no candidate of that size was found there."
    return f"The report states {stated}; no candidate was found there."


def _listed(lesions: Iterable[DescribedLesion]) -> str:
    texts = [_lesion(lesion) for lesion in lesions]
    more = len(texts) - LISTED_LESIONS
    return "; ".join(texts[:LISTED_LESIONS]) + (f"; and {more} more" if more > 0 else "")


def _lesion(lesion: DescribedLesion) -> str:
    text = f"{lesion.identifier} of {lesion.place.long_axis_mm:.1f} mm"
    text += _where(lesion.place.laterality)
    x, y, z = lesion.place.position_lps_mm
    text += f" at LPS {x:.0f}, {y:.0f}, {z:.0f} mm"
    return text if lesion.probability is None else f"{text} (suspicion {lesion.probability:.2f})"
