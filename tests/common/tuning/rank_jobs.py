"""Jobs that the tests of distributed runs give to their processes, by import."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from common.errors import InputError
from common.tuning.datasets import Examples, read_examples
from tests.tiny_bert import WORDS

if TYPE_CHECKING:
    from common.tuning.fitting import Job, Outcome


def tiny_examples(n_rows: int, *, causal: bool = False) -> Examples:
    """Texts of 1 to 20 words, so that lengths are very unequal."""
    drawn = torch.Generator().manual_seed(1)
    rows: list[dict[str, Any]] = []
    for i in range(n_rows):
        n_words = 20 if i % 3 == 0 else 1 + i % 4
        picked = torch.randint(len(WORDS), (n_words,), generator=drawn).tolist()
        text = " ".join(WORDS[word] for word in picked)
        rows.append({"text": text} if causal else {"text": text, "label": i % 2})
    return read_examples(rows)


@dataclass(frozen=True)
class FitAll:
    """Runs one job after the other on the same processes.

    Args:
        jobs: Which.
        dies: A rank that kills itself.
        dies_at: In which of its waits for the others, from 1; each checkpoint has one.
    """

    jobs: tuple[Job, ...]
    dies: int | None = None
    dies_at: int = 0

    def __call__(self, ranks: Any) -> list[Outcome]:
        from common.tuning.fitting import fit_job  # takes seconds, and most jobs need it not

        if ranks.rank == self.dies:
            ranks = _Mortal(ranks, self.dies_at)
        return [fit_job(job, ranks) for job in self.jobs]


class _Mortal:
    """Ranks that end this process as the kernel does when memory runs out."""

    def __init__(self, ranks: Any, dies_at: int) -> None:
        self._ranks, self._left = ranks, dies_at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ranks, name)

    def wait(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._ranks.wait()

    def without_sync(self, wrapped: torch.nn.Module) -> AbstractContextManager[object]:
        return self._ranks.without_sync(wrapped)


@dataclass(frozen=True)
class Report:
    """Writes this process's id to a folder, then does what is asked of one rank.

    Args:
        folder: Where.
        action: One of `_ACTIONS`.
        rank: Which rank does it; the others wait for it.
    """

    folder: str
    action: str = "return"
    rank: int = 1

    def __call__(self, ranks: Any) -> dict[str, Any]:
        place = Path(self.folder)
        (place / f".{ranks.rank}").write_text(json.dumps({"pid": os.getpid()}))
        (place / f".{ranks.rank}").rename(place / f"{ranks.rank}.json")
        ranks.wait()
        if ranks.rank == self.rank:
            _ACTIONS[self.action]()
        ranks.wait()
        return {
            "totals": ranks.total([1.0, float(ranks.rank)]),
            "nothing": ranks.total([]),
            "agreed": [ranks.agree(f"ränk {ranks.rank}"), ranks.agree("")],
            "threads": torch.get_num_threads(),
        }


@dataclass(frozen=True)
class Unlike:
    """Wraps networks of which one rank trains less."""

    def __call__(self, ranks: Any) -> None:
        network = torch.nn.Linear(2, 2)
        network.bias.requires_grad_(ranks.rank == 0)
        ranks.wrap(network)


@dataclass(frozen=True)
class TwoPasses:
    """Sums gradients over passes of which only the last is shared.

    The network has a parameter that no loss reaches, as BERT's pooler.
    """

    def __call__(self, ranks: Any) -> dict[str, Any]:
        network = _Scaled().to(ranks.device)
        wrapped = ranks.wrap(network)
        values = (1.0, 2.0, 4.0, 8.0)[ranks.rank :: ranks.world_size]
        steps = []
        for _ in range(2):
            for i, value in enumerate(values):
                if i < len(values) - 1:
                    with ranks.without_sync(wrapped):
                        wrapped(torch.tensor(value, device=ranks.device))[0].backward()
                else:
                    wrapped(torch.tensor(value, device=ranks.device))[0].backward()
            steps.append(float(network.factor.grad))
            network.zero_grad(set_to_none=True)
        return {"gradients": steps, "unused": network.unused.grad}


class _Scaled(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(1.0))
        self.unused = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.factor * value, value


def with_checkpoints(job: Job, folder: Path, *, resume: bool = False) -> Job:
    """Returns `job` with a checkpoint after each step."""
    return replace(
        job,
        recipe=replace(job.recipe, checkpoint_every=1),
        checkpoints=folder,
        resume="auto" if resume else None,
    )


def _raise() -> None:
    raise ValueError("row 3 is odd")


def _refuse() -> None:
    raise InputError("table", expected="a", found="b", remedy="Do c.")


_ACTIONS = {
    "return": lambda: None,
    "raise": _raise,
    "input_error": _refuse,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "hang": lambda: time.sleep(600),
    "exit": lambda: os._exit(7),
}
