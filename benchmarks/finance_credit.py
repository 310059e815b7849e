"""`finance.credit`: a probability-of-default scorecard on the open credit panels.

Five folds by hash: each row is tested once, by models that saw neither it nor a copy of it (nor,
in the ratings, its company or its time); a quarter of the others is dev, on which penalty,
settings and calibration are chosen. Rows, by their fields:

- `name` "scorecard" and its first method alone (ours), "logistic" (floor), "boosting" (peer);
  `metric` "AUC" (mean of the folds' areas; DeLong, in the ratings bootstrap by company), "Brier",
  "log loss" and "ECE" (ten bins of equal mass) of calibrated probabilities (bootstrap by group).
- "shuffled labels" (control): mean AUC over shuffles and folds, with the interval of that mean.
- "scorecard minus logistic", "scorecard minus boosting": paired differences of AUC and, turned so
  that above zero is better for ours, of Brier.

Headlines per panel: auc_, brier_, ece_, auc_gain_ (over the floor), auc_vs_boosting_ (difference).
Intervals do not hold that folds share training rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.credit_models import (
    MODELS,
    CreditProtocol,
    Scored,
    control_areas,
    score_fold,
)
from benchmarks.credit_panels import panel_digest, read_panel
from benchmarks.suite import Outcome, Role, Row, Verdict
from common.evaluation.intervals import Interval, bootstrap_interval, mean_interval, paired_gain
from common.evaluation.metrics import (
    AreaDifference,
    AreaUnderCurve,
    area_difference,
    area_under_curve,
    calibration_error_by_chance,
    expected_calibration_error,
)
from kits.finance.risk.credit_panel import CreditPanel, PanelSplit, split_panel

__all__ = ["credit", "judge", "read_protocol"]

Floats = npt.NDArray[np.float64]

_PROTOCOL = Path(__file__).parent / "configs" / "finance.credit.json"
_ROLES: Mapping[str, Role] = {
    "scorecard": "ours",
    "scorecard, weight of evidence": "ours",
    "logistic": "floor",
    "boosting": "peer",
}
_DEFAULTS_ONLY = "ratings"  # an agency's judgement, not a default: measured, not in the verdict


def credit(data: Path | None, *, quick: bool) -> Outcome:
    """Measures `finance.credit`.

    Args:
        data: Folder of the open data sets; TANDEM_DATA without it.
        quick: The two smallest panels, few settings and draws, for a look.

    Raises:
        MissingInputError: A panel is absent.
    """
    folder = data or Path(os.environ.get("TANDEM_DATA", "../shared/data"))
    protocol = read_protocol(_PROTOCOL, quick=quick)
    measured = [_measure(read_panel(name, folder), protocol) for name in protocol.panels]
    gains = {m.panel.name: m.gain("logistic") for m in measured if m.panel.name != _DEFAULTS_ONLY}
    return Outcome(
        rows=[row for m in measured for row in m.rows()],
        headlines={key: value for m in measured for key, value in m.headlines().items()},
        verdict=judge(list(gains.values())),
        note=_note(measured, gains),
        config={**asdict(protocol), "panels": {m.panel.name: m.facts() for m in measured}},
        seeds=[protocol.seed],
        data={name: panel_digest(name, folder) for name in protocol.panels},
    )


def read_protocol(path: Path, *, quick: bool) -> CreditProtocol:
    """Reads the configuration; a quick run keeps two panels and one setting."""
    written = json.loads(path.read_text(encoding="utf-8"))
    protocol = CreditProtocol(
        **{**written, "panels": tuple(written["panels"]), "boosting": tuple(written["boosting"])}
    )
    if not quick:
        return protocol
    return replace(
        protocol, panels=("german_credit", "ratings"), boosting=protocol.boosting[:1], draws=100
    )


def judge(gains: Sequence[Interval]) -> Verdict:
    """Whether the scorecard ranks better than the plain logistic floor.

    "exceeded" where every interval lies above zero, "contradicted" where one lies below.
    """
    if any(gain.below_zero for gain in gains):
        return "contradicted"
    return "exceeded" if gains and all(gain.above_zero for gain in gains) else "not shown"


@dataclass(frozen=True)
class _Measured:
    panel: CreditPanel
    protocol: CreditProtocol
    splits: Sequence[PanelSplit]
    scored: Mapping[str, Sequence[Scored]]
    control: Sequence[float]

    def rows(self) -> Iterator[Row]:
        for name, role in _ROLES.items():
            yield self._row(name, "AUC", self.area(name), role, self._chosen(name))
            for metric, loss in (("Brier", _squared), ("log loss", _surprise)):
                interval = mean_interval(
                    loss(self.probability(name), self.events), self.groups, draws=self._draws
                )
                yield self._row(name, metric, interval, role)
            yield self._calibration_row(name, role)
        spread = [float(np.std(self.control, ddof=1))] * len(self.control)
        yield self._row("shuffled labels", "AUC", _mean(self.control, spread), "control")
        for other in ("logistic", "boosting"):
            pair = f"scorecard minus {other}"
            yield self._row(pair, "AUC difference", self.gain(other), "ours")
            losses = [_squared(self.probability(n), self.events) for n in (other, "scorecard")]
            better = paired_gain(losses[0], losses[1], self.groups, draws=self._draws)
            yield self._row(pair, "Brier gain", better, "ours")

    def headlines(self) -> dict[str, float | None]:
        name = self.panel.name
        p, e = self.probability("scorecard"), self.events
        return {
            f"auc_{name}": self.area("scorecard").value,
            f"brier_{name}": float(_squared(p, e).mean()),
            f"ece_{name}": expected_calibration_error(p, e, n_bins=self.protocol.bins),
            f"auc_gain_{name}": self.gain("logistic").value,
            f"auc_vs_boosting_{name}": self.gain("boosting").value,
        }

    def facts(self) -> dict[str, Any]:
        return {
            "rows": len(self.panel.default),
            "defaults": int(self.panel.default.sum()),
            "groups": len(np.unique(self.panel.group)),
            "columns": len(self.panel.columns),
            "split": self.panel.split_rule,
            "train_dev_test": [[len(s.train), len(s.dev), len(s.test)] for s in self.splits],
            "chosen": {name: [s.chosen for s in found] for name, found in self.scored.items()},
        }

    def area(self, name: str) -> Interval:
        """Returns the mean of the folds' areas; folds test different rows."""
        areas = [area_under_curve(*pair) for pair in self._tested(name)]
        return self._of_folds(areas, lambda rows: self._mean_area(name, rows))

    def gain(self, other: str) -> Interval:
        """Returns the mean of the folds' paired differences of area."""
        gains = [
            area_difference(ours, theirs, events)
            for (ours, events), (theirs, _) in zip(
                self._tested("scorecard"), self._tested(other), strict=True
            )
        ]
        return self._of_folds(
            gains,
            lambda rows: self._mean_area("scorecard", rows) - self._mean_area(other, rows),
        )

    def _tested(self, name: str) -> Iterator[tuple[Floats, npt.NDArray[np.bool_]]]:
        for scored, split in zip(self.scored[name], self.splits, strict=True):
            yield scored.log_odds, self.panel.default[split.test]

    def _of_folds(
        self,
        found: Sequence[AreaUnderCurve] | Sequence[AreaDifference],
        again: Callable[[npt.NDArray[np.int64]], float],
    ) -> Interval:
        """Returns the folds' mean: DeLong's interval, or by company where one has many rows."""
        if self.panel.day is None:
            return _mean([f.value for f in found], [f.standard_error for f in found])
        return bootstrap_interval(again, self.groups, draws=min(self._draws, 500))

    def _mean_area(self, name: str, rows: npt.NDArray[np.int64]) -> float:
        score, event = np.concatenate([s.log_odds for s in self.scored[name]]), self.events
        fold = np.repeat(np.arange(len(self.splits)), [len(s.test) for s in self.splits])
        parts = [rows[fold[rows] == number] for number in range(len(self.splits))]
        return float(np.mean([area_under_curve(score[r], event[r]).value for r in parts]))

    def probability(self, name: str) -> Floats:
        return np.concatenate([s.probability for s in self.scored[name]])

    @property
    def events(self) -> npt.NDArray[np.bool_]:
        return np.concatenate([self.panel.default[s.test] for s in self.splits])

    @property
    def groups(self) -> npt.NDArray[np.str_]:
        return np.concatenate([self.panel.group[s.test] for s in self.splits])

    @property
    def _draws(self) -> int:
        return self.protocol.draws

    def _calibration_row(self, name: str, role: Role) -> Row:
        p, e, bins = self.probability(name), self.events, self.protocol.bins
        interval = _centred(
            bootstrap_interval(
                lambda rows: expected_calibration_error(p[rows], e[rows], n_bins=bins),
                self.groups,
                draws=min(self._draws, 200),
            )
        )
        mean, bound = calibration_error_by_chance(p, n_bins=bins, draws=300)
        source = f"this run; right probabilities would show {mean:.4f}, at most {bound:.4f} in 95%"
        return self._row(name, "ECE", interval, role, source)

    def _chosen(self, name: str) -> str:
        return "this run; " + " | ".join(s.chosen for s in self.scored[name])

    def _row(
        self, name: str, metric: str, interval: Interval, role: Role, source: str = "this run"
    ) -> Row:
        ends = (interval.value, interval.low, interval.high)
        return Row(name, self.panel.name, metric, *ends, "1", role, source)


def _measure(panel: CreditPanel, protocol: CreditProtocol) -> _Measured:
    day = protocol.first_test_day.get(panel.name)
    splits = [
        split_panel(
            panel,
            fold,
            folds=protocol.folds,
            first_test_day=None if day is None else np.datetime64(day),
        )
        for fold in range(protocol.folds)
    ]
    scored = {
        name: [score_fold(name, panel, split, protocol) for split in splits] for name in MODELS
    }
    control = [area for split in splits for area in control_areas(panel, split, protocol)]
    return _Measured(panel, protocol, splits, scored, control)


def _mean(values: Sequence[float], errors: Sequence[float]) -> Interval:
    value = float(np.mean(values))
    reach = 1.959964 * float(np.sqrt(np.sum(np.square(errors)))) / len(errors)
    return Interval(value, value - reach, value + reach)


def _centred(interval: Interval) -> Interval:
    """Returns the interval around its value: drawing rows again adds an error of its own."""
    half = (interval.high - interval.low) / 2
    return Interval(interval.value, max(0.0, interval.value - half), interval.value + half)


def _squared(p: Floats, event: npt.NDArray[np.bool_]) -> Floats:
    return np.asarray((p - event) ** 2)


def _surprise(p: Floats, event: npt.NDArray[np.bool_]) -> Floats:
    return np.asarray(-np.log(np.where(event, p, 1 - p)))


def _note(measured: Sequence[_Measured], gains: Mapping[str, Interval]) -> str:
    above = [name for name, gain in gains.items() if gain.above_zero]
    behind = [m.panel.name for m in measured if m.gain("boosting").below_zero]
    return (
        f"The scorecard ranks better than logistic regression on {len(above)} of {len(gains)} "
        f"default panels ({', '.join(above) or 'none'}); boosting ranks better than the scorecard "
        f"on {len(behind)} of {len(measured)} ({', '.join(behind) or 'none'})."
    )
