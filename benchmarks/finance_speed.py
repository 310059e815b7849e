"""`finance.speed`: 500 companies forecast at once against one after another, and a 10-K read.

The portfolio is the first 500 tickers, in alphabetical order, of `us_prices` that the border
accepts with 1,500 returns; each takes its last 1,500. Both sides fit EWMA, GARCH(1,1)-t, GJR-t
and HAR and forecast 22 days, on one thread. In every round ours forecasts all companies; the
peer, `arch` called company by company, forecasts a sample that no other round has, and its time
is scaled to all of them. `portfolio_vs_loop` is the median of the rounds' ratios. What does not
enter it: our quantile forecasts (4,000 paths for each company and model), timed once.

On the sampled companies likelihoods and forecasts are held against `arch`: as it is called, and
polished, which is `arch` started again from its own optimum at a tolerance of 1e-13.

`filing_seconds` is the median time of `read_disclosure` and `read_language` on a 10-K of 60,000
words (its items rejoined as printed pages), on two threads, without the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.filing_times import time_filing
from benchmarks.interleaved import ratio
from benchmarks.panel_peers import (
    PEERS,
    Agreement,
    agreement,
    har_difference,
    sktime_arch,
)
from benchmarks.suite import Outcome, Role, Row, Verdict
from common.errors import TableError
from kits.finance.markets.log_variance import FittedHAR
from kits.finance.markets.panel import PanelForecast, forecast_panel
from kits.finance.markets.prices import PriceHistory, read_prices

__all__ = ["speed"]

_CONFIG = Path(__file__).parent / "configs" / "finance.speed.json"
_PRICES = "finance/us_prices/prices_2010_2017.parquet"
_LEAST_RATIO = 5.0
_MOST_PORTFOLIO_SECONDS = 60.0
_MOST_FILING_SECONDS = 90.0
_LIKELIHOOD = 1e-6
_FORECAST = 1e-4
Config = Mapping[str, Any]
Seconds = dict[str, list[float]]


def speed(data: Path | None, *, quick: bool) -> Outcome:
    """Measures `finance.speed`.

    Args:
        data: Folder of the open data sets; TANDEM_DATA without it.
        quick: 100 companies, fewer rounds.
    """
    config = json.loads(_CONFIG.read_text(encoding="utf-8"))
    config |= config.pop("quick") if quick else {}
    config.pop("quick", None)
    folder = data or Path(os.environ.get("TANDEM_DATA", "../shared/data"))
    histories, refused = _portfolio(folder, config)
    clock, panel, sampled = _rounds(histories, config)
    whole = partial(forecast_panel, histories, horizon_days=config["horizon_days"])
    clock.time("ours with quantiles", whole)
    rows = _time_rows(clock, config, len(histories))
    agreement_rows, agrees = _agreement_rows(histories, panel, sampled, config)
    rows += [*agreement_rows, *_refusal_rows(refused, panel)]
    filing_rows, filing_seconds = time_filing(folder, config)
    times = ratio(clock.wall["arch"], clock.wall["ours"]).value
    headlines: dict[str, float | None] = {
        "portfolio_vs_loop": times,
        "filing_seconds": filing_seconds,
    }
    verdict, note = _verdict(times, clock, filing_seconds, agrees)
    return Outcome(
        [*rows, *filing_rows],
        headlines,
        verdict,
        note,
        config=config,
        seeds=(config["seed"],),
        data={"us_prices": hashlib.sha256((folder / _PRICES).read_bytes()).hexdigest()},
    )


def _portfolio(folder: Path, config: Config) -> tuple[list[PriceHistory], int]:
    """Returns the companies, cut to their last returns, and how many the border refused."""
    table = read_prices(folder / _PRICES)
    histories: list[PriceHistory] = []
    refused = 0
    for ticker in sorted(table.positions or {}):
        if len(histories) == config["n_companies"]:
            break
        try:
            history = table.history(ticker)
        except TableError:
            refused += 1
            continue
        if len(history.close) > config["n_returns"]:
            histories.append(history.part(slice(-config["n_returns"] - 1, None)))
    return histories, refused


class _Clock:
    """Wall and processor seconds of what was timed, by name."""

    def __init__(self) -> None:
        self.wall: Seconds = {}
        self.processor: Seconds = {}

    def time(self, name: str, call: Callable[[], object], *, times: float = 1.0) -> None:
        """Calls once and notes the seconds, scaled by `times`."""
        start, busy = time.perf_counter(), time.process_time()
        call()
        self.note(name, (time.perf_counter() - start) * times, (time.process_time() - busy) * times)

    def note(self, name: str, wall: float, processor: float) -> None:
        """Adds one measurement."""
        self.wall.setdefault(name, []).append(wall)
        self.processor.setdefault(name, []).append(processor)


def _rounds(
    histories: Sequence[PriceHistory], config: Config
) -> tuple[_Clock, PanelForecast, list[int]]:
    """Times both sides in turn; the peers' seconds are scaled to the whole portfolio."""
    size = config["companies_per_round"]
    order = np.random.default_rng(config["seed"]).permutation(len(histories)).tolist()
    samples = [order[i * size : (i + 1) * size] for i in range(config["rounds"])]
    clock, panels = _Clock(), list[PanelForecast]()
    points = partial(forecast_panel, histories, horizon_days=config["horizon_days"])
    _warm_up(histories[0], config["horizon_days"])
    for number, sample in enumerate(samples):
        ours = partial(clock.time, "ours", lambda: panels.append(points(quantile_levels=None)))
        peers = partial(_time_peers, clock, [histories[i] for i in sample], histories, config)
        for side in (ours, peers) if number % 2 == 0 else (peers, ours):
            side()
    return clock, panels[-1], [i for sample in samples for i in sample]


def _time_peers(
    clock: _Clock,
    sample: Sequence[PriceHistory],
    histories: Sequence[PriceHistory],
    config: Config,
) -> None:
    horizon, times = config["horizon_days"], len(histories) / len(sample)
    for model, peer in PEERS.items():
        call = partial(_one_by_one, peer, sample, horizon)
        clock.time(f"arch {model}", call, times=times)
    clock.time("sktime ARCH", partial(_one_by_one, sktime_arch, sample, horizon), times=times)
    parts = [f"arch {model}" for model in PEERS]
    clock.note(
        "arch",
        sum(clock.wall[part][-1] for part in parts),
        sum(clock.processor[part][-1] for part in parts),
    )


def _one_by_one(
    peer: Callable[[PriceHistory, int], object], sample: Sequence[PriceHistory], horizon_days: int
) -> None:
    for history in sample:
        peer(history, horizon_days)


def _warm_up(history: PriceHistory, horizon_days: int) -> None:
    """Imports and first calls of both sides, untimed."""
    forecast_panel([history], horizon_days=horizon_days)
    for peer in PEERS.values():
        peer(history, horizon_days)
    sktime_arch(history, horizon_days)


def _time_rows(clock: _Clock, config: Config, n_companies: int) -> list[Row]:
    of = f"{n_companies} companies x {config['n_returns']} returns"
    rows = []
    for name in clock.wall:
        is_ours = name.startswith("ours")
        role: Role = "ours" if is_ours else "peer"
        shown = name.replace("ours", "forecast_panel") if is_ours else f"{name}, one by one"
        rows.append(_spread(shown, of, "seconds", clock.wall[name], role))
        rows.append(_spread(shown, of, "processor seconds", clock.processor[name], role))
    for metric, seconds in (("ratio", clock.wall), ("processor ratio", clock.processor)):
        found = ratio(seconds["arch"], seconds["ours"])
        figures = (found.value, found.low, found.high)
        rows.append(Row("forecast_panel", of, f"{metric} to arch", *figures, "1", "ours"))
    return rows


def _agreement_rows(
    histories: Sequence[PriceHistory], panel: PanelForecast, sampled: Sequence[int], config: Config
) -> tuple[list[Row], bool]:
    """Returns the rows, and whether the likelihood and forecast targets are met."""
    rows, met = [], True
    horizon = config["horizon_days"]
    place = {ticker: at for at, ticker in enumerate(panel.tickers)}
    known = [i for i in sampled if histories[i].ticker in place]
    of = f"{len(known)} of {len(histories)} companies"
    for model in ("garch", "gjr"):
        fits: Any = panel.fits[model]
        found = [agreement(histories[i], fits[place[histories[i].ticker]], horizon) for i in known]
        same = [one for one in found if not one.is_higher]
        met &= min(one.over_default for one in found) >= -_LIKELIHOOD
        met &= max(one.forecast_polished for one in same) <= _FORECAST
        rows += _agreement_of(model, of, found, same)
    differences = [
        har_difference(histories[i], fit.point, horizon)
        for i in known
        if isinstance(fit := panel.fits["har"][place[histories[i].ticker]], FittedHAR)
    ]
    name = "har, forecast against arch, largest relative difference"
    rows.append(_figure(name, of, "difference", max(differences)))
    return rows, met and max(differences) <= _FORECAST


def _agreement_of(
    model: str, of: str, found: Sequence[Agreement], same: Sequence[Agreement]
) -> list[Row]:
    """Returns one model's rows; `same` are the companies where both ended at one maximum."""
    figures = {
        "log-likelihood over arch, least": min(one.over_default for one in found),
        "log-likelihood over arch, largest": max(one.over_default for one in found),
        "log-likelihood over polished arch, least": min(one.over_polished for one in found),
        "share with a higher maximum than polished arch": 1.0 - len(same) / len(found),
        "forecast against polished arch at the same maximum, largest difference": max(
            one.forecast_polished for one in same
        ),
        "share of forecasts within 1e-4 of arch": float(
            np.mean([one.forecast_default <= _FORECAST for one in found])
        ),
        "share of forecasts within 1e-4 of polished arch": float(
            np.mean([one.forecast_polished <= _FORECAST for one in found])
        ),
        "forecast against arch at our parameters, largest difference": max(
            one.forecast_fixed for one in found
        ),
    }
    return [_figure(f"{model}, {name}", of, "relative", x) for name, x in figures.items()]


def _refusal_rows(refused: int, panel: PanelForecast) -> list[Row]:
    counts = {
        "refused at the border on the way to the portfolio": refused,
        "refused by the panel": len(panel.refused),
        "fits that were made again one by one": len(panel.notes),
    }
    return [_figure(name, "us_prices", "count", n) for name, n in counts.items()]


def _verdict(
    times: float, clock: _Clock, filing_seconds: float, agrees: bool
) -> tuple[Verdict, str]:
    wall, processor = (s["ours with quantiles"][0] for s in (clock.wall, clock.processor))
    targets = {
        f"the portfolio {_LEAST_RATIO:g} times as fast": times >= _LEAST_RATIO,
        f"the portfolio with quantiles within {_MOST_PORTFOLIO_SECONDS:g} s": wall
        <= _MOST_PORTFOLIO_SECONDS,
        f"the filing within {_MOST_FILING_SECONDS:g} s": filing_seconds <= _MOST_FILING_SECONDS,
        "likelihoods and forecasts as arch's": agrees,
    }
    missed = [name for name, met in targets.items() if not met]
    note = f"Targets missed: {', '.join(missed)}." if missed else "Every target is met."
    note += (
        f" The portfolio with quantiles took {wall:.0f} s, {processor:.0f} s of them on its one "
        "thread; the rest is what else the machine did."
    )
    return ("not shown" if missed else "exceeded"), note


def _spread(name: str, of: str, metric: str, seconds: Sequence[float], role: Role) -> Row:
    low, median, high = (float(q) for q in np.percentile(seconds, (25, 50, 75)))
    return Row(name, of, metric, median, low, high, "s", role)


def _figure(name: str, of: str, metric: str, value: float) -> Row:
    return Row(name, of, metric, float(value), None, None, "1", "ours")
