"""`finance.linked_risk`: what a call's words add to its prices, on MAEC-15 and MAEC-16.

Rows, by their fields:

- `dataset` "MAEC-15" (KeFVP's label) or "MAEC-15, with reaction"; `metric` "mean MSE" over 3, 7,
  15 and 30 days, or "MSE 3 days". Names: "train mean"; "HAR"; the other price models by
  family, "prices" the one chosen; "<source> text alone"; "HAR + <source>", "prices + <source>";
  "linked" = "prices" + the source that dev chose.
- `metric` "mean MSE difference": "HAR minus linked" is how much smaller linked's error is.
- `metric` "event ...": see `finance_linked_events`. "training ... ratio": LoRA over full tuning.

Headlines: `maec15_mse` is "linked", `maec15_har_mse` "HAR". `reaction_gain_low` is the lower
end of the interval of "HAR minus HAR + text" on the labels with the reaction, of both sets'
test calls together, text being the source that dev chose over HAR: the same price model
on both sides, so that it measures the text. `event_accuracy_gain` is linked's accuracy over that
of the unlinked text pipeline (fully tuned where that ran, the untuned base otherwise), less one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.finance_linked_calls import data_digests, read_linked_calls
from benchmarks.finance_linked_costs import measure_costs
from benchmarks.finance_linked_forecasts import (
    LABELS,
    LinkedPlan,
    PricedSet,
    price_set,
    read_plan,
    training_calls,
)
from benchmarks.finance_linked_links import LinkedSet, tf_idf
from benchmarks.finance_linked_panel import price_rows
from benchmarks.finance_linked_prices import PriceFeatures, read_market
from benchmarks.finance_linked_report import FROZEN, LinkedReport
from benchmarks.finance_linked_text import embed_calls, tokenise_calls
from benchmarks.finance_linked_training import TextRun
from benchmarks.finance_linked_workers import run_text_models
from benchmarks.suite import Outcome
from common.backbones import Backbone, load_backbone

__all__ = ["linked_risk"]

_Runs = Mapping[tuple[str, str, bool], Sequence[TextRun]]
_Tokens = Sequence[Sequence[Sequence[int]]]
_PLAN = Path(__file__).parent / "configs" / "finance.linked_risk.json"
_QUICK_CALLS = {"train": 150, "dev": 40, "test": 40}
_QUICK_PASSAGES = 2


def linked_risk(data: Path | None, *, quick: bool) -> Outcome:
    """Measures `finance.linked_risk`.

    Args:
        data: Folder of the open data sets; a folder `minilm` in it takes the place of the
            bundled base. Without it TANDEM_DATA names the folder.
        quick: Few calls, passages and candidates, for a look.

    Raises:
        MissingInputError: The data sets are absent.
    """
    import torch

    folder = data or Path(os.environ.get("TANDEM_DATA", "../shared/data"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    plan = read_plan(_PLAN, quick=quick)
    base: Path | str = folder / "minilm" if (folder / "minilm").is_dir() else "minilm"
    backbone = load_backbone(base)
    priced = _priced(folder, plan, quick=quick)
    tokens = [tokenise_calls(p.calls.text, backbone, plan.max_tokens) for p in priced]
    if quick:
        tokens = [[call[:_QUICK_PASSAGES] for call in of_set] for of_set in tokens]
    runs = run_text_models(
        {p.calls.dataset: training_calls(p, t) for p, t in zip(priced, tokens, strict=True)},
        base,
        plan.text[device],
        device,
    )
    costs = measure_costs(tokens[0], base, plan.text["cuda"], device)
    sets = _linked_sets(priced, tokens, backbone, runs, plan)
    report = LinkedReport(sets, plan, costs, n_seeds=len(plan.seeds))
    rows = list(report.rows())
    shown = {**asdict(replace(plan, text={device: plan.text[device]})), "costs": asdict(costs)}
    return Outcome(
        rows=rows,
        headlines=report.headlines(rows),
        verdict=report.verdict(rows),
        note=report.note(rows, device),
        config={
            **shown,
            "base": {"name": backbone.name, "digest": backbone.digest},
            "sets": [_set_config(linked) for linked in sets],
            "text_runs": [_run_config(run) for found in runs.values() for run in found],
        },
        seeds=plan.seeds,
        data=data_digests(folder),
    )


def _priced(folder: Path, plan: LinkedPlan, *, quick: bool) -> list[PricedSet]:
    market = read_market(folder / "finance")
    features = PriceFeatures(market)
    found = []
    for calls in read_linked_calls(folder):
        few = calls.first(_QUICK_CALLS) if quick else calls
        found.append(price_set(few, price_rows(market, features, few), plan))
    return found


def _linked_sets(
    priced: Sequence[PricedSet],
    tokens: Sequence[_Tokens],
    backbone: Backbone,
    runs: _Runs,
    plan: LinkedPlan,
) -> list[LinkedSet]:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    means = embed_calls([call for t in tokens for call in t], backbone, device=device).means()
    means[[not call for t in tokens for call in t]] = np.nan
    of_sets = np.split(means, np.cumsum([len(t) for t in tokens])[:-1])
    found = []
    for one, embedded in zip(priced, of_sets, strict=True):
        tuned = {
            f"{method}{', shuffled' if shuffled else ''}": of_seeds
            for (dataset, method, shuffled), of_seeds in runs.items()
            if dataset == one.calls.dataset
        }
        features = {"TF-IDF": tf_idf(one.calls), FROZEN: embedded}
        found.append(LinkedSet(one, features, tuned, parts=plan.fold_parts))
    return found


def _set_config(linked: LinkedSet) -> dict[str, Any]:
    calls, priced = linked.calls, linked.priced
    sources = (*linked.features, *linked.runs)
    return {
        "dataset": calls.dataset,
        "calls": {split: len(calls.rows(split)) for split in ("train", "dev", "test")},
        "panel_rows": len(priced.prices.panel),
        "panel_last_label_date": str(priced.prices.panel_last_day),
        "price_models": {label: [asdict(j) for j in priced.judged[label]] for label in LABELS},
        "dev_error_of_sources": {
            f"{label}, {base} + {source}": linked.link(label, base, source).dev_error
            for label in LABELS
            for base in ("har", "prices")
            for source in sources
        },
    }


def _run_config(run: TextRun) -> dict[str, Any]:
    return {
        **asdict(run.cell),
        "dev_correlation": list(run.dev_correlation),
        "seconds": round(run.seconds, 1),
        "n_trained": run.n_trained,
        "n_steps": run.n_steps,
    }
