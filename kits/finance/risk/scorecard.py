"""A scorecard for the probability of default: data, which needs numpy alone to be applied.

    log-odds = baseline + sum over columns of coefficient x (weight - mean weight)
    points   = points_at - factor (log-odds + ln(odds_at)),  factor = points_to_double / ln 2
    PD       = calibration(log-odds)

The baseline is the log-odds of a borrower who is average in every column; what a column
adds is exact, and so are the reasons. More points are safer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.content import digest_of, json_text
from common.errors import InputError, MissingInputError, StoreError, TableError
from common.evaluation.calibration import Calibration, calibration_from_json
from common.evaluation.logistic import logit
from kits.finance.risk.credit_panel import Table, row_count, rows_of
from kits.finance.risk.score import Reason
from kits.finance.risk.weight_of_evidence import Binning

__all__ = [
    "Characteristic",
    "Explanation",
    "PointsScale",
    "Scorecard",
    "ScoredRows",
    "read_scorecard",
    "write_scorecard",
]

Floats = npt.NDArray[np.float64]

_FORMAT = "tandem scorecard 1"
_EXACT = 1e-9


@dataclass(frozen=True)
class PointsScale:
    """`points_at` at odds of `odds_at` good to 1 bad; `points_to_double` more double the odds."""

    points_at: float = 600.0
    odds_at: float = 30.0
    points_to_double: float = 20.0

    def points(self, log_odds_of_default: Floats) -> Floats:
        """Returns the points, `(n,)`, unrounded."""
        factor = self.points_to_double / math.log(2)
        return self.points_at - factor * (log_odds_of_default + math.log(self.odds_at))


@dataclass(frozen=True)
class Characteristic:
    """A column of the card: its bins, and how much their weights count.

    Args:
        binning: The bins.
        coefficient: Not below 0, so that a bin with more defaults never lowers the PD.
    """

    binning: Binning
    coefficient: float

    def contribution(self, values: npt.NDArray[Any]) -> Floats:
        """Returns what each value adds to the log-odds, `(n,)`."""
        weights = np.array(self.binning.weights) - self.binning.mean_weight
        return np.asarray(self.coefficient * weights[self.binning.index(values)])


@dataclass(frozen=True)
class ScoredRows:
    """What the card says of `n` borrowers.

    Args:
        log_odds: `(n,)` of default, before calibration.
        contributions: `(n, n_characteristics)`; with the baseline they add up to `log_odds`.
        points: `(n,)`.
        probability_of_default: `(n,)` calibrated.
    """

    log_odds: Floats
    contributions: Floats
    points: Floats
    probability_of_default: Floats


@dataclass(frozen=True)
class Explanation:
    """One borrower's PD as a sum of reasons.

    Args:
        baseline_log_odds: Log-odds of the average borrower.
        reasons: One for each column, what raises the PD most first, and "CALIBRATION" last.
        probability_of_default: Its log-odds are baseline plus reasons.
        points: The score.

    Raises:
        InputError: They do not add up.
    """

    baseline_log_odds: float
    reasons: tuple[Reason, ...]
    probability_of_default: float
    points: float

    def __post_init__(self) -> None:
        total = self.baseline_log_odds + math.fsum(r.contribution for r in self.reasons)
        if abs(total - float(logit(self.probability_of_default))) > _EXACT * (1 + abs(total)):
            raise InputError(
                "explanation of a PD",
                expected="reasons that add up to its log-odds",
                found=f"a sum of {total:.9f}",
                remedy="Build it with Scorecard.explain.",
            )


@dataclass(frozen=True)
class Scorecard:
    """The card.

    Args:
        name: Of the portfolio that it was developed on.
        characteristics: Its columns, the most telling first.
        baseline_log_odds: Log-odds of default of the average borrower, before calibration.
        calibration: From log-odds to PD, chosen on dev.
        scale: Of the points.
        facts: How it was developed: rows, defaults, penalty, digests; JSON values.
    """

    name: str
    characteristics: tuple[Characteristic, ...]
    baseline_log_odds: float
    calibration: Calibration
    scale: PointsScale
    facts: Mapping[str, Any]

    def apply(self, table: Table) -> ScoredRows:
        """Scores borrowers; columns that the card does not use are ignored.

        Args:
            table: Columns `(n,)` by name; see `credit_panel`.

        Raises:
            TableError: A column is absent, has the other kind, or an infinite number.
        """
        names = [c.binning.name for c in self.characteristics]
        absent = [name for name in names if name not in table]
        if absent:
            raise TableError(
                f"table for scorecard {self.name}",
                expected="the columns " + ", ".join(names),
                found="no " + ", ".join(absent),
                remedy="Add them; where nothing is known of a borrower, leave the value missing.",
            )
        n = row_count({name: table[name] for name in names})
        parts = [c.contribution(table[c.binning.name]) for c in self.characteristics]
        contributions = np.column_stack(parts) if parts else np.zeros((n, 0))
        log_odds = self.baseline_log_odds + contributions.sum(1)
        return ScoredRows(
            log_odds=log_odds,
            contributions=contributions,
            points=self.scale.points(log_odds),
            probability_of_default=self.calibration.probability(log_odds),
        )

    def explain(self, table: Table, row: int) -> Explanation:
        """Returns one borrower's PD as a sum of reasons.

        A reason names the bin, not the value; the calibration's step is the last one.

        Raises:
            TableError: As in `apply`, or there is no such row.
            InputError: The calibration gives 0 or 1, whose log-odds no reasons add up to.
        """
        if not 0 <= row < row_count(table):
            raise TableError(
                "row to explain",
                expected="one of the table",
                found=str(row),
                remedy="Count from 0.",
            )
        one = rows_of(table, np.array([row]))
        scored = self.apply(one)
        reasons = []
        for c, added in zip(self.characteristics, scored.contributions[0], strict=True):
            where = c.binning.label(int(c.binning.index(one[c.binning.name])[0]))
            effect = "raises" if added > 0 else "lowers" if added < 0 else "leaves"
            statement = f"{c.binning.name} is {where}: {effect} the log-odds ({added:+.3f})"
            reasons.append(Reason(c.binning.name, statement, float(added)))
        reasons.sort(key=lambda reason: -reason.contribution)
        pd = float(scored.probability_of_default[0])
        if not 0 < pd < 1:
            raise InputError(
                "explanation of a PD",
                expected="a PD between 0 and 1",
                found=f"{pd:g}, whose log-odds are infinite",
                remedy="Calibrate the card on dev rows; no borrower is a certainty.",
            )
        step = float(logit(pd)) - float(scored.log_odds[0])
        reasons.append(Reason("CALIBRATION", f"calibrated on dev rows ({step:+.3f})", step))
        return Explanation(self.baseline_log_odds, tuple(reasons), pd, float(scored.points[0]))

    def attributes(self) -> list[dict[str, Any]]:
        """Returns the card as it is printed: a row for each bin, points to whole numbers.

        The baseline's points are shared out evenly, so that a borrower's points are the sum of
        the rows that apply, but for rounding.
        """
        share = float(self.scale.points(np.array([self.baseline_log_odds]))[0])
        share /= max(1, len(self.characteristics))
        factor = self.scale.points_to_double / math.log(2)
        rows = []
        for c in self.characteristics:
            for bin_, (weight, n, d) in enumerate(
                zip(c.binning.weights, c.binning.rows, c.binning.defaults, strict=True)
            ):
                added = c.coefficient * (weight - c.binning.mean_weight)
                rows.append(
                    {
                        "characteristic": c.binning.name,
                        "attribute": c.binning.label(bin_),
                        "rows": n,
                        "default_rate": d / n if n else None,
                        "weight": weight,
                        "points": round(share - factor * added),
                    }
                )
        return rows

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values that `scorecard_from_json` reads back to the same card."""
        return {
            "format": _FORMAT,
            "name": self.name,
            "baseline_log_odds": self.baseline_log_odds,
            "scale": asdict(self.scale),
            "calibration": self.calibration.to_json(),
            "facts": dict(self.facts),
            "characteristics": [
                {"coefficient": c.coefficient, **c.binning.to_json()} for c in self.characteristics
            ],
        }

    @property
    def digest(self) -> str:
        """sha256 of the card's one JSON text."""
        return digest_of(json_text(self.to_json(), "scorecard").encode())


def write_scorecard(card: Scorecard, path: Path) -> Path:
    """Writes the card as JSON with its digest, and returns the path."""
    written = {**card.to_json(), "digest": card.digest}
    path.write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read_scorecard(path: Path) -> Scorecard:
    """Reads a card that `write_scorecard` wrote.

    Raises:
        MissingInputError: The file is not there.
        StoreError: It is no scorecard, of a later form, or its digest does not fit.
    """
    if not path.is_file():
        raise MissingInputError(
            "scorecard", expected="a file", found="none", remedy="Write one with write_scorecard."
        )
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        card = _from_json(written)
        told, true = written["digest"], card.digest
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(type(error).__name__) from error
    if told != true or written["format"] != _FORMAT:
        raise _damaged("another digest or form")
    return card


def _from_json(written: Mapping[str, Any]) -> Scorecard:
    return Scorecard(
        name=str(written["name"]),
        characteristics=tuple(
            Characteristic(Binning.from_json(c), float(c["coefficient"]))
            for c in written["characteristics"]
        ),
        baseline_log_odds=float(written["baseline_log_odds"]),
        calibration=calibration_from_json(written["calibration"]),
        scale=PointsScale(**{k: float(v) for k, v in written["scale"].items()}),
        facts=written["facts"],
    )


def _damaged(found: str) -> StoreError:
    return StoreError(
        "scorecard",
        expected=f"a file of the form '{_FORMAT}', unchanged since it was written",
        found=found,
        remedy="Write it again from the developed card; cards are not edited by hand.",
    )
