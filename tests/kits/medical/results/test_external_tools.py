"""dicom3tools and dcmtk, which share no code with highdicom, find our SR and SEG valid.

Run with the Debian packages dicom3tools and dcmtk: pytest -m external tests/kits/medical/results
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kits.medical.fusion import CaseReading
from kits.medical.intake.series import read_series
from kits.medical.intake.volume import CTVolume, build_volume
from kits.medical.results import codes
from kits.medical.results.segmentation import build_segmentation
from kits.medical.results.structured_report import build_structured_report

pytestmark = pytest.mark.external

MakeReading = Callable[..., CaseReading]
DebianTool = Callable[[str], str]

KNOWN_WARNINGS = (  # each is explained in docs/medical.md, "Results"
    r"Unrecognized defined term <99TANDEM> for value 1 of attribute <Coding Scheme Designator>",
    r"Value dubious for this VR - \(0x0010,0x0010\) PN Patient's Name .* Retired Person Name form",
    r"Missing attribute or value that would be needed to build DICOMDIR - Study (Date|Time|ID)",
)

REAL = {  # path -> name of the body region
    "pydicom-ct/CT_small.dcm": "head",
    "dcmqi-ct3-seg-sr/data/segmentations/ct-3slice": "chest",
    "ge-head-tilt-28": "head",
    "philips-phantom-28": "phantom",
    "wg04-ct/CT1_RLE": "unknown",
    "ct-transfer-syntaxes/CTImage.dcm_JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50.dcm": (
        "chest"
    ),
    "ct-transfer-syntaxes/CTImage.dcm_JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81.dcm": (
        "chest"
    ),
}


def _write(reading: CaseReading, folder: Path) -> list[Path]:
    """Writes SR and SEG, where there is one, and returns their paths."""
    segmentation = build_segmentation(reading)
    paths = [folder / "sr.dcm"]
    build_structured_report(reading, segmentation).save_as(paths[0], enforce_file_format=True)
    if segmentation is not None:
        paths.append(folder / "seg.dcm")
        segmentation.save_as(paths[1], enforce_file_format=True)
    return paths


def _require_valid(tool: str, paths: list[Path]) -> None:
    for path in paths:
        run = subprocess.run([tool, str(path)], capture_output=True, text=True, check=False)
        lines = (run.stdout + run.stderr).splitlines()
        assert any(line in ("Comprehensive3DSR", "Segmentation") for line in lines)
        faults = [line for line in lines if line.startswith(("Error", "Warning"))]
        unknown = [f for f in faults if not any(re.search(known, f) for known in KNOWN_WARNINGS)]
        assert unknown == []


@pytest.mark.parametrize("region", ["chest", "head", "phantom", "unknown"])
@pytest.mark.parametrize("n_lesions", [0, 1, 2])
def test_dciodvfy_finds_no_error(
    volume: CTVolume,
    make_reading: MakeReading,
    debian_tool: DebianTool,
    tmp_path: Path,
    region: str,
    n_lesions: int,
):
    """SR and SEG of every kind of reading: no error, and only warnings that are explained."""
    balls = [((5, 24, 18), 6.0), ((8, 40, 44), 3.5)][:n_lesions]
    reading = make_reading(volume, balls, region=region, scored=region == "chest")
    _require_valid(debian_tool("dciodvfy"), _write(reading, tmp_path))


@pytest.mark.parametrize("path", REAL)
def test_dciodvfy_finds_no_error_on_real_sources(
    tandem_data: Path,
    make_reading: MakeReading,
    debian_tool: DebianTool,
    tmp_path: Path,
    path: str,
):
    """Sources with empty or missing attributes, oblique, resampled, lossy, single slices."""
    series = read_series(tandem_data / "medical" / "dicom" / path)
    volume = build_volume(series, resample=bool(series.geometry.problems))
    d, h, w = volume.hounsfield.shape
    balls = [((d // 2, h // 2, w // 3), 9.0), ((d // 2, h // 3, w - 9), 5.0)]
    reading = make_reading(volume, balls, region=REAL[path], scored=REAL[path] == "chest")
    _require_valid(debian_tool("dciodvfy"), _write(reading, tmp_path))


def test_dsrdump_prints_the_same_tree(
    reading: CaseReading, debian_tool: DebianTool, tmp_path: Path
):
    """Names, values, units and codes of every lesion, in dcmtk's own reading of the file."""
    tool, path = debian_tool("dsrdump"), _write(reading, tmp_path)[0]
    run = subprocess.run(
        [tool, "+Pc", "+Pl", str(path)], capture_output=True, text=True, check=True
    )
    groups = run.stdout.split('"Measurement Group")')[1:]
    assert len(groups) == 1 + len(reading.lesions)
    for lesion, group in zip(reading.lesions, groups[1:], strict=True):
        sizes = lesion.measurements
        assert f'"Tracking Identifier")="{lesion.identifier}"' in group
        assert f'"Tracking Unique Identifier")="{lesion.tracking_uid}"' in group
        for concept, value, unit in (
            (codes.LONG_AXIS, round(sizes.long_axis_mm, 2), codes.MILLIMETRE),
            (codes.SHORT_AXIS, round(sizes.short_axis_mm, 2), codes.MILLIMETRE),
            (codes.VOLUME, round(sizes.volume_ml, 4), codes.CUBIC_CENTIMETRE),
            (codes.ATTENUATION, round(sizes.mean_hu, 1), codes.HOUNSFIELD),
            (codes.ATTENUATION, round(sizes.maximum_hu, 1), codes.HOUNSFIELD),
            (codes.LESION_PROBABILITY, round(lesion.probability or -1, 4), codes.UNITLESS),
        ):
            assert f'{_as_dcmtk(concept)}="{value}" {_as_dcmtk(unit)}' in group
        for concept in (codes.MORPHOLOGICALLY_ABNORMAL, codes.NODULE, codes.LUNG):
            assert f"={_as_dcmtk(concept)}" in group
        support = codes.SUPPORT_VALUES[lesion.report_support]
        assert f"{_as_dcmtk(codes.REPORT_SUPPORT)}={_as_dcmtk(support)}" in group
    for sentence in (reading.conclusion, *reading.limitations):
        assert f'"{sentence}"' in run.stdout


def _as_dcmtk(concept: codes.Concept) -> str:
    return f'({concept.value},{concept.scheme},"{concept.meaning}")'
