"""Volumes made from shapes, without a DICOM object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

Triple = tuple[float, float, float]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Grid:
    """A `HounsfieldGrid`."""

    hounsfield: npt.NDArray[np.float32]
    spacing_mm: Triple


@pytest.fixture(scope="session")
def grid() -> type[Grid]:
    """Makes a volume from densities and spacing."""
    return Grid


@pytest.fixture(scope="session")
def ellipsoid() -> Callable[..., Mask]:
    """`ellipsoid(shape, spacing_mm, centre_mm=, radii_mm=)`: the voxels inside one."""

    def make(
        shape: tuple[int, int, int], spacing_mm: Triple, *, centre_mm: Triple, radii_mm: Triple
    ) -> Mask:
        axes = [np.arange(n) * s for n, s in zip(shape, spacing_mm, strict=True)]
        points = np.meshgrid(*axes, indexing="ij", sparse=True)
        d, h, w = (((p - c) / r) ** 2 for p, c, r in zip(points, centre_mm, radii_mm, strict=True))
        return d + h + w <= 1

    return make


THORAX_SHAPE, THORAX_SPACING_MM = (100, 192, 256), (2.0, 1.4, 1.4)


@pytest.fixture(scope="session")
def empty_thorax(ellipsoid: Callable[..., Mask]) -> npt.NDArray[np.float32]:
    """Body of soft tissue, two lungs, tubes of 1 to 4 mm radius from each hilum; noise 15 HU."""
    shape, spacing = THORAX_SHAPE, THORAX_SPACING_MM
    y, x = (np.arange(n) * s for n, s in zip(shape[1:], spacing[1:], strict=True))
    centre = (100.0, y[-1] / 2, x[-1] / 2)
    voxels = np.full(shape, -1000, np.float32)
    body = ((y[:, None] - centre[1]) / 115) ** 2 + ((x - centre[2]) / 160) ** 2 <= 1
    voxels[:, body] = 30
    rng = np.random.default_rng(3)
    for side in (-1, 1):
        lung_centre = (100.0, centre[1], centre[2] + side * 75)
        lung = ellipsoid(shape, spacing, centre_mm=lung_centre, radii_mm=(110, 80, 55))
        voxels[lung] = -850
        hilum = np.array([100.0, centre[1], centre[2] + side * 25])
        points = np.argwhere(lung) * spacing
        for _ in range(14):
            towards = np.array([rng.normal(), rng.normal(), 0.8 * side])
            towards /= np.linalg.norm(towards)
            along = (points - hilum) @ towards
            away = np.linalg.norm(points - hilum - along[:, None] * towards, axis=1)
            vessel = (along > 0) & (along < 110) & (away < 4.0 - 3.0 * along / 110)
            voxels[tuple((points[vessel] / spacing).round().astype(int).T)] = 40
    return voxels + rng.normal(0, 15, shape).astype(np.float32)
