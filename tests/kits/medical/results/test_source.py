"""Sources with gaps, odd text and odd dates give headers that can be written, and no leaks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from common.errors import ModelError
from common.task import Provenance
from kits.medical.fusion import CaseReading
from kits.medical.intake.series import read_series
from kits.medical.intake.volume import CTVolume
from kits.medical.results.source import (
    content_datetime,
    lesion_model,
    nameless_header,
    notices,
    result_uid,
    source_header,
)

MakeCTSeries = Callable[..., Path]


def _as_bytes(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


@pytest.fixture
def slice_(series_folder: Path) -> Dataset:
    return dcmread(series_folder / "slice_000.dcm")


def test_the_callers_dataset_stays_as_it_is(slice_: Dataset):
    """A copied header may be changed; the slice it came from may not."""
    before = _as_bytes(slice_)
    header = source_header(slice_)
    header.PatientName = "Changed"
    header.ImageType[0] = "DERIVED"
    assert _as_bytes(slice_) == before
    assert "PixelData" not in header


def test_missing_type_2_attributes_are_empty(slice_: Dataset):
    """What a source leaves out is written empty, as type 2 wants."""
    for keyword in ("PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "AccessionNumber"):
        if keyword in slice_:
            delattr(slice_, keyword)
    slice_.SpecificCharacterSet = ""
    header = source_header(slice_)
    assert [header.PatientSex, header.StudyID, header.AccessionNumber] == ["", "", ""]
    assert not header.PatientBirthDate
    assert not header.StudyDate
    assert header.SpecificCharacterSet == "ISO_IR 192"


def test_values_that_break_their_representation_are_left_empty(slice_: Dataset):
    """A birth date of letters and an unknown sex are not passed on, nor shown in a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        slice_.PatientBirthDate = "19BAD"
        slice_.StudyTime = "noon"
        slice_.PatientSex = "U"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        header = source_header(slice_)
    assert not header.PatientBirthDate
    assert not header.StudyTime
    assert header.PatientSex == ""


def test_text_of_any_character_set_becomes_unicode(slice_: Dataset):
    """A name in ISO_IR 100 can be written in ISO_IR 192 and read back."""
    slice_.PatientName = "Müller^Zoë"
    slice_ = dcmread(BytesIO(_as_bytes(slice_)))
    header = source_header(slice_)
    written = Dataset()
    written.SpecificCharacterSet = header.SpecificCharacterSet
    written.PatientName = header.PatientName
    buffer = BytesIO()
    written.save_as(buffer, implicit_vr=False, little_endian=True)
    assert dcmread(buffer, force=True).PatientName == "Müller^Zoë"


def test_a_header_for_writers_has_no_name(slice_: Dataset):
    """highdicom quotes a doubtful name in a warning, so it never gets to see one."""
    assert nameless_header(slice_).PatientName == ""
    assert source_header(slice_).PatientName == "Doe^Jane"


def test_a_removed_identity_says_how(slice_: Dataset):
    """PS3.3 C.7.1.1 asks for the method with PatientIdentityRemoved YES; some sources lack it."""
    slice_.PatientIdentityRemoved = "YES"
    slice_.DeidentificationMethod = ""
    assert source_header(slice_).DeidentificationMethod == "Not stated by the source"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"ContentDate": "20240203", "ContentTime": "101112"}, ("20240203", "101112")),
        ({"AcquisitionDate": "20240204"}, ("20240204", "000000")),
        ({}, ("20240102", "030405")),
    ],
)
def test_the_content_date_is_the_sources(
    make_ct_series: MakeCTSeries,
    tmp_path: Path,
    header: dict[str, str],
    expected: tuple[str, str],
):
    """Content, else acquisition, series or study; a missing time is midnight."""
    folder = make_ct_series(tmp_path / "dated", np.zeros((2, 8, 8), np.int16), header=header)
    assert tuple(map(str, content_datetime(read_series(folder)))) == expected


def test_every_notice_stands_once(reading: CaseReading):
    """Limitations first, then the volume's notes, none twice."""
    note = "Pixels were compressed with loss (test)."
    noted = replace(
        reading,
        volume=replace(reading.volume, notes=(note, "Another note.")),
        limitations=(*reading.limitations, note),
    )
    assert notices(noted) == (*reading.limitations, note, "Another note.")


def test_a_uid_names_one_content(reading: CaseReading, volume: CTVolume):
    """Other models, or the same pixels in another series, give other UIDs."""
    uid = result_uid("SEG instance", reading)
    other_model = (Provenance("nodule-network", "ef" * 32, "cd" * 32),)
    other_series = replace(volume, series=replace(volume.series, SeriesInstanceUID="1.2.3"))
    assert uid == result_uid("SEG instance", reading)
    assert uid != result_uid("SR instance", reading)
    assert uid != result_uid("SEG instance", replace(reading, provenance=other_model))
    assert uid != result_uid("SEG instance", replace(reading, volume=other_series))


def test_the_lesion_network_is_named_by_the_provenance(reading: CaseReading):
    """Its version is the start of its digest; without it the reading is faulty."""
    assert lesion_model(reading)[1] == "ab" * 8
    with pytest.raises(ModelError, match="provenance"):
        lesion_model(replace(reading, provenance=()))
