"""Which model did well on tasks like this one: a contextual choice learned from outcomes.

LinUCB with one linear model per candidate (Li et al. 2010, arXiv 1003.0146, algorithm 1).
For a task with features x, a model with outcomes (x_i, q_i) and prior quality q_0,

    A = I + sum x_i x_i',   theta = A^-1 sum (q_i - q_0) x_i,
    score = q_0 + theta' x + exploration * sqrt(x' A^-1 x).

The prior is the profile's measured accuracy, so that a model starts where its own test put
it. Nothing is drawn at random: equal outcomes in equal order lead to equal choices.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import InputError, StoreError
from common.models.base import ModelProfile
from common.task import Array

__all__ = ["Context", "Estimate", "LearnedPreference"]

_FORMAT = 1
_UNKNOWN_QUALITY = 0.5
_MODALITIES = ("image", "image_request", "series", "table", "tensor", "text", "volume")
_FEATURES = ("always", "log length", *_MODALITIES, "English", "another language")
_LONGEST = math.log1p(1e9)


@dataclass(frozen=True)
class Context:
    """What is known of a task before a model answers it.

    Args:
        modality: Of the part.
        length: Characters of a text, steps of a series, elements of another array.
        language: BCP 47 tag of a text; None for other parts.
    """

    modality: str
    length: int
    language: str | None = None

    def features(self) -> Array:
        """Returns one number of 0 to 1 for each entry of the stored `features`, `(11,)`."""
        numbers = [1.0, math.log1p(self.length) / _LONGEST]
        numbers += [float(self.modality == modality) for modality in _MODALITIES]
        english = self.language is not None and self.language.lower().split("-")[0] == "en"
        numbers += [float(english), float(self.language is not None and not english)]
        return np.array(numbers)


@dataclass(frozen=True)
class Estimate:
    """What is expected of a model in one context.

    Args:
        expected: Its quality, 0 to 1, as far as outcomes and prior tell.
        bonus: What trying it is worth for what would be learned.
        outcomes: How many outcomes the model has in all.
    """

    expected: float
    bonus: float
    outcomes: int

    @property
    def score(self) -> float:
        """What models are ordered by."""
        return self.expected + self.bonus

    def against(self, other: Estimate, other_name: str) -> str:
        """Returns why this one comes before `other`, as the end of a sentence."""
        mine = f"expected quality {self.expected:.2f} from {self.outcomes} outcomes"
        theirs = f"{other.expected:.2f} from {other.outcomes} of {other_name}"
        if self.expected < other.expected:
            return f"{mine} against {theirs}, tried because less is known of it here"
        return f"{mine} against {theirs}"


@dataclass
class _Outcomes:
    """The sums of one model's outcomes."""

    count: int = 0
    squares: Array = field(default_factory=lambda: np.eye(len(_FEATURES)))  # A
    products: Array = field(default_factory=lambda: np.zeros(len(_FEATURES)))  # sum of q x
    features: Array = field(default_factory=lambda: np.zeros(len(_FEATURES)))  # sum of x
    inverse: Array = field(default_factory=lambda: np.eye(len(_FEATURES)))


class LearnedPreference:
    """Learns from outcomes which model to prefer; any number of threads may use it.

    Args:
        exploration: Weight of what is not known yet; 0 always takes the best so far.
        learn_from: "calls" counts an answer as quality 1; with "judgements" it counts only
            when `ModelRouter.judge` says how good it was. A failure is 0 either way.
        enabled: Whether it has a say; switched off, it neither chooses nor learns.
    """

    def __init__(
        self,
        *,
        exploration: float = 0.3,
        learn_from: str = "calls",
        enabled: bool = True,
    ) -> None:
        if learn_from not in {"calls", "judgements"} or not 0 <= exploration < math.inf:
            raise InputError(
                "learned preference",
                expected="learn_from 'calls' or 'judgements', and an exploration of 0 or more",
                found=f"{learn_from!r}, {exploration}",
                remedy="Leave them out for the defaults.",
            )
        self.exploration = exploration
        self.learn_from = learn_from
        self.enabled = enabled
        self._lock = threading.Lock()
        self._outcomes: dict[str, _Outcomes] = {}

    def estimate(self, profile: ModelProfile, context: Context) -> Estimate:
        """Returns what is expected of a model for a task like this."""
        prior, x = _prior(profile), context.features()
        with self._lock:
            known = self._outcomes.get(profile.identity)
            if known is None:
                return Estimate(prior, self.exploration * float(np.linalg.norm(x)), 0)
            theta = known.inverse @ (known.products - prior * known.features)
            spread = math.sqrt(max(0.0, float(x @ known.inverse @ x)))
            count = known.count
        expected = min(1.0, max(0.0, prior + float(theta @ x)))
        return Estimate(expected, self.exploration * spread, count)

    def record(self, profile: ModelProfile, context: Context, quality: float) -> None:
        """Takes one outcome.

        Args:
            profile: The model that answered.
            context: What it was asked.
            quality: 0 for a failure to 1 for a perfect answer.

        Raises:
            InputError: The quality is out of its range.
        """
        if not 0 <= quality <= 1:
            raise InputError(
                "quality of an answer",
                expected="a number of 0 to 1",
                found=f"{quality}",
                remedy="Scale it: 0 for a failure, 1 for a perfect answer.",
            )
        if not self.enabled:
            return
        x = context.features()
        with self._lock:
            known = self._outcomes.setdefault(profile.identity, _Outcomes())
            known.count += 1
            known.squares = known.squares + np.outer(x, x)
            known.products = known.products + quality * x
            known.features = known.features + x
            known.inverse = np.linalg.inv(known.squares)

    def save(self, path: Path) -> None:
        """Writes what was learned as JSON, for its owner only; an old file gives way whole."""
        with self._lock:
            models = {
                name: {
                    "count": known.count,
                    "squares": known.squares.tolist(),
                    "products": known.products.tolist(),
                    "sums": known.features.tolist(),
                }
                for name, known in sorted(self._outcomes.items())
            }
        state = {"format": _FORMAT, "features": list(_FEATURES), "models": models}
        partial = path.with_name(f"{path.name}.{os.getpid()}.part")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(state, file)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Takes over what `save` wrote, in place of what was learned so far.

        Raises:
            StoreError: The file is absent, damaged, or of a later version.
        """
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            version, features = state["format"], state["features"]
            if version == _FORMAT and features == list(_FEATURES):
                loaded = {str(name): _read(entry) for name, entry in state["models"].items()}
                with self._lock:
                    self._outcomes = loaded
                return
            found = f"format {version!r}" if version != _FORMAT else "other features"
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            found = f"none that can be read ({type(error).__name__})"
        raise StoreError(
            "learned preference",
            expected=f"a file of format {_FORMAT} with the features known here",
            found=found,
            remedy="Delete it to learn anew, or use the version of Tandem that wrote it.",
        )


def _prior(profile: ModelProfile) -> float:
    return _UNKNOWN_QUALITY if profile.accuracy is None else profile.accuracy


def _read(entry: Mapping[str, Any]) -> _Outcomes:
    n = len(_FEATURES)
    squares = np.array(entry["squares"], dtype=np.float64).reshape(n, n)
    products = np.array(entry["products"], dtype=np.float64).reshape(n)
    sums = np.array(entry["sums"], dtype=np.float64).reshape(n)
    inverse = np.linalg.inv(squares)  # LinAlgError is a ValueError
    if not all(np.isfinite(numbers).all() for numbers in (inverse, products, sums)):
        raise ValueError("not finite")
    return _Outcomes(int(entry["count"]), squares, products, sums, inverse)
