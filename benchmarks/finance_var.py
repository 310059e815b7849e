"""`finance.var`: one-day VaR at 99%, beside historical simulation, FHS and GARCH.

On the S&P 500 of `arch` (5,030 log returns, a window of 1,000, 4,030 forecasts) every side
has rows for

- "exception share" with its exact binomial interval (Clopper and Pearson 1934);
- "Kupiec p", "conditional coverage p" and "dynamic quantile p" (4 lags);
- "pinball" in percent of returns and, for ours, "pinball minus that of FHS" of the same
  days; intervals by a moving-block bootstrap (Kuensch 1989);
- "green share": of all runs of 250 days, those in the supervisors' green zone.

ES has rows for ours alone: "Acerbi-Szekely Z1 p" and "Z2 p". A control row says how far the peers'
exception shares are from the recorded ones, before anything else is believed.

On the panel (Nasdaq, WTI and 20 stocks) "series passing" is the share of series with both
p values above .05, with its exact binomial interval, which takes the series as
independent; they are not. All sides estimate their parameters anew after the same number of days.

The method of ours was chosen on other series by `benchmarks.var_choice`; docs/finance.md has
its figures. "ours, level fixed" is the same without what it learns from past exceptions, whose
effect is to bring their share to 1%: the control that shows how much of a test that is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from benchmarks.suite import Outcome, Role, Row
from benchmarks.var_peers import PEERS, peer_quantiles
from common.errors import MissingInputError
from kits.finance.markets.losses import pinball_loss
from kits.finance.risk.backtests import (
    acerbi_szekely,
    conditional_coverage,
    dynamic_quantile,
    exceptions_of,
    green_share,
    kupiec,
)
from kits.finance.risk.rolling import RollingTail, roll_filters

__all__ = ["var"]

Floats = npt.NDArray[np.float64]
_CONFIG = Path(__file__).parent / "configs" / "finance.var.json"
_FILES = {
    "sp500": "arch_sp500.csv.gz",
    "nasdaq": "arch_nasdaq.csv.gz",
    "wti": "arch_wti.csv.gz",
    "stocks": "skfolio_sp500_20stocks.csv.gz",
}
_FLOORS = {"GARCH-normal", "EWMA-normal"}
_SP500 = "S&P 500"
_FIXED = "ours, level fixed"
SIGNIFICANCE = 0.05


@dataclass(frozen=True, eq=False)
class _Side:
    """The forecasts of one side on one series; losses and VaR in percent."""

    name: str
    losses: Floats
    value_at_risk: Floats

    @property
    def exceptions(self) -> npt.NDArray[np.bool_]:
        return exceptions_of(self.losses, self.value_at_risk)

    def passes(self, level: float) -> bool:
        tests = (kupiec, conditional_coverage)
        return all(test(self.exceptions, level=level).p_value > SIGNIFICANCE for test in tests)


def var(data: Path | None, *, quick: bool) -> Outcome:
    """Measures `finance.var`.

    Args:
        data: Folder of the open data sets; TANDEM_DATA without it.
        quick: The last days of the index and two series, estimated less often.

    Raises:
        MissingInputError: The data sets are not there.
    """
    config = json.loads(_CONFIG.read_text(encoding="utf-8"))
    if quick:
        config |= config["quick"]
    folder = _folder(data)
    series = _read_series(folder, config)
    index = series.pop(_SP500)
    sides, ours = _sides(index, config, refit_days=config["refit_days"])
    passing = {
        name: _passing(returns, config) for name, returns in series.items()
    }  # series -> side -> whether it passes
    rows = [row for side in sides.values() for row in _side_rows(side, config)]
    rows += [_gain_row(sides, config), *_shortfall_rows(ours), _control_row(sides, config, quick)]
    rows += _panel_rows(passing)
    headlines = _headlines(rows)
    return Outcome(
        rows,
        headlines,
        "exceeded" if _reached(headlines, rows, config) else "not shown",
        _note(headlines, rows, ours),
        config=config,
        seeds=[config["bootstrap"]["seed"]],
        data={
            name: hashlib.sha256((folder / file).read_bytes()).hexdigest()
            for name, file in _FILES.items()
        },
    )


def _folder(data: Path | None) -> Path:
    from os import environ

    root = data or Path(environ.get("TANDEM_DATA", ""))
    folder = root / "finance" / "forecast_series"
    missing = [file for file in _FILES.values() if not (folder / file).is_file()]
    if missing:
        raise MissingInputError(
            "data of finance.var",
            expected="the folder of the open data sets",
            found=f"no {', '.join(missing)} under finance/forecast_series",
            remedy="Name the folder with --data or TANDEM_DATA.",
        )
    return folder


def _read_series(folder: Path, config: Mapping[str, Any]) -> dict[str, Floats]:
    """Returns log returns in decimals by series; a day without a quote is left out."""
    tables = {name: pd.read_csv(folder / file) for name, file in _FILES.items()}
    oil = pd.to_numeric(tables["wti"]["DCOILWTICO"], errors="coerce").dropna()
    closes = {
        _SP500: tables["sp500"]["Adj Close"],
        "nasdaq": tables["nasdaq"]["Adj Close"],
        "wti": oil,
        **{name: tables["stocks"][name] for name in tables["stocks"].columns if name != "Date"},
    }
    wanted = [_SP500, *config.get("panel", list(closes)[1:])]
    last = -config.get("last_days", 0)
    return {
        name: np.diff(np.log(closes[name].to_numpy(np.float64)))[last or None :] for name in wanted
    }


def _sides(
    returns: Floats, config: Mapping[str, Any], *, refit_days: int
) -> tuple[dict[str, _Side], RollingTail]:
    """Returns the sides by name, ours last, and our forecasts as they are."""
    level, window_days = config["level"], config["window_days"]
    peers = peer_quantiles(
        100 * returns, tail=1 - level, window_days=window_days, refit_days=refit_days
    )
    filters = roll_filters(
        returns, method=config["method"], window_days=window_days, refit_days=refit_days
    )
    ours = filters.tail_risk(level=level, level_step=config["level_step"])
    fixed = filters.tail_risk(level=level, level_step=0.0)
    losses = -100 * returns[window_days:]
    sides = {name: _Side(name, losses, -peers[name]) for name in PEERS}
    sides[_FIXED] = _Side(_FIXED, losses, 100 * fixed.value_at_risk)
    sides["ours"] = _Side("ours", losses, 100 * ours.value_at_risk)
    return sides, ours


def _passing(returns: Floats, config: Mapping[str, Any]) -> dict[str, bool]:
    sides, _ = _sides(returns, config, refit_days=config["panel_refit_days"])
    return {name: side.passes(config["level"]) for name, side in sides.items()}


def _role(name: str) -> Role:
    if name == "ours":
        return "ours"
    if name == _FIXED:
        return "control"
    return "floor" if name in _FLOORS else "peer"


def _side_rows(side: _Side, config: Mapping[str, Any]) -> Iterator[Row]:
    level, exceptions, role = config["level"], side.exceptions, _role(side.name)
    count, n = int(exceptions.sum()), len(exceptions)
    exact = stats.binomtest(count, n).proportion_ci()
    yield Row(side.name, _SP500, "exception share", count / n, exact.low, exact.high, "1", role)
    tests = {
        "Kupiec p": kupiec(exceptions, level=level),
        "conditional coverage p": conditional_coverage(exceptions, level=level),
        "dynamic quantile p": dynamic_quantile(exceptions, side.value_at_risk, level=level),
    }
    for metric, test in tests.items():
        yield Row(side.name, _SP500, metric, test.p_value, None, None, "1", role)
    scores = pinball_loss(side.losses, side.value_at_risk, level=level)
    low, high = _block_interval(scores, config)
    yield Row(side.name, _SP500, "pinball", float(scores.mean()), low, high, "%", role)
    share = green_share(exceptions, level=level)
    yield Row(side.name, _SP500, "green share", share, None, None, "1", role)


def _gain_row(sides: Mapping[str, _Side], config: Mapping[str, Any]) -> Row:
    scores = {
        name: pinball_loss(sides[name].losses, sides[name].value_at_risk, level=config["level"])
        for name in ("ours", "FHS")
    }
    gain = scores["ours"] - scores["FHS"]
    low, high = _block_interval(gain, config)
    metric = "pinball minus that of FHS"
    return Row("ours", _SP500, metric, float(gain.mean()), low, high, "%", "ours")


def _shortfall_rows(ours: RollingTail) -> list[Row]:
    tests = acerbi_szekely(
        ours.losses, ours.value_at_risk, ours.expected_shortfall, level=ours.level
    )
    return [
        Row("ours", _SP500, f"{test.name} p", test.p_value, None, None, "1", "ours")
        for test in tests
    ]


def _control_row(sides: Mapping[str, _Side], config: Mapping[str, Any], quick: bool) -> Row:
    """The largest distance of a peer's exception share from the recorded one."""
    distance = max(
        abs(float(sides[name].exceptions.mean()) - share)
        for name, share in config["anchors"].items()
    )
    source = "this run" + ("; a quick run takes other days than the record" if quick else "")
    name = "peers against the recorded shares"
    return Row(name, _SP500, "largest difference", distance, None, None, "1", "control", source)


def _panel_rows(passing: Mapping[str, Mapping[str, bool]]) -> Iterator[Row]:
    dataset = f"{len(passing)} series"
    for name in (*PEERS, _FIXED, "ours"):
        passed = sum(sides[name] for sides in passing.values())
        exact = stats.binomtest(passed, len(passing)).proportion_ci()
        share = passed / len(passing)
        failed = [series for series, sides in passing.items() if not sides[name]]
        source = f"this run; not passing: {', '.join(failed) or 'none'}"
        yield Row(
            name, dataset, "series passing", share, exact.low, exact.high, "1", _role(name), source
        )


def _block_interval(values: Floats, config: Mapping[str, Any]) -> tuple[float, float]:
    """Returns the 95% interval of the mean when blocks of days are drawn again."""
    settings = config["bootstrap"]
    rng = np.random.default_rng(settings["seed"])
    length = settings["block_days"]
    means = np.lib.stride_tricks.sliding_window_view(values, length).mean(axis=1)
    drawn = rng.choice(means, (settings["draws"], len(values) // length)).mean(axis=1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def _headlines(rows: Sequence[Row]) -> dict[str, float | None]:
    ours = {row.metric: row.value for row in rows if row.name == "ours"}
    return {
        "kupiec_p": ours["Kupiec p"],
        "conditional_coverage_p": ours["conditional coverage p"],
        "pinball": ours["pinball"],
        "series_passing_share": ours["series passing"],
    }


def _best_peer_share(rows: Sequence[Row]) -> float:
    return max(row.value for row in rows if row.metric == "series passing" and row.role == "peer")


def _reached(
    headlines: Mapping[str, float | None], rows: Sequence[Row], config: Mapping[str, Any]
) -> bool:
    kupiec_p, coverage_p, score, share = (headlines[key] or 0.0 for key in headlines)
    tests = min(kupiec_p, coverage_p) > SIGNIFICANCE
    return tests and score <= config["pinball_target"] and share > _best_peer_share(rows)


def _note(headlines: Mapping[str, float | None], rows: Sequence[Row], ours: RollingTail) -> str:
    shares = {row.name: row.value for row in rows if row.metric == "series passing"}
    gain = next(row for row in rows if row.metric == "pinball minus that of FHS")
    green = next(row for row in rows if row.metric == "green share" and row.name == "ours")
    listed = ", ".join(f"{name} {share:.2f}" for name, share in shares.items() if name != "ours")
    return (
        f"Kupiec p {headlines['kupiec_p']:.2f}, conditional coverage p "
        f"{headlines['conditional_coverage_p']:.2f}, pinball {headlines['pinball']:.4f}% "
        f"(minus FHS {gain.value:+.5f} [{gain.low:+.5f}, {gain.high:+.5f}]), green "
        f"{green.value:.2f} of the windows; series passing: ours {shares['ours']:.2f}, {listed}; "
        f"{ours.n_kept} of {ours.n_refits} estimations on the index kept earlier parameters."
    )
