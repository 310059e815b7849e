"""Linked models for the tests of joint training, and what one process does with its part."""

from __future__ import annotations

import torch
from torch import nn

from common.protocol.gradients.joint_training import Stage
from common.protocol.gradients.linkage import Linkage

# text and image encoders whose outputs one head reads
INPUTS = {"text": (), "image": (), "head": ("text", "image")}
ALONE = Linkage(INPUTS)


class Networks:
    """The three networks, the same for everybody who makes them with one seed."""

    def __init__(self, *, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.text = nn.Sequential(nn.Embedding(11, 6), nn.Flatten(), nn.Linear(24, 5), nn.Tanh())
        self.image = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.GELU())
        self.head = nn.Sequential(nn.Linear(10, 7), nn.Tanh(), nn.Linear(7, 1))

    def loss(self, texts, images, targets):
        joined = torch.cat([self.text(texts), self.image(images)], dim=1)
        return nn.functional.mse_loss(self.head(joined)[:, 0], targets)

    def stages(self, *names: str, learning_rate: float = 1e-2) -> dict[str, Stage]:
        """Stages with an optimizer each; all of them without names."""

        def of_head(targets, text, image):
            joined = torch.cat([text, image], dim=1)
            return nn.functional.mse_loss(self.head(joined)[:, 0], targets)

        compute = {"text": self.text, "image": self.image, "head": of_head}
        return {
            name: Stage(
                compute[name],
                torch.optim.AdamW(getattr(self, name).parameters(), lr=learning_rate),
            )
            for name in (names or INPUTS)
        }

    def parameters(self) -> dict[str, torch.Tensor]:
        return {
            f"{name}.{key}": value.detach().clone()
            for name in INPUTS
            for key, value in getattr(self, name).state_dict().items()
        }


def batch(round_: int, n_samples: int = 8) -> dict[str, torch.Tensor]:
    """What each stage takes of a batch; the same for everybody."""
    drawn = torch.Generator().manual_seed(100 + round_)
    return {
        "text": torch.randint(11, (n_samples, 4), generator=drawn),
        "image": torch.randn(n_samples, 4, 4, generator=drawn),
        "head": torch.randn(n_samples, generator=drawn),
    }


def trained_alone(n_rounds: int, *, seed: int = 0) -> tuple[dict[str, torch.Tensor], list[float]]:
    """One network, one optimizer, no links: what joint training must equal."""
    networks = Networks(seed=seed)
    trained = [p for name in INPUTS for p in getattr(networks, name).parameters()]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    losses = []
    for round_ in range(n_rounds):
        rows = batch(round_)
        loss = networks.loss(rows["text"], rows["image"], rows["head"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return networks.parameters(), losses


def largest_difference(one, other) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)
