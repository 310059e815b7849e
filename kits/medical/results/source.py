"""What every result takes from its source: slice headers, date and time, notices, software."""

from __future__ import annotations

import datetime as dt
import warnings
from copy import deepcopy

from pydicom import Dataset
from pydicom.valuerep import DA, TM

from common.errors import ModelError
from common.versions import software_versions
from kits.medical.fusion import CaseReading
from kits.medical.intake.identifiers import derive_uid
from kits.medical.intake.series import CTSeries

__all__ = [
    "MANUFACTURER",
    "MODEL_NAME",
    "content_datetime",
    "lesion_model",
    "nameless_header",
    "notices",
    "result_uid",
    "software_version",
    "source_header",
    "stamp",
]

MANUFACTURER = "Tandem"
MODEL_NAME = "Tandem medical kit"

# Patient and General Study attributes of type 2 (PS3.3 C.7.1.1 and C.7.2.1): a writer must
# give them, empty where the source has none.
_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
)
# What results say of the patient, the study and the scanner, beyond that.
_CONTEXT = (
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",
    "IssuerOfPatientID",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "StudyInstanceUID",
    "StudyDescription",
    "Manufacturer",
    "ManufacturerModelName",
    "AcquisitionDate",
    "AcquisitionTime",
)
# What highdicom reads of an image to refer to it, to place a segmentation on it, and to say
# that it was compressed with loss.
_IMAGE = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "ImageType",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "Rows",
    "Columns",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_SEX_VALUES = ("M", "F", "O")  # PS3.3 C.7.1.1, Enumerated Values of (0010,0040)
_DATES = ("Content", "Acquisition", "Series", "Study", "InstanceCreation")


def source_header(header: Dataset) -> Dataset:
    """Returns what the DICOM writers need of a slice's header, in a form that they accept.

    The caller's dataset stays as it is. Missing type 2 attributes are present and empty; dates,
    times and a sex that break their value representation are empty too; text is decoded, so
    that it can be written as ISO_IR 192 whatever the source's character set was.

    Args:
        header: One slice, or one instance, of a CTSeries.
    """
    copy = Dataset()
    with warnings.catch_warnings():
        # pydicom quotes the value that it warns of, and these values name the patient.
        warnings.simplefilter("ignore")
        for keyword in (*_TYPE_2, *_CONTEXT, *_IMAGE):
            if header.get(keyword) not in (None, ""):
                copy.add(deepcopy(header[keyword]))
        copy.decode()
        copy.SpecificCharacterSet = "ISO_IR 192"
        for keyword in _TYPE_2:
            if keyword not in copy:
                setattr(copy, keyword, "")
        _clear_invalid(copy)
    return copy


def _clear_invalid(header: Dataset) -> None:
    for keyword, kind in (("PatientBirthDate", DA), ("StudyDate", DA), ("StudyTime", TM)):
        if _parsed(header, keyword, kind) is None:
            setattr(header, keyword, "")
    if header.PatientSex not in _SEX_VALUES:
        header.PatientSex = ""
    methods = ("DeidentificationMethod", "DeidentificationMethodCodeSequence")
    if header.get("PatientIdentityRemoved") == "YES" and not any(m in header for m in methods):
        header.DeidentificationMethod = "Not stated by the source"  # type 1C, PS3.3 C.7.1.1


def _parsed(header: Dataset, keyword: str, kind: type[DA] | type[TM]) -> DA | TM | None:
    value = header.get(keyword)
    if not value:
        return None
    try:
        return kind(str(value))
    except ValueError:
        return None


def content_datetime(series: CTSeries) -> tuple[DA, TM]:
    """Returns the date and time that results carry as their content date and time.

    They are the source's own (content, else acquisition, series, study or creation), so that
    equal input gives equal bytes; only a source without any date gets the present moment.

    Args:
        series: The series that was read.
    """
    first = series.slices[0]
    for name in _DATES:
        date = _parsed(first, f"{name}Date", DA)
        if date is not None:
            return date, _parsed(first, f"{name}Time", TM) or TM("000000")
    now = dt.datetime.now(tz=dt.UTC)
    return DA(now.date()), TM(now.time())


def software_version() -> str:
    """Returns the version of this package, "0" where it runs without being installed."""
    return software_versions().get("tandem-kits", "0")


def notices(reading: CaseReading) -> tuple[str, ...]:
    """Returns every sentence that a result must carry besides the conclusion, once each.

    The reading's limitations, then the volume's notes, which say whether the source was
    compressed with loss or was resampled.

    Args:
        reading: The reading that is written.
    """
    return tuple(dict.fromkeys((*reading.limitations, *reading.volume.notes)))


def nameless_header(header: Dataset) -> Dataset:
    """Returns `source_header(header)` with an empty name, which `stamp` gives back later.

    Args:
        header: One slice, or one instance, of a CTSeries.
    """
    copy = source_header(header)
    copy.PatientName = ""
    return copy


def result_uid(kind: str, reading: CaseReading) -> str:
    """Returns the UID of one part of this reading's results.

    It repeats for equal input, and differs for another series with the same pixels, for other
    models and for another version of this software: one UID never names two contents.

    Args:
        kind: What is named ("SEG instance", "SR series" ...).
        reading: The reading that is written.
    """
    models = [f"{p.model_digest}:{p.adapter_digest}" for p in reading.provenance]
    source = reading.volume.series.SeriesInstanceUID
    return derive_uid(kind, reading.input_digest, source, software_version(), *models)


def stamp(result: Dataset, series: CTSeries) -> None:
    """Completes a new SOP instance: the patient's name, and the source's date and time.

    The name is given here because highdicom quotes a name that it doubts in a warning; the
    date and time replace the moment of writing, so that equal input gives equal bytes.

    Args:
        result: A SOP instance that highdicom has made; changed in place.
        series: The series that it derives from.
    """
    result.PatientName = source_header(series.slices[0]).PatientName
    date, time = content_datetime(series)
    result.ContentDate, result.ContentTime = date, time
    for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
        result.pop(keyword, None)
    for equipment in result.get("ContributingEquipmentSequence", ()):
        if equipment.get("ManufacturerModelName") == "highdicom":
            equipment.pop("ContributionDateTime", None)


def lesion_model(reading: CaseReading) -> tuple[str, str]:
    """Returns name and version of what gave the lesions their probability.

    The version is the start of the digest of the weights, and of the adapter's, if there is
    one; several models (a fallback answered too) are joined by "+".

    Args:
        reading: A reading with scored lesions.

    Raises:
        ModelError: The provenance names no model.
    """
    if not reading.provenance:
        raise ModelError(
            "case reading",
            expected="the provenance of the model that scored its lesions",
            found="none",
            remedy="Build the reading with the provenance of every model that answered.",
        )
    names = [provenance.model for provenance in reading.provenance]
    digests = [d for p in reading.provenance for d in (p.model_digest, p.adapter_digest) if d]
    return "+".join(names), "+".join(digest[:16] for digest in digests)
