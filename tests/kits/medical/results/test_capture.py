"""The picture shows the right slices, marks the lesions, and states its limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from kits.medical.fusion import CaseReading
from kits.medical.intake.resampling import Resampling
from kits.medical.intake.volume import CTVolume
from kits.medical.results import capture
from kits.medical.results.capture import render_overlay

MakeReading = Callable[..., CaseReading]
Pixels = npt.NDArray[np.uint8]

TOP = 2 * capture.GAP + 2 * capture.LINE


def _pixels(reading: CaseReading) -> Pixels:
    return np.asarray(Image.open(BytesIO(render_overlay(reading))))


def _panel(picture: Pixels, column: int) -> Pixels:
    left = capture.GAP + column * (capture.PANEL + capture.GAP)
    return picture[TOP : TOP + capture.PANEL, left : left + capture.PANEL]


def _is(colour: tuple[int, int, int], pixels: Pixels) -> npt.NDArray[np.bool_]:
    return np.all(pixels == colour, axis=-1)


def test_it_is_one_png_of_every_chosen_slice(reading: CaseReading):
    """Two lesions on two slices: two panels, L1 first."""
    picture = _pixels(reading)
    width = capture.GAP + 2 * (capture.PANEL + capture.GAP)
    assert picture.shape[1:] == (width, 3)
    assert render_overlay(reading).startswith(b"\x89PNG")


def test_the_contour_runs_round_the_lesion(reading: CaseReading):
    """Its pixels surround the lesion's place in the panel and leave its middle free."""
    panel = _panel(_pixels(reading), 0)
    _, height, width = reading.volume.hounsfield.shape
    _, h_mm, w_mm = reading.volume.spacing_mm
    scale = capture.PANEL / max(height * h_mm, width * w_mm)
    left = (capture.PANEL - width * w_mm * scale) / 2
    row, column = int(24.5 * h_mm * scale), int(left + 18.5 * w_mm * scale)
    accent = _is(capture.ACCENT, panel)
    radius = int(6.0 * scale)
    inner = accent[row - radius // 2 : row + radius // 2, column - radius // 2 : column]
    assert not inner.any()
    line = np.flatnonzero(accent[row, : column + radius + 10])
    assert line.min() == pytest.approx(column - radius, abs=8)
    assert line.max() == pytest.approx(column + radius, abs=8)


def test_without_lesions_it_is_the_middle_slice(volume: CTVolume, make_reading: MakeReading):
    """No contour, and the grey values of slice D // 2 in the lung window."""
    empty = make_reading(volume, [])
    panel = _panel(_pixels(empty), 0)
    assert not _is(capture.ACCENT, panel).any()
    centre = panel[100, capture.PANEL // 2 - 40]  # lung at -850 HU in the window -1350 to 150
    assert centre[0] == round((-850 + 1350) / 1500 * 255)


def test_the_window_suits_the_region(volume: CTVolume, make_reading: MakeReading):
    """Lung at -850 HU is black in a brain window."""
    head = make_reading(volume, [], region="head", scored=False)
    assert _panel(_pixels(head), 0)[100, capture.PANEL // 2 - 40].max() == 0


def test_lesions_on_one_slice_share_a_panel(volume: CTVolume, make_reading: MakeReading):
    """Four lesions on two slices: two panels; five on four: three panels at most."""
    shared = make_reading(volume, [((5, 24, 18), 4.0), ((5, 44, 40), 3.0), ((8, 40, 44), 3.5)])
    assert _pixels(shared).shape[1] == capture.GAP + 2 * (capture.PANEL + capture.GAP)
    many = make_reading(volume, [((d, 24, 18), 2.0) for d in (2, 4, 6, 8, 10)])
    assert _pixels(many).shape[1] == capture.GAP + 3 * (capture.PANEL + capture.GAP)


def test_a_lossy_or_resampled_source_is_written_into_the_picture(reading: CaseReading):
    """Warning-coloured words stand in each panel's corner only then."""
    corner = np.s_[:30, :260]
    assert not _is(capture.WARNING, _panel(_pixels(reading), 0)[corner]).any()
    volume = reading.volume
    resampling = Resampling(
        reason="test", gaps_mm=((2.5, 11),), gantry_tilt_deg=0.0, spacing_mm=volume.spacing_mm
    )
    lossy = replace(volume.series, lossy="ISO_10918_1, ratio 12.0")
    for changed in (replace(volume, series=lossy), replace(volume, resampling=resampling)):
        panel = _panel(_pixels(replace(reading, volume=changed)), 0)
        assert _is(capture.WARNING, panel[corner]).any()


def test_limitations_make_the_footer(reading: CaseReading):
    """One more limitation, one more line."""
    longer = replace(reading, limitations=(*reading.limitations, "One more thing."))
    assert len(_pixels(longer)) == len(_pixels(reading)) + capture.LINE


def test_lesions_beyond_the_panels_are_counted(volume: CTVolume, make_reading: MakeReading):
    """Whoever sees the picture alone learns that there is more: one line more in the footer."""
    three = [((d, 24, 18), 2.0) for d in (2, 4, 6)]
    shown, more = (make_reading(volume, balls) for balls in (three, [*three, ((9, 24, 18), 2.0)]))
    assert len(_pixels(more)) == len(_pixels(shown)) + capture.LINE


def test_equal_readings_give_equal_bytes(reading: CaseReading):
    """The PNG holds neither a time nor a name."""
    assert render_overlay(reading) == render_overlay(reading)
    assert b"Doe" not in render_overlay(reading)
