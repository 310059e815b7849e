"""The calls' text as features, and the forecasts that it corrects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.finance_linked_calls import Label, LinkedCalls
from benchmarks.finance_linked_forecasts import (
    LinkedPlan,
    PricedSet,
    choose_price_models,
    signal_columns,
)
from benchmarks.finance_linked_models import PriceProblem, out_of_fold
from benchmarks.finance_linked_training import TextRun
from kits.finance.risk.residual import fit_residual_link, fit_signal_link

__all__ = ["EmbargoForecasts", "Linked", "LinkedSet", "embargoed", "shuffled_forecasts", "tf_idf"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Linked:
    """Forecasts of one source of text over one base, one for each seed.

    Args:
        forecasts: `(n, 4)` each.
        weights: Of the text, by seed.
        dev_error: Mean squared error on dev, mean over seeds.
    """

    forecasts: tuple[Floats, ...]
    weights: tuple[float, ...]
    dev_error: float


class LinkedSet:
    """A set, its text features and its tuned text models' runs.

    Args:
        priced: The set with its price forecasts.
        features: Source -> `(n, n_features)`, NaN in rows without text.
        runs: Tuned source -> a run for each seed.
        parts: Folds of out-of-fold corrections.
    """

    def __init__(
        self,
        priced: PricedSet,
        features: Mapping[str, Floats],
        runs: Mapping[str, Sequence[TextRun]],
        *,
        parts: int,
    ) -> None:
        self.priced, self.features, self.runs, self.parts = priced, features, runs, parts
        self._links: dict[tuple[Label, str, str], Linked] = {}

    @property
    def calls(self) -> LinkedCalls:
        """The calls."""
        return self.priced.calls

    def link(self, label: Label, base: str, source: str) -> Linked:
        """Returns the forecasts of `base` corrected by `source`, fitted once."""
        key = (label, base, source)
        if key not in self._links:
            self._links[key] = self._fit(label, base, source)
        return self._links[key]

    def out_of_fold(self, label: Label, base: str, source: str) -> tuple[Floats, ...]:
        """Returns `link`'s forecasts, of train rows with corrections that saw other folds alone.

        A tuned source has no say on train rows: they have the base's own.
        """
        if source not in self.features:
            return self.link(label, base, source).forecasts
        z = self.features[source]
        price, outcome = self.priced.forecasts[label][base], self.calls.labels[label]
        train, dev = self.calls.rows("train", label), self.calls.rows("dev", label)
        link = fit_residual_link(z, price, outcome, fit=train, choose=dev)
        found = link.forecast(price, z)
        for part in np.array_split(train, self.parts):
            rest = np.setdiff1d(train, part)
            fold = fit_residual_link(
                z, price, outcome, fit=rest, choose=dev, penalties=(link.penalty,)
            )
            found[part] = price[part] + link.weight * fold.signal(z[part])
        return (found,)

    def chosen(self, label: Label, base: str, n_seeds: int) -> str:
        """Returns the source with the smallest dev error among those with all seeds."""
        whole = [source for source, runs in self.runs.items() if len(runs) >= n_seeds]
        return min(
            [*self.features, *whole], key=lambda source: self.link(label, base, source).dev_error
        )

    def _fit(self, label: Label, base: str, source: str) -> Linked:
        price, outcome = self.priced.forecasts[label][base], self.calls.labels[label]
        train, dev = self.calls.rows("train", label), self.calls.rows("dev", label)
        if source in self.features:
            z = self.features[source]
            link = fit_residual_link(z, price, outcome, fit=train, choose=dev)
            forecasts = [link.forecast(price, z)]
            weights = [link.weight]
        else:
            forecasts, weights = [], []
            for run in self.runs[source]:
                signals = run.signals[:, signal_columns(label, base)]
                link = fit_signal_link(signals, price, outcome, choose=dev)
                forecasts.append(link.forecast(price, signals))
                weights.append(link.weight)
        errors = [float(np.mean((f[dev] - outcome[dev]) ** 2)) for f in forecasts]
        return Linked(tuple(forecasts), tuple(weights), float(np.mean(errors)))


def tf_idf(calls: LinkedCalls) -> Floats:
    """Returns TF-IDF of words and word pairs, its vocabulary from train calls, `(n, 2000)`."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, min_df=5, max_features=2000, stop_words="english"
    )
    vectorizer.fit([calls.text[row] for row in calls.rows("train")])
    found = np.asarray(vectorizer.transform(calls.text).toarray(), dtype=np.float64)
    found[~found.any(axis=1)] = np.nan
    return found


def shuffled_forecasts(linked: LinkedSet, label: Label, source: str, seed: int) -> Floats:
    """Returns forecasts of all rows with each split's transcripts in another order."""
    calls, z = linked.calls, linked.features[source].copy()
    random = np.random.default_rng(seed)
    for split in ("train", "dev", "test"):
        rows = np.flatnonzero(calls.split == split)
        z[rows] = linked.features[source][random.permutation(rows)]
    price, outcome = linked.priced.forecasts[label]["prices"], calls.labels[label]
    train, dev = calls.rows("train", label), calls.rows("dev", label)
    return fit_residual_link(z, price, outcome, fit=train, choose=dev).forecast(price, z)


@dataclass(frozen=True, eq=False)
class EmbargoForecasts:
    """Forecasts of a set without its last train and dev calls, `(n, 4)` each.

    Args:
        n_train: Calls that were left to fit on.
        har: HAR.
        prices: The price model chosen again on what is left.
        linked: That, corrected by text.
    """

    n_train: int
    har: Floats
    prices: Floats
    linked: Floats


def embargoed(linked: LinkedSet, label: Label, source: str, plan: LinkedPlan) -> EmbargoForecasts:
    """Fits everything again without train and dev calls near the first test call."""
    calls = linked.calls
    there = np.asarray(np.isfinite(calls.labels[label]).all(axis=1))
    rows = calls.before_embargo(plan.embargo_days)
    rows = rows[there[rows]]
    cut = len(rows) - len(rows) // 7
    train, dev = rows[:cut], rows[cut:]
    problem = PriceProblem(calls, linked.priced.prices, label, seed=plan.seeds[0])
    best = choose_price_models(problem, train, dev, plan)
    har = next(j.candidate for j in best if j.candidate.family == "har")
    others = np.setdiff1d(np.arange(len(calls)), train)
    found = {
        name: out_of_fold(problem, candidate, train, others, parts=plan.fold_parts)
        for name, candidate in (("har", har), ("prices", best[0].candidate))
    }
    z = linked.features[source]
    link = fit_residual_link(z, found["prices"], calls.labels[label], fit=train, choose=dev)
    return EmbargoForecasts(
        len(train), found["har"], found["prices"], link.forecast(found["prices"], z)
    )
