"""Jobs that the tests of distributed runs give to their processes, by import."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common.backbones import load_backbone
from common.errors import InputError
from common.tuning.batches import encode
from common.tuning.checkpoints import Checkpoint, CheckpointStore, trained_tensors
from common.tuning.datasets import read_examples
from common.tuning.loop import LoopSettings
from common.tuning.metrics import choose_metric
from common.tuning.objectives import TunedNetwork
from common.tuning.run import Cadence, RunData, run_training
from tests.tiny_bert import WORDS


@dataclass(frozen=True)
class TinyRun:
    """A short run of a tiny model, as a job.

    Args:
        model: Its folder.
        method: "lora" or "full".
        causal: Whether it is a language model.
        checkpointing: Whether activations are computed again in the backward pass.
        micro_batch_size: Rows of one pass.
        n_rows: Training rows; with batches of 4 the last one may be smaller.
        stop_at: Raises at this step of rank 1.
        folder: Where checkpoints go, one each step.
        resume: Whether to go on from the latest.
    """

    model: str
    method: str = "lora"
    causal: bool = False
    checkpointing: bool = False
    micro_batch_size: int | None = None
    n_rows: int = 9
    dropout: float = 0.0
    folder: str = ""
    resume: bool = False
    die_at: int = 0

    def __call__(self, ranks: Any) -> dict[str, Any]:
        rows = _rows(self.n_rows, causal=self.causal)
        backbone = load_backbone(self.model)
        data = encode(read_examples(rows), backbone.tokenizer, max_tokens=32)
        held_out = encode(read_examples(rows[:5] + rows[6:9]), backbone.tokenizer, max_tokens=32)
        network = self._network(backbone)
        store = CheckpointStore(Path(self.folder), "tiny") if self.folder else None
        settings = LoopSettings(
            epochs=3,
            batch_size=4,
            learning_rate=1e-2,
            micro_batch_size=self.micro_batch_size,
            packed=False,
        )
        start: Checkpoint | None = store.latest() if store and self.resume else None
        display = _Dying(self.die_at) if self.die_at and ranks.rank == 1 else None
        state = run_training(
            network,
            RunData(data, held_out),
            settings,
            cadence=Cadence(choose_metric(network.task, None), checkpoint_every=1, store=store),
            ranks=ranks,
            start=start,
            display=display,
        )
        return {
            "losses": [record.loss for record in state.steps],
            "metrics": [record.metrics for record in state.evaluations],
            "weights": trained_tensors(network),
            "world_size": ranks.world_size,
        }

    def _network(self, backbone: Any) -> TunedNetwork:
        model = backbone.model
        model.config.use_cache = False
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = self.dropout
            if hasattr(module, "dropout_prob"):
                module.dropout_prob = self.dropout
        if self.checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        if self.method == "lora":
            from peft import LoraConfig, get_peft_model

            targets = ["q_proj", "v_proj"] if self.causal else ["query", "value"]
            torch.manual_seed(0)
            model = get_peft_model(model, LoraConfig(r=4, target_modules=targets))
        else:
            model.requires_grad_(True)
        generator = torch.Generator().manual_seed(3)
        vocabulary = model.get_input_embeddings().weight.shape[0]
        lm_head = torch.randn(vocabulary, backbone.hidden_size, generator=generator) * 0.1
        return TunedNetwork(
            model,
            "causal_lm" if self.causal else "classification",
            hidden_size=backbone.hidden_size,
            n_outputs=0 if self.causal else 2,
            lm_head=lm_head if self.causal else None,
        )


class _Dying:
    """Kills its process at a step, as the kernel does when memory runs out."""

    def __init__(self, step: int) -> None:
        self._left = step

    def step(self, record: Any, tokens_per_s: float) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def evaluation(self, record: Any) -> None:
        pass


def _rows(n_rows: int, *, causal: bool) -> list[dict[str, Any]]:
    """Texts of 1 to 20 words, so that lengths are very unequal."""
    generator = torch.Generator().manual_seed(1)
    rows: list[dict[str, Any]] = []
    for i in range(n_rows):
        n_words = 20 if i % 3 == 0 else 1 + i % 4
        picked = torch.randint(len(WORDS), (n_words,), generator=generator).tolist()
        text = " ".join(WORDS[word] for word in picked)
        rows.append({"text": text} if causal else {"text": text, "label": i % 2})
    return rows


@dataclass(frozen=True)
class Report:
    """Writes this process's id to a folder, then does what is asked of one rank.

    Args:
        folder: Where.
        action: "return", "raise", "input_error", "kill", "stop", "hang" or "exit".
        rank: Which rank does it; the others meet and wait for it.
    """

    folder: str
    action: str
    rank: int = 1

    def __call__(self, ranks: Any) -> list[float]:
        place = Path(self.folder) / f"{ranks.rank}.json"
        place.write_text(json.dumps({"pid": os.getpid()}))
        ranks.wait()
        if ranks.rank == self.rank:
            _ACTIONS[self.action]()
        ranks.wait()
        agreed = ranks.agree(f"rank {ranks.rank}")
        return [*ranks.total([1.0, float(ranks.rank)]), float(len(agreed))]


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
