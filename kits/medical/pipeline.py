"""Reads one case: the only file that knows the order of the steps."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset

from common.routing.cache import ResultCache
from common.routing.router import Answer, ModelRouter
from common.task import Image, Provenance, Task, digest_of
from kits.medical.fusion import CaseReading, fuse
from kits.medical.imaging.candidates import Candidate, find_candidates
from kits.medical.imaging.measurements import measure
from kits.medical.imaging.region import describe_region
from kits.medical.imaging.transforms import network_input
from kits.medical.intake.report import read_report
from kits.medical.intake.series import read_series
from kits.medical.intake.volume import CTVolume, build_volume
from kits.medical.language.findings import extract_findings
from kits.medical.results.delivery import deliver, require_usable
from kits.medical.results.record import build_record

__all__ = ["read_case"]

Progress = Callable[[str], None]


def read_case(
    source: Path,
    *,
    out: Path,
    report: Path | None = None,
    report_encoding: str | None = None,
    SeriesInstanceUID: str | None = None,
    resample: bool = False,
    router: ModelRouter | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Reads a CT series and its report and writes the results into `out`.

    Written are sr.dcm (TID 1500), seg.dcm (where there are lesions), report.fhir.json,
    overlay.png and reading.json (`kits.medical.results.record` says what it holds). They are
    written beside `out` first and moved in at the end; other files in `out` stay as they are.

    Args:
        source: A folder with one CT series, or one DICOM file.
        out: Folder of the results; made when absent.
        report: The plain-text report of the examination, if there is one.
        report_encoding: Its encoding, where it is neither UTF-8 nor marked UTF-16.
        SeriesInstanceUID: Which series, where the folder holds several.
        resample: Whether tilted, uneven or incomplete slices may be interpolated.
        router: Answers "image" parts; the bundled nodule network with the user's result cache
            when None.
        progress: Called with the name of each step as it begins.

    Returns:
        What reading.json holds.

    Raises:
        InputError: Series or report cannot be read, or `out` cannot be written; nothing is
            written then.
    """
    started = time.monotonic()
    step = progress or _silent
    require_usable(out)
    text = read_report(report, encoding=report_encoding) if report is not None else None
    step("reading the series")
    series = read_series(source, SeriesInstanceUID=SeriesInstanceUID)
    step("building the volume")
    volume = build_volume(series, resample=resample)
    step("describing the body region")
    region = describe_region(volume)
    step("looking for lesion candidates")
    candidates = () if region.lungs is None else find_candidates(volume, region.lungs)
    measured = [(candidate, measure(candidate, volume)) for candidate in candidates]
    step(f"scoring {len(candidates)} candidates")
    answers = _score(candidates, volume, router)
    step("reading the report")
    findings = extract_findings(text) if text is not None else ()
    step("joining image and report")
    reading = fuse(
        volume,
        region,
        candidates=measured,
        probabilities=[float(answer.result.values["probability"]) for answer in answers],
        report=text,
        findings=findings,
        provenance=_one_for_each_model(answers),
    )
    step("writing the results")
    files = _results(reading)
    record = build_record(reading) | {"run": _run(started, answers)}
    deliver(files | {"reading.json": _json_bytes(record)}, out)
    return record


def _score(
    candidates: Sequence[Candidate], volume: CTVolume, router: ModelRouter | None
) -> list[Answer]:
    """Returns the network's answer for each candidate; no network is loaded without one."""
    if not candidates:
        return []
    from kits.medical.imaging.lesion import NoduleNetwork

    if router is None:
        router = ModelRouter({"image": NoduleNetwork()}, cache=ResultCache.from_settings())
    inputs = [network_input(volume, c.mask, start=c.start) for c in candidates]
    tasks = [Task({"image": Image(planes)}) for planes in inputs]
    return [routed["image"] for routed in router.execute_many(tasks)]


def _one_for_each_model(answers: Sequence[Answer]) -> list[Provenance]:
    """Returns one provenance for each model, its input digest that of all its tasks."""
    by_model: dict[tuple[str, str, str | None], list[Provenance]] = {}
    for answer in answers:
        source = answer.provenance
        key = (source.model, source.model_digest, source.adapter_digest)
        by_model.setdefault(key, []).append(source)
    return [
        replace(several[0], input_digest=digest_of(*(p.input_digest.encode() for p in several)))
        for several in by_model.values()
    ]


def _results(reading: CaseReading) -> dict[str, bytes]:
    """Returns the result files of a reading, reading.json apart."""
    from kits.medical.results.capture import render_overlay
    from kits.medical.results.fhir import build_diagnostic_report
    from kits.medical.results.fhir_checks import check_diagnostic_report
    from kits.medical.results.segmentation import build_segmentation
    from kits.medical.results.structured_report import build_structured_report

    segmentation = build_segmentation(reading)
    resource = build_diagnostic_report(reading)
    check_diagnostic_report(resource)
    files = {
        "sr.dcm": _dicom_bytes(build_structured_report(reading, segmentation)),
        "report.fhir.json": _json_bytes(resource),
        "overlay.png": render_overlay(reading),
    }
    if segmentation is not None:
        files["seg.dcm"] = _dicom_bytes(segmentation)
    return files


def _run(started: float, answers: Sequence[Answer]) -> dict[str, Any]:
    hits = sum(answer.cached for answer in answers)
    return {
        "time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "duration_s": round(time.monotonic() - started, 3),
        "cache": {"hits": hits, "misses": len(answers) - hits},
    }


def _dicom_bytes(instance: Dataset) -> bytes:
    stream = BytesIO()
    instance.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _json_bytes(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _silent(step: str) -> None:
    """Ignores the steps' names."""
