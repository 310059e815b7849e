"""The head trained with an adapter: from the mean hidden state to classes or values.

A text's state is the mean of its last hidden states over its tokens; the head is one
linear map of it. A causal language model needs no head of its own, only the record of
what it is for and how long a text may be.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from common.errors import AdapterError
from common.task import Array, Result

__all__ = ["HEAD", "Head", "HeadTask", "Label", "TooLong", "load_head", "save_head"]

HeadTask = Literal["classification", "multi_label", "regression", "causal_lm"]
TooLong = Literal["refuse", "chunk"]
Label = str | int

HEAD = "head.safetensors"

_DIGITS = 6  # float32 sums differ beyond this between batch compositions


@dataclass(frozen=True)
class Head:
    """A linear map from the mean hidden state to outputs, and how to read them.

    Args:
        task: "classification" (softmax over labels), "multi_label" (a sigmoid per label),
            "regression" (values as they are) or "causal_lm" (none; the base's own head).
        weight: `(n_outputs, hidden_size)` float32; no rows for causal_lm.
        bias: `(n_outputs,)` float32.
        labels: Names of the outputs; for regression there may be none.
        max_tokens: Longest input read at once, special tokens included.
        too_long: What to do with a longer text: refuse it, or read it in consecutive
            chunks whose states are averaged by their token counts. It is never cut.

    Raises:
        AdapterError: The sizes do not go together.
    """

    task: HeadTask
    weight: Array
    bias: Array
    labels: tuple[Label, ...] = ()
    max_tokens: int = 512
    too_long: TooLong = "refuse"

    def __post_init__(self) -> None:
        weight, bias = np.asarray(self.weight), np.asarray(self.bias)
        n_outputs = 0 if weight.ndim != 2 else len(weight)
        named = len(self.labels) == n_outputs or (self.task == "regression" and not self.labels)
        if weight.ndim != 2 or bias.shape != (n_outputs,) or not named:
            raise _damaged(
                "a weight (n_outputs, hidden), a bias (n_outputs,) and a label for each output",
                f"{weight.shape}, {bias.shape} and {len(self.labels)} labels",
            )
        if (n_outputs == 0) != (self.task == "causal_lm"):
            raise _damaged(f"outputs that suit {self.task}", str(n_outputs))
        if self.task not in get_args(HeadTask) or self.too_long not in get_args(TooLong):
            raise _damaged("a known task and policy", f"{self.task!r}, {self.too_long!r}")
        if self.max_tokens < 3:
            raise _damaged("room for 3 tokens or more", str(self.max_tokens))

    @property
    def gives_score(self) -> bool:
        """Whether it gives one value without a name, the `score` of a text."""
        return self.task == "regression" and len(self.bias) == 1 and not self.labels

    def outputs(self, states: Array) -> Array:
        """Returns the head's numbers, `(n_texts, n_outputs)` float64.

        Classification gives probabilities that add to 1, multi_label one probability per
        label, regression the values.

        Args:
            states: Mean hidden states, `(n_texts, hidden_size)`.
        """
        raw = states.astype(np.float64) @ self.weight.T.astype(np.float64) + self.bias
        if self.task == "classification":
            raised = np.exp(raw - raw.max(axis=1, keepdims=True))
            return np.asarray(raised / raised.sum(axis=1, keepdims=True))
        if self.task == "multi_label":
            return np.asarray(0.5 * (1.0 + np.tanh(0.5 * raw)))  # the sigmoid, without overflow
        return np.asarray(raw)

    def results(self, states: Array) -> list[Result]:
        """Returns what the outputs say of each text, numbers rounded to 6 digits.

        - classification: `label`, `probability` of it, `probabilities` of every label.
        - multi_label: `labels` of 0.5 or more, `probabilities` of every label.
        - regression: `score` where there is one value without a name, else `values`.
        """
        return [Result(values=self._values(row)) for row in self.outputs(states)]

    def _values(self, row: Array) -> dict[str, Any]:
        numbers = [round(float(number), _DIGITS) for number in row]
        named = {str(label): number for label, number in zip(self.labels, numbers, strict=False)}
        if self.task == "classification":
            best = int(np.argmax(row))
            return {
                "label": self.labels[best],
                "probability": numbers[best],
                "probabilities": named,
            }
        if self.task == "multi_label":
            pairs = zip(self.labels, numbers, strict=True)
            chosen = [label for label, number in pairs if number >= 0.5]
            return {"labels": chosen, "probabilities": named}
        return {"score": numbers[0]} if self.gives_score else {"values": named or numbers}


def save_head(head: Head, folder: Path) -> None:
    """Writes `head` to `folder` as safetensors, beside its adapter."""
    from safetensors.numpy import save_file

    record = {
        "task": head.task,
        "labels": list(head.labels),
        "max_tokens": head.max_tokens,
        "too_long": head.too_long,
    }
    tensors = {"weight": head.weight.astype(np.float32), "bias": head.bias.astype(np.float32)}
    # one entry, since safetensors writes several in no fixed order
    save_file(tensors, str(folder / HEAD), metadata={"head": json.dumps(record)})


def load_head(folder: Path, *, hidden_size: int, max_tokens: int | None = None) -> Head:
    """Reads the head in `folder`.

    Files of the first format, one regression output with `max_tokens` alone beside it, are
    read as well.

    Args:
        folder: An adapter's folder.
        hidden_size: Width of the base's hidden states.
        max_tokens: Longest input that the adapted base takes.

    Raises:
        AdapterError: The file is absent or damaged, or does not fit the base.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(folder / HEAD), framework="np") as file:
            weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
            metadata = file.metadata()
        if "head" in metadata:
            record = json.loads(metadata["head"])
            record["labels"] = tuple(record["labels"])
        else:
            record = {"task": "regression", "max_tokens": int(metadata["max_tokens"])}
            weight, bias = weight.reshape(1, -1), bias.reshape(1)
        head = Head(weight=weight, bias=bias, **record)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, AdapterError):
            raise
        raise _damaged("weight, bias and max_tokens", type(error).__name__) from error
    if head.weight.shape[1] != hidden_size:
        raise _damaged(f"a weight for {hidden_size} hidden units", str(head.weight.shape))
    if max_tokens is not None and head.max_tokens > max_tokens:
        raise _damaged(f"at most {max_tokens} tokens", str(head.max_tokens))
    return head


def _damaged(expected: str, found: str) -> AdapterError:
    return AdapterError(
        "head",
        expected=f"{expected} in {HEAD}",
        found=found,
        remedy="Restore the adapter's folder from where it came, or train it again.",
    )
