"""`finance.realized`: HAR, HARQ and ours on realized variance, rolling windows of 1,000 days.

First the AR and ARQ coefficients of the whole S&P 500 file are compared with the corrected Table
2 of Bollerslev, Patton and Quaedvlieg (2016). Then ours is chosen among the config's
candidates by rolling forecasts whose targets end before `choose_until`, on the S&P 500 alone: the
least mean of the log ratios of MSE and QLIKE to HAR over the horizons; of those within 1% of the
least, the one that averages most regressions, since an average of forecasts bears a change of
regime better than any one of them. What is reported comes from the days after, once.

Rows for each series and horizon: MSE and QLIKE of every side, their ratio to HAR's with a
stationary-bootstrap interval (Politis and Romano 1994), and the two-sided Diebold-Mariano p of the
difference to HAR. The floor is the mean of the last h days; the control is ours with its days dealt
out anew. The insanity filter replaces forecasts outside the range of the fitted targets by their
mean; at h = 5 and 22 that costs HAR dearly in autumn 2008, so ours is compared with HAR as it is
without the filter, too, and on the days outside that autumn. Beside the one that was chosen stands
a pool of all candidates, weighted each day by what is known of their losses. These were added after
the first run, with nothing tuned; they decide nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.realized_models import MODELS, can_run, model_forecasts, random_walk
from benchmarks.realized_pool import pooled_forecasts
from benchmarks.realized_series import RealizedSeries, read_series
from benchmarks.suite import Outcome, Role, Row, Verdict
from kits.finance.markets.har_regression import (
    HAR_WINDOWS,
    fit_linear,
    forward_mean,
    har_regressors,
)
from kits.finance.markets.losses import diebold_mariano, qlike_loss, squared_error

__all__ = ["choose", "first_coefficients", "loss_ratio", "origins_between", "realized"]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

_CONFIG = Path(__file__).parent / "configs" / "finance.realized.json"
_PUBLISHED = {"AR": 0.651, "ARQ": 0.983}
_SOURCE = "Bollerslev, Patton and Quaedvlieg 2016, corrected Table 2"
_LOSSES = {"MSE": squared_error, "QLIKE": qlike_loss}
_UNITS = {"MSE": "%^4", "QLIKE": "1"}
_UNFILTERED = "HAR without filter"


@dataclass(frozen=True, eq=False)
class _Side:
    """A forecaster's losses on the reported days of one series and horizon."""

    name: str
    role: Role
    losses: Mapping[str, Floats]

    def on(self, days: npt.NDArray[np.bool_]) -> _Side:
        """Returns the side on these days alone."""
        return replace(self, losses={k: losses[days] for k, losses in self.losses.items()})


def realized(data: Path | None, *, quick: bool) -> Outcome:
    """Measures `finance.realized`.

    Args:
        data: Folder of the open data sets; TANDEM_DATA without it.
        quick: Every tenth day, and fewer draws.
    """
    config = json.loads(_CONFIG.read_text(encoding="utf-8"))
    config |= config.pop("quick") if quick else {}
    config.pop("quick", None)
    folder = data or Path(os.environ.get("TANDEM_DATA", "../shared/data"))
    series, digests = read_series(folder)
    chosen, chosen_implied = _choices(series, config)
    coefficients = first_coefficients(series[0])
    rows = _coefficient_rows(coefficients)
    headlines: dict[str, float | None] = {key.lower(): coefficients[key] for key in _PUBLISHED}
    for each in series:
        for horizon in config["horizons_days"]:
            sides = _sides(each, horizon, chosen, chosen_implied, config)
            rows += _rows(each, horizon, sides, config)
    headlines |= _headlines(rows, chosen, series[0].name, config)
    verdict, note = _verdict(rows, headlines, chosen, series[0].name, config)
    return Outcome(
        rows, headlines, verdict, note, config=config, seeds=(config["seed"],), data=digests
    )


def first_coefficients(series: RealizedSeries) -> dict[str, float]:
    """Returns the first slope of AR and ARQ, fitted to all days."""
    target = forward_mean(series.variance, 1)[:-1]
    ar = har_regressors(series.variance, windows=(1,))[:-1]
    arq = har_regressors(series.variance, windows=(1,), quarticity=series.quarticity)[:-1]
    fits = {"AR": fit_linear(ar, target), "ARQ": fit_linear(arq, target)}
    return {name: float(coefficients[1]) for name, coefficients in fits.items()}


def origins_between(
    series: RealizedSeries,
    horizon_days: int,
    *,
    training_pairs: int,
    after: str | None = None,
    until: str | None = None,
    every: int = 1,
) -> Indices:
    """Returns the days that have a full window before them and their target behind them.

    Args:
        series: What is forecast.
        horizon_days: Days of the target.
        training_pairs: Of the window.
        after: Only days after this date, whose targets all lie behind it.
        until: Only days whose targets end by this date.
        every: Take each so-manieth day.
    """
    first = max(HAR_WINDOWS) - 1 + horizon_days + training_pairs - 1
    origins = np.arange(first, len(series.variance) - horizon_days)
    if after is not None:
        origins = origins[series.dates[origins] > np.datetime64(after)]
    if until is not None:
        origins = origins[series.dates[origins + horizon_days] <= np.datetime64(until)]
    return origins[::every]


def choose(
    names: Sequence[str], series: RealizedSeries, config: Mapping[str, Any]
) -> tuple[str, dict[str, float]]:
    """Returns the name that is chosen before `choose_until`, and every one's mean ratio to HAR.

    The mean is geometric, over the horizons and both losses. Names within `tie` of the least one
    count as equal: the one of most averaged regressions is taken, then the least.
    """
    logs: dict[str, list[float]] = {name: [] for name in names}
    for horizon in config["horizons_days"]:
        origins = origins_between(
            series,
            horizon,
            training_pairs=config["training_pairs"],
            until=config["choose_until"],
            every=config.get("every", 1),
        )
        har = _losses("HAR", series, origins, horizon, config)
        for name in names:
            losses = _losses(name, series, origins, horizon, config)
            logs[name] += [np.log(losses[k].mean() / har[k].mean()) for k in _LOSSES]
    ratios = {name: float(np.exp(np.mean(values))) for name, values in logs.items()}
    least = min(ratios.values())
    equal = [name for name in names if ratios[name] <= least * (1 + config["tie"])]
    return min(equal, key=lambda name: (-len(MODELS[name].leverages), ratios[name])), ratios


def loss_ratio(
    ours: Floats, theirs: Floats, *, block_days: int, draws: int, seed: int
) -> tuple[float, float, float]:
    """Returns mean ours / mean theirs with the ends of its 95% interval.

    Days are drawn together for both, in runs of random length with the mean `block_days`.
    """
    from arch.bootstrap import StationaryBootstrap

    drawn = StationaryBootstrap(block_days, ours, theirs, seed=seed).apply(
        lambda a, b: np.array([a.mean() / b.mean()]), draws
    )
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(ours.mean() / theirs.mean()), float(low), float(high)


def _choices(series: Sequence[RealizedSeries], config: dict[str, Any]) -> tuple[str, str]:
    """Chooses both of ours and notes in the config what each candidate reached."""
    first = next(each for each in series if each.name == config["choose_on"])
    chosen, ratios = choose(config["candidates"], first, config)
    chosen_implied, more = choose(config["with_implied"], first, config)
    config["ratio_before"] = {name: round(ratio, 4) for name, ratio in (ratios | more).items()}
    config["chosen"] = {"ours": chosen, "ours with implied variance": chosen_implied}
    return chosen, chosen_implied


def _losses(
    name: str,
    series: RealizedSeries,
    origins: Indices,
    horizon: int,
    config: Mapping[str, Any],
    *,
    insanity_filter: bool = True,
    shuffle_seed: int | None = None,
) -> dict[str, Floats]:
    forecasts = model_forecasts(
        MODELS[name],
        series,
        origins,
        horizon_days=horizon,
        training_pairs=config["training_pairs"],
        insanity_filter=insanity_filter,
        shuffle_seed=shuffle_seed,
    )
    outcome = forward_mean(series.variance, horizon)[origins]
    return {metric: loss(outcome, forecasts) for metric, loss in _LOSSES.items()}


def _reported(series: RealizedSeries, horizon: int, config: Mapping[str, Any]) -> Indices:
    return origins_between(
        series,
        horizon,
        training_pairs=config["training_pairs"],
        after=config["choose_until"],
        every=config.get("every", 1),
    )


def _sides(
    series: RealizedSeries, horizon: int, ours: str, implied: str, config: Mapping[str, Any]
) -> list[_Side]:
    """Returns HAR, HAR without the filter, then every other side that the series allows."""
    origins = _reported(series, horizon, config)
    roles: dict[str, Role] = {
        "HAR": "peer",
        "HARQ": "peer",
        "log-HAR": "peer",
        "log-HARQ": "peer",
        ours: "ours",
        implied: "ours",
    }
    sides = [
        _Side(name, role, _losses(name, series, origins, horizon, config))
        for name, role in roles.items()
        if can_run(MODELS[name], series)
    ]
    unfiltered = []
    for name, role in (("HAR", roles["HAR"]), (ours, roles[ours])):
        losses = _losses(name, series, origins, horizon, config, insanity_filter=False)
        unfiltered.append(_Side(f"{name} without filter", role, losses))
    outcome = forward_mean(series.variance, horizon)[origins]
    forecasts = {
        "random walk": random_walk(series, origins, horizon),
        "pool": _pool(series, horizon, origins, config),
    }
    losses_of = {
        name: {metric: loss(outcome, values) for metric, loss in _LOSSES.items()}
        for name, values in forecasts.items()
    }
    shuffled = _losses(ours, series, origins, horizon, config, shuffle_seed=config["seed"])
    return [
        sides[0],
        *unfiltered,
        *sides[1:],
        _Side("pool weighted by the past", "ours", losses_of["pool"]),
        _Side("random walk", "floor", losses_of["random walk"]),
        _Side(f"{ours}, days shuffled", "control", shuffled),
    ]


def _pool(
    series: RealizedSeries, horizon: int, origins: Indices, config: Mapping[str, Any]
) -> Floats:
    every = config.get("every", 1)
    first = origins_between(series, horizon, training_pairs=config["training_pairs"])[0]
    return pooled_forecasts(
        config["candidates"],
        series,
        origins,
        earlier=np.arange(origins[0], first - 1, -every)[:0:-1],
        horizon_days=horizon,
        training_pairs=config["training_pairs"],
    )


def _rows(
    series: RealizedSeries, horizon: int, sides: Sequence[_Side], config: Mapping[str, Any]
) -> list[Row]:
    rows = [
        Row(side.name, series.name, f"{k} h={horizon}", float(side.losses[k].mean()), None, None,
            _UNITS[k], side.role)
        for side in sides
        for k in _LOSSES
    ]  # fmt: skip
    har, unfiltered, *others = sides
    for side in (unfiltered, *others):
        rows += _comparison(series, horizon, side, har, config)
        if side.role == "ours":
            rows += _comparison(series, horizon, side, unfiltered, config)
            rows += _calm_comparison(series, horizon, side, har, config)
    return rows


def _calm_comparison(
    series: RealizedSeries, horizon: int, side: _Side, har: _Side, config: Mapping[str, Any]
) -> list[Row]:
    """Compares on the days outside the config's `storm`; nothing where all lie outside."""
    first, last = (np.datetime64(day) for day in config["storm"])
    dates = series.dates[_reported(series, horizon, config)]
    calm = (dates < first) | (dates > last)
    if calm.all():
        return []
    rows = _comparison(series, horizon, side.on(calm), har.on(calm), config)
    return [replace(row, metric=f"{row.metric}, outside {first} to {last}") for row in rows]


def _comparison(
    series: RealizedSeries, horizon: int, side: _Side, base: _Side, config: Mapping[str, Any]
) -> list[Row]:
    rows = []
    overlap = -(-horizon // config.get("every", 1))
    for k in _LOSSES:
        value, low, high = loss_ratio(
            side.losses[k],
            base.losses[k],
            block_days=config["block_days"][str(horizon)],
            draws=config["bootstrap_draws"],
            seed=config["seed"],
        )
        metric = f"{k} over {base.name} h={horizon}"
        rows.append(Row(side.name, series.name, metric, value, low, high, "1", side.role))
        if np.array_equal(side.losses[k], base.losses[k]):
            continue  # no day was filtered: there is nothing to test
        test = diebold_mariano(side.losses[k], base.losses[k], horizon_days=overlap)
        metric = f"Diebold-Mariano p of {metric}"
        source = f"this run; statistic {test.statistic:.2f}, n = {test.n}, lags {test.lags}"
        rows.append(
            Row(side.name, series.name, metric, test.p_value, None, None, "1", side.role, source)
        )
    return rows


def _coefficient_rows(found: Mapping[str, float]) -> list[Row]:
    rows = []
    for name, published in _PUBLISHED.items():
        metric = "first coefficient"
        rows.append(Row(name, "S&P 500", metric, found[name], None, None, "1", "ours"))
        rows.append(Row(name, "S&P 500", metric, published, None, None, "1", "published", _SOURCE))
    return rows


def _value(rows: Sequence[Row], name: str, series: str, metric: str) -> float:
    return next(r.value for r in rows if (r.name, r.dataset, r.metric) == (name, series, metric))


def _headlines(
    rows: Sequence[Row], ours: str, series: str, config: Mapping[str, Any]
) -> dict[str, float | None]:
    found: dict[str, float | None] = {
        f"mse_ratio_h{h}": _value(rows, ours, series, f"MSE over HAR h={h}")
        for h in config["horizons_days"]
    }
    found["qlike_ratio_h1"] = _value(rows, ours, series, "QLIKE over HAR h=1")
    found["dm_p_h1"] = _value(rows, ours, series, "Diebold-Mariano p of MSE over HAR h=1")
    return found


def _verdict(
    rows: Sequence[Row],
    headlines: Mapping[str, float | None],
    ours: str,
    series: str,
    config: Mapping[str, Any],
) -> tuple[Verdict, str]:
    reproduced = all(
        round(headlines[key.lower()] or 0.0, 3) == value for key, value in _PUBLISHED.items()
    )
    parts, reached = [], True
    for h in config["horizons_days"]:
        for k in _LOSSES:
            ratio = _value(rows, ours, series, f"{k} over HAR h={h}")
            p = _value(rows, ours, series, f"Diebold-Mariano p of {k} over HAR h={h}")
            plain = _value(rows, ours, series, f"{k} over {_UNFILTERED} h={h}")
            reached &= ratio <= config["target_ratio"] and p < config["target_p"]
            parts.append(f"{k} h={h} {ratio:.3f} (p {p:.3g}; {plain:.3f})")
    note = (
        f"AR {headlines['ar']:.3f}, ARQ {headlines['arq']:.3f}; {ours}, chosen before "
        f"{config['choose_until']}, over HAR after it on the {series} (last figure: over HAR "
        f"without the insanity filter): {', '.join(parts)}."
    )
    if not reproduced:
        return "contradicted", note
    return ("exceeded" if reached else "not shown"), note
