"""What reading.json holds: the whole reading as JSON values, in a stable order.

Top-level keys, all always there:

- `schema`: "tandem.medical.reading/1".
- `series`: `StudyInstanceUID`, `SeriesInstanceUID`, `digest`, `slices`, `lossy`, `left_out`.
- `region`: `name`, `reason`, `lung_volume_ml` (null where no lungs were found).
- `geometry`: `shape` and `spacing_mm` (both `D H W`), `affine` (4 x 4, index to LPS mm),
  `gantry_tilt_deg`, `gaps_mm` ([gap, count] pairs along the slice normal), `problems`, and
  `resampling` (a sentence, or null where the voxels are the stored ones).
- `lesions`: `identifier`, `tracking_uid`, `probability` (null: not scored), `position_lps_mm`,
  `laterality`, `SOPInstanceUID` (of the source slice with the long axis), `slice_index`,
  `measurements` (`long_axis_mm`, `short_axis_mm`, `volume_ml`, `mean_hu`, `maximum_hu`),
  `report_support`, `matched_finding` (index into `findings`, or null).
- `report`: `digest`, `encoding`, or null; its text is not copied.
- `findings`: the fields of `kits.medical.language.findings.Finding`; offsets count characters.
- `conclusion`, `disagreement` (null: none), `limitations`, `provenance`, `input_digest`.
- `run`: `time` (UTC), `duration_s`, `cache` (`hits`, `misses`); added by the pipeline. All else
  repeats for equal input.

No patient's name, number or date is in it.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kits.medical.fusion import CaseReading, LesionReading
from kits.medical.intake.volume import CTVolume

__all__ = ["SCHEMA", "build_record"]

SCHEMA = "tandem.medical.reading/1"
Json = dict[str, Any]


def build_record(reading: CaseReading) -> Json:
    """Returns reading.json's content, `run` apart, as JSON values; equal input repeats it."""
    return {
        "schema": SCHEMA,
        "series": _series(reading.volume),
        "region": {
            "name": reading.region.name,
            "reason": reading.region.reason,
            "lung_volume_ml": None
            if reading.region.lungs is None
            else round(float(reading.region.lung_volume_ml), 1),
        },
        "geometry": _geometry(reading.volume),
        "lesions": [_lesion(lesion, reading.volume) for lesion in reading.lesions],
        "report": None
        if reading.report is None
        else {"digest": reading.report.digest, "encoding": reading.report.encoding},
        "findings": [asdict(finding) for finding in reading.findings],
        "conclusion": reading.conclusion,
        "disagreement": reading.disagreement,
        "limitations": list(reading.limitations),
        "provenance": [provenance.to_json() for provenance in reading.provenance],
        "input_digest": reading.input_digest,
    }


def _series(volume: CTVolume) -> Json:
    series = volume.series
    return {
        "StudyInstanceUID": str(series.StudyInstanceUID),
        "SeriesInstanceUID": str(series.SeriesInstanceUID),
        "digest": series.digest,
        "slices": len(series.slices),
        "lossy": series.lossy,
        "left_out": list(series.left_out),
    }


def _geometry(volume: CTVolume) -> Json:
    geometry = volume.series.geometry
    return {
        "shape": list(volume.hounsfield.shape),
        "spacing_mm": [round(float(length), 4) for length in volume.spacing_mm],
        "affine": [[round(float(value), 6) for value in row] for row in volume.affine],
        "gantry_tilt_deg": round(float(geometry.gantry_tilt_deg), 2),
        "gaps_mm": [[float(gap), int(count)] for gap, count in geometry.gaps_mm],
        "problems": list(geometry.problems),
        "resampling": None if volume.resampling is None else volume.resampling.statement,
    }


def _lesion(lesion: LesionReading, volume: CTVolume) -> Json:
    sizes = lesion.measurements
    position = volume.position_lps_mm(lesion.candidate.centre)
    return {
        "identifier": lesion.identifier,
        "tracking_uid": lesion.tracking_uid,
        "probability": None if lesion.probability is None else round(lesion.probability, 6),
        "position_lps_mm": [round(value, 2) for value in position],
        "laterality": lesion.laterality,
        "SOPInstanceUID": str(volume.source_slice(int(sizes.slice_index)).SOPInstanceUID),
        "slice_index": int(sizes.slice_index),
        "measurements": {
            "long_axis_mm": round(float(sizes.long_axis_mm), 2),
            "short_axis_mm": round(float(sizes.short_axis_mm), 2),
            "volume_ml": round(float(sizes.volume_ml), 4),
            "mean_hu": round(float(sizes.mean_hu), 1),
            "maximum_hu": round(float(sizes.maximum_hu), 1),
        },
        "report_support": lesion.report_support,
        "matched_finding": lesion.matched_finding,
    }
