"""Which of several tuning methods measured rows show to be better, and which rows show it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from common.adapters.evidence import EvidenceRow
from common.adapters.rules import Claim

__all__ = ["best_of", "nearest_rows", "rows_about", "served_latency", "sizes_alike"]

_NEAREST = 4.0  # a measurement stands for questions of up to so many times its size
_CLOSE = 0.02  # figures without intervals that differ by less are taken as equal


def rows_about(claim: Claim, rows: Sequence[EvidenceRow], n_samples: int) -> list[EvidenceRow]:
    """Returns the rows that can confirm or contradict a claim.

    Latency compares the small adapters as they are served: full tuning has none to add.
    No benchmark measures a shift of domain.
    """
    if claim == "accuracy":
        return [
            row
            for metric in ("accuracy", "accuracy_difference")
            for row in nearest_rows(metric, rows, n_samples)
        ]
    if claim == "latency":
        served = [row for row in rows if row.metric == served_latency(row.method, "ratio")]
        return [row for row in served if row.method != "full"]
    return []


def served_latency(kind: str, unit: Literal["ms", "ratio"]) -> str:
    """Returns the metric that is a method's latency as served: LoRA's is merged."""
    return f"merged_latency_{unit}" if kind == "lora" else f"latency_{unit}"


def nearest_rows(metric: str, rows: Sequence[EvidenceRow], n_samples: int) -> list[EvidenceRow]:
    """Returns a metric's rows at the measured size nearest to `n_samples`, for each place.

    A size that is more than four times larger or smaller says nothing about it.
    """
    found: list[EvidenceRow] = []
    for here in _by_place([row for row in rows if row.metric == metric and row.n_samples]):
        sizes = sorted({row.n_samples for row in here if row.n_samples})
        nearest = min(sizes, key=lambda n: abs(math.log(n / n_samples)))
        if sizes_alike(nearest, n_samples, factor=_NEAREST):
            found += [row for row in here if row.n_samples == nearest]
    return found


def sizes_alike(measured: int | None, asked: int | None, *, factor: float = _NEAREST) -> bool:
    """Returns whether two sizes differ by at most a factor; any will do if none is asked."""
    if asked is None:
        return True
    return measured is not None and max(measured, asked) <= factor * min(measured, asked)


def best_of(
    kinds: Sequence[str], rows: Sequence[EvidenceRow], claim: Claim
) -> tuple[str, list[EvidenceRow]]:
    """Returns the first kind, or the best of those shown to be better, and what shows it."""
    first = kinds[0]
    sign = -1 if claim == "latency" else 1
    better = {kind: shown for kind in kinds[1:] if (shown := _shown(kind, first, rows, sign))}
    if not better:
        return first, []
    best = max(better, key=lambda kind: _mean(kind, rows, sign))
    return best, better[best]


def _mean(kind: str, rows: Sequence[EvidenceRow], sign: int) -> float:
    values = [sign * row.value for row in rows if row.method == kind and row.against is None]
    return math.fsum(values) / len(values) if values else -math.inf


def _shown(kind: str, other: str, rows: Sequence[EvidenceRow], sign: int) -> list[EvidenceRow]:
    """Returns the rows that show `kind` to be better than `other`.

    There are none unless it is better in at least one place and worse in none.
    """
    shown: list[EvidenceRow] = []
    for here in _by_place(rows):
        difference, by = _compare(kind, other, here)
        if sign * difference < 0:
            return []
        shown += by if difference else []
    return shown


def _compare(kind: str, other: str, rows: Sequence[EvidenceRow]) -> tuple[int, list[EvidenceRow]]:
    """Returns 1, 0 or -1 as the value of `kind` is larger, about equal or smaller, and by what.

    On the same test rows the interval of the difference decides; without such a row the
    two intervals must lie apart.
    """
    for row in rows:
        if row.against and {row.method, row.against} == {kind, other}:
            return _sign(row) * (1 if row.method == kind else -1), [row]
    plain = {row.method: row for row in rows if row.against is None}
    if kind not in plain or other not in plain:
        return 0, []
    smaller, larger = sorted((plain[kind], plain[other]), key=lambda row: row.value)
    if not _apart(smaller, larger):
        return 0, []
    return 1 if larger.method == kind else -1, [plain[kind], plain[other]]


def _apart(smaller: EvidenceRow, larger: EvidenceRow) -> bool:
    if smaller.high is not None and larger.low is not None:
        return smaller.high < larger.low
    return smaller.value < (1 - _CLOSE) * larger.value


def _sign(row: EvidenceRow) -> int:
    if row.low is None or row.high is None:
        return 0
    return int(row.low > 0) - int(row.high < 0)


def _by_place(rows: Sequence[EvidenceRow]) -> list[list[EvidenceRow]]:
    """Groups rows by device, base and task."""
    places: dict[tuple[str, str, str], list[EvidenceRow]] = {}
    for row in rows:
        places.setdefault((row.device, row.shape, row.task), []).append(row)
    return list(places.values())
