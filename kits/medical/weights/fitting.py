"""Fits the nodule network to crops: data, augmentation, loss and schedule.

Equal seeds give equal weights on one kind of device. Arrays are `(N, ...)` over crops; a
lesion's logit is the mean over its crops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from common.models.network import build_network
from kits.medical.imaging.transforms import NetworkForm, NodulePatch, network_planes
from kits.medical.weights.lidc import LidcNodule
from kits.medical.weights.masks import mask_styles

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = [
    "READER_STYLE",
    "THRESHOLD_STYLE",
    "Crops",
    "Recipe",
    "build_crops",
    "fit_network",
    "nodule_logits",
]

Planes = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]
READER_STYLE, THRESHOLD_STYLE = 0, 1


@dataclass(frozen=True)
class Recipe:
    """Everything that fixes a fit but the data.

    Args:
        arguments: Of `monai.networks.nets.DenseNet` (Huang et al., 2017).
        epochs: Passes over all crops.
        batch_size: Crops in a step.
        learning_rate: Peak of the one-cycle schedule (Smith and Topin, 2018).
        weight_decay: Of AdamW (Loshchilov and Hutter, 2019).
        seed: Of initial weights, order, mask styles and augmentation.
    """

    arguments: Mapping[str, Any] = field(
        default_factory=lambda: {
            "spatial_dims": 2,
            "in_channels": 2,
            "out_channels": 1,
            "init_features": 16,
            "growth_rate": 12,
            "block_config": [3, 4, 4],
            "bn_size": 2,
            "dropout_prob": 0.1,
        }
    )
    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Crops:
    """The crops of all nodules in the network's form.

    Args:
        planes: `(N, styles, 2, size, size)` float32, image and mask for each mask style.
        nodule: `(N,)`, index of the nodule that each crop shows.
        target: `(N,)` float32, mean malignancy from 1..5 brought to 0..1.
    """

    planes: Planes
    nodule: Indices
    target: npt.NDArray[np.float32]


def build_crops(nodules: Sequence[LidcNodule], form: NetworkForm) -> Crops:
    """Samples every crop of every nodule with every mask style."""
    planes, owner, target = [], [], []
    for k, nodule in enumerate(nodules):
        spacing = (nodule.spacing_mm, nodule.spacing_mm)
        for image, readers in zip(nodule.images, nodule.readers, strict=True):
            if not readers.any():
                continue
            styles = mask_styles(image, readers)
            planes.append(
                np.stack([network_planes(NodulePatch(image, m, spacing), form) for m in styles])
            )
            owner.append(k)
            target.append((nodule.malignancy - 1) / 4)
    return Crops(np.stack(planes), np.array(owner), np.array(target, np.float32))


def fit_network(crops: Crops, train: Indices, recipe: Recipe, *, device: str) -> nn.Module:
    """Returns the network fitted to the crops `train`, in evaluation mode, on the CPU.

    The loss is the cross entropy with the readers' mean rating as a soft target, so that
    nodules rated indeterminate take part as such.
    """
    import torch

    # cuBLAS repeats itself only with CUBLAS_WORKSPACE_CONFIG set; without it, warn and go on.
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.manual_seed(recipe.seed)
    network = build_network("DenseNet", recipe.arguments).to(device)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    steps = -(-len(train) // recipe.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=recipe.epochs * steps
    )
    loss_of = torch.nn.BCEWithLogitsLoss()
    draw = np.random.default_rng(recipe.seed)
    augment = _Augmentation(recipe.seed)
    network.train()
    for _ in range(recipe.epochs):
        for chosen in np.array_split(draw.permutation(train), steps):
            style = draw.integers(0, crops.planes.shape[1], len(chosen))
            batch = torch.stack([augment(p) for p in crops.planes[chosen, style]])
            target = torch.from_numpy(crops.target[chosen])
            loss = loss_of(network(batch.to(device))[:, 0], target.to(device))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.cpu().eval()


def nodule_logits(
    network: nn.Module, crops: Crops, nodules: Indices, *, style: int = READER_STYLE
) -> npt.NDArray[np.float64]:
    """Returns the mean logit over the crops of each of `nodules`, in their order."""
    import torch

    with torch.inference_mode():
        rows = np.flatnonzero(np.isin(crops.nodule, nodules))
        logits = network(torch.from_numpy(crops.planes[rows, style]))[:, 0].double().numpy()
    owner = crops.nodule[rows]
    return np.array([logits[owner == k].mean() for k in nodules])


class _Augmentation:
    """MONAI's random transforms on one crop: place, size (5%), density scale, noise.

    Density is scaled widely on purpose: the crop's own least and greatest value, which bone or
    contrast medium elsewhere in it sets, carries no meaning for the lesion.
    """

    def __init__(self, seed: int) -> None:
        from monai import transforms as t

        both, modes = ("image", "mask"), ("bilinear", "bilinear")
        self._compose = t.Compose(
            [
                t.RandFlipd(both, prob=0.5, spatial_axis=0),
                t.RandRotate90d(both, prob=0.75, max_k=3),
                t.RandAffined(
                    both,
                    prob=0.8,
                    rotate_range=0.4,
                    translate_range=2.0,
                    scale_range=0.05,
                    mode=modes,
                    padding_mode="border",
                ),
                t.RandScaleIntensityd(("image",), factors=0.3, prob=0.8),
                t.RandShiftIntensityd(("image",), offsets=0.05, prob=0.5),
                t.RandAdjustContrastd(("image",), prob=0.3, gamma=(0.8, 1.3)),
                t.RandGaussianNoised(("image",), prob=0.3, std=0.02),
            ]
        ).set_random_state(seed)

    def __call__(self, planes: Planes) -> torch.Tensor:
        """Returns an altered copy of `planes` `(2, size, size)`."""
        import torch

        changed = self._compose({"image": planes[:1].copy(), "mask": planes[1:].copy()})
        both = [torch.as_tensor(changed[key]) for key in ("image", "mask")]
        return torch.cat(both).as_subclass(torch.Tensor).float()
