"""The demonstration finds what its phantom holds; the second time the cache answers."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from common.errors import ModelError
from kits.demo import check_known_answer, run_demo
from kits.phantom import NODULES, phantom_position_lps_mm


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("demo")
    steps: list[str] = []
    return out, run_demo(out, progress=steps.append)


def results(out: Path) -> dict[str, dict]:
    names = ("finance/assessment", "medical-phantom/reading", "medical-real-slice/reading")
    return {name: json.loads((out / f"{name}.json").read_text()) for name in names}


def test_every_known_nodule_is_found_and_the_table_says_so(demo: tuple[Path, str]) -> None:
    _, table = demo
    assert f"found {len(NODULES)} of {len(NODULES)}" in table


def test_every_result_file_is_there(demo: tuple[Path, str]) -> None:
    out, _ = demo
    assert (out / "finance" / "report.html").stat().st_size > 10_000
    for folder in ("medical-phantom", "medical-real-slice"):
        assert {p.name for p in (out / folder).iterdir()} >= {
            "overlay.png",
            "reading.json",
            "report.fhir.json",
            "sr.dcm",
        }
    assert (out / "medical-phantom" / "seg.dcm").is_file()


def test_the_real_slice_is_described_and_not_scored(demo: tuple[Path, str]) -> None:
    reading = results(demo[0])["medical-real-slice/reading"]
    assert all(lesion["probability"] is None for lesion in reading["lesions"])


def test_the_second_run_is_the_same_but_for_its_run_block(
    demo: tuple[Path, str], tmp_path: Path
) -> None:
    run_demo(tmp_path, progress=lambda _: None)
    first, second = results(demo[0]), results(tmp_path)
    for name in first:
        again = second[name]["run"]
        assert again["cache"]["misses"] == 0, name
        assert {**first[name], "run": None} == {**second[name], "run": None}, name
    for name in ("sr.dcm", "seg.dcm"):
        import pydicom

        uids = {
            pydicom.dcmread(out / "medical-phantom" / name).SOPInstanceUID
            for out in (demo[0], tmp_path)
        }
        assert len(uids) == 1


def test_a_missed_nodule_is_an_error_that_says_which(demo: tuple[Path, str]) -> None:
    reading = copy.deepcopy(results(demo[0])["medical-phantom/reading"])
    lost = phantom_position_lps_mm(NODULES[0].centre_mm)
    reading["lesions"] = [
        lesion
        for lesion in reading["lesions"]
        if max(abs(a - b) for a, b in zip(lesion["position_lps_mm"], lost, strict=True)) > 5
    ]
    with pytest.raises(ModelError, match="20 mm nodule: MISSED"):
        check_known_answer(reading)
