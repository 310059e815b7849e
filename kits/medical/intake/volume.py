"""A CT series as one array of Hounsfield units with its place in the patient.

Axis order `D H W`: slices in rising order along the slice normal, then rows, then columns.
Positions are LPS+ millimetres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from common.errors import GeometryError
from kits.medical.intake.geometry import slice_normal, slice_positions_mm
from kits.medical.intake.pixels import hounsfield, padding_hu
from kits.medical.intake.resampling import Resampling, resample_stack
from kits.medical.intake.series import CTSeries

__all__ = ["CTVolume", "build_volume"]

# A gap wider than the slices are thick by more than this leaves tissue that was not imaged.
UNIMAGED_RATIO = 1.05


@dataclass(frozen=True, eq=False)
class CTVolume:
    """A regular grid of Hounsfield units.

    Attributes:
        hounsfield: `(D, H, W)` float32, read-only. Outside the scanned field: -1024.
        spacing_mm: `(D, H, W)`.
        affine: `(4, 4)`; (d, h, w, 1) -> LPS mm of the voxel's centre.
        series: Where it comes from.
        resampling: How it was interpolated, or None where the voxels are the stored ones.
        notes: What a reader of results must know, in sentences.
    """

    hounsfield: npt.NDArray[np.float32]
    spacing_mm: tuple[float, float, float]
    affine: npt.NDArray[np.float64]
    series: CTSeries
    resampling: Resampling | None
    notes: tuple[str, ...]

    def position_lps_mm(self, index: Sequence[float]) -> tuple[float, float, float]:
        """Returns where `index` (d, h, w), whole or not, lies in the patient."""
        x, y, z = (self.affine @ np.array([*index, 1.0]))[:3]
        return float(x), float(y), float(z)

    def source_slice(self, d: int) -> Dataset:
        """Returns the slice of the series nearest to the centre of slice `d` of the volume."""
        if self.resampling is None:
            return self.series.slices[d]
        _, height, width = self.hounsfield.shape
        centre = np.array(self.position_lps_mm((d, (height - 1) / 2, (width - 1) / 2)))
        normal = slice_normal(self.series.slices[0])
        along_mm = slice_positions_mm(self.series.slices) @ normal
        return self.series.slices[int(np.abs(along_mm - centre @ normal).argmin())]


def build_volume(series: CTSeries, *, resample: bool = False) -> CTVolume:
    """Decodes a series into a volume.

    A regular series is never interpolated, with or without `resample`. A tilted, uneven or
    incomplete one is resampled when asked for, by linear interpolation between the slices
    where they truly lie (`kits.medical.intake.resampling`), and says so.

    Raises:
        GeometryError: The slices form no regular grid and `resample` is False, or a single
            slice states no thickness.
        PixelDecodingError: Pixels cannot be decoded.
    """
    if series.geometry.problems and not resample:
        raise GeometryError(
            "CT series",
            expected="parallel slices at even gaps, stacked along their normal",
            found="; ".join(series.geometry.problems),
            remedy="Ask for an untilted, evenly spaced and complete series, or resample it "
            "(command line: --resample), which every output will then state.",
        )
    affine = _stack_affine(series)
    first = series.slices[0]
    stack = np.empty((len(series.slices), first.Rows, first.Columns), dtype=np.float32)
    for d, slice_ in enumerate(series.slices):
        stack[d] = hounsfield(slice_)
    resampling = None
    if series.geometry.problems:
        stack, affine, resampling = resample_stack(stack, series)
    stack.setflags(write=False)
    affine.setflags(write=False)
    d_mm, h_mm, w_mm = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    return CTVolume(
        hounsfield=stack,
        spacing_mm=(d_mm, h_mm, w_mm),
        affine=affine,
        series=series,
        resampling=resampling,
        notes=_notes(series, resampling),
    )


def _stack_affine(series: CTSeries) -> npt.NDArray[np.float64]:
    """Returns the matrix of PS3.3 C.7.6.2.1.1 for a stack, in the axis order (d, h, w)."""
    row, column = np.array(series.geometry.orientation).reshape(2, 3)
    positions_mm = slice_positions_mm(series.slices)
    if len(positions_mm) > 1:
        step = (positions_mm[-1] - positions_mm[0]) / (len(positions_mm) - 1)
    else:
        step = slice_normal(series.slices[0]) * _single_thickness_mm(series)
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = column * series.geometry.pixel_spacing_mm[0]
    affine[:3, 2] = row * series.geometry.pixel_spacing_mm[1]
    affine[:3, 3] = positions_mm[0]
    return affine


def _single_thickness_mm(series: CTSeries) -> float:
    thickness_mm = series.geometry.slice_thickness_mm
    if thickness_mm is None or not thickness_mm > 0:
        raise GeometryError(
            "single CT slice",
            expected="a SliceThickness above 0 mm, which stands in for the slice spacing",
            found="none",
            remedy="Give the whole series, or the slice with its SliceThickness.",
        )
    return thickness_mm


def _notes(series: CTSeries, resampling: Resampling | None) -> tuple[str, ...]:
    geometry = series.geometry
    notes = [resampling.statement] if resampling is not None else []
    if len(series.slices) == 1:
        notes.append(
            f"Single slice: its spacing is unknown and taken to be its thickness, "
            f"{geometry.slice_thickness_mm:.2f} mm; lengths across slices and volumes depend "
            "on that."
        )
        if geometry.gantry_tilt_deg >= 0.1:
            notes.append(f"The gantry was tilted by {geometry.gantry_tilt_deg:.1f} degrees.")
    else:
        notes += _stack_notes(series)
    if series.lossy is not None:
        notes.append(f"Pixels were compressed with loss ({series.lossy}).")
    notes += _pixel_notes(series.slices)
    return tuple(notes)


def _stack_notes(series: CTSeries) -> list[str]:
    geometry = series.geometry
    notes = []
    widest_mm = max(gap for gap, _ in geometry.gaps_mm)
    thickness_mm = geometry.slice_thickness_mm
    if thickness_mm is None:
        stated = {s.get("SliceThickness") for s in series.slices} - {None}
        shown = ", ".join(f"{float(value):.2f} mm" for value in sorted(stated)) or "absent"
        notes.append(f"SliceThickness is not one for all slices: {shown}.")
    elif widest_mm > UNIMAGED_RATIO * thickness_mm:
        notes.append(
            f"Slices {thickness_mm:.2f} mm thick lie up to {widest_mm:.2f} mm apart: the tissue "
            "between them was not imaged."
        )
    stated_deg = abs(float(series.slices[0].get("GantryDetectorTilt") or 0.0))
    if stated_deg >= 0.1 and not geometry.problems and geometry.gantry_tilt_deg < 0.1:
        notes.append(
            f"The header states a gantry tilt of {stated_deg:.1f} degrees; the positions show "
            "none and were believed."
        )
    return notes


def _pixel_notes(slices: Sequence[Dataset]) -> list[str]:
    notes = []
    doubted = sorted(
        {p[0] for slice_ in slices if (p := padding_hu(slice_)) is not None and not p[1]}
    )
    if doubted:
        notes.append(
            f"PixelPaddingValue stands for {doubted[0]:.0f} HU, which tissue can have: pixels of "
            "that value were kept."
        )
    if any(slice_.PhotometricInterpretation == "MONOCHROME1" for slice_ in slices):
        notes.append("MONOCHROME1 turns the display round only; Hounsfield units are as stored.")
    return notes
