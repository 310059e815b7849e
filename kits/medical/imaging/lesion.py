"""The nodule network behind the Model face: one lesion in, one calibrated probability out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.errors import BackboneError, TaskError
from common.models.base import ModelProfile
from common.models.network import NetworkFolder
from common.task import Array, Image, Result, Task
from kits.medical.imaging.transforms import NetworkForm
from kits.medical.tasks import NODULE_NETWORK_FOLDER

__all__ = ["NoduleNetwork"]


class NoduleNetwork:
    """How suspicious of malignancy readers would call a nodule, 0 to 1.

    A task holds one `Image` part `(size, size, 2 x slices)` as
    `kits.medical.imaging.transforms.network_input` makes it. The network sees each slice
    with its mask; the mean logit is calibrated (Platt, 1999) with the figures in config.json.

    Args:
        folder: Holds config.json and model.safetensors, whose sha256 the former states.

    Raises:
        BackboneError: A file is absent, damaged, or not the one that the config states.
        MissingExtraError: MONAI is not installed.
    """

    def __init__(self, folder: Path = NODULE_NETWORK_FOLDER) -> None:
        self._network = NetworkFolder.read(folder)
        config = self._network.config
        try:
            self.form = NetworkForm(**config["form"])
            self._slope = float(config["calibration"]["slope"])
            self._intercept = float(config["calibration"]["intercept"])
            self._profile = ModelProfile(
                name=self._network.name,
                modality=Image.modality,
                digest=self._network.digest,
                accuracy=float(config["auc"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BackboneError(
                "nodule network",
                expected="a config.json with form, calibration and auc",
                found=type(error).__name__,
                remedy="Restore the folder, or train it again: kits.medical.weights.train.",
            ) from error

    @property
    def profile(self) -> ModelProfile:
        """What the network accepts; its accuracy is the cross-validated AUC."""
        return self._profile

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        """Returns `probability` for each task, in order.

        Raises:
            TaskError: A task has another part than one image of the network's form.
        """
        import torch

        if not tasks:
            return []
        batch = np.concatenate([self._slices(task) for task in tasks])  # (tasks x slices, 2, H, W)
        with torch.inference_mode():
            logits = self._network.module(torch.from_numpy(batch))[:, 0].double().numpy()
        means = logits.reshape(len(tasks), self.form.slices).mean(axis=1)
        probabilities = 1 / (1 + np.exp(-(self._slope * means + self._intercept)))
        # Six digits: how a batch is put together changes the seventh.
        return [Result(values={"probability": round(float(p), 6)}) for p in probabilities]

    def _slices(self, task: Task) -> Array:
        images = [part for part in task.parts.values() if isinstance(part, Image)]
        shape = (self.form.size, self.form.size, 2 * self.form.slices)
        if len(task.parts) != 1 or len(images) != 1 or images[0].pixels.shape != shape:
            raise TaskError(
                "nodule task",
                expected=f"one image part of shape {shape}",
                found=f"{len(task.parts)} parts, images {[i.pixels.shape for i in images]}",
                remedy="Make the part with kits.medical.imaging.transforms.network_input.",
            )
        planes = images[0].pixels.astype(np.float32).transpose(2, 0, 1)
        return planes.reshape(self.form.slices, 2, self.form.size, self.form.size)
