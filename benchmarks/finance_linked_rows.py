"""The rows of `finance.linked_risk`: squared errors, paired gains, controls, published figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.finance_linked_calls import HORIZONS_DAYS, Label
from benchmarks.finance_linked_forecasts import LinkedPlan
from benchmarks.finance_linked_links import LinkedSet, embargoed, shuffled_forecasts
from benchmarks.suite import Role, Row
from common.evaluation.conformal import fit_split_conformal
from common.evaluation.intervals import Interval, crossed_interval, mean_interval

__all__ = [
    "control_rows",
    "difference",
    "difference_row",
    "error_rows",
    "interval_rows",
    "published_rows",
    "squared_errors",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_LAST = 3  # the horizon of 30 days
_DRAWS = 4000

_KEFVP = "KeFVP, Niu et al. 2023, second-hand"
_PEV = "PEV, read in the source's own files"
_AUGMENTED = "Aug_STPEV, arXiv 2412.18029"
# Published MSE at 3, 7, 15 and 30 days.
PUBLISHED = {
    ("KeFVP", "MAEC-15"): ((0.418, 0.187, 0.122, 0.087), _KEFVP),
    ("KeFVP", "MAEC-16"): ((0.445, 0.279, 0.303, 0.177), _KEFVP),
    ("PEV", "MAEC-15"): ((0.532, 0.301, 0.209, 0.177), _PEV),
    ("PEV", "MAEC-16"): ((0.380, 0.229, 0.173, 0.139), _PEV),
    ("Aug_STPEV", "MAEC-15"): ((0.443, 0.214, 0.130, 0.112), _AUGMENTED),
    ("Aug_STPEV", "MAEC-16"): ((0.470, 0.238, 0.168, 0.113), _AUGMENTED),
}


def published_rows() -> Iterator[Row]:
    """Yields the published figures and their means."""
    for (name, dataset), (figures, source) in PUBLISHED.items():
        for days, value in zip(HORIZONS_DAYS, figures, strict=True):
            yield Row(
                name, dataset, f"MSE {days} days", value, None, None, "1", "published", source
            )
        mean = round(float(np.mean(figures)), 4)
        yield Row(name, dataset, "mean MSE", mean, None, None, "1", "published", source)


def squared_errors(
    linked: LinkedSet, label: Label, forecasts: Sequence[Floats], rows: Ints
) -> list[Floats]:
    """Returns each seed's squared errors of some rows, `(len(rows), 4)`."""
    outcome = linked.calls.labels[label][rows]
    return [(forecast[rows] - outcome) ** 2 for forecast in forecasts]


def error_rows(
    name: str,
    role: Role,
    linked: LinkedSet,
    label: Label,
    forecasts: Sequence[Floats],
    *,
    rows: Ints | None = None,
    source: str = "this run",
) -> Iterator[Row]:
    """Yields the mean squared error of test calls, over the horizons and at each of them."""
    rows = linked.calls.rows("test", label) if rows is None else rows
    errors = squared_errors(linked, label, forecasts, rows)
    company = linked.calls.ticker[rows]
    dataset = linked.calls.dataset + ("" if label == "published" else ", with reaction")
    mean = _interval([e.mean(axis=1) for e in errors], company)
    yield _row((name, dataset, "mean MSE"), mean, role, source)
    for at, days in enumerate(HORIZONS_DAYS):
        found = _interval([e[:, at] for e in errors], company)
        yield _row((name, dataset, f"MSE {days} days"), found, role, source)


def difference(
    sets: Sequence[LinkedSet],
    label: Label,
    others: Sequence[Sequence[Floats]],
    ours: Sequence[Sequence[Floats]],
    *,
    unseen: bool = False,
) -> Interval:
    """Returns by how much ours is smaller on the same test calls, mean over horizons and seeds.

    Args:
        sets: The sets whose test calls are taken together.
        label: Which label.
        others: For each set the other model's forecasts, by seed.
        ours: For each set our forecasts, by seed.
        unseen: Only companies without a train or dev call.
    """
    gains, company = [], []
    for linked, other, our in zip(sets, others, ours, strict=True):
        rows = linked.calls.rows("test", label)
        rows = rows[linked.calls.unseen()[rows]] if unseen else rows
        a = np.mean(squared_errors(linked, label, other, rows), axis=(0, 2))
        gains.append([a - e.mean(axis=1) for e in squared_errors(linked, label, our, rows)])
        company.append(linked.calls.ticker[rows])
    n_seeds = max(map(len, gains))
    of_seeds = [
        np.concatenate([gain[seed % len(gain)] for gain in gains]) for seed in range(n_seeds)
    ]
    return _interval(of_seeds, np.concatenate(company))


def control_rows(
    linked: LinkedSet, label: Label, source: str, ours: Sequence[Floats], plan: LinkedPlan
) -> Iterator[Row]:
    """Yields shuffled transcripts, unseen companies and the embargo.

    Args:
        linked: The set.
        label: Which label.
        source: The frozen source of text that the controls use.
        ours: The linked forecasts by seed.
        plan: The protocol.
    """
    calls, forecasts = linked.calls, linked.priced.forecasts[label]
    shuffled = [shuffled_forecasts(linked, label, source, seed) for seed in plan.seeds]
    yield from error_rows(
        "shuffled transcripts", "control", linked, label, shuffled,
        source=f"this run; {source}, {len(plan.seeds)} shuffles",
    )  # fmt: skip
    test = calls.rows("test", label)
    unseen = test[calls.unseen()[test]]
    told = f"this run; {len(unseen)} of {len(test)} test calls"
    for name, found in (
        ("HAR", [forecasts["har"]]), ("prices", [forecasts["prices"]]), ("linked", ours),
    ):  # fmt: skip
        yield from error_rows(
            f"{name}, unseen companies", "control", linked, label, found, rows=unseen, source=told
        )
    embargo = embargoed(linked, label, source, plan)
    told = f"this run; {embargo.n_train} train calls left; text: {source}"
    for name, one in (
        ("HAR", embargo.har), ("prices", embargo.prices), ("linked", embargo.linked),
    ):  # fmt: skip
        yield from error_rows(
            f"{name}, embargo {plan.embargo_days} days", "control", linked, label, [one],
            source=told,
        )  # fmt: skip


def interval_rows(linked: LinkedSet, label: Label, forecast: Floats, level: float) -> Iterator[Row]:
    """Yields coverage and width of the conformal intervals at 30 days, calibrated on dev."""
    calls = linked.calls
    outcome = calls.labels[label][:, _LAST]
    dev, test = calls.rows("dev", label), calls.rows("test", label)
    fitted = fit_split_conformal(outcome[dev], forecast[dev, _LAST], level=level)
    low, high = fitted.interval(forecast[test, _LAST])
    covered = ((outcome[test] >= low) & (outcome[test] <= high)).astype(float)
    dataset = calls.dataset + ("" if label == "published" else ", with reaction")
    found = mean_interval(covered, calls.ticker[test])
    told = f"this run; split conformal on {fitted.n_rows} dev calls, aim {level:g}"
    yield _row(("linked", dataset, "interval coverage 30 days"), found, "ours", told)
    yield Row(
        "linked", dataset, "interval width 30 days", 2 * fitted.radius, None, None,
        "log-volatility", "ours", told,
    )  # fmt: skip


def _interval(of_seeds: Sequence[Floats], company: npt.NDArray[np.str_]) -> Interval:
    if len(of_seeds) == 1:
        return mean_interval(of_seeds[0], company, draws=_DRAWS)
    scores = [list(values) for values in of_seeds]
    return crossed_interval(scores, [list(company)] * len(scores))


def difference_row(name: str, dataset: str, found: Interval, source: str = "this run") -> Row:
    """Returns the row of a paired gain; above zero is better for the second."""
    return _row((name, dataset, "mean MSE difference"), found, "ours", source)


def _row(what: tuple[str, str, str], found: Interval, role: Role, source: str) -> Row:
    return Row(*what, found.value, found.low, found.high, "1", role, source)
