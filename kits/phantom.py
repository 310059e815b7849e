"""A chest-CT phantom with known nodules, written as a valid DICOM series.

Geometry in mm, axis order `D H W`, index (0, 0, 0) at the patient's right, front and
feet; so `W` grows to the left, `H` to the back and `D` to the head (LPS). Densities are
typical Hounsfield values: lung -860, fat -100, soft tissue 40, bone 450. It imitates no
person: every shape is an ellipsoid, a tube or a sphere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = [
    "NODULES",
    "SPACING_MM",
    "Nodule",
    "make_phantom",
    "phantom_position_lps_mm",
    "write_phantom_series",
]

Hounsfield = npt.NDArray[np.float32]
Points = npt.NDArray[np.floating[Any]]

SHAPE = (72, 320, 320)
SPACING_MM = (2.5, 1.05, 1.05)
AIR, LUNG, FAT, SOFT_TISSUE, BONE = -1000.0, -860.0, -100.0, 40.0, 450.0
NOISE_SD_HU = 12.0
ORIGIN_MM = -160.0


@dataclass(frozen=True)
class Nodule:
    """A solid sphere in a lung.

    Args:
        centre_mm: Position along `D H W` from voxel (0, 0, 0).
        diameter_mm: Its diameter.
        density_hu: Its density.
    """

    centre_mm: tuple[float, float, float]
    diameter_mm: float
    density_hu: float


NODULES = (
    Nodule((105.0, 190.0, 78.0), 20.0, 35.0),
    Nodule((60.0, 215.0, 262.0), 14.0, 30.0),
    Nodule((130.0, 120.0, 250.0), 9.0, 45.0),
    Nodule((85.0, 125.0, 90.0), 7.0, 60.0),
)
"""The known answer: right lung (small `W`) 20 and 7 mm, left lung 14 and 9 mm."""


def make_phantom(seed: int = 0) -> Hounsfield:
    """Returns the phantom's voxels `(72, 320, 320)` in HU; equal seeds give equal voxels."""
    rng = np.random.default_rng(seed)
    grid = [np.arange(n) * step for n, step in zip(SHAPE, SPACING_MM, strict=True)]
    z, y, x = np.meshgrid(*grid, indexing="ij", sparse=True)
    centre_y, centre_x = grid[1][-1] / 2, grid[2][-1] / 2
    voxels = np.full(SHAPE, AIR, np.float32)

    def ellipse(cy: float, cx: float, ry: float, rx: float) -> npt.NDArray[np.bool_]:
        disc = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1  # (1, H, W)
        return np.broadcast_to(disc, SHAPE)

    voxels[ellipse(centre_y, centre_x, 115, 155)] = FAT
    inside = ellipse(centre_y, centre_x, 103, 143)
    voxels[inside] = SOFT_TISSUE
    _add_ribs(voxels, inside, (z, y, x), (centre_y, centre_x))
    lungs = np.zeros(SHAPE, bool)
    for cx in (centre_x - 73, centre_x + 73):
        lungs |= ((z - 85) / 105) ** 2 + ((y - centre_y) / 82) ** 2 + ((x - cx) / 54) ** 2 <= 1
    heart = ((z - 55) / 55) ** 2 + ((y - centre_y + 30) / 45) ** 2 + (
        (x - centre_x - 25) / 50
    ) ** 2 <= 1
    lungs &= ~heart
    voxels[lungs] = LUNG
    voxels[ellipse(centre_y + 75, centre_x, 17, 19)] = BONE
    for start, end, radius in _vessel_tree(rng, centre_y, centre_x):
        _add_tube(voxels, lungs, start, end, radius)
    for nodule in NODULES:
        _add_sphere(voxels, nodule)
    # The scanner's point spread, then its noise.
    blurred = ndimage.gaussian_filter(voxels, sigma=(0.3, 0.6, 0.6))
    noisy = blurred + rng.normal(0, NOISE_SD_HU, SHAPE).astype(np.float32)
    rounded: Hounsfield = np.round(np.clip(noisy, -1024, 3071)).astype(np.float32)
    return rounded


def write_phantom_series(folder: Path, *, seed: int = 0) -> Path:
    """Writes the phantom as one CT series, a file for each slice, and returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    voxels = make_phantom(seed)
    for index, pixels in enumerate(voxels):
        header = _slice_header(index, seed)
        header.PixelData = (pixels + 1024).astype("<u2").tobytes()
        header.save_as(folder / f"slice-{index:03d}.dcm", enforce_file_format=True)
    return folder


def phantom_position_lps_mm(point_mm: tuple[float, float, float]) -> tuple[float, float, float]:
    """Returns a point of the phantom (mm along `D H W`) in patient coordinates (LPS, mm)."""
    d, h, w = point_mm
    return (ORIGIN_MM + w, ORIGIN_MM + h, d)


def _add_ribs(
    voxels: Hounsfield,
    inside: npt.NDArray[np.bool_],
    zyx: tuple[Points, Points, Points],
    centre: tuple[float, float],
) -> None:
    z, y, x = zyx
    radius = np.sqrt(((y - centre[0]) / 97) ** 2 + ((x - centre[1]) / 137) ** 2)
    shell = np.abs(radius - 1) < 0.035
    # Ribs fall towards the front: their phase along D depends on H.
    phase = np.mod(z + 0.25 * (y - centre[0]), 25.0)
    voxels[inside & shell & (phase < 9.0)] = BONE


def _vessel_tree(
    rng: np.random.Generator, centre_y: float, centre_x: float
) -> list[tuple[Points, Points, float]]:
    """Returns tubes (start, end in mm, radius in mm) that branch from each hilum."""
    tubes: list[tuple[Points, Points, float]] = []

    def grow(start: Points, direction: Points, radius: float, length: float) -> None:
        end = start + direction * length
        if not _near_nodule(start, end, radius):
            tubes.append((start, end, radius))
        if radius < 0.9:
            return
        for _ in range(2):
            turned = direction + rng.normal(0, 0.45, 3)
            grow(end, turned / np.linalg.norm(turned), radius * 0.75, length * 0.82)

    for side in (-1.0, 1.0):
        hilum = np.array([90.0, centre_y + 5, centre_x + side * 32])
        for vertical in (-0.9, -0.3, 0.3, 0.9):
            direction = np.array([vertical, rng.normal(0, 0.4), side])
            grow(hilum, direction / np.linalg.norm(direction), 3.6, 24.0)
    return tubes


def _near_nodule(start: Points, end: Points, radius: float) -> bool:
    steps = np.linspace(0, 1, 9)[:, None]
    points = start + steps * (end - start)
    return any(
        np.linalg.norm(points - np.array(n.centre_mm), axis=1).min()
        < n.diameter_mm / 2 + radius + 3.0
        for n in NODULES
    )


def _box(low: Points, high: Points) -> tuple[tuple[slice, slice, slice], list[Points]]:
    """Returns the voxels between two corners in mm, and their coordinates along each axis."""
    slices, axes = [], []
    for k in range(3):
        first = max(0, int(np.floor(low[k] / SPACING_MM[k])))
        last = min(SHAPE[k], int(np.ceil(high[k] / SPACING_MM[k])) + 1)
        slices.append(slice(first, max(first, last)))
        axes.append(np.arange(first, max(first, last)) * SPACING_MM[k])
    return (slices[0], slices[1], slices[2]), axes


def _add_tube(
    voxels: Hounsfield,
    lungs: npt.NDArray[np.bool_],
    start: Points,
    end: Points,
    radius_mm: float,
) -> None:
    box, axes = _box(np.minimum(start, end) - radius_mm, np.maximum(start, end) + radius_mm)
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    along = end - start
    t = np.clip((points - start) @ along / (along @ along), 0, 1)
    distance = np.linalg.norm(points - start - t[..., None] * along, axis=-1)
    voxels[box][(distance <= radius_mm) & lungs[box]] = SOFT_TISSUE


def _add_sphere(voxels: Hounsfield, nodule: Nodule) -> None:
    centre, radius = np.array(nodule.centre_mm), nodule.diameter_mm / 2
    box, axes = _box(centre - radius - 3, centre + radius + 3)
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    distance = np.linalg.norm(points - centre, axis=-1)
    # A voxel that the surface cuts holds a share of each density (partial volume).
    share = np.clip((radius - distance) / SPACING_MM[1] + 0.5, 0, 1)
    region = voxels[box]
    voxels[box] = region + share * (nodule.density_hu - region)


def _slice_header(index: int, seed: int) -> Any:
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    def uid(*pieces: str) -> str:
        return str(generate_uid(entropy_srcs=["tandem chest phantom", str(seed), *pieces]))

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = uid("slice", str(index))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header: Dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SpecificCharacterSet = "ISO_IR 192"
    header.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    header.StudyDate = header.SeriesDate = header.ContentDate = "20260101"
    header.StudyTime = header.SeriesTime = header.ContentTime = "120000"
    header.AcquisitionNumber, header.AccessionNumber = 1, ""
    header.Modality, header.Manufacturer = "CT", "Tandem"
    header.ReferringPhysicianName, header.StudyDescription = "", "Chest phantom"
    header.SeriesDescription, header.BodyPartExamined = "Chest phantom, lung nodules", "CHEST"
    header.PatientName, header.PatientID = "PHANTOM^CHEST", "TANDEM-PHANTOM"
    header.PatientBirthDate, header.PatientSex, header.PatientPosition = "", "O", "HFS"
    header.StudyInstanceUID, header.SeriesInstanceUID = uid("study"), uid("series")
    header.FrameOfReferenceUID, header.PositionReferenceIndicator = uid("frame"), ""
    header.StudyID, header.SeriesNumber, header.InstanceNumber = "1", 1, index + 1
    header.KVP, header.SliceThickness = "120", f"{SPACING_MM[0]}"
    header.ImagePositionPatient = [ORIGIN_MM, ORIGIN_MM, round(index * SPACING_MM[0], 3)]
    header.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    header.PixelSpacing = [f"{SPACING_MM[1]}", f"{SPACING_MM[2]}"]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.Rows, header.Columns = SHAPE[1], SHAPE[2]
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
    header.PixelRepresentation = 0
    header.RescaleIntercept, header.RescaleSlope, header.RescaleType = "-1024", "1", "HU"
    header.WindowCenter, header.WindowWidth = "-500", "1500"
    return header
