"""One CT series, read from a folder or a file and checked at this border.

Axis order of everything that follows: `D H W`; positions LPS+ millimetres.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from common.errors import ImageError
from common.task import digest_of
from kits.medical.intake.conformance import require_conformant
from kits.medical.intake.frames import split_frames
from kits.medical.intake.geometry import SeriesGeometry, measure_geometry, order_slices
from kits.medical.intake.instances import Instance, count_kinds, list_instances, read_whole
from kits.medical.intake.pixels import describe_loss

__all__ = ["CTSeries", "read_series"]

# Everything that changes a voxel's value or place; identifiers and dates stay out.
DIGESTED_KEYWORDS = (
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
)


@dataclass(frozen=True, eq=False)
class CTSeries:
    """A CT series whose slices are parallel, of one size and in order.

    Attributes:
        slices: `D` single-frame datasets in rising order along the slice normal, headers
            complete, PixelData as received. Frames of an Enhanced CT object appear as slices
            that share its SOPInstanceUID; their InstanceNumber is the frame number.
        instances: The objects as received: the slices themselves, or the Enhanced CT objects.
        geometry: Where the slices lie; `geometry.problems` says what is irregular.
        BodyPartExamined: As stated by the header, where all slices agree.
        lossy: How the pixels lost information by compression, or None.
        left_out: What lay beside the series and was not read: "SEG x2", "CT localiser x1".
        digest: sha256 of pixels and geometry, whatever the order and names of the files. Equal
            pixels in two series have equal digests: an identifier that has to be unique must
            also take the SeriesInstanceUID in.
    """

    slices: tuple[Dataset, ...]
    instances: tuple[Dataset, ...]
    geometry: SeriesGeometry
    StudyInstanceUID: str
    SeriesInstanceUID: str
    FrameOfReferenceUID: str
    BodyPartExamined: str | None
    lossy: str | None
    left_out: tuple[str, ...]
    digest: str


def read_series(source: Path, *, SeriesInstanceUID: str | None = None) -> CTSeries:
    """Reads the one CT series in a folder (and its folders below), or in a file.

    Args:
        source: A folder of DICOM files, or one DICOM file.
        SeriesInstanceUID: Which series, if there are several: its UID, or its number in the
            list that the refusal shows (by SeriesNumber, then UID; from 1).

    Raises:
        MissingInputError: `source` is not there.
        GeometryError: Positions, sizes or orientations cannot belong to one stack.
        ImageError: There is no CT series, more than one, or its headers lack what is needed.
    """
    found, n_other_files = list_instances(source)
    chosen = _choose_series(found, SeriesInstanceUID)
    left_out = _describe_left_out(set(found) - set(chosen), n_other_files)
    instances = read_whole(sorted(chosen, key=lambda instance: instance.path))
    frames = [frame for instance in instances for frame in split_frames(instance)]
    require_conformant(frames)
    distinct = _without_copies(frames)
    if len(distinct) < len(frames):
        left_out.append(f"exact copies of slices x{len(frames) - len(distinct)}")
    slices = order_slices(list(distinct.values()))
    kept = {str(slice_.SOPInstanceUID): slice_ for slice_ in instances}
    return CTSeries(
        slices=slices,
        instances=tuple(kept[uid] for uid in dict.fromkeys(str(s.SOPInstanceUID) for s in slices)),
        geometry=measure_geometry(slices),
        StudyInstanceUID=str(slices[0].StudyInstanceUID),
        SeriesInstanceUID=chosen[0].SeriesInstanceUID,
        FrameOfReferenceUID=str(slices[0].FrameOfReferenceUID),
        BodyPartExamined=_body_part(slices),
        lossy=describe_loss(slices),
        left_out=tuple(left_out),
        digest=digest_of(*(key.encode() for key in sorted(key for key, _ in distinct))),
    )


def _choose_series(
    found: Sequence[Instance], SeriesInstanceUID: str | None
) -> tuple[Instance, ...]:
    """Returns the instances of the only CT series, or of the one asked for."""
    by_uid: defaultdict[str, list[Instance]] = defaultdict(list)
    for instance in found:
        if instance.kind == "CT":
            by_uid[instance.SeriesInstanceUID].append(instance)
    series = sorted(
        by_uid.values(), key=lambda s: (min(i.series_number for i in s), s[0].SeriesInstanceUID)
    )
    if not series:
        raise ImageError(
            "CT series",
            expected="images of modality CT",
            found=", ".join(count_kinds(found)),
            remedy="Give a CT series; other objects cannot be read as one.",
        )
    if SeriesInstanceUID is not None:
        return _asked_for(series, SeriesInstanceUID)
    others = [i for i in found if i.kind != "CT" and not i.is_companion]
    if len(series) > 1 or others:
        listed = [f"{n} CT series: {_listing(series)}"] if (n := len(series)) else []
        raise ImageError(
            "CT series",
            expected="one CT series",
            found="; ".join([*listed, *count_kinds(others)]),
            remedy="Name the series by its number in this list or by its SeriesInstanceUID "
            "(command line: --series), or give a folder that holds it alone.",
        )
    return tuple(series[0])


def _describe_left_out(others: Collection[Instance], n_other_files: int) -> list[str]:
    n_ct = sum(instance.kind == "CT" for instance in others)
    words = [f"CT images of other series x{n_ct}"] if n_ct else []
    words += count_kinds(instance for instance in others if instance.kind != "CT")
    return words + ([f"files that hold no DICOM object x{n_other_files}"] if n_other_files else [])


def _asked_for(series: Sequence[Sequence[Instance]], wanted: str) -> tuple[Instance, ...]:
    if wanted.isdigit() and 1 <= int(wanted) <= len(series):
        return tuple(series[int(wanted) - 1])
    for instances in series:
        if instances[0].SeriesInstanceUID == wanted:
            return tuple(instances)
    raise ImageError(
        "CT series",
        expected="the number or SeriesInstanceUID of a CT series that is there",
        found=f"{len(series)} CT series, none by that name: {_listing(series)}",
        remedy="Name one of these by its number.",
    )


def _listing(series: Sequence[Sequence[Instance]]) -> str:
    entries = []
    for number, instances in enumerate(series[:20], start=1):
        n_slices = sum(instance.shape[0] for instance in instances)
        sizes = sorted({f"{rows} x {columns}" for _, rows, columns in (i.shape for i in instances)})
        word = "slice" if n_slices == 1 else "slices"
        entries.append(f"[{number}] {n_slices} {word} of {' and '.join(sizes[:3])}")
    if len(series) > len(entries):
        entries.append(f"and {len(series) - len(entries)} more")
    return ", ".join(entries)


def _without_copies(frames: Sequence[Dataset]) -> dict[tuple[str, str], Dataset]:
    """Returns the frames by content digest and SOPInstanceUID: the same file twice is one."""
    return {(_frame_digest(frame), str(frame.SOPInstanceUID)): frame for frame in frames}


def _frame_digest(frame: Dataset) -> str:
    stated = []
    for keyword in DIGESTED_KEYWORDS:
        value = frame.get(keyword)
        values = [value] if value is None or isinstance(value, str | float | int) else list(value)
        stated.append(f"{keyword}={[None if v is None else float(v) for v in values]}")
    syntax = str(frame.file_meta.TransferSyntaxUID)
    return digest_of(frame.PixelData, syntax.encode(), "\n".join(stated).encode())


def _body_part(slices: Sequence[Dataset]) -> str | None:
    stated = {str(slice_.get("BodyPartExamined") or "").strip().upper() for slice_ in slices}
    return stated.pop() or None if len(stated) == 1 else None
