"""Writes the nodule network's model card: card.md, filled in with what was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["MASK_ONLY_METRICS", "write_card"]

MASK_ONLY_METRICS = "metrics-mask-only.json"
TEMPLATE = Path(__file__).with_name("card.md")
Metrics = Mapping[str, Any]


def write_card(folder: Path) -> None:
    """Writes README.md from the config and metrics in `folder`, if both are there.

    The control's row appears where its metrics lie beside them.
    """
    if not (folder / "config.json").is_file() or not (folder / "metrics.json").is_file():
        return
    config, metrics = _read(folder / "config.json"), _read(folder / "metrics.json")
    control_file = folder / MASK_ONLY_METRICS
    control = _read(control_file) if control_file.is_file() else None
    difference = metrics["auc_network_minus_area"]
    card = TEMPLATE.read_text(encoding="utf-8").format(
        config=config,
        table=_table(metrics, control),
        verdict=_verdict(difference),
        difference=_interval(difference),
        **metrics,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def _table(metrics: Metrics, control: Metrics | None) -> str:
    rows = [
        ("this network", metrics, "network"),
        ("this network, masks by threshold", metrics, "network_threshold_masks"),
        ("control: same network, image blanked", control, "network"),
        ("floor: diameter in the table", metrics, "table_diameter"),
        ("floor: largest area that any reader marked", metrics, "area"),
    ]
    lines = [
        f"| {name} | {_interval(source['auc'][key])} | {_interval(source['auc_small'][key])} |"
        for name, source, key in rows
        if source is not None
    ]
    return "\n".join([*lines, "| chance | 0.500 | 0.500 |"])


def _verdict(difference: Metrics) -> str:
    if difference["low"] > 0:
        return "The network ranks better than the marked area alone."
    if difference["high"] < 0:
        return "The network ranks worse than the marked area alone."
    return "The network is not shown to rank better than the marked area alone."


def _interval(figure: Metrics) -> str:
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def _read(path: Path) -> Metrics:
    content: Metrics = json.loads(path.read_text(encoding="utf-8"))
    return content
