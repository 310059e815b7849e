"""A training run as a program, for tests that kill it: `killed_run.py FOLDER METHOD WHERE N`.

It prints one line and sleeps when it comes to the N-th call of WHERE (a step, or a file of
a checkpoint being flushed), and is killed there.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from common.adapters.methods import Bottleneck, Full, LoRA, Prefix
from common.tuning import Trainer, checkpoints, run
from tests.tiny_bert import WORDS

METHODS = {
    "lora": LoRA(rank=2, dropout=0.2),
    "bottleneck": Bottleneck(size=4),
    "prefix": Prefix(4),
    "full": Full(),
    "gated": Prefix(4, zero_gate=True),
}


def make_rows(n):
    """Rows of unequal length; "risk" and "loss" make the label."""
    rows = []
    for i in range(n):
        words = [WORDS[(i * 7 + j * j) % len(WORDS)] for j in range(2 + i % 5)]
        rows.append({"text": " ".join(words), "label": int("risk" in words or "loss" in words)})
    return rows


def make_trainer(folder, method):
    """16 steps: four epochs of four, a checkpoint every third, the last batch uneven."""
    return Trainer(
        Path(folder) / "base",
        method=METHODS[method],
        learning_rate=5e-3,
        batch_size=4,
        checkpoint_every=3,
        evaluate_every=5,
        device="cpu",
        precision="fp32",
        patience=None,
    )


def fit(folder, method, out, **settings):
    """Fits the run that is killed elsewhere."""
    trainer = make_trainer(folder, method)
    rows = make_rows(21)
    return trainer, trainer.fit(
        rows[:15], epochs=4, eval_dataset=rows[15:], out=Path(folder) / out, **settings
    )


def _sleep_at(module, name, nth):
    """Makes the nth call of `module.name` say so and wait for its end."""
    original, calls = getattr(module, name), []

    def call(*args, **settings):
        calls.append(name)
        if len(calls) == nth:
            sys.stdout.write(f"{name} {nth}\n")
            sys.stdout.flush()
            time.sleep(600)
        return original(*args, **settings)

    setattr(module, name, call)


def main():
    """Runs until the place to be killed at."""
    folder, method, where, nth = sys.argv[1:]
    module, name = {
        "step": (run, "run_step"),
        "write": (checkpoints, "_flush"),
        "remove": (checkpoints, "_remove"),
    }[where]
    _sleep_at(module, name, int(nth))
    fit(folder, method, f"killed-{method}-{where}-{nth}")


if __name__ == "__main__":
    main()
