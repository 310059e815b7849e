"""Trains the finance kit's text model and fits its linkage with prices.

    python -m kits.finance.weights.train --data DIR --out DIR [--device cuda]

reads the MAEC calls (`kits.finance.weights.calls`) and writes the adapter, its head,
`linkage.json`, `metrics.json` and the model card README.md. Every choice is made on the
selection and linkage calls; the test calls decide nothing. With `--adapter DIR` an adapter
that this command wrote earlier is linked and measured again, without training.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.adapters.attach import adapter_digest, save_adapter
from common.backbones import Backbone, load_backbone
from common.models.text import load_regressor
from common.task import Task, Text
from kits.finance.tasks import BACKBONE, MAX_PASSAGE_TOKENS
from kits.finance.weights.calls import ROLES, TARGET, CallSet, read_calls, read_passages
from kits.finance.weights.card import model_card
from kits.finance.weights.evaluation import (
    PriceRidge,
    correlation,
    evaluate,
    fit_linkage,
    fit_price_ridge,
)
from kits.finance.weights.regression import FittedRegressor, Recipe, fit_regressor

__all__ = ["main"]

_SOFTWARE = ("numpy", "peft", "torch", "transformers")


@dataclass(frozen=True)
class Trial:
    """One learning rate and seed, and what came of it."""

    learning_rate: float
    seed: int
    fitted: FittedRegressor

    @property
    def selection_correlation(self) -> float:
        """Correlation of signal and residual on the selection calls, at the best epoch."""
        return max(self.fitted.selection_history)


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains (or takes an adapter), links it with prices, evaluates and writes."""
    options = _parse(arguments)
    started = time.monotonic()
    calls, passages = _prepare(options)
    ridge = fit_price_ridge(calls)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.adapter:
        training = _take_adapter(options)
    else:
        training = _train_and_save(options, calls, passages, ridge)
        training["training_duration_s"] = round(time.monotonic() - started)
    digest = adapter_digest(options.out)
    signals = _signals(options, passages, np.flatnonzero(calls.role != "train"))
    linkage, weight = fit_linkage(calls, signals, ridge, adapter_digest=digest)
    test = evaluate(calls, signals, linkage)
    linkage = replace(linkage, mse_gain_interval=tuple(test["all"]["mse_gain_interval"]))
    residual = calls.target - ridge.forecast(calls.features)
    metrics = {
        "target": TARGET,
        "n_calls": {role: len(calls.in_role(role)) for role in ROLES},
        "data_sha256": _data_digests(options.data),
        "price_ridge": {"penalty": ridge.penalty, "selection_mse": ridge.selection_mse},
        "training": training,
        "adapter_digest": digest,
        "signal_residual_correlation": {
            role: correlation(signals[rows], residual[rows])
            for role in ROLES[1:]
            for rows in [calls.in_role(role)]
        },
        "text_weight": weight,
        "test": test,
    }
    _write_json(options.out / "linkage.json", linkage.to_json())
    _write_json(options.out / "metrics.json", metrics)
    (options.out / "README.md").write_text(model_card(metrics, linkage), encoding="utf-8")
    print(json.dumps(test["all"], indent=1))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m kits.finance.weights.train")
    parser.add_argument("--data", type=Path, required=True, help="folder of the open data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--backbone", default=BACKBONE, help="bundled name, folder or hub id")
    parser.add_argument("--adapter", type=Path, help="an adapter of this command: do not train")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[5e-4])
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--calls", type=int, help="only so many calls of each role (a trial)")
    return parser.parse_args(arguments)


def _prepare(options: argparse.Namespace) -> tuple[CallSet, list[list[str]]]:
    """Returns the calls that have at least one passage, and their passages."""
    calls = read_calls(options.data)
    if options.calls:
        calls = calls.first(options.calls)
    count = load_backbone(options.backbone).count_tokens
    passages = [read_passages(text, count, MAX_PASSAGE_TOKENS) for text in calls.text]
    kept = np.array([row for row, texts in enumerate(passages) if texts])
    print(f"{len(kept)} calls, {sum(map(len, passages))} passages", flush=True)
    return calls.at(kept), [passages[row] for row in kept]


def _train_and_save(
    options: argparse.Namespace, calls: CallSet, passages: list[list[str]], ridge: PriceRidge
) -> dict[str, Any]:
    """Trains every trial, saves the chosen one and returns the record of the training."""
    backbone = load_backbone(options.backbone)
    tokens = [backbone.tokenizer(texts)["input_ids"] for texts in passages]
    residual = calls.target - ridge.forecast(calls.features)
    trials = _train(options, backbone, tokens, residual, calls)
    chosen = _choose(trials)
    save_adapter(chosen.fitted.adapter, options.out, head=chosen.fitted.head)
    return _record(options, trials, chosen)


def _take_adapter(options: argparse.Namespace) -> dict[str, Any]:
    """Copies an adapter's files to the output and returns the record of its training."""
    if options.adapter.resolve() != options.out.resolve():
        for path in (*options.adapter.glob("*.safetensors"), *options.adapter.glob("*.json")):
            shutil.copy(path, options.out / path.name)
    metrics = json.loads((options.adapter / "metrics.json").read_text(encoding="utf-8"))
    training: dict[str, Any] = metrics["training"]
    return training


def _signals(
    options: argparse.Namespace, passages: list[list[str]], rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Returns the saved model's mean passage score of the calls in `rows`, NaN elsewhere.

    They are computed on the CPU by the model that users run, whatever device trained it.
    """
    model = load_regressor(load_backbone(options.backbone), options.out)
    signals = np.full(len(passages), np.nan)
    for row in rows:
        results = model.predict([Task({"text": Text(text)}) for text in passages[row]])
        signals[row] = float(np.mean([result.values["score"] for result in results]))
    return signals


def _train(
    options: argparse.Namespace,
    backbone: Backbone,
    tokens: list[list[list[int]]],
    residual: npt.NDArray[np.float64],
    calls: CallSet,
) -> list[Trial]:
    trials = []
    for learning_rate in options.learning_rates:
        for seed in options.seeds:
            recipe = Recipe(
                learning_rate=learning_rate, epochs=options.epochs, max_tokens=MAX_PASSAGE_TOKENS
            )
            fitted = fit_regressor(
                backbone,
                tokens,
                residual,
                train=calls.in_role("train"),
                selection=calls.in_role("selection"),
                recipe=recipe,
                seed=seed,
                device=options.device,
            )
            trials.append(Trial(learning_rate, seed, fitted))
            history = " ".join(f"{value:.3f}" for value in fitted.selection_history)
            print(f"rate {learning_rate:g} seed {seed}: {history}", flush=True)
    return trials


def _choose(trials: list[Trial]) -> Trial:
    """Takes the learning rate that is best on average, then its best seed."""
    rates = sorted({trial.learning_rate for trial in trials})

    def average(rate: float) -> float:
        of_rate = [t.selection_correlation for t in trials if t.learning_rate == rate]
        return float(np.mean(of_rate))

    best_rate = max(rates, key=average)
    of_best = [trial for trial in trials if trial.learning_rate == best_rate]
    return max(of_best, key=lambda trial: trial.selection_correlation)


def _record(options: argparse.Namespace, trials: list[Trial], chosen: Trial) -> dict[str, Any]:
    recipe = Recipe(
        learning_rate=chosen.learning_rate, epochs=options.epochs, max_tokens=MAX_PASSAGE_TOKENS
    )
    return {
        "recipe": asdict(recipe),
        "device": options.device,
        "arguments": _shown_arguments(options),
        "software": {package: version(package) for package in _SOFTWARE},
        "trials": [
            {
                "learning_rate": trial.learning_rate,
                "seed": trial.seed,
                "selection_correlation_by_epoch": list(trial.fitted.selection_history),
            }
            for trial in trials
        ],
        "chosen": {
            "learning_rate": chosen.learning_rate,
            "seed": chosen.seed,
            "epoch": chosen.fitted.epoch,
            "n_trained_parameters": chosen.fitted.n_trained,
        },
    }


def _data_digests(data: Path) -> dict[str, str]:
    folder = data / "finance" / "maec_calls"
    return {
        path.name: sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("*"))
        if path.suffix in (".gz", ".parquet")
    }


def _shown_arguments(options: argparse.Namespace) -> str:
    """Returns the options that decide the outcome, without folders."""
    seeds, rates = map(str, options.seeds), (f"{rate:g}" for rate in options.learning_rates)
    return (
        f"--device {options.device} --seeds {' '.join(seeds)} "
        f"--learning-rates {' '.join(rates)} --epochs {options.epochs}"
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
