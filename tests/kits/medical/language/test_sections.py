"""Sections and sentences are spans of the report's text."""

from __future__ import annotations

from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kits.medical.language.sections import LONGEST_SENTENCE, split_sections, split_sentences

REPORT = files("kits").joinpath("demo_inputs", "chest_report.txt").read_text(encoding="utf-8")
PIECES = [
    "FINDINGS:",
    "Impression:\n",
    "History: ",
    "A 2.5 mm nodule",
    ". ",
    "\n",
    "• ",
    "e.g. ",
    "(",
]


def sentences(text: str) -> list[tuple[str, str]]:
    return [
        (sentence.section, text[sentence.start : sentence.end])
        for section in split_sections(text)
        for sentence in split_sentences(text, section)
    ]


def test_the_headings_of_the_demonstration_report_are_found() -> None:
    keys = [section.key for section in split_sections(REPORT)]
    assert list(dict.fromkeys(keys)) == [
        "body",
        "indication",
        "comparison",
        "findings",
        "impression",
    ]


@pytest.mark.parametrize(
    ("heading", "key"),
    [
        ("FINDINGS:", "findings"),
        ("## Findings", "findings"),
        ("Conclusion:", "impression"),
        ("Relevant Medical History:", "history"),
        ("Clinical question:", "indication"),
        ("Comparison:", "comparison"),
        ("Technique:", "technique"),
        ("Quality assurance:", "body"),
    ],
)
def test_a_heading_on_its_own_line_names_its_section(heading: str, key: str) -> None:
    assert sentences(f"Opening words.\n{heading}\nNo nodule.")[-1] == (key, "No nodule.")


def test_a_heading_in_capitals_inside_a_line_opens_a_section() -> None:
    assert sentences("INDICATION: cough. FINDINGS: No nodule. IMPRESSION: Normal.") == [
        ("indication", "cough."),
        ("findings", "No nodule."),
        ("impression", "Normal."),
    ]


def test_an_organ_opens_the_findings_and_subdivides_the_impression() -> None:
    text = "Request: cough.\nThorax:\nNo nodule.\nConclusion:\nLungs: clear.\nHeart: normal."
    assert [key for key, _ in sentences(text)] == ["indication", "findings"] + ["impression"] * 2


def test_decimals_abbreviations_and_remarks_do_not_end_a_sentence() -> None:
    text = "A nodule of 2.5 x 3.0 mm (granuloma? lymph node?), i.e. small. Next."
    assert [s for _, s in sentences(text)] == [text[:-6], "Next."]


def test_wrapped_lines_belong_together_and_list_items_do_not() -> None:
    text = "A nodule lies in the\nright lung.\n- No effusion\n- No mass\nHeart normal"
    assert [s for _, s in sentences(text)] == [
        "A nodule lies in the\nright lung.",
        "- No effusion",
        "- No mass",
        "Heart normal",
    ]


def test_a_text_without_stops_is_cut_at_white_space() -> None:
    text = "nodule " * 1000
    pieces = [s for _, s in sentences(text)]
    assert max(map(len, pieces)) <= LONGEST_SENTENCE
    assert " ".join(pieces) == text.strip()


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_spans_are_ordered_disjoint_and_lose_no_word(text: str) -> None:
    end = 0
    for section in split_sections(text):
        assert end <= section.start < section.end <= len(text)
        end = section.end
        last = section.start
        for sentence in split_sentences(text, section):
            assert last <= sentence.start < sentence.end <= section.end
            assert not text[last : sentence.start].strip(' \t\r\n\f"“”•')
            last = sentence.end
