"""MONAI network folders are checked, classify pictures and make them."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save

from common.errors import BackboneError
from common.models.network import build_network
from common.routing import ModelRouter


def write_network(folder: Path, network: str, arguments: dict, **config: object) -> Path:
    import torch

    torch.manual_seed(0)
    weights = save(build_network(network, arguments).state_dict())
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(weights)
    described = {"network": network, "arguments": arguments, "sha256": sha256(weights).hexdigest()}
    (folder / "config.json").write_text(json.dumps({**described, **config}))
    return folder


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    arguments = {
        "latent_shape": [4],
        "start_shape": [4, 8, 8],
        "channels": [4, 1],
        "strides": [2, 1],
    }
    folder = tmp_path_factory.mktemp("networks") / "maker"
    return write_network(folder, "Generator", arguments, kind="generator", latent=[4])


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    arguments = {"in_shape": [1, 16, 16], "classes": 2, "channels": [2, 4], "strides": [2, 2]}
    folder = tmp_path_factory.mktemp("networks") / "sorter"
    described = {"kind": "classifier", "size": 16, "channels": 1, "labels": ["day", "night"]}
    return write_network(folder, "Classifier", arguments, **described)


def test_the_articles_task_runs_with_a_model_that_makes_the_image(generator: Path) -> None:
    router = ModelRouter(models={"image": generator})
    form = {"type": "multimodal", "image_params": {"resolution": 48, "seed": 3}}
    pixels = router.execute(form)["image"].result.arrays["pixels"]
    assert pixels.shape == (48, 48)
    np.testing.assert_array_equal(pixels, router.execute(form)["image"].result.arrays["pixels"])


def test_a_classifier_gives_probabilities_for_any_picture(classifier: Path) -> None:
    router = ModelRouter(models={"image": classifier})
    grey = np.full((20, 30), 128, np.uint8)
    colour = np.repeat(grey[..., None], 3, axis=2)
    of_grey = router.execute({"image": grey})["image"].result.values["probabilities"]
    of_colour = router.execute({"image": colour})["image"].result.values["probabilities"]
    assert set(of_grey) == {"day", "night"}
    assert sum(of_grey.values()) == pytest.approx(1.0)
    assert of_grey == pytest.approx(of_colour)


def test_changed_weights_are_refused_by_digest(classifier: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "config.json").write_bytes((classifier / "config.json").read_bytes())
    weights = bytearray((classifier / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    with pytest.raises(BackboneError, match="sha256"):
        ModelRouter(models={"image": copy})


@pytest.mark.parametrize("name", ["os", "NoSuchNet", "__builtins__"])
def test_only_networks_can_be_named(name: str) -> None:
    with pytest.raises(BackboneError, match=r"class of monai\.networks\.nets"):
        build_network(name, {})


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"config\.json"):
        ModelRouter(models={"image": tmp_path})
