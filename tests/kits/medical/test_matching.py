"""Lesions and statements are matched by size, side and, where it decides, lobe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kits.medical.intake.report import Report
from kits.medical.intake.series import read_series
from kits.medical.intake.volume import build_volume
from kits.medical.language.findings import extract_findings
from kits.medical.language.statements import state_lesions
from kits.medical.matching import Match, Place, match_report, place_lesions, size_tolerance_mm

RIGHT_20 = Place(20.5, "right", True, (-70.0, 0.0, 20.0))
LEFT_14 = Place(13.0, "left", False, (70.0, 0.0, -20.0))
LEFT_9 = Place(9.0, "left", True, (70.0, 0.0, 20.0))


def match(text: str, *places: Place) -> tuple[list[str], list[float | None]]:
    """The support of each place, and the sizes of the statements left over."""
    findings = extract_findings(Report(text, digest="", encoding="utf-8"))
    statements = state_lesions(text, findings)
    matches, unmatched = match_report(places, statements, findings, pixel_spacing_mm=0.7)
    for found in matches:
        assert found.finding is None or findings[found.finding].concept in ("nodule", "mass")
    return [found.support for found in matches], [s.size_mm for s in unmatched]


def test_each_stated_nodule_takes_the_lesion_of_its_size_and_side() -> None:
    text = "A 20 mm nodule in the right lung. A 14 mm nodule in the left lower lobe."
    assert match(text, RIGHT_20, LEFT_14, LEFT_9) == (
        ["present", "present", "not mentioned"],
        [],
    )


def test_a_wrong_side_or_size_leaves_the_statement_over() -> None:
    assert match("A 20 mm nodule in the left lung.", RIGHT_20) == (["not mentioned"], [20.0])
    assert match("A 12 mm nodule in the right lung.", RIGHT_20) == (["not mentioned"], [12.0])


def test_a_denial_reaches_its_side_only() -> None:
    assert match("No nodule.", RIGHT_20, LEFT_9) == (["absent", "absent"], [])
    assert match("No nodule in the left lung.", RIGHT_20, LEFT_9)[0] == ["not mentioned", "absent"]
    assert match("No mass.", RIGHT_20)[0] == ["not mentioned"]


def test_an_uncounted_number_speaks_for_all_that_are_not_larger() -> None:
    text = "Multiple nodules up to 10 mm in both lungs."
    assert match(text, RIGHT_20, LEFT_9)[0] == ["not mentioned", "present"]
    assert match("Multiple pulmonary nodules.", RIGHT_20, LEFT_9)[0] == ["present", "present"]


def test_a_doubted_nodule_supports_with_doubt() -> None:
    assert match("Possible nodule of 9 mm on the left.", LEFT_9)[0] == ["uncertain"]


def test_the_lobe_decides_between_equals() -> None:
    upper, lower = LEFT_9, Place(9.0, "left", False, (70.0, 0.0, -20.0))
    assert match("A nodule in the left lower lobe.", upper, lower)[0] == [
        "not mentioned",
        "present",
    ]
    assert match("A 9 mm left upper lobe nodule.", upper, lower)[0] == ["present", "not mentioned"]


def test_without_statements_nothing_is_mentioned() -> None:
    assert match_report([LEFT_9], (), (), pixel_spacing_mm=0.7) == ((Match("not mentioned"),), ())


def test_the_tolerance_is_the_readers_disagreement_and_a_pixel() -> None:
    assert size_tolerance_mm(5.0, pixel_spacing_mm=0.5) == pytest.approx(2.23)
    assert size_tolerance_mm(20.0, pixel_spacing_mm=0.5) == pytest.approx(4.7)


@given(st.permutations([RIGHT_20, LEFT_14, LEFT_9]))
def test_the_order_of_lesions_does_not_change_a_match(places: list[Place]) -> None:
    supports, _ = match("A 20 mm right nodule. A 14 mm left nodule.", *places)
    assert dict(zip(map(id, places), supports, strict=True)) == {
        id(RIGHT_20): "present",
        id(LEFT_14): "present",
        id(LEFT_9): "not mentioned",
    }


@pytest.mark.parametrize(
    ("orientation", "right_first"),
    [((1, 0, 0, 0, 1, 0), True), ((-1, 0, 0, 0, -1, 0), False)],
)
def test_the_side_comes_from_the_patients_coordinates_not_from_the_columns(
    tmp_path: Path,
    make_ct_series: Callable[..., Path],
    orientation: tuple[int, ...],
    right_first: bool,
) -> None:
    """Columns run to the patient's left in the first orientation, to the right in the second."""
    voxels = np.full((8, 32, 32), 40)
    series = make_ct_series(tmp_path, voxels, orientation=orientation)
    volume = build_volume(read_series(series))
    lungs = np.zeros(voxels.shape, bool)
    lungs[:, 8:24, 4:12] = lungs[:, 8:24, 20:28] = True
    spots = [((6.0, 16.0, 8.0), 4.0), ((1.0, 16.0, 24.0), 4.0), ((4.0, 16.0, 14.5), 9.0)]
    places = place_lesions(volume, lungs, spots)
    expected = ["right", "left"] if right_first else ["left", "right"]
    assert [place.laterality for place in places] == [*expected, None]
    assert [place.is_upper for place in places[:2]] == [True, False]
    assert [place.laterality for place in place_lesions(volume, None, spots)] == [None] * 3
