"""CT series are read whole, in order and checked; what cannot be one is refused in words."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    BasicTextSRStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from common.errors import GeometryError, ImageError, MissingInputError, TandemError
from kits.medical.intake import series as series_module
from kits.medical.intake.series import read_series
from kits.medical.intake.volume import build_volume

MakeCTSeries = Callable[..., Path]

RAMP = np.arange(8 * 6 * 5).reshape(8, 6, 5) - 100  # every voxel has its own value


def _edit_first(keyword: str, value: object) -> Callable[[int, Dataset], None]:
    def edit(index: int, slice_: Dataset) -> None:
        if index == 0:
            setattr(slice_, keyword, value)

    return edit


def _write_text_report(folder: Path) -> None:
    report = Dataset()
    report.Modality = "SR"
    report.SOPClassUID = BasicTextSRStorage
    report.SOPInstanceUID = generate_uid(entropy_srcs=["report"])
    report.SeriesInstanceUID = generate_uid(entropy_srcs=["report series"])
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    report.save_as(folder / "report.dcm", enforce_file_format=True)


def test_slices_are_ordered_along_their_normal(make_ct_series: MakeCTSeries, tmp_path: Path):
    """InstanceNumber and file names run against the positions; the positions count."""
    positions = [(-100.0, -120.0, -2.0 * index) for index in range(8)]
    series = read_series(make_ct_series(tmp_path / "ct", RAMP, positions_mm=positions))
    assert [float(s.ImagePositionPatient[2]) for s in series.slices] == [*range(-14, 1, 2)]
    np.testing.assert_array_equal(build_volume(series).hounsfield, RAMP[::-1])
    assert series.geometry.gaps_mm == ((2.0, 7),)
    assert series.geometry.problems == ()


def test_the_header_facts_that_later_stages_need_are_carried(
    make_ct_series: MakeCTSeries, tmp_path: Path
):
    """UIDs, body part, spacing, thickness and the absence of loss come from the header."""
    series = read_series(make_ct_series(tmp_path / "ct", RAMP, spacing_mm=(2.0, 0.7, 0.8)))
    first = series.slices[0]
    assert series.StudyInstanceUID == first.StudyInstanceUID
    assert series.SeriesInstanceUID == first.SeriesInstanceUID
    assert series.FrameOfReferenceUID == first.FrameOfReferenceUID
    assert series.instances == series.slices
    assert series.BodyPartExamined == "CHEST"
    assert series.lossy is None
    assert series.left_out == ()
    assert series.geometry.pixel_spacing_mm == (0.7, 0.8)
    assert series.geometry.slice_thickness_mm == 2.0


def test_file_names_and_order_change_neither_digest_nor_volume(
    make_ct_series: MakeCTSeries, tmp_path: Path
):
    """The same slices under shuffled names, in folders below, are the same series."""
    folder = make_ct_series(tmp_path / "ct", RAMP)
    paths = sorted(folder.iterdir())
    names = [str(number) for number in range(len(paths))]
    random.Random(3).shuffle(names)
    shuffled = tmp_path / "shuffled"
    for path, name in zip(paths, names, strict=True):
        target = shuffled / f"part{int(name) % 2}" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    one, other = read_series(folder), read_series(shuffled)
    assert one.digest == other.digest
    np.testing.assert_array_equal(build_volume(one).hounsfield, build_volume(other).hounsfield)


@pytest.mark.parametrize(
    "change",
    [
        {"hounsfield": RAMP + 1},
        {"spacing_mm": (2.5, 0.75, 0.75)},
        {"origin_mm": (-100.0, -120.0, -50.5)},
        {"header": {"RescaleIntercept": -1000}},
    ],
)
def test_the_digest_follows_pixels_and_geometry(
    make_ct_series: MakeCTSeries, tmp_path: Path, change: dict[str, Any]
):
    """Any change of a voxel's value or place gives another digest."""
    before = read_series(make_ct_series(tmp_path / "before", RAMP))
    after = read_series(make_ct_series(tmp_path / "after", **{"hounsfield": RAMP, **change}))
    assert before.digest != after.digest


def test_identifiers_are_no_part_of_the_digest(make_ct_series: MakeCTSeries, tmp_path: Path):
    """Another patient and other UIDs, equal pixels: an equal digest."""
    one = read_series(make_ct_series(tmp_path / "one", RAMP))
    header = {"PatientName": "Roe^Richard", "PatientID": "other"}
    other = read_series(make_ct_series(tmp_path / "two", RAMP, name="other", header=header))
    assert one.SeriesInstanceUID != other.SeriesInstanceUID
    assert one.digest == other.digest


def test_one_file_is_a_series_of_one_slice(make_ct_series: MakeCTSeries, tmp_path: Path):
    """Only the file named is read, not its neighbours."""
    series = read_series(make_ct_series(tmp_path / "ct", RAMP) / "slice_003.dcm")
    assert len(series.slices) == 1
    assert series.geometry.gaps_mm == ()


def test_localisers_captures_and_reports_are_left_out_and_said_so(
    make_ct_series: MakeCTSeries, tmp_path: Path
):
    """They are no rival of the one CT series, even where they share its UID."""

    def edit(index: int, slice_: Dataset) -> None:
        if index == 0:
            slice_.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        if index == 1:
            slice_.SOPClassUID = SecondaryCaptureImageStorage

    folder = make_ct_series(tmp_path / "ct", RAMP, edit=edit)
    _write_text_report(folder)
    (folder / "notes.txt").write_text("no DICOM")
    series = read_series(folder)
    assert len(series.slices) == 6
    assert series.left_out == (
        "CT localiser x1",
        "CT screen capture x1",
        "SR x1 (without pixel data)",
        "files that hold no DICOM object x1",
    )


def test_exact_copies_of_a_slice_count_once(make_ct_series: MakeCTSeries, tmp_path: Path):
    """The same file exported twice is no duplicate position."""
    folder = make_ct_series(tmp_path / "ct", RAMP)
    shutil.copy(folder / "slice_002.dcm", folder / "again.dcm")
    series = read_series(folder)
    assert len(series.slices) == 8
    assert series.left_out == ("exact copies of slices x1",)


class TestSeveralSeries:
    """A folder with more than one candidate is refused; the reader chooses."""

    @pytest.fixture
    def folder(self, make_ct_series: MakeCTSeries, tmp_path: Path) -> Path:
        make_ct_series(tmp_path / "both" / "a", RAMP[:3], name="second", header={"SeriesNumber": 5})
        return make_ct_series(tmp_path / "both" / "b", RAMP, name="first").parent

    def test_they_are_listed_by_number_without_identifiers(self, folder: Path):
        """Counts and sizes tell them apart; order is by SeriesNumber."""
        with pytest.raises(ImageError, match=r"\[1\] 8 slices of 6 x 5, \[2\] 3 slices") as caught:
            read_series(folder)
        assert "--series" in caught.value.remedy
        assert "1.2.826" not in str(caught.value)

    @pytest.mark.parametrize(("number", "n_slices"), [("1", 8), ("2", 3)])
    def test_a_number_or_a_uid_chooses(self, folder: Path, number: str, n_slices: int):
        """Both name the same series; the others are counted as left out."""
        by_number = read_series(folder, SeriesInstanceUID=number)
        by_uid = read_series(folder, SeriesInstanceUID=by_number.SeriesInstanceUID)
        assert len(by_number.slices) == len(by_uid.slices) == n_slices
        assert by_uid.left_out == (f"CT images of other series x{11 - n_slices}",)

    @pytest.mark.parametrize("wanted", ["0", "3", "1.2.3"])
    def test_a_name_that_fits_none_is_refused(self, folder: Path, wanted: str):
        """The list is shown again, the wrong name is not."""
        with pytest.raises(ImageError, match="none by that name"):
            read_series(folder, SeriesInstanceUID=wanted)

    def test_images_of_another_modality_are_rivals_too(
        self, make_ct_series: MakeCTSeries, tmp_path: Path
    ):
        """A radiograph beside the CT may be another patient's: not left out unasked."""
        folder = make_ct_series(tmp_path / "mixed" / "ct", RAMP).parent
        header = {"Modality": "DX", "SOPClassUID": DigitalXRayImageStorageForPresentation}
        make_ct_series(folder / "dx", RAMP[:1], name="dx", header=header)
        with pytest.raises(ImageError, match=r"1 CT series: .*; DX x1\."):
            read_series(folder)
        assert read_series(folder, SeriesInstanceUID="1").left_out == ("DX x1",)


class TestBadInput:
    """Each fault gives its own error, and none of them names the patient."""

    def test_a_missing_folder(self, tmp_path: Path):
        """The path itself stays out of the message: it may be a name."""
        with pytest.raises(MissingInputError, match="nothing at the path") as caught:
            read_series(tmp_path / "Doe_Jane")
        assert "Doe" not in str(caught.value)

    def test_a_folder_without_dicom(self, tmp_path: Path):
        """Empty, or with other files only."""
        with pytest.raises(ImageError, match="0 files, none of them"):
            read_series(tmp_path)
        (tmp_path / "a.txt").write_text("text")
        with pytest.raises(ImageError, match="1 files, none of them"):
            read_series(tmp_path)

    def test_another_modality(self, make_ct_series: MakeCTSeries, tmp_path: Path):
        """An MR series has no Hounsfield units."""
        folder = make_ct_series(tmp_path / "mr", RAMP, header={"Modality": "MR"})
        with pytest.raises(ImageError, match="found MR x8"):
            read_series(folder)

    def test_only_localisers(self, make_ct_series: MakeCTSeries, tmp_path: Path):
        """A scout alone is no volume."""
        header = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
        with pytest.raises(ImageError, match="found CT localiser x8"):
            read_series(make_ct_series(tmp_path / "ct", RAMP, header=header))

    @pytest.mark.parametrize("bytes_kept", [140, 300, 900])
    def test_a_file_cut_within_its_header(
        self, make_ct_series: MakeCTSeries, tmp_path: Path, bytes_kept: int
    ):
        """One damaged file spoils the series: it could be the slice that matters."""
        folder = make_ct_series(tmp_path / "ct", RAMP)
        path = folder / "slice_004.dcm"
        path.write_bytes(path.read_bytes()[:bytes_kept])
        with pytest.raises(ImageError):
            read_series(folder)

    @pytest.mark.parametrize(
        "keyword", ["RescaleSlope", "RescaleIntercept", "PixelData", "FrameOfReferenceUID"]
    )
    def test_a_slice_without_what_gives_its_values(
        self, make_ct_series: MakeCTSeries, tmp_path: Path, keyword: str
    ):
        """Missing rescale, pixels or frame of reference, in one slice of eight."""

        def edit(index: int, slice_: Dataset) -> None:
            if index == 3:
                delattr(slice_, keyword)

        with pytest.raises(ImageError, match=f"no {keyword} in 1 of 8 slices"):
            read_series(make_ct_series(tmp_path / "ct", RAMP, edit=edit))

    @pytest.mark.parametrize(
        "keyword", ["PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"]
    )
    def test_slices_without_geometry(
        self, make_ct_series: MakeCTSeries, tmp_path: Path, keyword: str
    ):
        """No pixel spacing, position or orientation: no millimetres."""
        folder = make_ct_series(tmp_path / "ct", RAMP, header={keyword: None})
        with pytest.raises(GeometryError, match=f"no {keyword} in 8 of 8 slices"):
            read_series(folder)

    @pytest.mark.parametrize(
        ("keyword", "value", "found"),
        [
            ("PixelSpacing", [0.5, 0.5], "pixel spacings from 0.5000 to 0.7500 mm"),
            ("PixelSpacing", [0.0, 0.5], "not two lengths above 0 mm"),
            ("ImageOrientationPatient", [1, 0, 0, 0, 0, 1], "not parallel"),
            ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], "not two unit vectors"),
            ("ImageOrientationPatient", [0, 0, 0, 0, 0, 0], "not two unit vectors"),
        ],
    )
    def test_slices_that_disagree_or_make_no_sense(
        self, make_ct_series: MakeCTSeries, tmp_path: Path, keyword: str, value: Any, found: str
    ):
        """One slice of another spacing or orientation, or an impossible one."""
        folder = make_ct_series(tmp_path / "ct", RAMP, edit=_edit_first(keyword, value))
        with pytest.raises(GeometryError, match=found):
            read_series(folder)

    @pytest.mark.parametrize(
        ("keyword", "value", "found"),
        [
            ("RescaleSlope", 0, "a rescale slope of 0 in 1 of 8"),
            ("RescaleType", "US", "rescale to US units instead of HU in 1 of 8"),
            ("SamplesPerPixel", 3, "several samples per pixel"),
            ("PhotometricInterpretation", "PALETTE COLOR", "not monochrome"),
            ("NumberOfFrames", 2, "several frames without frame headers"),
            ("FrameOfReferenceUID", "1.2.3", "2 different FrameOfReferenceUID"),
            ("StudyInstanceUID", "1.2.3", "2 different StudyInstanceUID"),
        ],
    )
    def test_pixels_that_are_no_hounsfield_units(
        self, make_ct_series: MakeCTSeries, tmp_path: Path, keyword: str, value: Any, found: str
    ):
        """Derived maps, colour and slices of two studies are refused."""
        folder = make_ct_series(tmp_path / "ct", RAMP, edit=_edit_first(keyword, value))
        with pytest.raises(ImageError, match=found):
            read_series(folder)

    def test_slices_of_two_sizes(self, make_ct_series: MakeCTSeries, tmp_path: Path):
        """Rows and columns are counted in the message."""
        folder = make_ct_series(tmp_path / "ct", RAMP)
        make_ct_series(folder / "more", RAMP[:2, :, :4], origin_mm=(-100, -120, 50))
        with pytest.raises(GeometryError, match=r"6 x 4 pixels x2, 6 x 5 pixels x8"):
            read_series(folder)

    def test_all_faults_are_told_at_once(self, make_ct_series: MakeCTSeries, tmp_path: Path):
        """A sender mends them in one go."""
        header = {"PixelSpacing": None, "RescaleSlope": None}
        with pytest.raises(ImageError, match=r"no RescaleSlope .*; no PixelSpacing"):
            read_series(make_ct_series(tmp_path / "ct", RAMP, header=header))

    def test_two_slices_at_one_position(self, make_ct_series: MakeCTSeries, tmp_path: Path):
        """Two phases or reconstructions in one series cannot be told apart."""
        folder = make_ct_series(tmp_path / "ct", RAMP)
        make_ct_series(folder / "again", RAMP[:2] + 7, edit=_edit_first("SOPInstanceUID", "1.2.3"))
        with pytest.raises(
            GeometryError, match=r"10 slices at 8 positions; .* -50\.00 mm along the slice normal"
        ):
            read_series(folder)

    def test_a_long_gap(self, make_ct_series: MakeCTSeries, tmp_path: Path):
        """Three missing slices in a row are too much to bridge, resampling or not."""
        positions = [(-100.0, -120.0, 2.0 * z) for z in (0, 1, 2, 3, 7, 8, 9, 10)]
        with pytest.raises(GeometryError, match=r"found 8\.00 mm after slice 4 of 8 \(between 6"):
            read_series(make_ct_series(tmp_path / "ct", RAMP, positions_mm=positions))


@pytest.mark.parametrize(
    "keyword", ["Modality", "RescaleSlope", "PixelSpacing", "SeriesInstanceUID", "PixelData"]
)
def test_no_message_names_the_patient_a_file_or_a_uid(
    make_ct_series: MakeCTSeries, tmp_path: Path, keyword: str
):
    """The folder and a file are named after the patient, as exports often are."""
    folder = make_ct_series(tmp_path / "Doe_Jane", RAMP)
    path = (folder / "slice_001.dcm").rename(folder / "Doe_Jane.dcm")
    slice_ = dcmread(path)
    delattr(slice_, keyword)
    slice_.save_as(path)
    with pytest.raises(TandemError) as caught:
        read_series(folder)
    for secret in ("Doe", "Jane", "SECRET", "1.2.826", str(tmp_path)):
        assert secret not in str(caught.value)


def test_public_names_are_sorted():
    """`__all__` lists exactly the public names, sorted."""
    assert series_module.__all__ == sorted(series_module.__all__) == ["CTSeries", "read_series"]
