"""What the imaging steps need of a volume: densities and spacing, axis order `D H W`."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["HounsfieldGrid", "Mask", "Voxels"]

Mask = npt.NDArray[np.bool_]
Voxels = npt.NDArray[np.floating[Any]]


class HounsfieldGrid(Protocol):
    """A regular grid of Hounsfield units; `kits.medical.intake.volume.CTVolume` is one."""

    @property
    def hounsfield(self) -> npt.NDArray[np.float32]:
        """`(D, H, W)`."""
        ...

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel spacing, `D H W`."""
        ...
