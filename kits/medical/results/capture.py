"""Draws a reading as one PNG picture: the slices with the most suspicious lesions.

Arrays are `D H W`; a panel shows one slice with true proportions in mm. The picture carries
no patient data. Equal readings give equal bytes.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from kits.medical.fusion import CaseReading, LesionReading
from kits.medical.intake.volume import CTVolume
from kits.medical.results.segmentation import finding_type
from kits.medical.results.source import MODEL_NAME, notices, software_version

__all__ = ["render_overlay"]

Colour = tuple[int, int, int]
Mask = npt.NDArray[np.bool_]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Window:
    """A display window in HU."""

    centre_hu: float
    width_hu: float


# Common radiological presets: lung, brain, soft tissue; the phantom's spans water.
WINDOWS = {
    "chest": Window(-600, 1500),
    "head": Window(40, 80),
    "phantom": Window(0, 400),
}
SOFT_TISSUE = Window(40, 400)

N_PANELS = 3
PANEL = 520
GAP = 16
LINE = 22
TEXT_SIZE, SMALL_SIZE, TITLE_SIZE = 16, 14, 22
BAR_LENGTHS_MM = (200, 100, 50, 20, 10, 5, 2, 1)

SIDES = ("LR", "PA", "HF")
"""The letters of the patient's sides towards +x and -x, +y and -y, +z and -z (LPS)."""

BACKGROUND: Colour = (16, 20, 26)
TEXT: Colour = (222, 228, 235)
FAINT: Colour = (146, 156, 168)
ACCENT: Colour = (255, 183, 3)
WARNING: Colour = (255, 122, 89)


def render_overlay(reading: CaseReading) -> bytes:
    """Returns a PNG with up to three slices, contours, labels, scale bars and the limitations.

    The slices are those of the largest diameter of the first lesions (L1 is the most
    suspicious); without lesions it is the middle slice. The window suits the region.

    Args:
        reading: The reading to draw.
    """
    slices = _choose_slices(reading)
    panels = [_panel(reading, d) for d in slices]
    footer = _footer_lines(reading, slices, width=_width(len(panels)) - 2 * GAP)
    captions = [_captions(reading, d) for d in slices]
    n_captions = max(len(lines) for lines in captions)
    top = GAP + 2 * LINE + GAP
    below = top + PANEL + GAP // 2
    height = below + n_captions * LINE + GAP + len(footer) * LINE + GAP
    picture = Image.new("RGB", (_width(len(panels)), height), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    _draw_header(draw, reading, picture.width)
    for column, (panel, lines) in enumerate(zip(panels, captions, strict=True)):
        left = GAP + column * (PANEL + GAP)
        picture.paste(panel, (left, top))
        for row, line in enumerate(lines):
            colour = ACCENT if row else FAINT
            draw.text((left, below + row * LINE), line, colour, _font(TEXT_SIZE))
    start = below + n_captions * LINE + GAP
    for row, (line, colour) in enumerate(footer):
        draw.text((GAP, start + row * LINE), line, colour, _font(TEXT_SIZE))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def _font(size: int) -> Font:
    return ImageFont.load_default(size)


def _width(n_panels: int) -> int:
    return GAP + n_panels * (PANEL + GAP)


def _choose_slices(reading: CaseReading) -> list[int]:
    indices = [int(lesion.measurements.slice_index) for lesion in reading.lesions]
    if not indices:
        return [reading.volume.hounsfield.shape[0] // 2]
    return list(dict.fromkeys(indices))[:N_PANELS]


def _draw_header(draw: ImageDraw.ImageDraw, reading: CaseReading, width: int) -> None:
    volume = reading.volume
    spacing = " x ".join(f"{step:.2f}" for step in volume.spacing_mm)
    draw.text((GAP, GAP), f"{MODEL_NAME} {software_version()}", TEXT, _font(TITLE_SIZE))
    geometry = f"CT {reading.region.name}, {volume.hounsfield.shape[0]} slices, {spacing} mm"
    draw.text((GAP, GAP + LINE + 6), geometry, FAINT, _font(TEXT_SIZE))
    draw.text((width - GAP, GAP), "RESEARCH USE ONLY", WARNING, _font(TITLE_SIZE), anchor="ra")


def _captions(reading: CaseReading, d: int) -> list[str]:
    """Returns the lines below a panel: where the slice lies, then each lesion on it."""
    volume = reading.volume
    _, height, width = volume.hounsfield.shape
    z_mm = volume.position_lps_mm((d, (height - 1) / 2, (width - 1) / 2))[2]
    lines = [f"Slice {d + 1} of {volume.hounsfield.shape[0]}, z {z_mm:+.1f} mm"]
    for lesion in reading.lesions:
        if int(lesion.measurements.slice_index) == d:
            lines += _lesion_lines(lesion, reading)
    return lines


def _lesion_lines(lesion: LesionReading, reading: CaseReading) -> list[str]:
    sizes = lesion.measurements
    first = (
        f"{lesion.identifier}  {finding_type(lesion, reading).meaning.lower()} candidate, "
        f"{sizes.long_axis_mm:.1f} x {sizes.short_axis_mm:.1f} mm, {sizes.volume_ml:.2f} ml, "
        f"mean {sizes.mean_hu:.0f} HU"
    )
    scored = (
        "not scored"
        if lesion.probability is None
        else f"suspicion of malignancy (network) {_share(lesion.probability)}"
    )
    return [first, f"      {scored}, report: {lesion.report_support}"]


def _share(probability: float) -> str:
    """Two digits; the ends of the scale are never reached by rounding."""
    if probability > 0.995:
        return "over 0.99"
    return "under 0.01" if probability < 0.005 else f"{probability:.2f}"


def _footer_lines(
    reading: CaseReading, slices: Sequence[int], *, width: int
) -> list[tuple[str, Colour]]:
    columns = int(width / (TEXT_SIZE * 0.5))
    lines: list[tuple[str, Colour]] = []
    texts = [reading.conclusion, *([reading.disagreement] if reading.disagreement else [])]
    elsewhere = sum(lesion.measurements.slice_index not in slices for lesion in reading.lesions)
    if elsewhere:
        texts.append(f"{elsewhere} of {len(reading.lesions)} lesions lie on slices not shown here.")
    for text, colour in [*((t, TEXT) for t in texts), *((n, WARNING) for n in notices(reading))]:
        lines += [(line, colour) for line in textwrap.wrap(text, columns)]
    return lines


def _panel(reading: CaseReading, d: int) -> Image.Image:
    """Returns slice `d`, windowed, with everything drawn on it, `PANEL` pixels square."""
    volume = reading.volume
    window = WINDOWS.get(reading.region.name, SOFT_TISSUE)
    grey = _windowed(volume.hounsfield[d], window)
    size, scale = _fit(volume)
    left, top = (PANEL - size[0]) // 2, (PANEL - size[1]) // 2
    panel = Image.new("RGB", (PANEL, PANEL), (0, 0, 0))
    panel.paste(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC), (left, top))
    draw = ImageDraw.Draw(panel)
    for lesion in reading.lesions:
        mask = _mask_on_slice(lesion, d, grey.shape)
        if mask.any():
            _draw_lesion(panel, mask, (left, top), size, lesion.identifier)
    _draw_scale_bar(draw, scale)
    _draw_orientation(draw, volume)
    window_text = f"W {window.width_hu:.0f} L {window.centre_hu:.0f}"
    _text(draw, (PANEL - 8, PANEL - 8), window_text, FAINT, SMALL_SIZE, anchor="rs")
    flags = [
        *(["RESAMPLED"] if volume.resampling is not None else []),
        *(["LOSSY SOURCE"] if volume.series.lossy is not None else []),
    ]
    if flags:
        _text(draw, (8, 8), ", ".join(flags), WARNING, SMALL_SIZE, anchor="la")
    return panel


def _windowed(plane_hu: npt.NDArray[np.float32], window: Window) -> npt.NDArray[np.uint8]:
    """Returns grey values of a plane `(H, W)` (linear, DICOM PS3.3 C.11.2.1.3.2)."""
    low = window.centre_hu - window.width_hu / 2
    grey = np.clip((plane_hu - low) / window.width_hu, 0, 1) * 255
    return np.asarray(np.round(grey), dtype=np.uint8)


def _fit(volume: CTVolume) -> tuple[tuple[int, int], float]:
    """Returns the picture's size (width, height) in a panel and its pixels per mm."""
    _, height, width = volume.hounsfield.shape
    height_mm, width_mm = height * volume.spacing_mm[1], width * volume.spacing_mm[2]
    scale = PANEL / max(height_mm, width_mm)
    return (max(1, round(width_mm * scale)), max(1, round(height_mm * scale))), scale


def _mask_on_slice(lesion: LesionReading, d: int, shape: tuple[int, ...]) -> Mask:
    """Returns the lesion's voxels on slice `d` as `(H, W)`."""
    plane = np.zeros(shape, bool)
    start, box = lesion.candidate.start, lesion.candidate.mask
    row = d - int(start[0])
    if 0 <= row < box.shape[0]:
        h, w = int(start[1]), int(start[2])
        plane[h : h + box.shape[1], w : w + box.shape[2]] = box[row]
    return plane


def _draw_lesion(
    panel: Image.Image, mask: Mask, corner: tuple[int, int], size: tuple[int, int], name: str
) -> None:
    """Draws a contour just outside the lesion, so that it hides none of it, and its label."""
    enlarged = np.zeros((PANEL, PANEL), bool)
    picture = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    enlarged[corner[1] : corner[1] + size[1], corner[0] : corner[0] + size[0]] = (
        np.asarray(picture) >= 128
    )
    if not enlarged.any():
        return
    contour = _grown(enlarged, 3) & ~_grown(enlarged, 1)
    stamp = Image.fromarray(contour.astype(np.uint8) * 255)
    panel.paste(ACCENT, (0, 0), stamp)
    rows, columns = np.nonzero(contour)
    x, y = int(columns.max()) + 6, int(rows.min()) - 4
    on_left = x > PANEL - 44
    if on_left:
        x = int(columns.min()) - 6
    anchor = "rm" if on_left else "lm"
    position = (x, min(max(y, 14), PANEL - 14))
    _text(ImageDraw.Draw(panel), position, name, ACCENT, TITLE_SIZE, anchor=anchor)


def _grown(mask: Mask, steps: int) -> Mask:
    """Returns the mask grown by `steps` pixels in the four directions."""
    grown = mask.copy()
    for _ in range(steps):
        before = grown.copy()
        grown[1:] |= before[:-1]
        grown[:-1] |= before[1:]
        grown[:, 1:] |= before[:, :-1]
        grown[:, :-1] |= before[:, 1:]
    return grown


def _draw_scale_bar(draw: ImageDraw.ImageDraw, scale: float) -> None:
    length_mm = next((mm for mm in BAR_LENGTHS_MM if mm * scale <= PANEL / 4), BAR_LENGTHS_MM[-1])
    length = round(length_mm * scale)
    y = PANEL - 14
    draw.line([(12, y), (12 + length, y)], TEXT, width=3)
    for x in (12, 12 + length):
        draw.line([(x, y - 5), (x, y + 5)], TEXT, width=2)
    _text(draw, (12, y - 8), f"{length_mm} mm", TEXT, SMALL_SIZE, anchor="ls")


def _draw_orientation(draw: ImageDraw.ImageDraw, volume: CTVolume) -> None:
    """Writes which side of the patient each edge shows, from the directions of `W` and `H`."""
    middle = PANEL // 2
    for axis, ahead, behind in (
        (2, (PANEL - 8, middle), (8, middle)),
        (1, (middle, PANEL - 14), (middle, 14)),
    ):
        direction = volume.affine[:3, axis]
        strongest = int(np.abs(direction).argmax())
        letters = SIDES[strongest] if direction[strongest] > 0 else SIDES[strongest][::-1]
        for letter, position, anchor in (
            (letters[0], ahead, "rm" if axis == 2 else "mm"),
            (letters[1], behind, "lm" if axis == 2 else "mm"),
        ):
            _text(draw, position, letter, TEXT, TEXT_SIZE, anchor=anchor)


def _text(
    draw: ImageDraw.ImageDraw,
    position: Sequence[float],
    text: str,
    colour: Colour,
    size: int,
    *,
    anchor: str,
) -> None:
    """Writes text with a dark edge, so that it can be read on any tissue."""
    draw.text(
        (position[0], position[1]),
        text,
        colour,
        _font(size),
        anchor=anchor,
        stroke_width=2,
        stroke_fill=(0, 0, 0),
    )
