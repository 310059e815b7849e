"""The stored nodule network behind the Model face."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from common.errors import BackboneError, TaskError
from common.models.base import Model
from common.task import Image, Task, Text
from kits.medical.imaging.candidates import Candidate
from kits.medical.imaging.lesion import NoduleNetwork
from kits.medical.imaging.transforms import network_input
from kits.medical.tasks import NODULE_NETWORK, NODULE_NETWORK_FOLDER


@pytest.fixture(scope="module")
def network():
    return NoduleNetwork()


def _task(grid, ellipsoid, diameter_mm):
    shape, spacing = (24, 140, 140), (1.5, 0.8, 0.8)
    ball = ellipsoid(shape, spacing, centre_mm=(18, 56, 56), radii_mm=(diameter_mm / 2,) * 3)
    rng = np.random.default_rng(0)
    voxels = np.where(ball, 30.0, -850.0) + rng.normal(0, 20, shape)
    voxels[:, :, 120:] = 40  # the chest wall
    candidate = Candidate((0, 0, 0), ball)
    volume = grid(voxels.astype(np.float32), spacing)
    return Task({"image": Image(network_input(volume, candidate.mask, start=candidate.start))})


def test_it_is_a_model_for_images_that_says_which_one_it_is(network):
    assert isinstance(network, Model)
    profile = network.profile
    assert (profile.name, profile.modality, len(profile.digest)) == (NODULE_NETWORK, "image", 64)
    assert 0.9 < profile.accuracy < 1


def test_a_large_nodule_is_more_suspicious_than_a_small_one(network, grid, ellipsoid):
    """What readers hold, and what the training data say."""
    small, large = network.predict([_task(grid, ellipsoid, 5), _task(grid, ellipsoid, 24)])
    assert 0 <= small.values["probability"] < 0.2
    assert 0.8 < large.values["probability"] <= 1


def test_a_batch_equals_its_tasks_one_by_one(network, grid, ellipsoid):
    tasks = [_task(grid, ellipsoid, d) for d in (6, 12, 18)]
    together = [r.values["probability"] for r in network.predict(tasks)]
    alone = [network.predict([t])[0].values["probability"] for t in tasks]
    assert together == pytest.approx(alone, abs=2e-6)
    assert network.predict([]) == []


@pytest.mark.parametrize(
    "part", [Image(np.zeros((64, 64))), Image(np.zeros((32, 32, 6))), Text("a nodule")]
)
def test_another_part_is_refused(network, part):
    with pytest.raises(TaskError, match=r"shape \(64, 64, 6\)"):
        network.predict([Task({"part": part})])


def test_changed_weights_are_refused(tmp_path):
    folder = tmp_path / "net"
    shutil.copytree(NODULE_NETWORK_FOLDER, folder)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(BackboneError, match="sha256"):
        NoduleNetwork(folder)


def test_a_config_without_calibration_is_refused(tmp_path):
    folder = tmp_path / "net"
    shutil.copytree(NODULE_NETWORK_FOLDER, folder)
    config = json.loads((folder / "config.json").read_text())
    del config["calibration"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match="calibration"):
        NoduleNetwork(folder)
