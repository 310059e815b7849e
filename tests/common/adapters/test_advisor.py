"""The advisor: the article's rules as priors, measured rows above them, memory, refusals.

All rows here are made up for the tests, and written to temporary files only.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.adapters.advisor import Recommendation, recommend
from common.adapters.anatomy import anatomy_of
from common.adapters.rules import FEW_SAMPLES, MANY_SAMPLES, RULES, STARTING_POINTS
from common.errors import AdapterError, InputError
from tests.tiny_models import ENCODERS, FAMILIES, tiny_config

ANATOMIES = {family: anatomy_of(tiny_config(family)) for family in FAMILIES}
SIZES = st.integers(min_value=1, max_value=10**6)
GIB = st.floats(min_value=1e-6, max_value=1e-2)


def row(method: str, metric: str, value: float, **changes: Any) -> dict[str, Any]:
    made = {
        "method": method,
        "setting": STARTING_POINTS[method].measured_as,
        "against": None,
        "device": "cpu",
        "shape": "tiny",
        "n_parameters": None,
        "task": "",
        "n_samples": None,
        "metric": metric,
        "value": value,
        "low": None,
        "high": None,
        "source": "test.json",
        "commit": "0",
        "date": "2026-01-01",
    }
    return {**made, **changes}


def accuracy(method: str, n: int, value: float, half: float = 0.01, **more: Any) -> dict[str, Any]:
    made = {"low": value - half, "high": value + half, "task": "reports", "n_samples": n}
    return row(method, "accuracy", value, **{**made, **more})


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "evidence.json"
    path.write_text(json.dumps({"format": 1, "rows": rows}))
    return path


@pytest.fixture
def nothing(tmp_path: Path) -> Path:
    return written(tmp_path)


class TestWithoutMeasurements:
    @pytest.mark.parametrize(
        ("question", "kind"),
        [
            ({"n_samples": FEW_SAMPLES}, "prefix"),
            ({"n_samples": FEW_SAMPLES + 1}, "lora"),
            ({"n_samples": MANY_SAMPLES}, "lora"),
            ({"n_samples": MANY_SAMPLES + 1}, "full"),
            ({"n_samples": MANY_SAMPLES + 1, "domain_shift": True}, "lora"),
            ({"n_samples": 50, "domain_shift": True}, "lora"),
            ({"n_samples": 5000, "realtime": True, "domain_shift": True}, "bottleneck"),
        ],
    )
    def test_the_rules_of_the_article_decide(
        self, question: dict[str, Any], kind: str, nothing: Path
    ) -> None:
        advice = recommend(**question, evidence=nothing)
        assert advice.method.kind == kind
        assert advice.evidence == ()
        assert advice.contradictions == ()

    def test_the_answer_says_that_nothing_was_measured(self, nothing: Path) -> None:
        advice = recommend(1000, evidence=nothing)
        assert "unchecked" in advice.not_measured[0]
        assert any("learning rate" in sentence for sentence in advice.not_measured)

    def test_a_rule_that_the_base_refuses_gives_way_to_the_next_method(self, nothing: Path) -> None:
        advice = recommend(50, anatomy=ANATOMIES["deberta-v2"], evidence=nothing)
        assert advice.method.kind == "lora"
        assert "takes no prefix" in advice.reasons[0]

    def test_starting_rates_are_the_trainers_own(self) -> None:
        from common.tuning.recipe import default_learning_rate

        for start in STARTING_POINTS.values():
            assert start.learning_rate == default_learning_rate(start.method, "classification")
            assert start.lm_learning_rate == default_learning_rate(start.method, "causal_lm")

    def test_every_rule_names_a_method_that_there_is(self) -> None:
        assert {rule.kind for rule in RULES} <= set(STARTING_POINTS)


class TestWithMeasurements:
    def test_a_measured_better_method_overrides_the_rule_and_is_noted(self, tmp_path: Path) -> None:
        path = written(tmp_path, accuracy("prefix", 64, 0.5), accuracy("lora", 64, 0.7))
        advice = recommend(64, evidence=path)
        assert advice.method.kind == "lora"
        assert {r.method for r in advice.evidence} == {"lora", "prefix"}
        assert "few samples" in advice.contradictions[0]
        assert "test.json" in advice.contradictions[0]

    def test_intervals_that_overlap_leave_the_rule_in_force(self, tmp_path: Path) -> None:
        path = written(tmp_path, accuracy("prefix", 64, 0.6, 0.1), accuracy("lora", 64, 0.7, 0.1))
        advice = recommend(64, evidence=path)
        assert advice.method.kind == "prefix"
        assert advice.contradictions == ()
        assert advice.evidence != ()

    def test_a_paired_difference_decides_where_the_intervals_overlap(self, tmp_path: Path) -> None:
        rows = [accuracy("full", 1000, 0.72, 0.05), accuracy("lora", 1000, 0.70, 0.05)]
        paired = row(
            "full",
            "accuracy_difference",
            0.02,
            against="lora",
            low=0.01,
            high=0.03,
            task="reports",
            n_samples=1000,
        )
        assert recommend(1000, evidence=written(tmp_path, *rows)).method.kind == "lora"
        advice = recommend(1000, evidence=written(tmp_path, *rows, paired))
        assert advice.method.kind == "full"
        assert [r.metric for r in advice.evidence] == ["accuracy_difference"]

    def test_a_method_that_is_worse_on_one_task_does_not_override(self, tmp_path: Path) -> None:
        rows = [accuracy("prefix", 64, 0.5), accuracy("lora", 64, 0.7)]
        rows += [
            accuracy("prefix", 64, 0.9, task="calls"),
            accuracy("lora", 64, 0.8, task="calls"),
        ]
        assert recommend(64, evidence=written(tmp_path, *rows)).method.kind == "prefix"

    def test_a_size_far_away_says_nothing(self, tmp_path: Path) -> None:
        path = written(tmp_path, accuracy("lora", 1000, 0.5), accuracy("full", 1000, 0.9))
        assert recommend(4000, evidence=path).method.kind == "full"
        advice = recommend(4001, evidence=path)
        assert advice.method.kind == "lora"
        assert "unchecked" in advice.not_measured[0]

    def test_accuracy_says_nothing_about_a_domain_shift(self, tmp_path: Path) -> None:
        path = written(tmp_path, accuracy("lora", 1000, 0.5), accuracy("full", 1000, 0.9))
        advice = recommend(1000, domain_shift=True, evidence=path)
        assert advice.method.kind == "lora"
        assert "shift of domain" in advice.not_measured[0]

    def test_rows_of_labelled_texts_say_nothing_about_language_models(self, tmp_path: Path) -> None:
        path = written(tmp_path, accuracy("lora", 1000, 0.5), accuracy("full", 1000, 0.9))
        assert recommend(1000, causal_lm=True, evidence=path).method.kind == "lora"

    def test_merged_lora_overrides_the_rule_for_real_time(self, tmp_path: Path) -> None:
        path = written(
            tmp_path,
            row("bottleneck", "latency_ratio", 1.2),
            row("lora", "merged_latency_ratio", 1.0),
        )
        advice = recommend(1000, realtime=True, evidence=path)
        assert advice.method.kind == "lora"
        assert advice.merge
        assert "real time" in advice.contradictions[0]

    def test_the_latency_of_unmerged_lora_is_not_held_against_it(self, tmp_path: Path) -> None:
        path = written(
            tmp_path, row("bottleneck", "latency_ratio", 1.2), row("lora", "latency_ratio", 1.0)
        )
        assert recommend(1000, realtime=True, evidence=path).method.kind == "bottleneck"

    def test_figures_of_another_device_are_left_out(self, tmp_path: Path) -> None:
        path = written(
            tmp_path,
            row("bottleneck", "latency_ratio", 1.2),
            row("lora", "merged_latency_ratio", 1.0),
        )
        advice = recommend(1000, realtime=True, device="h200", evidence=path)
        assert advice.method.kind == "bottleneck"
        assert "unchecked" in advice.not_measured[0]

    def test_the_measured_learning_rate_is_taken(self, tmp_path: Path) -> None:
        rows = [
            row("lora", "learning_rate", 1.5e-3, n_samples=1024, task="reports"),
            row("lora", "learning_rate", 5e-3, n_samples=64, task="reports"),
        ]
        advice = recommend(1000, evidence=written(tmp_path, *rows))
        assert advice.settings["learning_rate"] == 1.5e-3
        assert [r.value for r in advice.evidence] == [1.5e-3]

    def test_a_rate_of_a_far_smaller_base_is_not_taken(self, tmp_path: Path) -> None:
        anatomy = ANATOMIES["bert"]
        far = anatomy.n_parameters // 5
        near = anatomy.n_parameters // 3
        for size, expected in ((far, 5e-4), (near, 1.5e-3)):
            measured = row(
                "lora", "learning_rate", 1.5e-3, n_samples=1000, task="t", n_parameters=size
            )
            advice = recommend(1000, anatomy=anatomy, evidence=written(tmp_path, measured))
            assert advice.settings["learning_rate"] == expected

    def test_other_settings_than_those_recommended_say_nothing(self, tmp_path: Path) -> None:
        rows = [
            accuracy("prefix", 64, 0.5),
            accuracy("lora", 64, 0.7, setting="lora attention r8"),
        ]
        assert recommend(64, evidence=written(tmp_path, *rows)).method.kind == "prefix"

    def test_accuracy_of_another_device_counts(self, tmp_path: Path) -> None:
        path = written(tmp_path, accuracy("prefix", 64, 0.5), accuracy("lora", 64, 0.7))
        assert recommend(64, device="h200", evidence=path).method.kind == "lora"


class TestLatencyBudget:
    def test_a_method_measured_over_the_budget_is_passed_over(self, tmp_path: Path) -> None:
        path = written(
            tmp_path, row("prefix", "latency_ms", 20), row("lora", "merged_latency_ms", 10)
        )
        advice = recommend(64, latency_budget_ms=15, evidence=path)
        assert advice.method.kind == "lora"
        assert any("over the budget" in reason for reason in advice.reasons)
        assert advice.merge

    def test_if_all_are_over_it_the_fastest_is_returned_and_said_so(self, tmp_path: Path) -> None:
        rows = [row(kind, "latency_ms", 20.0 + i) for i, kind in enumerate(("prefix", "full"))]
        rows += [row("bottleneck", "latency_ms", 30), row("lora", "merged_latency_ms", 19)]
        advice = recommend(64, latency_budget_ms=15, evidence=written(tmp_path, *rows))
        assert advice.method.kind == "lora"
        assert any("No method keeps the budget" in reason for reason in advice.reasons)

    def test_a_base_of_another_size_is_not_judged_by(self, tmp_path: Path) -> None:
        anatomy = ANATOMIES["bert"]
        size = 2 * anatomy.n_parameters
        path = written(tmp_path, row("prefix", "latency_ms", 20, n_parameters=size))
        advice = recommend(64, latency_budget_ms=15, anatomy=anatomy, evidence=path)
        assert advice.method.kind == "prefix"
        assert any("latency of prefix" in sentence for sentence in advice.not_measured)


class TestMemory:
    def test_checkpointing_comes_before_another_method(self, nothing: Path) -> None:
        anatomy = ANATOMIES["bert"]
        whole = recommend(20_000, anatomy=anatomy, evidence=nothing).memory
        assert whole is not None
        advice = recommend(
            20_000, anatomy=anatomy, memory_gib=0.9 * whole.total_gib, evidence=nothing
        )
        assert advice.method.kind == "full"
        assert advice.settings["gradient_checkpointing"] is True

    def test_without_an_anatomy_the_answer_says_what_is_missing(self, nothing: Path) -> None:
        advice = recommend(1000, memory_gib=1, evidence=nothing)
        assert advice.memory is None
        assert any("anatomy=" in sentence for sentence in advice.not_measured)

    def test_if_nothing_fits_the_reasons_say_so(self, nothing: Path) -> None:
        advice = recommend(1000, anatomy=ANATOMIES["bert"], memory_gib=1e-9, evidence=nothing)
        assert any("nothing fits" in reason for reason in advice.reasons)


class TestProperties:
    @given(
        n_samples=SIZES,
        memory_gib=st.none() | GIB,
        domain_shift=st.booleans(),
        realtime=st.booleans(),
        family=st.sampled_from(sorted(FAMILIES)),
    )
    @settings(deadline=None, max_examples=150)
    def test_the_method_is_always_one_that_the_base_takes(
        self, n_samples: int, memory_gib: float | None, family: str, **flags: bool
    ) -> None:
        anatomy = ANATOMIES[family]
        advice = recommend(n_samples, memory_gib=memory_gib, anatomy=anatomy, **flags)
        advice.method.require(anatomy)

    @given(
        n_samples=SIZES,
        memory_gib=st.tuples(GIB, GIB).map(sorted),
        realtime=st.booleans(),
        family=st.sampled_from(sorted(ENCODERS)),
    )
    @settings(deadline=None, max_examples=150)
    def test_less_memory_never_leads_to_a_heavier_method(
        self, n_samples: int, memory_gib: list[float], realtime: bool, family: str
    ) -> None:
        tight, wide = (
            recommend(n_samples, memory_gib=m, realtime=realtime, anatomy=ANATOMIES[family])
            for m in memory_gib
        )
        assert tight.memory is not None
        assert wide.memory is not None
        assert tight.memory.total_gib <= wide.memory.total_gib

    @given(n_samples=SIZES, realtime=st.booleans(), domain_shift=st.booleans())
    @settings(deadline=None, max_examples=50)
    def test_the_same_question_has_the_same_answer(self, n_samples: int, **flags: bool) -> None:
        assert recommend(n_samples, **flags) == recommend(n_samples, **flags)

    @given(
        values=st.lists(st.floats(0, 1), min_size=4, max_size=4),
        half=st.floats(0, 0.3),
        n_samples=st.integers(16, 20_000),
        memory_gib=st.none() | GIB,
    )
    @settings(deadline=None, max_examples=100)
    def test_whatever_was_measured_the_answer_holds_together(
        self,
        values: list[float],
        half: float,
        n_samples: int,
        memory_gib: float | None,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> None:
        rows = [
            accuracy(kind, 256, value, half)
            for kind, value in zip(STARTING_POINTS, values, strict=True)
        ]
        path = written(tmp_path_factory.mktemp("rows"), *rows)
        advice = recommend(
            n_samples, memory_gib=memory_gib, anatomy=ANATOMIES["deberta-v2"], evidence=path
        )
        assert advice.method.kind != "prefix"
        assert bool(advice.contradictions) <= bool(advice.evidence)


class TestBorder:
    @pytest.mark.parametrize(
        "question",
        [
            {"n_samples": 0},
            {"n_samples": 10, "memory_gib": 0},
            {"n_samples": 10, "latency_budget_ms": float("nan")},
            {"n_samples": 10, "n_tokens": 0},
        ],
    )
    def test_a_number_that_cannot_be_used_is_refused(self, question: dict[str, Any]) -> None:
        with pytest.raises(InputError, match="question to the advisor"):
            recommend(**question)

    def test_a_broken_evidence_file_is_a_clear_error(self, tmp_path: Path) -> None:
        path = tmp_path / "evidence.json"
        path.write_text("{")
        with pytest.raises(AdapterError, match="advisor's evidence"):
            recommend(10, evidence=path)

    def test_it_loads_no_heavy_library(self) -> None:
        program = (
            "import sys; from common.adapters.advisor import recommend; recommend(100);"
            "print(*sorted({m.split('.')[0] for m in sys.modules}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        assert {"torch", "transformers", "peft", "monai"}.isdisjoint(done.stdout.split())

    def test_the_installed_evidence_can_be_read(self) -> None:
        assert isinstance(recommend(1000), Recommendation)
