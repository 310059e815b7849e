"""Objects in a folder are told apart by their headers, without showing names."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from common.errors import ImageError
from kits.medical.intake.instances import count_kinds, list_instances, read_whole

MakeCTSeries = Callable[..., Path]

PLANES = np.zeros((3, 4, 5))


def test_objects_and_other_files_are_counted(make_ct_series: MakeCTSeries, tmp_path: Path):
    """Folders below are searched; files without the DICM prefix are counted as others."""
    make_ct_series(tmp_path / "deep" / "er", PLANES, header={"SeriesNumber": 7})
    (tmp_path / "readme").write_text("x")
    instances, n_others = list_instances(tmp_path)
    assert count_kinds(instances) == ("CT x3",)
    assert n_others == 1
    assert {i.shape for i in instances} == {(1, 4, 5)}
    assert {i.series_number for i in instances} == {7}


def test_kinds_are_sorted_and_counted(make_ct_series: MakeCTSeries, tmp_path: Path):
    """A remark goes with its kind."""
    make_ct_series(tmp_path / "a", PLANES, header={"Modality": "US", "PixelSpacing": None})
    make_ct_series(tmp_path / "b", PLANES, header={"Modality": "SEG"}, name="b")
    instances, _ = list_instances(tmp_path)
    assert count_kinds(instances) == ("SEG x3", "US x3 (without pixel spacing)")
    assert [i.is_companion for i in instances] == [False] * 3 + [True] * 3


def test_a_file_that_ends_early_is_told_as_a_count(make_ct_series: MakeCTSeries, tmp_path: Path):
    """Two of three are cut right after the prefix."""
    folder = make_ct_series(tmp_path / "ct", PLANES)
    for name in ("slice_000.dcm", "slice_001.dcm"):
        (folder / name).write_bytes((folder / name).read_bytes()[:150])
    with pytest.raises(ImageError, match="found 2 of 3 truncated or damaged"):
        list_instances(folder)


def test_no_warning_quotes_a_value(make_ct_series: MakeCTSeries, tmp_path: Path):
    """pydicom's warnings about odd values would print the value, here a name in a UID."""
    folder = make_ct_series(tmp_path / "ct", PLANES)
    path = folder / "slice_000.dcm"
    odd = dcmread(path)
    odd.add_new("FrameOfReferenceUID", "LO", "Doe")  # written as text, read as a UID
    odd["FrameOfReferenceUID"].VR = "UI"
    odd.save_as(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        instances, _ = list_instances(folder)
        datasets = read_whole(instances)
        assert str(datasets[0].FrameOfReferenceUID) == "Doe"
