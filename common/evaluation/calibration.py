"""From log-odds of any origin to probabilities that come true as often as they say.

A calibration is fitted on rows that the model was not fitted on (dev), never on test. Each
is monotone: it changes probabilities, and no ranking but for ties.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from common.errors import InputError
from common.evaluation.logistic import fit_logistic, logit, sigmoid
from common.evaluation.metrics import scores_and_events

__all__ = [
    "AsItIs",
    "Beta",
    "Calibration",
    "CalibrationChoice",
    "Isotonic",
    "Method",
    "Platt",
    "calibration_from_json",
    "choose_calibration",
    "fit_beta",
    "fit_isotonic",
    "fit_platt",
    "grouped_folds",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Method = Literal["as it is", "platt", "beta", "isotonic"]

LEAST_PER_CLASS = 10  # fewer events (or others) fit no curve


class Calibration(Protocol):
    """What every calibration offers."""

    def probability(self, log_odds: npt.ArrayLike) -> Floats:
        """Returns the probability of each log-odds, `(n,)`."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values that `calibration_from_json` reads back."""
        ...


@dataclass(frozen=True)
class AsItIs:
    """No calibration: p = sigmoid(s)."""

    def probability(self, log_odds: npt.ArrayLike) -> Floats:
        """Returns sigmoid(s)."""
        return sigmoid(log_odds)

    def to_json(self) -> dict[str, Any]:
        """Returns its name."""
        return {"method": "as it is"}


@dataclass(frozen=True)
class Platt:
    """p = sigmoid(intercept + slope s), slope not below 0 (Platt 1999)."""

    intercept: float
    slope: float

    def probability(self, log_odds: npt.ArrayLike) -> Floats:
        """Returns sigmoid(intercept + slope s)."""
        return sigmoid(self.intercept + self.slope * np.asarray(log_odds, dtype=np.float64))

    def to_json(self) -> dict[str, Any]:
        """Returns its name and coefficients."""
        return {"method": "platt", **asdict(self)}


@dataclass(frozen=True)
class Beta:
    """p = sigmoid(intercept + a ln u - b ln(1 - u)), u = sigmoid(s), a and b not below 0.

    Kull, Silva Filho and Flach (2017), "Beyond sigmoids: how to obtain well-calibrated
    probabilities from binary classifiers with beta calibration".
    """

    intercept: float
    a: float
    b: float

    def probability(self, log_odds: npt.ArrayLike) -> Floats:
        """Returns the beta curve at s."""
        terms = _beta_terms(np.asarray(log_odds, dtype=np.float64))
        return sigmoid(self.intercept + terms @ np.array([self.a, self.b]))

    def to_json(self) -> dict[str, Any]:
        """Returns its name and coefficients."""
        return {"method": "beta", **asdict(self)}


@dataclass(frozen=True)
class Isotonic:
    """Piecewise linear between the blocks of the isotonic regression, flat outside.

    Args:
        log_odds: Knots, rising.
        probabilities: Probability at each knot, not falling.
    """

    log_odds: tuple[float, ...]
    probabilities: tuple[float, ...]

    def probability(self, log_odds: npt.ArrayLike) -> Floats:
        """Returns the curve at s."""
        s = np.asarray(log_odds, dtype=np.float64)
        return np.asarray(np.interp(s, self.log_odds, self.probabilities), dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """Returns its name and knots."""
        return {
            "method": "isotonic",
            "log_odds": list(self.log_odds),
            "probabilities": list(self.probabilities),
        }


@dataclass(frozen=True)
class CalibrationChoice:
    """The calibration that was chosen, fitted on all rows given.

    Args:
        calibration: It.
        method: Its name.
        log_losses: Cross-validated log loss of each method that was tried, in nats.
        n_rows: Rows that it was chosen and fitted on.
    """

    calibration: Calibration
    method: Method
    log_losses: Mapping[str, float]
    n_rows: int


def fit_platt(log_odds: npt.ArrayLike, event: npt.ArrayLike) -> Platt:
    """Returns Platt's fit to his smoothed targets, (n1 + 1) / (n1 + 2) and 1 / (n0 + 2).

    A score that ranks the wrong way gets slope 0: the base rate for everybody.

    Raises:
        InputError: Too few rows of a class, a score that is no number, or equal scores.
    """
    s, e = _usable(log_odds, event)
    target = _smoothed(e)
    intercept, (slope,) = _fit_terms(s[:, None], target)
    return Platt(intercept, slope) if slope > 0 else Platt(float(logit(target.mean())), 0.0)


def fit_beta(log_odds: npt.ArrayLike, event: npt.ArrayLike) -> Beta:
    """Returns the beta curve, fitted to Platt's smoothed targets so that it is always finite.

    As the authors do, a coefficient that comes out negative is set to 0 and the rest fitted again.

    Raises:
        InputError: As in `fit_platt`.
    """
    s, e = _usable(log_odds, event)
    target, terms = _smoothed(e), _beta_terms(s)
    kept = [0, 1]
    while kept:
        intercept, slopes = _fit_terms(terms[:, kept], target)
        if min(slopes) >= 0:
            found = dict(zip(kept, slopes, strict=True))
            return Beta(intercept, found.get(0, 0.0), found.get(1, 0.0))
        kept.pop(int(np.argmin(slopes)))
    return Beta(float(logit(target.mean())), 0.0, 0.0)


def fit_isotonic(log_odds: npt.ArrayLike, event: npt.ArrayLike) -> Isotonic:
    """Returns the isotonic regression by pooling adjacent violators (Zadrozny and Elkan 2002).

    Equal scores are pooled first. Probabilities are kept within 1 / (n + 2) of 0 and 1: n rows
    cannot show that something never happens.

    Raises:
        InputError: As in `fit_platt`.
    """
    s, e = _usable(log_odds, event)
    knots, inverse, counts = np.unique(s, return_inverse=True, return_counts=True)
    hits = np.bincount(inverse, weights=e)
    blocks: list[tuple[float, float, int]] = []  # hits, rows, knots
    for hit, count in zip(hits, counts, strict=True):
        blocks.append((float(hit), float(count), 1))
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] >= blocks[-1][0] * blocks[-2][1]:
            last, before = blocks.pop(), blocks.pop()
            blocks.append((before[0] + last[0], before[1] + last[1], before[2] + last[2]))
    least = 1 / (len(s) + 2)
    values = np.clip([hit / count for hit, count, _ in blocks], least, 1 - least)
    ends = np.cumsum([size for _, _, size in blocks])
    curve = {}  # a block's first and last knot are enough
    for value, start, end in zip(values, [0, *ends[:-1]], ends, strict=True):
        curve[float(knots[start])] = curve[float(knots[end - 1])] = float(value)
    return Isotonic(tuple(curve), tuple(curve.values()))


_FITS: Mapping[Method, Callable[[npt.ArrayLike, npt.ArrayLike], Calibration]] = MappingProxyType(
    {
        "as it is": lambda log_odds, event: AsItIs(),  # noqa: ARG005  # nothing to fit
        "platt": fit_platt,
        "beta": fit_beta,
        "isotonic": fit_isotonic,
    }
)


def choose_calibration(
    log_odds: npt.ArrayLike,
    event: npt.ArrayLike,
    *,
    groups: npt.ArrayLike | None = None,
    methods: Sequence[Method] = ("as it is", "platt", "beta", "isotonic"),
    folds: int = 5,
    seed: int = 0,
) -> CalibrationChoice:
    """Returns the method with the smallest cross-validated log loss, fitted on all rows.

    The rows are dev rows: those that the scores were fitted on make every method look right,
    those of the test would make its figures wrong. Of equal losses the method named first wins.

    Args:
        log_odds: `(n,)` scores as log-odds; any scale will do for all but "as it is".
        event: `(n,)`.
        groups: `(n,)` names of what stays together in a fold (a company); rows alone without.
        methods: What is tried.
        folds: Parts of the cross-validation.
        seed: Seed of the parts.

    Raises:
        InputError: Too few rows of a class, a score that is no number, equal scores, too few
            groups, or an unknown method.
    """
    s, e = _usable(log_odds, event)
    if not methods or not set(methods) <= set(_FITS):
        raise InputError(
            "calibration methods",
            expected="some of " + ", ".join(_FITS),
            found=", ".join(methods) or "none",
            remedy="Name at least one of these.",
        )
    fold = grouped_folds(e, groups, folds=folds, seed=seed)
    losses: dict[str, float] = {}
    for method in methods:
        p = np.empty_like(s)
        for part in range(folds):
            held = fold == part
            p[held] = _FITS[method](s[~held], e[~held]).probability(s[held])
        losses[method] = _bounded_log_loss(p, e)
    best = min(methods, key=losses.__getitem__)
    return CalibrationChoice(_FITS[best](s, e), best, MappingProxyType(losses), len(s))


def grouped_folds(
    event: npt.ArrayLike, groups: npt.ArrayLike | None, *, folds: int, seed: int
) -> Ints:
    """Returns a fold number for each row: groups stay whole, events are dealt out evenly.

    Raises:
        InputError: There are fewer groups with an event, or without, than folds need.
    """
    e = np.asarray(event, dtype=np.bool_)
    names = np.arange(len(e)) if groups is None else np.asarray(groups)
    _, index = np.unique(names, return_inverse=True)
    with_event = np.bincount(index, weights=e) > 0
    counts = (int(with_event.sum()), int((~with_event).sum()))
    if names.shape != e.shape or folds < 2 or min(counts) < folds:
        raise InputError(
            "folds",
            expected=f"2 or more, and for {folds} as many groups with an event and without",
            found=f"{counts[0]} with, {counts[1]} without, {len(e)} rows",
            remedy="Use fewer folds or give more rows.",
        )
    random = np.random.default_rng(seed)
    of_group = np.empty(len(with_event), dtype=np.int64)
    for kind in (True, False):
        members = random.permutation(np.flatnonzero(with_event == kind))
        of_group[members] = np.arange(len(members)) % folds
    return of_group[index]


def calibration_from_json(written: Mapping[str, Any]) -> Calibration:
    """Reads what `to_json` wrote.

    Raises:
        InputError: The method is unknown, a number is missing, or a curve falls.
    """
    try:
        found = _READERS[written["method"]](written)
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(f"{type(error).__name__} while reading it") from error
    if isinstance(found, Isotonic):
        rising = np.diff(found.log_odds) > 0
        fits = len(found.log_odds) == len(found.probabilities) > 0
        if not fits or not rising.all() or (np.diff(found.probabilities) < 0).any():
            raise _unreadable("knots that do not rise")
    return found


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Calibration]] = MappingProxyType(
    {
        "as it is": lambda written: AsItIs(),  # noqa: ARG005  # it has no coefficients
        "platt": lambda written: Platt(float(written["intercept"]), float(written["slope"])),
        "beta": lambda written: Beta(*(float(written[name]) for name in ("intercept", "a", "b"))),
        "isotonic": lambda written: Isotonic(
            tuple(map(float, written["log_odds"])), tuple(map(float, written["probabilities"]))
        ),
    }
)


def _beta_terms(s: Floats) -> Floats:
    """Returns ln u and -ln(1 - u) of u = sigmoid(s), `(n, 2)`."""
    return np.column_stack([-np.logaddexp(0.0, -s), np.logaddexp(0.0, s)])


def _fit_terms(terms: Floats, target: Floats) -> tuple[float, list[float]]:
    """Returns intercept and slopes of a logistic regression on `(n, n_terms)`.

    Terms are brought to one scale, with a penalty that shows only where they repeat one another
    (scores of a narrow range make both terms of the beta curve straight lines).
    """
    mean, spread = terms.mean(0), terms.std(0)
    scale = np.where(spread > 0, spread, 1.0)  # far out on one side a term stands still
    design = np.column_stack([np.ones(len(terms)), (terms - mean) / scale])
    penalty = [0.0, *[1e-8 * len(terms)] * terms.shape[1]]
    fit = fit_logistic(design, target, penalty=penalty)
    slopes = fit.coefficients[1:] / scale
    return float(fit.coefficients[0] - mean @ slopes), slopes.tolist()


def _smoothed(event: Bools) -> Floats:
    ones = int(event.sum())
    return np.where(event, (ones + 1) / (ones + 2), 1 / (len(event) - ones + 2))


def _bounded_log_loss(p: Floats, event: Bools) -> float:
    """Returns the log loss; a certainty (from scores beyond +-36 left as they are) is cut."""
    q = np.clip(np.where(event, p, 1 - p), np.finfo(np.float64).eps, None)
    return float(-np.log(q).mean())


def _usable(log_odds: npt.ArrayLike, event: npt.ArrayLike) -> tuple[Floats, Bools]:
    s, e = scores_and_events(log_odds, event, least_per_class=LEAST_PER_CLASS)
    if s.min() == s.max():
        raise InputError(
            "scores to calibrate",
            expected="scores that differ",
            found=f"{len(s)} equal ones",
            remedy="A model that tells nobody apart has nothing to calibrate: use the base rate.",
        )
    return s, e


def _unreadable(found: str) -> InputError:
    return InputError(
        "calibration",
        expected="a method of " + ", ".join(_FITS) + " with its numbers",
        found=found,
        remedy="Write it with to_json, and do not edit it by hand.",
    )
