"""A reading joins image and report, and works with either side missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import UID

from common.errors import InputError
from common.task import Provenance
from kits.medical.fusion import RESEARCH_USE, CaseReading, fuse
from kits.medical.imaging.candidates import Candidate
from kits.medical.imaging.measurements import LesionMeasurements, measure
from kits.medical.imaging.region import BodyRegion
from kits.medical.intake.report import Report
from kits.medical.intake.series import read_series
from kits.medical.intake.volume import CTVolume, build_volume
from kits.medical.language.findings import extract_findings

PROVENANCE = Provenance("nodule-net", "ab" * 32, "cd" * 32)
Found = tuple[tuple[Candidate, LesionMeasurements], ...]


@pytest.fixture(scope="module")
def volume(
    make_ct_series: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> CTVolume:
    """16 slices of air-like lung with a 12 mm cube on the right and a 7.5 mm cube on the left."""
    voxels = np.full((16, 64, 64), -850)
    voxels[8:12, 24:40, 8:24] = 40
    voxels[2:5, 30:40, 44:54] = 40
    folder = tmp_path_factory.mktemp("cubes")
    return build_volume(read_series(make_ct_series(folder, voxels, spacing_mm=(2.0, 0.75, 0.75))))


@pytest.fixture(scope="module")
def found(volume: CTVolume) -> Found:
    """The smaller cube first."""
    candidates = (
        Candidate((2, 30, 44), np.ones((3, 10, 10), bool)),
        Candidate((8, 24, 8), np.ones((4, 16, 16), bool)),
    )
    return tuple((candidate, measure(candidate, volume)) for candidate in candidates)


@pytest.fixture(scope="module")
def chest(volume: CTVolume) -> BodyRegion:
    return BodyRegion("chest", "made", 1000.0, np.ones(volume.hounsfield.shape, bool))


def join(
    volume: CTVolume, region: BodyRegion, found: Found, text: str | None = None
) -> CaseReading:
    report = None if text is None else Report(text, digest="ef" * 32, encoding="utf-8")
    return fuse(
        volume,
        region,
        candidates=found,
        probabilities=[0.3, 0.9][: len(found)],
        report=report,
        findings=() if report is None else extract_findings(report),
        provenance=[PROVENANCE] if found else (),
    )


def test_lesions_are_ordered_by_falling_probability_then_size(
    volume: CTVolume, chest: BodyRegion, found: Found
) -> None:
    reading = join(volume, chest, found)
    assert [(x.identifier, x.probability, x.laterality) for x in reading.lesions] == [
        ("L1", 0.9, "right"),
        ("L2", 0.3, "left"),
    ]
    unscored = fuse(volume, chest, candidates=found)
    assert [x.laterality for x in unscored.lesions] == ["right", "left"]
    assert {x.probability for x in unscored.lesions} == {None}


def test_a_probability_is_the_networks_whatever_the_report_says(
    volume: CTVolume, chest: BodyRegion, found: Found
) -> None:
    for text in (None, "No nodule.", "A 17 mm nodule in the right lung."):
        assert [x.probability for x in join(volume, chest, found, text).lesions] == [0.9, 0.3]


def test_a_report_that_agrees_leaves_no_disagreement(
    volume: CTVolume, chest: BodyRegion, found: Found
) -> None:
    long_axes_mm = [round(sizes.long_axis_mm) for _, sizes in found]
    text = f"Right nodule of {long_axes_mm[1]} mm. Left nodule of {long_axes_mm[0]} mm."
    reading = join(volume, chest, found, text)
    assert reading.disagreement is None
    assert [x.report_support for x in reading.lesions] == ["present", "present"]
    for lesion in reading.lesions:
        assert lesion.matched_finding is not None
        assert reading.findings[lesion.matched_finding].laterality == lesion.laterality


def test_a_report_that_denies_nodules_is_quoted_beside_the_image(
    volume: CTVolume, chest: BodyRegion, found: Found
) -> None:
    reading = join(volume, chest, found, "No pulmonary nodule.")
    assert {x.report_support for x in reading.lesions} == {"absent"}
    assert reading.disagreement is not None
    assert reading.disagreement.startswith(
        "The report states no nodule where the image suggests L1 of"
    )
    assert "in the right lung at LPS" in reading.disagreement


def test_a_stated_nodule_without_a_candidate_is_a_disagreement(
    volume: CTVolume, chest: BodyRegion, found: Found
) -> None:
    reading = join(volume, chest, found, "A 40 mm mass in the left lung.")
    assert reading.disagreement is not None
    assert (
        "The report states a pulmonary mass of 40 mm in the left lung; no candidate of that size "
        "was found there." in reading.disagreement
    )
    alone = join(volume, chest, (), "A nodule in the left lung.")
    assert alone.disagreement == (
        "The report states a pulmonary nodule in the left lung; no candidate was found there."
    )


def test_a_small_lesion_that_the_report_leaves_out_is_no_disagreement(
    volume: CTVolume, chest: BodyRegion
) -> None:
    tiny = Candidate((4, 4, 4), np.ones((2, 5, 5), bool))
    reading = join(volume, chest, ((tiny, measure(tiny, volume)),), "No nodule.")
    assert reading.lesions[0].report_support == "absent"
    assert reading.disagreement is None


def test_without_a_report_nothing_is_compared(
    volume: CTVolume, chest: BodyRegion, found: Found
) -> None:
    reading = join(volume, chest, found)
    assert {x.report_support for x in reading.lesions} == {"no report"}
    assert reading.disagreement is None
    assert any("No report was given" in limit for limit in reading.limitations)


def test_a_region_without_lungs_is_described_and_not_compared(volume: CTVolume) -> None:
    head = BodyRegion("head", "a skull", 0.0, None)
    reading = join(volume, head, (), "A 9 mm nodule in the right lung.")
    assert not reading.lesions
    assert reading.disagreement is None
    assert reading.conclusion.startswith("Body region: head. Lesions were not sought")
    assert any("No lesion model covers" in limit for limit in reading.limitations)
    assert any("not compared" in limit for limit in reading.limitations)


def test_limitations_begin_with_research_use_and_hold_the_volumes_notes(
    make_ct_series: Callable[..., Path], tmp_path: Path, chest: BodyRegion
) -> None:
    header = {"LossyImageCompression": "01", "LossyImageCompressionRatio": 9.5}
    folder = make_ct_series(tmp_path, np.full((1, 16, 16), -850), header=header)
    single = build_volume(read_series(folder))
    limits = fuse(single, BodyRegion("unknown", "one slice", 0.0, None), candidates=()).limitations
    assert limits[0] == RESEARCH_USE
    assert any("Single slice" in limit for limit in limits)
    assert any("compressed with loss" in limit for limit in limits)


def test_equal_input_gives_equal_identifiers_and_the_report_changes_the_digest(
    volume: CTVolume, chest: BodyRegion, found: Found
) -> None:
    first, again = join(volume, chest, found), join(volume, chest, found[::-1])
    assert [x.tracking_uid for x in first.lesions] == [
        x.tracking_uid for x in sorted(again.lesions, key=lambda x: x.laterality != "right")
    ]
    uids = {x.tracking_uid for x in first.lesions}
    assert len(uids) == 2
    assert all(UID(uid).is_valid for uid in uids)
    with_report = join(volume, chest, found, "No nodule.")
    assert first.input_digest == join(volume, chest, found).input_digest
    assert first.input_digest != with_report.input_digest
    assert {x.tracking_uid for x in with_report.lesions} == uids


def test_a_probability_too_few_is_refused(
    volume: CTVolume, chest: BodyRegion, found: Found
) -> None:
    with pytest.raises(InputError, match="one for each of 2 candidates"):
        fuse(volume, chest, candidates=found, probabilities=[0.5])
