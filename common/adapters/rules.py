"""The article's rules for choosing a tuning method, and where to start with each, as data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from common.adapters.anatomy import Anatomy
from common.adapters.methods import Bottleneck, Full, LoRA, Method, Prefix
from common.errors import InputError

__all__ = ["RULES", "STARTING_POINTS", "Claim", "Question", "Rule", "StartingPoint"]

Claim = Literal["accuracy", "latency", "shift"]
MANY_SAMPLES = 10_000  # the article's bound between small adapters and full tuning
FEW_SAMPLES = 256  # ours: the article names no number for "few"


@dataclass(frozen=True)
class Question:
    """What the advisor is asked; the arguments of `recommend`.

    Raises:
        InputError: A number is not one that can be used.
    """

    n_samples: int
    latency_budget_ms: float | None
    memory_gib: float | None
    domain_shift: bool
    realtime: bool
    causal_lm: bool
    anatomy: Anatomy | None
    n_tokens: int
    device: str | None
    precision: Literal["fp32", "bf16"]

    def __post_init__(self) -> None:
        faults = []
        if self.n_samples < 1:
            faults.append(f"n_samples {self.n_samples}")
        if self.n_tokens < 1:
            faults.append(f"n_tokens {self.n_tokens}")
        for name in ("latency_budget_ms", "memory_gib"):
            found = getattr(self, name)
            if found is not None and not (math.isfinite(found) and found > 0):
                faults.append(f"{name} {found!r}")
        if faults:
            raise InputError(
                "question to the advisor",
                expected="1 or more samples and tokens, and budgets above 0",
                found=", ".join(faults),
                remedy="Correct these numbers, or leave a budget out.",
            )


@dataclass(frozen=True)
class Rule:
    """A rule of the article.

    Args:
        kind: The method that it advises.
        applies: Whether it speaks of a question.
        claim: What it claims to be best at, and so which measurements can contradict it:
            "accuracy", "latency", or "shift" (accuracy in another domain).
        sentence: The rule in words.
    """

    kind: str
    applies: Callable[[Question], bool]
    claim: Claim
    sentence: str


# The article's table of choices, the special case before the general one.
RULES = (
    Rule(
        "bottleneck",
        lambda q: q.realtime,
        "latency",
        "The article's rule for real time is an adapter between the blocks.",
    ),
    Rule(
        "lora",
        lambda q: q.domain_shift,
        "shift",
        "The article's rule for a shift of domain is LoRA with augmented data; the augmenting is "
        "yours to do.",
    ),
    Rule(
        "prefix",
        lambda q: q.n_samples <= FEW_SAMPLES,
        "accuracy",
        f"The article's rule for few samples (here: up to {FEW_SAMPLES}) is a prefix.",
    ),
    Rule(
        "full",
        lambda q: q.n_samples > MANY_SAMPLES,
        "accuracy",
        f"The article's rule for more than {MANY_SAMPLES:,} samples is full tuning.",
    ),
    Rule(
        "lora",
        lambda _: True,
        "accuracy",
        f"The article's rule for up to {MANY_SAMPLES:,} samples is a small adapter, of which LoRA "
        "is the one that can be merged.",
    ),
)


@dataclass(frozen=True)
class StartingPoint:
    """A method's settings where nothing was measured.

    Args:
        method: The method.
        learning_rate: Peak rate for labelled texts.
        lm_learning_rate: Peak rate for a language model.
        measured_as: The setting that stands for it in the measured rows.
        source: Where the settings come from.
    """

    method: Method
    learning_rate: float
    lm_learning_rate: float
    measured_as: str
    source: str


STARTING_POINTS = {
    "lora": StartingPoint(
        LoRA(rank=16, alpha=32, targets="all-linear"),
        5e-4,
        2e-4,
        "lora all-linear r16",
        "all layers and ten times full tuning's rate (Schulman and Thinking Machines Lab 2025, "
        '"LoRA Without Regret")',
    ),
    "bottleneck": StartingPoint(
        Bottleneck(size=64),
        3e-4,
        3e-4,
        "bottleneck pfeiffer 64",
        "the middle rate of Houlsby et al. 2019 (arXiv 1902.00751)",
    ),
    "prefix": StartingPoint(
        Prefix(n_virtual_tokens=16),
        5e-3,
        5e-3,
        "prefix 16",
        "the rate of P-tuning v2 (Liu et al. 2021, arXiv 2110.07602)",
    ),
    "full": StartingPoint(
        Full(),
        5e-5,
        2e-5,
        "full",
        "the upper rate of BERT (Devlin et al. 2018, arXiv 1810.04805), for language models that "
        "of Llama 2 (Touvron et al. 2023, arXiv 2307.09288)",
    ),
}
