"""Trains the nodule network on the LIDC-IDRI crops and measures it by cross-validation.

    python -m kits.medical.weights.train --data DIR --out DIR

`DIR` after `--data` is the folder that holds `medical`. Written to `--out`:
model.safetensors and config.json (`kits.medical.imaging.lesion` reads them), metrics.json
and README.md, the model card; `--mask-only` writes the metrics of a control instead. All
test figures come from cross-validation that keeps each patient in one fold; the network
that is stored has then seen every patient.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.versions import software_versions
from kits.medical.imaging.transforms import NetworkForm
from kits.medical.weights.card import MASK_ONLY_METRICS, write_card
from kits.medical.weights.fitting import (
    READER_STYLE,
    THRESHOLD_STYLE,
    Crops,
    Recipe,
    build_crops,
    fit_network,
    nodule_logits,
)
from kits.medical.weights.lidc import LidcNodule, measure_match, read_nodules, sources_digest
from kits.medical.weights.scoring import (
    Calibration,
    Statistic,
    auc,
    bootstrap_by_group,
    brier,
    expected_calibration_error,
    fit_platt,
)

__all__ = ["main"]

N_FOLDS = 5
INDETERMINATE = 3.0  # the middle of the readers' scale of 1 to 5
SMALL_MM = 10.0

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Logits `(n_nodules,)` by networks that saw none of the nodule's patient.

    Args:
        readers: With the readers' masks.
        threshold: With masks by threshold in their place.
        fold: The fold that held each nodule out.
    """

    readers: Floats
    threshold: Floats
    fold: Indices


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command."""
    options = _parser().parse_args(arguments)
    nodules = read_nodules(options.data)
    form, recipe = NetworkForm(), Recipe(epochs=options.epochs, seed=options.seed)
    crops = build_crops(nodules, form)
    if options.mask_only:
        crops.planes[:, :, 0] = 0.0
    fold = assign_folds(nodules, seed=recipe.seed)
    weights, held_out = fit_all(crops, fold, recipe, options)
    metrics = {
        "match": asdict(measure_match(options.data, nodules)),
        **measure(nodules, held_out, seed=recipe.seed),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    if options.mask_only:
        _write_json(options.out / MASK_ONLY_METRICS, metrics)
    else:
        (options.out / "model.safetensors").write_bytes(weights)
        _write_json(options.out / "metrics.json", metrics)
        config = {
            "kind": "nodule",
            "network": "DenseNet",
            "arguments": dict(recipe.arguments),
            "sha256": sha256(weights).hexdigest(),
            "form": asdict(form),
            "calibration": asdict(fit_platt(*_decided(held_out.readers, nodules))),
            "recipe": {k: v for k, v in asdict(recipe).items() if k != "arguments"},
            "trained_with": {"device": options.device, **_trainers()},
            "data": sources_digest(options.data),
            "auc": metrics["auc"]["network"]["value"],
        }
        _write_json(options.out / "config.json", config)
    write_card(options.out)
    print(json.dumps(metrics, indent=1))


def assign_folds(nodules: Sequence[LidcNodule], *, seed: int) -> Indices:
    """Returns the fold of each nodule: patients whole, suspicious nodules spread evenly."""
    patients = sorted({n.patient for n in nodules})
    order = np.random.default_rng(seed).permutation(len(patients))
    suspicious = {
        p: sum(n.patient == p and n.malignancy > INDETERMINATE for n in nodules) for p in patients
    }
    ranked = sorted((patients[k] for k in order), key=lambda p: -suspicious[p])
    fold = {p: k % N_FOLDS for k, p in enumerate(ranked)}
    return np.array([fold[n.patient] for n in nodules])


def fit_all(
    crops: Crops, fold: Indices, recipe: Recipe, options: argparse.Namespace
) -> tuple[bytes, OutOfFold]:
    """Fits one network for each fold and one on all, and returns its weights and all logits."""
    readers, threshold = np.zeros(len(fold)), np.zeros(len(fold))
    jobs = [(crops, fold, k, recipe, options.device) for k in [*range(N_FOLDS), None]]
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        fits = list(pool.map(_fit_one, *zip(*jobs, strict=True)))
    for k, (_, by_readers, by_threshold) in enumerate(fits[:N_FOLDS]):
        readers[fold == k], threshold[fold == k] = by_readers, by_threshold
    return fits[-1][0], OutOfFold(readers, threshold, fold)


def _fit_one(
    crops: Crops, fold: Indices, held_out: int | None, recipe: Recipe, device: str
) -> tuple[bytes, Floats, Floats]:
    import torch
    from safetensors.torch import save

    torch.set_num_threads(1)
    train = np.flatnonzero(fold[crops.nodule] != held_out)
    network = fit_network(crops, train, recipe, device=device)
    tested = np.flatnonzero(fold == held_out)
    return (
        save(network.state_dict()),
        nodule_logits(network, crops, tested, style=READER_STYLE),
        nodule_logits(network, crops, tested, style=THRESHOLD_STYLE),
    )


def measure(
    nodules: Sequence[LidcNodule], held_out: OutOfFold, *, seed: int, draws: int = 2000
) -> dict[str, Any]:
    """Returns every figure of the card; intervals come from a bootstrap of patients."""
    ratings = np.array([n.malignancy for n in nodules])
    kept = np.flatnonzero(ratings != INDETERMINATE)
    decided = [nodules[int(k)] for k in kept]
    labels, folds = ratings[kept] > INDETERMINATE, held_out.fold[kept]
    scores = {
        "network": held_out.readers[kept],
        "network_threshold_masks": held_out.threshold[kept],
        "table_diameter": np.array([n.diameter_mm for n in decided]),
        "area": np.array([n.equivalent_diameter_mm for n in decided]),
    }
    small = scores["table_diameter"] < SMALL_MM

    def auc_in(score: Floats, rows: Indices) -> float:
        return auc(score[rows], labels[rows])

    def auc_in_small(score: Floats, rows: Indices) -> float:
        return auc_in(score, rows[small[rows]])

    def interval(statistic: Statistic) -> dict[str, float]:
        groups = [n.patient for n in decided]
        return asdict(bootstrap_by_group(statistic, groups, draws=draws, seed=seed))

    return {
        "counts": {
            "nodules": len(kept),
            "suspicious": int(labels.sum()),
            "not_suspicious": int((~labels).sum()),
            "indeterminate": len(nodules) - len(kept),
            "patients": len({n.patient for n in decided}),
            "small": int(small.sum()),
            "small_suspicious": int(labels[small].sum()),
        },
        "auc": {name: interval(partial(auc_in, score)) for name, score in scores.items()},
        "auc_network_minus_area": interval(
            lambda rows: auc_in(scores["network"], rows) - auc_in(scores["area"], rows)
        ),
        "auc_small": {
            name: interval(partial(auc_in_small, score)) for name, score in scores.items()
        },
        **_calibration_figures(scores, labels, folds),
    }


def _calibration_figures(
    scores: Mapping[str, Floats], labels: npt.NDArray[np.bool_], folds: Indices
) -> dict[str, dict[str, float]]:
    """Returns how true the probabilities are, and how far masks by threshold move them."""
    logits = scores["network"]
    calibrated = _cross_calibrated(logits, labels, folds)
    by_threshold = _cross_calibrated(
        logits, labels, folds, applied_to=scores["network_threshold_masks"]
    )
    by_size = _cross_calibrated(np.log(scores["area"]), labels, folds)
    shift = by_threshold - calibrated
    uncalibrated = Calibration(1.0, 0.0).probability(logits)
    return {
        "calibration": {
            "brier": brier(calibrated, labels),
            "brier_area": brier(by_size, labels),
            "brier_base_rate": float(labels.mean() * (1 - labels.mean())),
            "ece": expected_calibration_error(calibrated, labels),
            "ece_uncalibrated": expected_calibration_error(uncalibrated, labels),
        },
        "mask_shift": {
            "mean_absolute_probability": float(np.abs(shift).mean()),
            "percentile_95_probability": float(np.percentile(np.abs(shift), 95)),
            "mean_probability": float(shift.mean()),
            "decisions_changed_at_half": int(((by_threshold > 0.5) != (calibrated > 0.5)).sum()),
        },
    }


def _cross_calibrated(
    scores: Floats,
    labels: npt.NDArray[np.bool_],
    folds: Indices,
    *,
    applied_to: Floats | None = None,
) -> Floats:
    """Returns probabilities whose calibration was fitted on the other folds."""
    target = scores if applied_to is None else applied_to
    calibrated = np.zeros(len(scores))
    for k in range(N_FOLDS):
        fitted = fit_platt(scores[folds != k], labels[folds != k])
        calibrated[folds == k] = fitted.probability(target[folds == k])
    return calibrated


def _decided(logits: Floats, nodules: Sequence[LidcNodule]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    ratings = np.array([n.malignancy for n in nodules])
    kept = ratings != INDETERMINATE
    return logits[kept], ratings[kept] > INDETERMINATE


def _trainers() -> dict[str, str]:
    return {name: v for name, v in software_versions().items() if name in ("monai", "torch")}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kits.medical.weights.train")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds `medical`")
    parser.add_argument("--out", type=Path, required=True, help="where the weights folder is made")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--workers", type=int, default=1, help="networks fitted side by side")
    parser.add_argument("--epochs", type=int, default=Recipe().epochs)
    parser.add_argument("--seed", type=int, default=Recipe().seed)
    parser.add_argument(
        "--mask-only", action="store_true", help="blank the image: how far does the outline go?"
    )
    return parser


if __name__ == "__main__":
    main()
