"""What `finance.linked_risk` reports: rows, headlines, verdict and note from the forecasts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from benchmarks.finance_linked_calls import Label
from benchmarks.finance_linked_costs import TrainingCosts
from benchmarks.finance_linked_events import (
    EventForecasts,
    area,
    event_forecasts,
    event_rows,
    relative_gain,
)
from benchmarks.finance_linked_forecasts import LABELS, LinkedPlan
from benchmarks.finance_linked_links import LinkedSet
from benchmarks.finance_linked_rows import (
    control_rows,
    difference,
    difference_row,
    error_rows,
    interval_rows,
    published_rows,
)
from benchmarks.suite import Role, Row, Verdict
from common.evaluation.intervals import Interval

__all__ = ["FROZEN", "LinkedReport"]

Floats = npt.NDArray[np.float64]
FROZEN = "frozen text"
_TARGETS = {"MAEC-15": 0.170, "MAEC-16": 0.205}
_BOTH = "MAEC-15 and MAEC-16"
_ARTICLE = "the source article's claims: accuracy +22%, training time -65%, hardware cost -40%"
_FAMILIES = ("ridge", "panel ridge", "kernel ridge", "boosting", "mean")


@dataclass(eq=False)
class LinkedReport:
    """Everything that is read off the forecasts.

    Args:
        sets: Both sets with their text.
        plan: The protocol.
        costs: Of training.
        n_seeds: How many seeds a tuned source must have run with to be chosen.
    """

    sets: Sequence[LinkedSet]
    plan: LinkedPlan
    costs: TrainingCosts
    n_seeds: int

    def rows(self) -> Iterator[Row]:
        """Yields every row."""
        yield from published_rows()
        for linked in self.sets:
            for label in LABELS:
                yield from self._model_rows(linked, label)
                yield from interval_rows(
                    linked, label, self.linked(linked, label)[0], self.plan.interval_level
                )
            source = self._frozen_source(linked)
            yield from control_rows(
                linked, "published", source, self.linked(linked, "published"), self.plan
            )
        for label in LABELS:
            yield from self._difference_rows(label)
        models = self.event_models
        yield from event_rows(list(models.values()), models["linked"])
        yield from self._cost_rows()

    def linked(self, linked: LinkedSet, label: Label, base: str = "prices") -> tuple[Floats, ...]:
        """Returns the forecasts of the source that dev chose, by seed."""
        source = linked.chosen(label, base, self.n_seeds)
        return linked.link(label, base, source).forecasts

    def _frozen_source(self, linked: LinkedSet) -> str:
        """Returns the untuned source that dev prefers: controls fit it again and again."""
        return min(linked.features, key=lambda s: linked.link("published", "prices", s).dev_error)

    def _model_rows(self, linked: LinkedSet, label: Label) -> Iterator[Row]:
        forecasts = linked.priced.forecasts[label]
        chosen = linked.priced.judged[label][0].candidate
        yield from error_rows("train mean", "floor", linked, label, [forecasts["train mean"]])
        yield from error_rows("HAR", "floor", linked, label, [forecasts["har"]])
        for family in _FAMILIES:
            yield from error_rows(family, "control", linked, label, [forecasts[family]])
        yield from error_rows(
            "prices", "ours", linked, label, [forecasts["prices"]],
            source=f"this run; {chosen.family}",
        )  # fmt: skip
        for source in (*linked.features, *linked.runs):
            frozen = source in linked.features
            for base, name in (("har", "HAR + "), ("prices", "prices + "), ("train mean", "")):
                link = linked.link(label, base, source)
                role: Role = "floor" if frozen and not name else "ours"
                yield from error_rows(
                    f"{name}{source}" if name else f"{source} alone",
                    "control" if "shuffled" in source else role,
                    linked, label, link.forecasts,
                    source=f"this run; weight {np.mean(link.weights):.3f}, "
                    f"{len(link.weights)} seed(s)",
                )  # fmt: skip
        source = linked.chosen(label, "prices", self.n_seeds)
        link = linked.link(label, "prices", source)
        yield from error_rows(
            "linked", "ours", linked, label, link.forecasts,
            source=f"this run; {chosen.family} + {source}, weight {np.mean(link.weights):.3f}",
        )  # fmt: skip

    def _difference_rows(self, label: Label) -> Iterator[Row]:
        told = "" if label == "published" else ", with reaction"
        groups = [[linked] for linked in self.sets] + [list(self.sets)]
        for group in groups:
            dataset = (group[0].calls.dataset if len(group) == 1 else _BOTH) + told
            base = {
                name: [[linked.priced.forecasts[label][name]] for linked in group]
                for name in ("har", "prices")
            }
            ours = [self.linked(linked, label) for linked in group]
            for name, other in (("HAR minus linked", "har"), ("prices minus linked", "prices")):
                yield difference_row(name, dataset, difference(group, label, base[other], ours))
            yield difference_row(
                "HAR minus prices", dataset, difference(group, label, base["har"], base["prices"])
            )
            yield difference_row(
                "HAR minus HAR + text", dataset, self.text_gain(group, label),
                "this run; " + ", ".join(one.chosen(label, "har", self.n_seeds) for one in group),
            )  # fmt: skip
            for source in _shared(group):
                tuned = [linked.link(label, "har", source).forecasts for linked in group]
                found = difference(group, label, base["har"], tuned)
                yield difference_row(f"HAR minus HAR + {source}", dataset, found)

    def text_gain(self, group: Sequence[LinkedSet], label: Label) -> Interval:
        """Returns HAR's error less that of HAR + text."""
        har = [[linked.priced.forecasts[label]["har"]] for linked in group]
        return difference(group, label, har, [self.linked(x, label, "har") for x in group])

    @cached_property
    def event_models(self) -> dict[str, EventForecasts]:
        """Returns the probabilities of every model, "linked" last."""
        found: dict[str, EventForecasts] = {}

        def add(name: str, role: Role, forecasts: Sequence[Sequence[Floats]]) -> None:
            n = max(map(len, forecasts))
            tiled = [[f[i % len(f)] for i in range(n)] for f in forecasts]
            found[name] = event_forecasts(
                name, role, self.sets, tiled, quantile=self.plan.event_quantile
            )

        priced = [linked.priced.forecasts["reaction"] for linked in self.sets]
        add("HAR", "floor", [[f["har"]] for f in priced])
        add("prices", "control", [[f["prices"]] for f in priced])
        for source, name in (("TF-IDF", "TF-IDF text alone"), (FROZEN, "untuned text alone")):
            add(name, "control", [self._text_alone(x, source) for x in self.sets])
        for source in _shared(self.sets):
            if "shuffled" not in source:
                add(f"prices + {source}", "ours", [
                    x.out_of_fold("reaction", "prices", source) for x in self.sets
                ])  # fmt: skip
        add("linked", "ours", [
            x.out_of_fold("reaction", "prices", x.chosen("reaction", "prices", self.n_seeds))
            for x in self.sets
        ])  # fmt: skip
        return found

    @staticmethod
    def _text_alone(linked: LinkedSet, source: str) -> tuple[Floats, ...]:
        return linked.out_of_fold("reaction", "train mean", source)

    def _cost_rows(self) -> Iterator[Row]:
        costs = self.costs
        told = "this run; " + ", ".join(
            f"{name} {costs.step_seconds[name]:.2f} s a step, "
            f"{costs.peak_bytes[name] / 2**20:.0f} MiB"
            for name in costs.step_seconds
        )
        yield Row(
            "lora over full", "64 passages", "training time ratio",
            costs.time_ratio, costs.time_low, costs.time_high, "1", "ours", told,
        )  # fmt: skip
        yield Row(
            "lora over full", "64 passages", "training memory ratio",
            costs.memory_ratio, None, None, "1", "ours", told,
        )  # fmt: skip
        for metric, value in (
            ("training time ratio", 0.35), ("training memory ratio", 0.60), ("accuracy gain", 0.22),
        ):  # fmt: skip
            yield Row(
                "the article", "finance", metric, value, None, None, "1", "published", _ARTICLE
            )

    def headlines(self, rows: Sequence[Row]) -> dict[str, float | None]:
        """Returns the headlines, from the rows where they stand there."""
        values = {(row.name, row.dataset, row.metric): row.value for row in rows}
        models = self.event_models
        return {
            "maec15_mse": values["linked", "MAEC-15", "mean MSE"],
            "maec16_mse": values["linked", "MAEC-16", "mean MSE"],
            "maec15_har_mse": values["HAR", "MAEC-15", "mean MSE"],
            "maec16_har_mse": values["HAR", "MAEC-16", "mean MSE"],
            "reaction_gain_low": self.text_gain(self.sets, "reaction").low,
            "event_auc_linked": area(models["linked"]),
            "event_auc_prices": area(models["prices"]),
            "event_accuracy_gain": relative_gain(models["linked"], models["untuned text alone"]),
            "train_time_ratio": self.costs.time_ratio,
            "train_memory_ratio": self.costs.memory_ratio,
        }

    def verdict(self, rows: Sequence[Row]) -> Verdict:
        """Exceeded: both target errors are met and the text's gain excludes zero."""
        reached = self._reached(rows)
        proven = self.text_gain(self.sets, "reaction").above_zero
        return "exceeded" if reached and proven else "not shown"

    @staticmethod
    def _reached(rows: Sequence[Row]) -> bool:
        values = {(row.name, row.dataset, row.metric): row.value for row in rows}
        return all(values["linked", s, "mean MSE"] <= t for s, t in _TARGETS.items())

    def note(self, rows: Sequence[Row], device: str) -> str:
        """Returns what was found, in a few plain sentences."""
        gain = self.text_gain(self.sets, "reaction")
        targets = "are" if self._reached(rows) else "are not both"
        text = "lowers the error" if gain.above_zero else "adds no measurable accuracy here"
        tuned_sets = [linked for linked in self.sets if linked.runs]
        seeds = sorted({len(runs) for linked in tuned_sets for runs in linked.runs.values()})
        tuned = (
            f"tuned text ran with the {device} plan on "
            f"{' and '.join(linked.calls.dataset for linked in tuned_sets)}, "
            f"{'/'.join(map(str, seeds))} seed(s)"
            if seeds
            else "tuned text did not run on this device"
        )
        return (
            f"The target errors .170 and .205 {targets} met; text {text} on labels with the "
            f"reaction (HAR minus HAR + text {gain.value:+.4f}, {gain.low:+.4f} to "
            f"{gain.high:+.4f}); {tuned}; the protocol in the config was written before the test "
            "run."
        )


def _shared(group: Sequence[LinkedSet]) -> list[str]:
    """Returns the tuned sources that every set of the group has."""
    return [name for name in group[0].runs if all(name in linked.runs for linked in group)]
