"""MONAI networks behind the Model face: classifiers of pictures and makers of pictures.

A network folder holds `config.json` and `model.safetensors`. The configuration names a
class of `monai.networks.nets`, its arguments, the sha256 of the weights and how a picture
goes in (or, for a generator, which latent makes one). Nothing in it is executed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from common.errors import BackboneError
from common.models.base import Model, ModelProfile, only_part
from common.optional import require
from common.request import check_wanted
from common.task import Array, Image, ImageRequest, Result, Task, digest_of

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["ImageClassifier", "ImageGenerator", "NetworkFolder", "build_network", "open_network"]


@dataclass(frozen=True)
class NetworkFolder:
    """A network read from disk, its weights checked.

    Args:
        name: The folder's name.
        digest: sha256 of configuration and weights.
        config: The parsed config.json.
        module: The network in evaluation mode.
    """

    name: str
    digest: str
    config: Mapping[str, Any]
    module: nn.Module

    @classmethod
    def read(cls, folder: Path) -> NetworkFolder:
        """Reads `config.json` and `model.safetensors` of `folder`.

        Raises:
            BackboneError: A file is absent, damaged, or its digest is not the stated one.
            MissingExtraError: MONAI is not installed.
        """
        config_bytes = _read(folder / "config.json")
        weights = _read(folder / "model.safetensors")
        try:
            config = json.loads(config_bytes)
            stated, class_name = config["sha256"], config["network"]
            arguments = config["arguments"]
        except (ValueError, KeyError) as error:
            raise _damaged(
                "JSON with network, arguments and sha256", type(error).__name__
            ) from error
        if sha256(weights).hexdigest() != stated:
            raise _damaged(f"weights with sha256 {stated}", sha256(weights).hexdigest())
        module = build_network(class_name, arguments)
        _load_weights(module, weights)
        return cls(folder.name, digest_of(config_bytes, weights), config, module.eval())


def build_network(class_name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Builds the class `class_name` of `monai.networks.nets` with `arguments`.

    Raises:
        BackboneError: There is no network of that name.
    """
    nets = require("monai.networks.nets", extra="medical")
    if class_name not in getattr(nets, "__all__", dir(nets)) or not isinstance(
        network_class := getattr(nets, class_name, None), type
    ):
        raise _damaged("a class of monai.networks.nets", repr(class_name))
    return cast("nn.Module", network_class(**arguments))


def open_network(folder: Path, *, device: str = "cpu") -> Model:
    """Returns the model that the folder's configuration describes, its weights on `device`.

    Raises:
        BackboneError: The folder holds no usable network.
    """
    network = NetworkFolder.read(folder)
    network.module.to(device)
    kinds: dict[str, Callable[[NetworkFolder], Model]] = {
        "classifier": ImageClassifier,
        "generator": ImageGenerator,
    }
    kind = network.config.get("kind")
    if kind not in kinds:
        raise _damaged(f"kind {' or '.join(kinds)}", repr(kind))
    return kinds[kind](network)


class ImageClassifier:
    """Class probabilities of a picture.

    The picture is turned to grey when the network takes one channel, resized to the
    configured `size` and scaled to 0..1 by its data type's range.

    Args:
        network: Its config gives `size` (pixels), `channels`, and `labels`.
    """

    def __init__(self, network: NetworkFolder) -> None:
        self._network = network
        self.profile = ModelProfile(
            name=network.name,
            modality="image",
            digest=network.digest,
            shapes=((None, None), (None, None, None)),
        )

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        """Returns `probabilities` by label for each picture."""
        import torch

        config = self._network.config
        size, channels = int(config["size"]), int(config["channels"])
        pictures = [only_part(task, Image).pixels for task in tasks]
        batch = np.stack([_as_network_input(p, size, channels) for p in pictures])
        with torch.inference_mode():
            logits = self._network.module(torch.from_numpy(batch).to(_device(self._network)))
            probabilities = torch.softmax(logits, dim=1).double().cpu().numpy()
        labels = list(config["labels"])
        return [
            Result(values={"probabilities": dict(zip(labels, map(float, row), strict=True))})
            for row in probabilities
        ]


class ImageGenerator:
    """Pictures of the resolution asked for, made from a seeded latent.

    Args:
        network: Its config gives `latent`, the shape of one latent without batch axis.
    """

    def __init__(self, network: NetworkFolder) -> None:
        self._network = network
        self.profile = ModelProfile(
            name=network.name,
            modality="image_request",
            digest=network.digest,
            gives={"pixels": (None, None)},
        )

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        """Returns `pixels` `(H, W)` float32 for each request, H = W = its resolution."""
        return [self._make(only_part(task, ImageRequest)) for task in tasks]

    def _make(self, request: ImageRequest) -> Result:
        import torch

        check_wanted()
        # Drawn on the CPU: one seed makes one picture wherever the network is.
        generator = torch.Generator().manual_seed(request.seed)
        latent = torch.randn((1, *self._network.config["latent"]), generator=generator)
        with torch.inference_mode():
            picture = self._network.module(latent.to(_device(self._network)))[:, :1].cpu()
            sized = torch.nn.functional.interpolate(
                picture, size=(request.resolution, request.resolution), mode="bilinear"
            )
        return Result(
            values={"resolution": request.resolution}, arrays={"pixels": sized[0, 0].numpy()}
        )


def _as_network_input(pixels: Array, size: int, channels: int) -> Array:
    from PIL import Image as Picture

    scale = np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1.0
    unit = pixels.astype(np.float32) / np.float32(scale)
    planes = unit[..., None] if unit.ndim == 2 else unit
    if channels == 1:
        planes = planes.mean(axis=2, keepdims=True)
    elif planes.shape[2] != channels:
        planes = np.repeat(planes[..., :1], channels, axis=2)
    resized = [
        np.asarray(Picture.fromarray(np.ascontiguousarray(planes[..., c])).resize((size, size)))
        for c in range(channels)
    ]
    return np.stack(resized)  # (C, size, size)


def _device(network: NetworkFolder) -> torch.device:
    return next(network.module.parameters()).device


def _load_weights(module: nn.Module, weights: bytes) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        module.load_state_dict(load(weights))
    except (SafetensorError, RuntimeError) as error:
        raise _damaged("weights that fit the network", type(error).__name__) from error


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise _damaged(f"a file {path.name}", "none")
    return path.read_bytes()


def _damaged(expected: str, found: str) -> BackboneError:
    return BackboneError(
        "network folder",
        expected=expected,
        found=found,
        remedy="Restore the folder from where it came, or name another one.",
    )
