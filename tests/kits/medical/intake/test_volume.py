"""A volume's voxels lie where the slices say, and nothing is interpolated unasked."""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from common.errors import GeometryError, PixelDecodingError
from kits.medical.intake.series import read_series
from kits.medical.intake.volume import build_volume

MakeCTSeries = Callable[..., Path]

RAMP = np.arange(6 * 5 * 4).reshape(6, 5, 4) - 60  # every voxel has its own value

angles = st.floats(min_value=-math.pi, max_value=math.pi)
lengths_mm = st.integers(min_value=25, max_value=500).map(lambda n: n / 100)


def _orientation(yaw: float, pitch: float) -> tuple[float, ...]:
    """Two unit vectors at a right angle, turned about two axes."""
    row = (math.cos(yaw), math.sin(yaw), 0.0)
    column = (-math.sin(yaw) * math.cos(pitch), math.cos(yaw) * math.cos(pitch), math.sin(pitch))
    return row + column


@settings(max_examples=25, deadline=None)
@given(yaw=angles, pitch=angles, spacing_mm=st.tuples(lengths_mm, lengths_mm, lengths_mm))
def test_the_affine_gives_back_the_position_of_every_slice(
    make_ct_series: MakeCTSeries,
    tmp_path_factory: pytest.TempPathFactory,
    yaw: float,
    pitch: float,
    spacing_mm: tuple[float, float, float],
):
    """Whatever the orientation, voxel (d, 0, 0) lies at the ImagePositionPatient of slice d."""
    folder = tmp_path_factory.mktemp("series")
    orientation = _orientation(yaw, pitch)
    make_ct_series(folder, RAMP, spacing_mm=spacing_mm, orientation=orientation)
    volume = build_volume(read_series(folder))
    for d in range(len(RAMP)):
        position = [float(value) for value in volume.source_slice(d).ImagePositionPatient]
        assert volume.position_lps_mm((d, 0, 0)) == pytest.approx(position, abs=1e-5)
    step = np.array(volume.position_lps_mm((0, 0, 1))) - volume.position_lps_mm((0, 0, 0))
    np.testing.assert_allclose(step, np.array(orientation[:3]) * spacing_mm[2], atol=1e-6)
    assert volume.spacing_mm == pytest.approx(spacing_mm, abs=1e-5)
    np.testing.assert_array_equal(volume.hounsfield, RAMP)
    assert volume.resampling is None


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(min_value=0, max_value=10**6))
def test_the_order_of_files_does_not_matter(
    make_ct_series: MakeCTSeries, tmp_path_factory: pytest.TempPathFactory, seed: int
):
    """Slices under shuffled names give the same volume, affine and digest."""
    folder = make_ct_series(tmp_path_factory.mktemp("series"), RAMP)
    shuffled = tmp_path_factory.mktemp("shuffled")
    paths = sorted(folder.iterdir())
    random.Random(seed).shuffle(paths)
    for number, path in enumerate(paths):
        shutil.copy(path, shuffled / str(number))
    one, other = build_volume(read_series(folder)), build_volume(read_series(shuffled))
    np.testing.assert_array_equal(one.hounsfield, other.hounsfield)
    np.testing.assert_array_equal(one.affine, other.affine)
    assert one.series.digest == other.series.digest


def test_a_regular_series_is_never_interpolated(make_ct_series: MakeCTSeries, tmp_path: Path):
    """`resample` changes nothing where nothing is wrong."""
    volume = build_volume(read_series(make_ct_series(tmp_path / "ct", RAMP)), resample=True)
    assert volume.resampling is None
    assert volume.notes == ()
    np.testing.assert_array_equal(volume.hounsfield, RAMP)


def test_the_arrays_are_read_only_float32(make_ct_series: MakeCTSeries, tmp_path: Path):
    """Stages after this one cannot change what was read."""
    volume = build_volume(read_series(make_ct_series(tmp_path / "ct", RAMP)))
    assert volume.hounsfield.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        volume.hounsfield[0, 0, 0] = 0
    with pytest.raises(ValueError, match="read-only"):
        volume.affine[0, 0] = 0


def test_an_irregular_series_is_refused_with_what_was_found(
    make_ct_series: MakeCTSeries, tmp_path: Path
):
    """The gap, its place and the way out are in the message."""
    positions = [(-100.0, -120.0, z) for z in (0, 2, 4, 8, 10, 12)]
    series = read_series(make_ct_series(tmp_path / "ct", RAMP, positions_mm=positions))
    with pytest.raises(GeometryError, match=r"1 missing after slice 3 of 6 .*--resample"):
        build_volume(series)
    assert build_volume(series, resample=True).hounsfield.shape == (7, 5, 4)


def test_rescale_of_each_slice_is_applied(make_ct_series: MakeCTSeries, tmp_path: Path):
    """A scanner may scale every slice by its own slope and intercept."""

    def edit(index: int, slice_: Dataset) -> None:
        slice_.RescaleIntercept = -1024 + index

    volume = build_volume(read_series(make_ct_series(tmp_path / "ct", RAMP, edit=edit)))
    np.testing.assert_array_equal(volume.hounsfield, RAMP + np.arange(6)[:, None, None])


def test_truncated_pixel_data_of_one_slice_is_refused(make_ct_series: MakeCTSeries, tmp_path: Path):
    """A file cut in its pixel data spoils the volume; the message tells where it lies."""
    folder = make_ct_series(tmp_path / "ct", RAMP)
    path = folder / "slice_002.dcm"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(PixelDecodingError, match=r"slice at \(-100\.00, -120\.00, -46\.00\) mm"):
        build_volume(read_series(folder))


class TestSingleSlice:
    """One slice is a volume of depth 1 whose spacing is its thickness, and a note says so."""

    def test_its_spacing_is_its_thickness(self, make_ct_series: MakeCTSeries, tmp_path: Path):
        """The affine steps along the normal by the thickness."""
        folder = make_ct_series(tmp_path / "ct", RAMP[:1], spacing_mm=(5.0, 0.7, 0.8))
        volume = build_volume(read_series(folder))
        assert volume.spacing_mm == pytest.approx((5.0, 0.7, 0.8))
        assert volume.position_lps_mm((1, 0, 0)) == pytest.approx((-100.0, -120.0, -45.0))
        assert "spacing is unknown and taken to be its thickness, 5.00 mm" in volume.notes[0]

    @pytest.mark.parametrize("thickness", [None, 0])
    def test_without_thickness_it_is_refused(
        self, make_ct_series: MakeCTSeries, tmp_path: Path, thickness: int | None
    ):
        """No length across the slice is invented."""
        folder = make_ct_series(tmp_path / "ct", RAMP[:1], header={"SliceThickness": thickness})
        with pytest.raises(GeometryError, match="SliceThickness above 0 mm"):
            build_volume(read_series(folder))


class TestNotes:
    """What limits a result is told in sentences."""

    @pytest.mark.parametrize(
        ("header", "words"),
        [
            ({"SliceThickness": 1}, "1.00 mm thick lie up to 2.00 mm apart"),
            ({"GantryDetectorTilt": -15}, "states a gantry tilt of 15.0 degrees; the positions"),
            ({"PhotometricInterpretation": "MONOCHROME1"}, "MONOCHROME1"),
            ({"LossyImageCompression": "01"}, "compressed with loss (method not stated)"),
            ({"PixelPaddingValue": 1024}, "PixelPaddingValue stands for 0 HU"),
        ],
    )
    def test_facts_of_the_header(
        self,
        make_ct_series: MakeCTSeries,
        tmp_path: Path,
        header: dict[str, object],
        words: str,
    ):
        """Gaps wider than slices, a tilt not seen, the display, loss, doubtful padding."""
        (note,) = build_volume(
            read_series(make_ct_series(tmp_path / "ct", RAMP, header=header))
        ).notes
        assert words in note

    def test_thickness_that_varies(self, make_ct_series: MakeCTSeries, tmp_path: Path):
        """All thicknesses are named."""

        def edit(index: int, slice_: Dataset) -> None:
            slice_.SliceThickness = 2.0 if index else 4.0

        volume = build_volume(read_series(make_ct_series(tmp_path / "ct", RAMP, edit=edit)))
        assert volume.notes == ("SliceThickness is not one for all slices: 2.00 mm, 4.00 mm.",)
