"""Frames of an Enhanced CT object as slices that carry their own attributes.

An Enhanced or Legacy Converted Enhanced CT object (PS3.3 A.38, A.70) keeps position,
orientation, spacing and rescale in functional groups, shared or per frame (PS3.3 C.7.6.16).
The stages after intake want them where a plain CT slice has them.
"""

from __future__ import annotations

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames

from common.errors import PixelDecodingError

__all__ = ["split_frames"]

# Functional group -> what a plain CT slice carries itself. PS3.3 C.7.6.16.2, C.8.15.3
GROUP_ATTRIBUTES = {
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelValueTransformationSequence": ("RescaleIntercept", "RescaleSlope", "RescaleType"),
    "CTAcquisitionDetailsSequence": ("GantryDetectorTilt",),
}
FRAME_KEYWORDS = ("InstanceNumber", "NumberOfFrames", "PixelData")
FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


def split_frames(instance: Dataset) -> tuple[Dataset, ...]:
    """Returns one slice per frame of `instance`, or `instance` itself if it has one slice.

    Each slice keeps the SOPInstanceUID of its object; its InstanceNumber is the frame number,
    from 1. Encapsulated frames stay compressed. The slices share the elements of their object:
    they are for reading.

    Raises:
        PixelDecodingError: The object has fewer frames than its header states.
    """
    if "PerFrameFunctionalGroupsSequence" not in instance:
        return (instance,)
    groups = instance.PerFrameFunctionalGroupsSequence
    n_frames = int(instance.get("NumberOfFrames", 1))
    pixels = _frame_pixels(instance, n_frames)
    if not len(groups) == len(pixels) == n_frames:
        raise PixelDecodingError(
            "Enhanced CT object",
            expected=f"{n_frames} frames, as its header states",
            found=f"{len(groups)} frame headers and {len(pixels)} frames of pixels",
            remedy="Send the object again: it is truncated or damaged.",
        )
    header = Dataset()
    header.update(
        {
            element.tag: element
            for element in instance
            if element.keyword not in (*FUNCTIONAL_GROUPS, *FRAME_KEYWORDS)
        }
    )
    return tuple(
        _slice_of(instance, header, frame=frame, pixels=pixels[frame]) for frame in range(n_frames)
    )


def _frame_pixels(instance: Dataset, n_frames: int) -> list[bytes]:
    if "PixelData" not in instance:
        return []
    if instance.file_meta.TransferSyntaxUID.is_encapsulated:
        table = instance.get("ExtendedOffsetTable"), instance.get("ExtendedOffsetTableLengths")
        offsets = None if None in table else table
        return list(
            generate_frames(instance.PixelData, number_of_frames=n_frames, extended_offsets=offsets)
        )
    length = instance.Rows * instance.Columns * instance.BitsAllocated // 8
    whole = len(instance.PixelData) // length
    return [
        instance.PixelData[start : start + length]
        for start in range(0, min(whole, n_frames) * length, length)
    ]


def _slice_of(instance: Dataset, header: Dataset, *, frame: int, pixels: bytes) -> Dataset:
    slice_ = Dataset()
    slice_.update(header)
    for groups in (
        instance.get("SharedFunctionalGroupsSequence") or [Dataset()],
        [instance.PerFrameFunctionalGroupsSequence[frame]],
    ):
        for group, keywords in GROUP_ATTRIBUTES.items():
            for item in groups[0].get(group) or []:
                for keyword in keywords:
                    if keyword in item:
                        slice_[keyword] = item[keyword]
    slice_.InstanceNumber = frame + 1
    slice_.file_meta = FileMetaDataset()
    slice_.file_meta.TransferSyntaxUID = instance.file_meta.TransferSyntaxUID
    encapsulated = slice_.file_meta.TransferSyntaxUID.is_encapsulated
    slice_.PixelData = encapsulate([pixels]) if encapsulated else pixels
    slice_["PixelData"].VR = "OB" if encapsulated else "OW"
    if encapsulated:
        slice_["PixelData"].is_undefined_length = True
    return slice_
