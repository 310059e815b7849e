"""The price forecasts of a set that text is to correct, and the plan of the whole benchmark."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from benchmarks.finance_linked_calls import Label, LinkedCalls
from benchmarks.finance_linked_models import (
    Candidate,
    Judged,
    PriceProblem,
    best_of_families,
    candidates,
    forward_error,
    out_of_fold,
)
from benchmarks.finance_linked_panel import PriceRows
from benchmarks.finance_linked_training import TextPlan, TrainingCalls

__all__ = [
    "BASES",
    "LABELS",
    "LinkedPlan",
    "PricedSet",
    "choose_price_models",
    "price_set",
    "read_plan",
    "signal_columns",
    "training_calls",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
LABELS: tuple[Label, ...] = get_args(Label)
BASES = ("har", "prices", "train mean")  # forecasts that text corrects; the last is text alone


@dataclass(frozen=True)
class LinkedPlan:
    """The protocol, as `configs/finance.linked_risk.json` says it, fixed before the test run.

    Args:
        protocol: In words.
        seeds: Of shuffles and of the boosting.
        embargo_days: Calendar days before the first test call without train or dev calls.
        forward_parts: Parts of train that the choice among price models goes forward through.
        fold_parts: Folds of the out-of-fold forecasts.
        mean_of: Families whose bests make the candidate "mean".
        price_models: Family -> settings tried.
        max_tokens: Longest passage.
        event_quantile: The event exceeds this quantile of the train labels.
        interval_level: Coverage of the conformal intervals.
        text: How much is trained, by device.
    """

    protocol: Sequence[str]
    seeds: tuple[int, ...]
    embargo_days: int
    forward_parts: int
    fold_parts: int
    mean_of: tuple[str, ...]
    price_models: Mapping[str, Sequence[Any]]
    max_tokens: int
    event_quantile: float
    interval_level: float
    text: Mapping[str, TextPlan]


@dataclass(frozen=True, eq=False)
class PricedSet:
    """A set with the forecasts of its price models.

    Args:
        calls: The set.
        prices: Its features.
        judged: For each kind of label the best of each family, the one chosen first.
        forecasts: For each kind of label, family (or "prices", the one chosen, or "train mean")
            -> `(n, 4)`: of train rows out of fold, of dev and test rows from all of train.
    """

    calls: LinkedCalls
    prices: PriceRows
    judged: Mapping[Label, Sequence[Judged]]
    forecasts: Mapping[Label, Mapping[str, Floats]]


def read_plan(path: Path, *, quick: bool) -> LinkedPlan:
    """Reads the protocol; `quick` takes few candidates and hardly trains, for a look."""
    fields = json.loads(path.read_text(encoding="utf-8"))
    small = {"epochs": 1, "passages_per_call": 1, "passages_read": 1, "seeds": [0], "workers": 1}
    fields["text"] = {
        device: TextPlan(**{**plan, **(small if quick else {})})
        for device, plan in fields["text"].items()
    }
    fields |= {name: tuple(fields[name]) for name in ("seeds", "mean_of")}
    if quick:
        few = {family: tried[:1] for family, tried in fields["price_models"].items()}
        fields |= {"price_models": few, "seeds": fields["seeds"][:2]}
    return LinkedPlan(**fields)


def price_set(calls: LinkedCalls, prices: PriceRows, plan: LinkedPlan) -> PricedSet:
    """Chooses a price model for each kind of label on train and dev, and makes all forecasts."""
    judged: dict[Label, Sequence[Judged]] = {}
    forecasts: dict[Label, dict[str, Floats]] = {}
    for label in LABELS:
        problem = PriceProblem(calls, prices, label, seed=plan.seeds[0])
        train, dev = calls.rows("train", label), calls.rows("dev", label)
        best = choose_price_models(problem, train, dev, plan)
        others = np.setdiff1d(np.arange(len(calls)), train)
        found = {
            one.candidate.family: out_of_fold(
                problem, one.candidate, train, others, parts=plan.fold_parts
            )
            for one in best
        }
        judged[label] = best
        mean = np.tile(calls.labels[label][train].mean(axis=0), (len(calls), 1))
        forecasts[label] = {
            **found,
            "prices": found[best[0].candidate.family],
            "train mean": mean,
        }
    return PricedSet(calls, prices, judged, forecasts)


def choose_price_models(
    problem: PriceProblem, train: Ints, dev: Ints, plan: LinkedPlan
) -> list[Judged]:
    """Returns each family's best by its error going forward, "mean" among them."""
    parts = plan.forward_parts
    tried = [
        forward_error(problem, candidate, train, dev, parts=parts)
        for candidate in candidates(plan.price_models)
    ]
    best = best_of_families(tried)
    members = tuple(j.candidate for j in best if j.candidate.family in plan.mean_of)
    mean = Candidate("mean", members=members)
    return best_of_families([*best, forward_error(problem, mean, train, dev, parts=parts)])


def training_calls(priced: PricedSet, tokens: Sequence[Sequence[Sequence[int]]]) -> TrainingCalls:
    """Returns what text models are trained on: residuals of each base and label, `(n, 24)`."""
    targets = np.hstack(
        [
            priced.calls.labels[label] - priced.forecasts[label][base]
            for label, base in product(LABELS, BASES)
        ]
    )
    told = np.array([bool(call) for call in tokens])
    rows = {
        split: np.flatnonzero((priced.calls.split == split) & told)
        for split in ("train", "dev", "test")
    }
    return TrainingCalls(tokens, targets, **rows)


def signal_columns(label: Label, base: str) -> slice:
    """Returns where a text model's four scores for a label and base stand among its outputs."""
    at = 4 * list(product(LABELS, BASES)).index((label, base))
    return slice(at, at + 4)
