"""Readings with lesions placed by hand, on a made series and on any other volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from common.task import Provenance
from kits.medical.fusion import RESEARCH_USE, CaseReading, LesionReading
from kits.medical.imaging.candidates import Candidate
from kits.medical.imaging.measurements import measure
from kits.medical.imaging.region import BodyRegion
from kits.medical.intake.identifiers import derive_uid
from kits.medical.intake.series import read_series
from kits.medical.intake.volume import CTVolume, build_volume

Ball = tuple[tuple[float, float, float], float]
"""Centre index (d, h, w) and radius in mm."""

BALLS: tuple[Ball, ...] = (((5, 24, 18), 6.0), ((8, 40, 44), 3.5))
SUPPORT = ("present", "not mentioned", "uncertain", "absent", "no report")


def ball_mask(volume: CTVolume, ball: Ball) -> npt.NDArray[np.bool_]:
    """The voxels `(D, H, W)` within a ball."""
    centre, radius_mm = ball
    grid = np.indices(volume.hounsfield.shape)
    steps = [(grid[k] - centre[k]) * volume.spacing_mm[k] for k in range(3)]
    return sum(step**2 for step in steps) <= radius_mm**2


def _candidate(mask: npt.NDArray[np.bool_]) -> Candidate:
    voxels = np.argwhere(mask)
    start, stop = voxels.min(axis=0), voxels.max(axis=0) + 1
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    return Candidate(start=tuple(int(i) for i in start), mask=mask[box])


MakeReading = Callable[..., CaseReading]


@pytest.fixture(scope="session")
def make_reading() -> MakeReading:
    """`make_reading(volume, balls, region=..., scored=...)`: a reading with those lesions."""

    def make(
        volume: CTVolume,
        balls: Sequence[Ball] = BALLS,
        *,
        region: str = "chest",
        scored: bool = True,
        limitations: Sequence[str] = ("Tested on solid nodules only.",),
    ) -> CaseReading:
        lesions = []
        for index, ball in enumerate(balls):
            candidate = _candidate(ball_mask(volume, ball))
            lesions.append(
                LesionReading(
                    identifier=f"L{index + 1}",
                    tracking_uid=derive_uid("lesion", volume.series.digest, str(index)),
                    candidate=candidate,
                    measurements=measure(candidate, volume),
                    probability=0.9 - 0.2 * index if scored else None,
                    report_support=SUPPORT[index % len(SUPPORT)],
                    matched_finding=None,
                    laterality="right" if index == 0 else None,
                )
            )
        lungs = volume.hounsfield < -400 if region == "chest" else None
        return CaseReading(
            volume=volume,
            region=BodyRegion(
                name=region, reason="chosen by hand", lung_volume_ml=12.5, lungs=lungs
            ),
            lesions=tuple(lesions),
            findings=(),
            report=None,
            disagreement="The report mentions fewer nodules." if lesions else None,
            conclusion=f"{len(lesions)} lesions were found.",
            limitations=(RESEARCH_USE, *limitations),
            provenance=(Provenance("nodule-network", "ab" * 32, "cd" * 32),) if scored else (),
            input_digest=volume.series.digest,
        )

    return make


@pytest.fixture(scope="session")
def balls_hounsfield() -> npt.NDArray[np.int16]:
    """`(12, 64, 56)`: lung with two balls of soft tissue where `BALLS` says."""
    grid = np.indices((12, 64, 56))
    hounsfield = np.full((12, 64, 56), -850, np.int16)
    for centre, radius_mm in BALLS:
        spacing = (2.5, 0.8, 0.7)
        distance2 = sum(((grid[k] - centre[k]) * spacing[k]) ** 2 for k in range(3))
        hounsfield[distance2 <= radius_mm**2] = 40
    return hounsfield


@pytest.fixture(scope="session")
def series_folder(
    make_ct_series: Callable[..., Path],
    balls_hounsfield: npt.NDArray[np.int16],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """An oblique, regular series on disk, rows and columns of different spacing."""
    angle = np.deg2rad(10)
    return make_ct_series(
        tmp_path_factory.mktemp("series") / "balls",
        balls_hounsfield,
        spacing_mm=(2.5, 0.8, 0.7),
        orientation=(1.0, 0.0, 0.0, 0.0, float(np.cos(angle)), float(np.sin(angle))),
        name="balls",
    )


@pytest.fixture(scope="session")
def volume(series_folder: Path) -> CTVolume:
    """The volume of `series_folder`."""
    return build_volume(read_series(series_folder))


@pytest.fixture(scope="session")
def reading(volume: CTVolume, make_reading: MakeReading) -> CaseReading:
    """Two scored lesions in a chest."""
    return make_reading(volume)
