"""The published LIDC-IDRI nodule crops, with the readers' ratings where they match.

Crops: 128 x 128 native pixels of the up to three largest axial slices of a nodule, 8 bits, and
the number of readers (0 to 4) who marked each pixel. Ratings, pixel spacing and diameter come
from another table of the same annotations. Both list a patient's nodules in the order in
which pylidc clusters the readers' marks, so nodules are paired by that order and kept only
where their extent along all three axes agrees; the diameter takes no part in the pairing
and so measures its quality.
"""

from __future__ import annotations

import csv
import io
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import MissingInputError

__all__ = ["LidcNodule", "MatchQuality", "measure_match", "read_nodules", "sources_digest"]

CROPS = Path("medical/pathology-reports/lidc-pathology-diagnosis")
RATINGS = Path("medical/lidc-annotations/nodule_info.csv")
TARS = tuple(f"slices-{k}.tar" for k in range(1, 5))
READER_STEP = 60  # a mask's grey value is 60 x the number of readers
# A nodule's extent in the crops over that of the table, where the crops hold only three slices.
EXTENT_RATIO = (0.6, 1.25)

Pixels8 = npt.NDArray[np.uint8]
Row = Mapping[str, str]


@dataclass(frozen=True, eq=False)
class LidcNodule:
    """One nodule that all sources agree on.

    Args:
        patient: The data set's pseudonym.
        images: `(S, 128, 128)` uint8, S = 1 to 3 slices by falling area.
        readers: `(S, 128, 128)` uint8, readers per pixel.
        spacing_mm: In-plane pixel spacing (H = W).
        diameter_mm: The table's diameter.
        malignancy: Mean of the readers' ratings, 1 (highly unlikely) to 5 (highly suspicious).
    """

    patient: str
    images: Pixels8
    readers: Pixels8
    spacing_mm: float
    diameter_mm: float
    malignancy: float

    @property
    def equivalent_diameter_mm(self) -> float:
        """Diameter of the disc with the area that any reader marked on the largest slice."""
        area = float((self.readers > 0).sum(axis=(1, 2)).max())
        return 2 * float(np.sqrt(area / np.pi)) * self.spacing_mm


@dataclass(frozen=True)
class MatchQuality:
    """How well crops and ratings fit together.

    Args:
        nodules: Nodules that have crops.
        patients: Patients that have crops.
        matched: Nodules paired with a rating.
        matched_patients: Patients with at least one pair.
        diameter_correlation: Of the crops' equivalent diameter with the table's diameter.
        diameter_ratio_median: Median of the former over the latter.
    """

    nodules: int
    patients: int
    matched: int
    matched_patients: int
    diameter_correlation: float
    diameter_ratio_median: float


def read_nodules(data: Path) -> tuple[LidcNodule, ...]:
    """Reads the crops under `data` that have a rating, sorted by patient and nodule.

    Raises:
        MissingInputError: A source file is not there.
    """
    _require(data)
    crops = _crops_by_patient(data)
    ratings: dict[str, list[Row]] = defaultdict(list)
    for row in _rows(data / RATINGS):
        ratings[row["patient_id"]].append(row)
    pictures = _pictures(data / CROPS)
    nodules = []
    for patient in sorted(crops):
        numbers = sorted(crops[patient])
        if len(numbers) != len(ratings[patient]):
            continue  # the lists cannot be paired by order
        for number, rating in zip(numbers, ratings[patient], strict=True):
            rows = crops[patient][number]
            nodule = _nodule(patient, number, rows, rating, pictures)
            if _extents_agree(nodule.readers, len(rows), rating):
                nodules.append(nodule)
    return tuple(nodules)


def measure_match(data: Path, nodules: tuple[LidcNodule, ...]) -> MatchQuality:
    """Measures how many crops found a rating, and how well their diameters agree."""
    crops = _crops_by_patient(data)
    ours = np.array([n.equivalent_diameter_mm for n in nodules])
    table = np.array([n.diameter_mm for n in nodules])
    return MatchQuality(
        nodules=sum(map(len, crops.values())),
        patients=len(crops),
        matched=len(nodules),
        matched_patients=len({n.patient for n in nodules}),
        diameter_correlation=float(np.corrcoef(ours, table)[0, 1]),
        diameter_ratio_median=float(np.median(ours / table)),
    )


def sources_digest(data: Path) -> dict[str, str]:
    """Returns the sha256 of each source file, by its path under `data`."""
    _require(data)
    return {str(path): sha256((data / path).read_bytes()).hexdigest() for path in _sources()}


def _sources() -> list[Path]:
    return [RATINGS, CROPS / "slices.csv", *(CROPS / tar for tar in TARS)]


def _require(data: Path) -> None:
    missing = [str(path) for path in _sources() if not (data / path).is_file()]
    if missing:
        raise MissingInputError(
            "LIDC crops",
            expected=f"{len(_sources())} source files under the data folder",
            found=f"no {', '.join(missing)}",
            remedy="Name the folder that holds `medical` (docs/medical.md says where it is from).",
        )


def _rows(path: Path) -> Iterator[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _crops_by_patient(data: Path) -> dict[str, dict[int, list[Row]]]:
    crops: dict[str, dict[int, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in _rows(data / CROPS / "slices.csv"):
        crops[row["patient"]][int(row["nodule"])].append(row)
    return crops


def _pictures(folder: Path) -> dict[str, Pixels8]:
    from PIL import Image as Picture

    pictures: dict[str, Pixels8] = {}
    for name in TARS:
        with tarfile.open(folder / name) as tar:
            for member in tar:
                file = tar.extractfile(member)
                if file is not None:
                    pictures[member.name] = np.asarray(Picture.open(io.BytesIO(file.read())))
    return pictures


def _nodule(
    patient: str, number: int, rows: list[Row], rating: Row, pictures: Mapping[str, Pixels8]
) -> LidcNodule:
    kept = [row for row in rows if row["kept"] == "1"]
    kept.sort(key=lambda row: -int(row["area_2of4"]))
    stem = f"{patient}/nodule-{number}"
    masks = np.stack([pictures[f"{stem}/mask-{row['slice']}.png"] for row in kept])
    return LidcNodule(
        patient=patient,
        images=np.stack([pictures[f"{stem}/slice-{row['slice']}.png"] for row in kept]),
        readers=(masks // READER_STEP).astype(np.uint8),
        spacing_mm=float(rating["pixel_x"]),
        diameter_mm=float(rating["diameter"]),
        malignancy=float(rating["malignancy_level"]),
    )


def _extents_agree(readers: Pixels8, n_slices: int, rating: Row) -> bool:
    """Compares slices, rows and columns; the table's box lies between voxel centres in D."""
    table_slices = float(rating["bbox_z"]) / float(rating["pixel_z"]) + 1
    if abs(table_slices - n_slices) > 1.01:
        return False
    marked: npt.NDArray[np.bool_] = np.max(readers, axis=0) > 0
    for axis, name in ((1, "x"), (0, "y")):  # the table's x runs along the rows' index
        extent = int(np.count_nonzero(np.max(marked, axis=axis)))
        table = float(rating[f"bbox_{name}"]) / float(rating[f"pixel_{name}"])
        if not EXTENT_RATIO[0] <= (extent + 1) / table <= EXTENT_RATIO[1]:
            return False
    return True
