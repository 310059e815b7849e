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
FOLLOWED_DIAMETER_MM = 6.0
"""Smaller solid nodules need no routine follow-up, so a report may leave them out (MacMahon et al.
2017, Radiology 284:228; the diameter is the mean of both axes)."""


@dataclass(frozen=True)
class DescribedLesion:
    """What the sentences need of a lesion."""

    identifier: str
    place: Place
    short_axis_mm: float
    probability: float | None
    support: ReportSupport

    @property
    def is_followed(self) -> bool:
        """Whether a report that leaves it out, or denies it, differs from the image."""
        return (self.place.long_axis_mm + self.short_axis_mm) / 2 >= FOLLOWED_DIAMETER_MM


def conclusion(
    region_name: str,
    lesions: Sequence[DescribedLesion],
    findings: Sequence[Finding],
    statements: Sequence[Statement],
    *,
    is_sought: bool,
) -> str:
    """Returns what the image shows and what the report states, without weighing them.

    Args:
        region_name: Name of the body region.
        lesions: The lesions, L1 first.
        findings: The report's findings.
        statements: The nodules and masses that it states.
        is_sought: Whether lesions were sought in this region at all.
    """
    return " ".join(
        [_image_says(region_name, lesions, is_sought), *_report_says(findings, statements)]
    )


def disagreement(lesions: Sequence[DescribedLesion], unmatched: Sequence[Statement]) -> str | None:
    """Returns where image and report differ, in sentences, or None where they do not.

    Lesions that the report denies or leaves out count from 6 mm on.

    Args:
        lesions: The lesions, with what the report says of each.
        unmatched: What the report states and no lesion fits.
    """
    shown = [lesion for lesion in lesions if lesion.is_followed]
    denied = [lesion for lesion in shown if lesion.support == "absent"]
    omitted = [lesion for lesion in shown if lesion.support == "not mentioned"]
    sentences = [_report_only(s, bool(lesions)) for s in unmatched if s.is_certain]
    if denied:
        places = _listed(denied)
        sentences.append(f"The report states no nodule where the image suggests {places}.")
    if omitted:
        places = _listed(omitted)
        sentences.append(f"The report does not mention what the image suggests: {places}.")
    return " ".join(sentences) or None


def _image_says(region_name: str, lesions: Sequence[DescribedLesion], is_sought: bool) -> str:
    if not is_sought:
        return (
            f"Body region: {region_name}. Lesions were not sought: the nodule network reads lungs "
            "only."
        )
    if not lesions:
        return "The image shows no nodule candidate in the lungs."
    count = "1 nodule candidate" if len(lesions) == 1 else f"{len(lesions)} nodule candidates"
    return f"The image shows {count} in the lungs: {_listed(lesions, with_place=False)}."


def _report_says(findings: Sequence[Finding], statements: Sequence[Statement]) -> list[str]:
    sentences = []
    for opening, status in (("The report states", "present"), ("It doubts", "uncertain")):
        is_certain = status == "present"
        labels = [_stated(s) for s in statements if s.is_certain == is_certain]
        labels += [
            CONCEPTS[f.concept].label
            for f in findings
            if f.status == status and f.concept not in LESION_CONCEPTS
        ]
        if labels:
            sentences.append(f"{opening}: {', '.join(dict.fromkeys(labels))}.")
    if findings and not sentences:
        sentences.append("The report states none of the findings looked for.")
    return sentences


def _stated(statement: Statement) -> str:
    plural = {"nodule": "pulmonary nodules", "mass": "pulmonary masses"}[statement.concept]
    what = plural if statement.is_open else f"a {CONCEPTS[statement.concept].label}"
    return what + _attributes(statement.size_mm, statement.laterality)


def _attributes(size_mm: float | None, laterality: Laterality | None) -> str:
    size = f" of {size_mm:g} mm" if size_mm is not None else ""
    return size + _where(laterality)


def _where(laterality: Laterality | None) -> str:
    if laterality is None:
        return ""
    return " in both lungs" if laterality == "bilateral" else f" in the {laterality} lung"


def _report_only(statement: Statement, has_lesions: bool) -> str:
    of_that_size = " of that size" if statement.size_mm is not None and has_lesions else ""
    there = " there" if statement.laterality in ("left", "right") else ""
    return f"The report states {_stated(statement)}; no candidate{of_that_size} was found{there}."


def _listed(lesions: Iterable[DescribedLesion], *, with_place: bool = True) -> str:
    texts = [_lesion(lesion, with_place=with_place) for lesion in lesions]
    more = len(texts) - LISTED_LESIONS
    return "; ".join(texts[:LISTED_LESIONS]) + (f"; and {more} more" if more > 0 else "")


def _lesion(lesion: DescribedLesion, *, with_place: bool) -> str:
    text = f"{lesion.identifier} of {lesion.place.long_axis_mm:.1f} mm"
    text += _where(lesion.place.laterality)
    if with_place:
        x, y, z = lesion.place.position_lps_mm
        text += f" at LPS {x:.0f}, {y:.0f}, {z:.0f} mm"
    return (
        text if lesion.probability is None else f"{text} (suspicion {_share(lesion.probability)})"
    )


def _share(probability: float) -> str:
    """Two digits, and never a certainty that the network does not have."""
    if probability < 0.005:
        return "under 0.01"
    return "over 0.99" if probability > 0.995 else f"{probability:.2f}"
