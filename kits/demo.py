"""`tandem demo`: both kits on bundled inputs, offline, with answers that are known beforehand.

The annual report and the chest report are fictional and written for this project; the
phantom is generated with a fixed seed; the S&P 500 prices are real (package `arch`), and
so is the single CT slice (package `pydicom`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import ModelError
from kits.phantom import NODULES, Nodule, phantom_position_lps_mm, write_phantom_series
from kits.summaries import assessment_summary, reading_summary

__all__ = ["run_demo"]

TICKER = "SP500"
DISTANCE_TOLERANCE_MM = 3.0  # a little more than the slice spacing
DIAMETER_TOLERANCE_MM = 2.5  # one slice spacing; in-plane pixels are finer

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Inputs:
    """The files that the demonstration reads."""

    annual_report: Path
    prices: Path
    phantom: Path
    chest_report: Path
    real_slice: Path


def run_demo(out: Path, *, progress: Progress) -> str:
    """Writes the inputs to `out`/inputs, runs both kits on them and returns a table.

    Args:
        out: Folder for inputs and results; made when absent.
        progress: Called with the name of each step as it begins.

    Raises:
        ModelError: A known nodule of the phantom was not found where it is.
    """
    from kits.finance.pipeline import assess
    from kits.medical.pipeline import read_case

    inputs = write_inputs(out / "inputs", progress=progress)
    assessment = assess(
        inputs.annual_report,
        prices=inputs.prices,
        ticker=TICKER,
        out=out / "finance",
        progress=progress,
    )
    phantom = read_case(
        inputs.phantom, report=inputs.chest_report, out=out / "medical-phantom", progress=progress
    )
    real = read_case(inputs.real_slice, out=out / "medical-real-slice", progress=progress)
    answer = check_known_answer(phantom)
    blocks = [
        (
            "finance: a fictional annual report, real S&P 500 prices",
            assessment_summary(assessment.to_json()),
        ),
        ("medical: phantom and its report", reading_summary(phantom)),
        ("the phantom's known answer", answer),
        ("medical: one real CT slice (pydicom's CT_small)", reading_summary(real)),
        ("results", "\n".join(_result_files(out))),
    ]
    return "\n\n".join(f"{title.upper()}\n{text}" for title, text in blocks)


def write_inputs(folder: Path, *, progress: Progress) -> Inputs:
    """Writes the demonstration's inputs to `folder` and returns where they lie."""
    progress("writing the inputs: reports, prices, phantom")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("annual_report.html", "chest_report.txt"):
        (folder / name).write_bytes(files("kits").joinpath("demo_inputs", name).read_bytes())
    return Inputs(
        annual_report=folder / "annual_report.html",
        prices=_write_prices(folder / "sp500.csv"),
        phantom=write_phantom_series(folder / "chest-ct"),
        chest_report=folder / "chest_report.txt",
        real_slice=_copy_real_slice(folder / "real-slice"),
    )


def check_known_answer(reading: dict[str, Any]) -> str:
    """Compares the lesions of a reading of the phantom with its nodules, one line for each.

    Raises:
        ModelError: A nodule has no lesion within 3 mm of its centre and 2.5 mm of its diameter.
    """
    lines, missed = [], 0
    for nodule in NODULES:
        lesion, distance = _nearest_lesion(reading["lesions"], nodule)
        measured = lesion["measurements"]["long_axis_mm"] if lesion else float("nan")
        found = (
            distance <= DISTANCE_TOLERANCE_MM
            and abs(measured - nodule.diameter_mm) <= DIAMETER_TOLERANCE_MM
        )
        missed += not found
        lines.append(
            f"  {nodule.diameter_mm:4.0f} mm nodule: {'found' if found else 'MISSED'}, "
            f"centre {distance:.1f} mm off, long axis {measured:.1f} mm"
        )
    others = len(reading["lesions"]) - (len(NODULES) - missed)
    lines.append(
        f"  found {len(NODULES) - missed} of {len(NODULES)}, and {others} other candidates"
    )
    if missed:
        raise ModelError(
            "demonstration",
            expected="every nodule of the phantom found",
            found="\n".join(["", *lines]),
            remedy="Report this: the installation gives other results than it should.",
        )
    return "\n".join(lines)


def _nearest_lesion(
    lesions: list[dict[str, Any]], nodule: Nodule
) -> tuple[dict[str, Any] | None, float]:
    centre = np.array(phantom_position_lps_mm(nodule.centre_mm))
    distances = [float(np.linalg.norm(np.array(x["position_lps_mm"]) - centre)) for x in lesions]
    if not distances:
        return None, float("inf")
    nearest = int(np.argmin(distances))
    return lesions[nearest], distances[nearest]


def _write_prices(path: Path) -> Path:
    from arch.data import sp500

    table = sp500.load().rename(columns=str.lower)
    table.insert(0, "ticker", TICKER)
    columns = ["ticker", "open", "high", "low", "close", "volume"]
    table[columns].to_csv(path, index_label="date", date_format="%Y-%m-%d")
    return path


def _copy_real_slice(folder: Path) -> Path:
    from pydicom.data import get_testdata_file

    folder.mkdir(exist_ok=True)
    shutil.copyfile(str(get_testdata_file("CT_small.dcm")), folder / "slice.dcm")
    return folder


def _result_files(out: Path) -> list[str]:
    return [f"  {path}" for path in sorted(out.glob("[!i]*/*")) if path.is_file()]
