"""Writes the model card from what the training command measured."""

from __future__ import annotations

import math
from typing import Any

from kits.finance.risk.linkage import Linkage

__all__ = ["model_card"]

_TEMPLATE = """\
# maec-lora: what a call's words add to its price history

A LoRA adapter (rank {rank}, on {targets}; {n_trained:,} parameters) with a linear head on
all-MiniLM-L6-v2, and the coefficients that link it with prices. Written by

    python -m kits.finance.weights.train --data DIR --out DIR \\
        {arguments}

Training took {duration_s} s on `{device}` ({software}).
The command also runs with `--device cpu`; with `--adapter DIR` it links and measures this adapter
again, in about ten minutes on two cores. Do not edit these files: `linkage.json` belongs to
adapter `{digest}`.

## What it computes
A disclosure is cut into passages of consecutive sentences of at most {max_tokens} tokens. The
mean of their scores estimates what past prices leave unexplained of the log-volatility of the
next 30 days (`{target}`: standard deviation of the 30 daily returns after the close of the
call's day, the reaction included). `linkage.json` adds it to a ridge forecast from past
log-volatility over {windows} days and calibrates the sum to the probability that the
30-day volatility exceeds {threshold:.2f}% per day, the top quintile of the training calls.

## Data and terms
- Text: MAEC earnings calls of 2015-16 (Li, Yang, Smyth, Dong: MAEC, CIKM 2020,
  github.com/Earnings-Call-Dataset), CC BY-SA 4.0. **These weights are derived from it: they are
  shared under CC BY-SA 4.0, with this attribution**; the code around them is Apache-2.0.
- Labels: rebuilt from daily closing prices; splits of KeFVP (Niu et al. 2023), for which no
  licence is stated. No text, price or label is contained here. The price-only coefficients
  and the threshold are statistics of those labels.
- Base: sentence-transformers/all-MiniLM-L6-v2, Apache-2.0, not contained here.

| role | splits | calls |
|---|---|---|
| train | MAEC-15 train, MAEC-16 train | {n_train} |
| selection (ridge penalty, epoch, learning rate, seed) | MAEC-15 dev, MAEC-16 dev | {n_selection} |
| linkage (weight of the text) | MAEC-15 test | {n_linkage} |
| test (decides nothing) | MAEC-16 test | {n_test} |

The splits are not apart by more than a day while labels span 31 sessions, so labels overlap at
the borders; the row with an embargo leaves out test calls of the first 50 days. Companies
recur between roles; a row shows the unseen ones. The shares are those still listed at the end
of 2017 (survivorship).

## Result
Text weight {weight:.4f} (least squares {slope:.4f} +- {error:.4f} on the linkage calls, shrunk).
{verdict}

Squared errors, and the gain of linked over prices only with its 95% interval:

| test calls | n | train mean | prices only | linked | shuffled text | gain |
|---|---|---|---|---|---|---|
{error_rows}

| test calls | events | AUC prices / linked | Brier prices / linked | accuracy prices / linked |
|---|---|---|---|---|
{event_rows}

Correlation of the text signal with what prices leave unexplained:

| calls | correlation |
|---|---|
{correlations}

On the test calls {chance:.1%} of shuffled transcripts correlate as much. How the weight is fitted
was fixed before the test calls were looked at, and it follows the linkage calls alone; they lie
before the calls of 2016 that the adapter was trained on. A signal whose sign differs between
periods is not one to lean on.

Trials, best correlation on the selection calls over {epochs} epochs (chosen: learning rate
{learning_rate:g}, seed {seed}, epoch {epoch}; all figures in `metrics.json`):

| learning rate | seed | correlation |
|---|---|---|
{seeds}

## Use and limits
Meant for: quoting the passages of an earnings call that the text model takes for signs of higher
or lower volatility than the price history suggests, for a person to judge. Not for: default risk,
trading, or any decision without a person. Trained on US earnings calls of 2015-16 with names
masked; applied to a 10-K or 10-Q it is outside its domain, and the assessment says so. One market
regime; English only.
"""


def model_card(metrics: dict[str, Any], linkage: Linkage) -> str:
    """Returns the model card in Markdown; every figure in it comes from the arguments."""
    training, weight, counts = metrics["training"], metrics["text_weight"], metrics["n_calls"]
    recipe, chosen = training["recipe"], training["chosen"]
    return _TEMPLATE.format(
        rank=recipe["rank"],
        targets=" and ".join(recipe["target_modules"]),
        n_trained=chosen["n_trained_parameters"],
        arguments=training["arguments"],
        duration_s=training["training_duration_s"],
        device=training["device"],
        software=", ".join(f"{name} {version}" for name, version in training["software"].items()),
        digest=linkage.adapter_digest[:12],
        max_tokens=recipe["max_tokens"],
        target=metrics["target"],
        windows=", ".join(map(str, linkage.windows_days)),
        threshold=100 * math.exp(linkage.event_threshold),
        n_train=counts["train"],
        n_selection=counts["selection"],
        n_linkage=counts["linkage"],
        n_test=counts["test"],
        weight=weight["weight"],
        slope=weight["slope"],
        error=weight["standard_error"],
        verdict=_verdict(linkage),
        error_rows="\n".join(_error_row(*item) for item in metrics["test"].items()),
        event_rows="\n".join(_event_row(*item) for item in metrics["test"].items()),
        seeds=_seeds(training["trials"]),
        learning_rate=chosen["learning_rate"],
        seed=chosen["seed"],
        epoch=chosen["epoch"],
        epochs=recipe["epochs"],
        correlations=_correlations(metrics["signal_residual_correlation"]),
        chance=metrics["test"]["all"]["share_of_shuffles_with_such_a_correlation"],
    )


def _correlations(by_role: dict[str, float]) -> str:
    return "\n".join(f"| {role} | {value:+.3f} |" for role, value in by_role.items())


def _verdict(linkage: Linkage) -> str:
    if linkage.text_weight == 0:
        return (
            "**Text adds no measurable accuracy here**: on the linkage calls a higher text signal\n"
            "does not go with higher volatility than prices explain, so the text has no weight\n"
            "and the linked forecast is that of prices alone."
        )
    if linkage.text_is_proven:
        return "On the test calls text lowered the squared error beyond chance."
    return (
        "**Text adds no measurable accuracy here**: the paired interval on the test calls does\n"
        "not exclude zero."
    )


def _error_row(name: str, block: dict[str, Any]) -> str:
    low, high = block["mse_gain_interval"]
    cells = (
        name.replace("_", " "),
        str(block["n_calls"]),
        f"{block['train_mean']['mse']:.4f}",
        f"{block['prices_only']['mse']:.4f}",
        f"{block['linked']['mse']:.4f}",
        f"{block['shuffled_transcripts']['mse_mean']:.4f}",
        f"{block['mse_gain']:+.4f} ({low:+.4f} to {high:+.4f})",
    )
    return f"| {' | '.join(cells)} |"


def _event_row(name: str, block: dict[str, Any]) -> str:
    prices, linked = block["prices_only"], block["linked"]
    pairs = [
        f"{prices[key]:.3f} / {linked[key]:.3f}"
        for key in ("event_auc", "event_brier", "event_accuracy")
    ]
    return f"| {name.replace('_', ' ')} | {block['event_rate']:.1%} | {' | '.join(pairs)} |"


def _seeds(trials: list[dict[str, Any]]) -> str:
    return "\n".join(
        f"| {trial['learning_rate']:g} | {trial['seed']} | "
        f"{max(trial['selection_correlation_by_epoch']):+.3f} |"
        for trial in trials
    )
