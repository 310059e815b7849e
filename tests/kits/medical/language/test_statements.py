"""Repeated mentions of one nodule are one statement."""

from __future__ import annotations

from importlib.resources import files

import pytest

from kits.medical.intake.report import Report
from kits.medical.language.findings import extract_findings
from kits.medical.language.statements import Statement, denials, sides_agree, state_lesions


def state(text: str) -> tuple[Statement, ...]:
    return state_lesions(text, extract_findings(Report(text, digest="", encoding="utf-8")))


def test_the_demonstration_report_states_two_nodules_and_repeats_them() -> None:
    report = files("kits").joinpath("demo_inputs", "chest_report.txt")
    statements = state(report.read_text(encoding="utf-8"))
    assert [(s.size_mm, s.laterality, s.lobe) for s in statements] == [
        (20.0, "right", None),
        (14.0, "left", "lower lobe"),
    ]


def test_an_impression_without_a_size_repeats_the_finding_with_one() -> None:
    text = "FINDINGS:\nA 9 mm nodule in the left lung.\nIMPRESSION:\nLeft upper lobe nodule."
    (statement,) = state(text)
    assert (statement.size_mm, statement.laterality, statement.lobe) == (9.0, "left", "upper lobe")


def test_other_sizes_sides_and_kinds_are_other_statements() -> None:
    text = "A 9 mm nodule on the left. A 5 mm nodule on the left. A 9 mm nodule on the right."
    assert len(state(text)) == 3
    assert len(state(text + " Multiple nodules in both lungs.")) == 4


@pytest.mark.parametrize(
    ("text", "is_open"),
    [
        ("Multiple nodules up to 5 mm.", True),
        ("Pulmonary nodules are seen.", True),
        ("Two nodules of 5 mm.", False),
        ("Three small solid nodules.", False),
        ("A nodule is seen.", False),
        ("A mass is seen.", False),
        ("Large masses are seen.", True),
    ],
)
def test_only_uncounted_plurals_are_open(text: str, is_open: bool) -> None:
    assert [s.is_open for s in state(text)] == [is_open]


def test_a_certain_mention_makes_a_doubted_one_certain() -> None:
    assert not state("Possible nodule.")[0].is_certain
    assert state("Possible nodule. The nodule is solid.")[0].is_certain


def test_denied_nodules_and_masses_are_denials_and_not_statements() -> None:
    text = "No nodule. No mass. No effusion."
    assert not state(text)
    found = denials(extract_findings(Report(text, digest="", encoding="utf-8")))
    assert [f.concept for f in found] == ["nodule", "mass"]


def test_sides_agree_where_one_of_them_leaves_the_other_open() -> None:
    assert sides_agree("left", "left")
    assert sides_agree(None, "left")
    assert sides_agree("right", "bilateral")
    assert not sides_agree("left", "right")
