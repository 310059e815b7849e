"""A case is read from series and report to five files, all of them or none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from common.errors import DocumentError, GeometryError, InputError, MissingInputError
from kits.medical.fusion import RESEARCH_USE
from kits.medical.pipeline import read_case
from kits.medical.results.delivery import RESULT_NAMES
from kits.medical.results.record import SCHEMA
from kits.phantom import NODULES, SPACING_MM, make_phantom

REPORT = "FINDINGS: A 20 mm nodule in the right lung. No pleural effusion.\n"
STEPS_MM = (2, 3, 3)
"""The phantom is thinned out by these steps, to be read in seconds."""


@pytest.fixture(scope="module")
def chest(make_ct_series: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom as 36 slices of 107 x 107 pixels."""
    voxels = np.rint(make_phantom())[:: STEPS_MM[0], :: STEPS_MM[1], :: STEPS_MM[2]]
    return make_ct_series(
        tmp_path_factory.mktemp("chest") / "series",
        voxels.astype(np.int16),
        spacing_mm=tuple(mm * n for mm, n in zip(SPACING_MM, STEPS_MM, strict=True)),
        origin_mm=(0.0, 0.0, 0.0),
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.txt"
    path.write_text(REPORT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results") / "first"


@pytest.fixture(scope="module")
def steps() -> list[str]:
    return []


@pytest.fixture(scope="module")
def record(
    tandem_home: Path, chest: Path, report: Path, out: Path, steps: list[str]
) -> dict[str, Any]:
    return read_case(chest, report=report, out=out, progress=steps.append)


def without_run(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "run"}


def test_the_record_is_what_reading_json_holds(record: dict[str, Any], out: Path) -> None:
    assert json.loads((out / "reading.json").read_text(encoding="utf-8")) == record
    assert record["schema"] == SCHEMA
    assert record["limitations"][0] == RESEARCH_USE
    assert sorted(path.name for path in out.iterdir()) == sorted(RESULT_NAMES)


def test_the_steps_are_told_as_they_begin(record: dict[str, Any], steps: list[str]) -> None:
    assert steps[0] == "reading the series"
    assert steps[-1] == "writing the results"
    assert f"scoring {len(record['lesions'])} candidates" in steps


def test_the_known_nodules_are_found_where_they_are(record: dict[str, Any]) -> None:
    """Positions are LPS in mm, so `W H D` of the phantom; a slice is 5 mm thick here."""
    for nodule in NODULES[:2]:
        centre = np.array(nodule.centre_mm[::-1])
        positions = [np.array(lesion["position_lps_mm"]) for lesion in record["lesions"]]
        distances = [float(np.linalg.norm(position - centre)) for position in positions]
        lesion = record["lesions"][int(np.argmin(distances))]
        assert min(distances) < 5.0
        assert lesion["measurements"]["long_axis_mm"] == pytest.approx(nodule.diameter_mm, abs=4)
        assert 0 <= lesion["probability"] <= 1


def test_the_report_supports_the_nodule_that_it_states(record: dict[str, Any]) -> None:
    (stated,) = [x for x in record["lesions"] if x["report_support"] == "present"]
    assert stated["laterality"] == "right"
    finding = record["findings"][stated["matched_finding"]]
    assert REPORT[finding["start"] : finding["end"]] == "nodule"
    assert finding["size_mm"] == 20.0
    assert "does not mention" in record["disagreement"]


def test_every_lesion_names_a_slice_of_the_source(record: dict[str, Any], chest: Path) -> None:
    known = {str(pydicom.dcmread(path).SOPInstanceUID) for path in chest.iterdir()}
    assert {lesion["SOPInstanceUID"] for lesion in record["lesions"]} <= known


def test_the_record_names_no_patient_and_repeats_no_report(
    record: dict[str, Any], out: Path
) -> None:
    written = (out / "reading.json").read_text(encoding="utf-8")
    for secret in ("SECRET-4711", "Doe", "19700101", "A 20 mm nodule"):
        assert secret not in written


def test_a_second_reading_is_equal_and_comes_from_the_cache(
    record: dict[str, Any], chest: Path, report: Path, out: Path
) -> None:
    again_out = out.parent / "again"
    again = read_case(chest, report=report, out=again_out)
    assert without_run(again) == without_run(record)
    assert record["run"]["cache"] == {"hits": 0, "misses": len(record["lesions"])}
    assert again["run"]["cache"] == {"hits": len(record["lesions"]), "misses": 0}
    for name in set(RESULT_NAMES) - {"reading.json"}:
        assert (again_out / name).read_bytes() == (out / name).read_bytes(), name


def test_provenance_names_each_model_once(record: dict[str, Any]) -> None:
    assert [source["model"] for source in record["provenance"]] == ["nodule-net"]


def test_a_refused_report_leaves_nothing_behind(chest: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.txt"
    report.write_bytes("Größe 5 mm".encode("latin-1"))
    with pytest.raises(DocumentError):
        read_case(chest, report=report, out=tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["report.txt"]


def test_a_missing_series_leaves_earlier_results_as_they_were(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "reading.json").write_text("earlier", encoding="utf-8")
    with pytest.raises(MissingInputError):
        read_case(tmp_path / "absent", out=out)
    assert (out / "reading.json").read_text(encoding="utf-8") == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_in_place_of_the_folder_is_refused_first(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="a file in that place"):
        read_case(tmp_path / "absent", out=tmp_path / "out")


def test_a_single_slice_is_described_and_not_scored(
    make_ct_series: Callable[..., Path], tmp_path: Path
) -> None:
    series = make_ct_series(tmp_path / "series", np.full((1, 32, 32), 40))
    record = read_case(series, out=tmp_path / "out")
    assert record["lesions"] == []
    assert record["provenance"] == []
    assert not (tmp_path / "out" / "seg.dcm").exists()
    assert any("Single slice" in limit for limit in record["limitations"])


def test_the_tilted_head_is_refused_and_read_only_when_resampling_is_asked_for(
    tandem_data: Path, tmp_path: Path
) -> None:
    series = tandem_data / "medical" / "dicom" / "ge-head-tilt-28"
    if not series.is_dir():
        pytest.skip("ge-head-tilt-28 is absent")
    with pytest.raises(GeometryError, match=r"18\.5") as caught:
        read_case(series, out=tmp_path / "out")
    assert "4.00 x13, 1.08 x1, 7.00 x13" in str(caught.value).replace(" mm", "")
    assert not (tmp_path / "out").exists()
    record = read_case(series, resample=True, out=tmp_path / "out")
    assert record["region"]["name"] == "head"
    assert record["lesions"] == []
    assert record["provenance"] == []
    assert record["geometry"]["resampling"] in record["limitations"]
    assert any("No lesion model covers" in limit for limit in record["limitations"])
    resource = json.loads((tmp_path / "out" / "report.fhir.json").read_text(encoding="utf-8"))
    assert "Resampled" in json.dumps(resource)
