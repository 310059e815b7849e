"""Price models are judged going forward, and text runs learn what words say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from benchmarks.finance_linked_events import event_forecasts, event_rows, relative_gain
from benchmarks.finance_linked_forecasts import BASES, LABELS, read_plan, signal_columns
from benchmarks.finance_linked_models import (
    Candidate,
    Judged,
    PriceProblem,
    best_of_families,
    candidates,
    forward_error,
    out_of_fold,
    ridge,
)
from benchmarks.finance_linked_training import (
    TextCell,
    TextPlan,
    TextRun,
    TrainingCalls,
    few_passages,
    run_text_cell,
)
from benchmarks.finance_linked_workers import RunJournal, plan_cells
from common.backbones import load_backbone
from tests.tiny_bert import make_tiny_bert

CONFIG = Path(__file__).parents[2] / "benchmarks" / "configs" / "finance.linked_risk.json"
TRAIN, DEV = np.arange(200), np.arange(200, 240)
PLAN = TextPlan(
    methods={"lora": {"rank": 2, "alpha": 4}, "full": {}},
    learning_rates={"lora": [2e-2], "full": [5e-3]},
    seeds=[0],
    epochs=5,
    calls_per_step=8,
    passages_per_call=2,
    passages_read=None,
    weight_decay=0.0,
    shuffled=["lora"],
    workers=1,
    datasets=["MAEC-15"],
)


def problem(seed=0, n=260):
    """A set whose outcome is linear in the features, with a panel of the same law."""
    rng = np.random.default_rng(seed)
    features, panel = rng.normal(size=(n, 8)), rng.normal(size=(500, 8))
    beta = rng.normal(size=(8, 4)) * 0.3
    outcome = features @ beta + rng.normal(0, 0.1, (n, 4)) + 0.5
    labels = panel @ beta + rng.normal(0, 0.1, (500, 4))
    prices = SimpleNamespace(
        calls=features, har=features[:, :2], panel=panel, panel_labels={"published": labels}
    )
    return PriceProblem(SimpleNamespace(labels={"published": outcome}), prices, "published")


def test_the_ridge_is_that_of_scikit_learn():
    """On standardised features, with the penalty per row."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 5)), rng.normal(size=(100, 3))
    z = (x - x.mean(0)) / x.std(0)
    peer = Ridge(alpha=0.3 * 100).fit(z, y)
    np.testing.assert_allclose(ridge(x, y, 0.3)(x), peer.predict(z), atol=1e-6)


def test_the_panel_helps_where_calls_are_few_and_its_level_is_corrected():
    """With a large second penalty only the level is learnt from the calls."""
    task = problem()
    few, rows = TRAIN[:30], DEV
    error = {}
    for name, candidate in (
        ("ridge", Candidate("ridge", (1.0,))),
        ("panel", Candidate("panel ridge", (1e-6, 1e6))),
    ):
        error[name] = np.mean((task.forecast(candidate, few, rows) - task.outcome[rows]) ** 2)
    assert error["panel"] < 0.02 < error["ridge"]


def test_a_mean_is_the_mean_of_its_members():
    """Of their forecasts."""
    task = problem()
    members = (Candidate("har", (0.1,)), Candidate("ridge", (0.1,)))
    apart = [task.forecast(member, TRAIN, DEV) for member in members]
    both = task.forecast(Candidate("mean", members=members), TRAIN, DEV)
    np.testing.assert_allclose(both, np.mean(apart, axis=0))


@pytest.mark.parametrize("family", ["kernel ridge", "boosting"])
def test_other_families_learn_the_same_law(family):
    """Their error lies well below the outcome's variance."""
    task = problem()
    settings = {"kernel ridge": (0.1, 10.0), "boosting": (6.0,)}[family]
    found = task.forecast(Candidate(family, settings), TRAIN, DEV)
    assert np.mean((found - task.outcome[DEV]) ** 2) < 0.6 * task.outcome[DEV].var(axis=0).mean()


def test_judging_goes_forward():
    """What comes after a part changes nothing of that part's error."""
    task = problem()
    candidate = Candidate("ridge", (0.1,))
    before = forward_error(task, candidate, TRAIN, DEV, parts=5)
    parts = np.array_split(TRAIN, 5)
    first = task.forecast(candidate, np.concatenate(parts[:2]), parts[2])
    task.outcome[DEV] += 5.0
    after = forward_error(task, candidate, TRAIN, DEV, parts=5)
    assert after.dev_error > before.dev_error + 10
    np.testing.assert_array_equal(
        first, task.forecast(candidate, np.concatenate(parts[:2]), parts[2])
    )


def test_train_rows_are_forecast_out_of_fold():
    """A train row's own outcome does not move its forecast."""
    task = problem()
    others = np.arange(200, 260)
    before = out_of_fold(task, Candidate("ridge", (0.1,)), TRAIN, others, parts=5)
    task.outcome[7] += 3.0
    after = out_of_fold(task, Candidate("ridge", (0.1,)), TRAIN, others, parts=5)
    np.testing.assert_array_equal(before[7], after[7])
    assert not np.array_equal(before[150], after[150])
    assert np.isfinite(after).all()


def test_har_is_chosen_by_dev_and_the_rest_going_forward():
    """The best of all comes first."""
    judged = [
        Judged(Candidate("har", (1.0,)), 0.3, 0.1),
        Judged(Candidate("har", (2.0,)), 0.2, 0.2),
        Judged(Candidate("ridge", (1.0,)), 0.25, 0.3),
        Judged(Candidate("ridge", (2.0,)), 0.26, 0.1),
    ]
    best = best_of_families(judged)
    assert [j.candidate for j in best] == [Candidate("ridge", (1.0,)), Candidate("har", (1.0,))]


def test_the_protocol_has_what_the_benchmark_promises():
    """Five seeds, every family, both plans; a quick run has fewer."""
    plan = read_plan(CONFIG, quick=False)
    families = {c.family for c in candidates(plan.price_models)}
    assert families == {"har", "ridge", "panel ridge", "kernel ridge", "boosting"}
    assert set(plan.mean_of) <= families
    assert len(plan.seeds) >= 5
    assert len(plan.text["cuda"].seeds) >= 5
    assert set(plan.text["cuda"].methods) == {"lora", "full"}
    assert plan.text["cuda"].method("lora").rank == 8
    quick = read_plan(CONFIG, quick=True)
    assert quick.text["cpu"].epochs == 1
    assert len(candidates(quick.price_models)) == len(families)


def test_every_label_and_base_has_scores_of_its_own():
    """The columns of a text model's outputs do not overlap."""
    slices = [signal_columns(label, base) for label in LABELS for base in BASES]
    columns = [i for part in slices for i in range(part.start, part.stop)]
    assert sorted(columns) == list(range(24))


def test_few_passages_are_spread_over_the_call():
    """First and last are among them; a short call is read whole."""
    call = [[i] for i in range(100)]
    assert few_passages(call, 3) == [[0], [50], [99]]
    assert few_passages(call, None) is call
    assert few_passages(call[:2], 8) == [[0], [1]]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_backbone(make_tiny_bert(tmp_path_factory.mktemp("models") / "tiny"))


def spoken(base, n=96):
    """Calls whose words say the first target; the second is missing in some rows."""
    rng = np.random.default_rng(0)
    risky = rng.random(n) < 0.5
    words = ["risk debt loss" if r else "growth profit sales" for r in risky]
    tokens = [base.tokenizer([f"{w} {w}", f"we {w}"])["input_ids"] for w in words]
    targets = np.column_stack([np.where(risky, 0.4, -0.4), np.where(risky, 0.2, -0.2)])
    targets[:4, 1] = np.nan
    rows = np.arange(n)
    return TrainingCalls(tokens, targets, rows[:60], rows[60:78], rows[78:])


@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_words_say_is_learnt_in_the_targets_unit(base, method):
    """Test signals follow the targets; train rows get none; shuffled transcripts say nothing."""
    calls = spoken(base)
    rate = PLAN.learning_rates[method][0]
    run = run_text_cell(TextCell("MAEC-15", method, 0, rate), calls, base, PLAN, "cpu")
    assert np.isnan(run.signals[calls.train]).all()
    for column in range(2):
        signal, target = run.signals[calls.test, column], calls.targets[calls.test, column]
        assert np.corrcoef(signal, target)[0, 1] > 0.9
        assert 0.3 < np.polyfit(signal, target, 1)[0] < 3
    assert run.n_steps == 5 * 8
    control = run_text_cell(TextCell("MAEC-15", method, 0, rate, True), calls, base, PLAN, "cpu")
    assert (
        abs(np.corrcoef(control.signals[calls.test, 0], calls.targets[calls.test, 0])[0, 1]) < 0.6
    )


def test_a_journal_gives_runs_back_to_the_same_plan_alone(tmp_path):
    """Signals come back to the bit, NaN included."""
    signals = np.array([[0.1, np.nan], [1 / 3, 2.0]])
    run = TextRun(TextCell("MAEC-15", "lora", 0, 1e-3), signals, (0.1, 0.2), 3.0, 10, 20)
    path = tmp_path / "journal.jsonl"
    RunJournal(path, "one").add(run)
    read = RunJournal(path, "one").read()[run.cell]
    np.testing.assert_array_equal(read.signals, signals)
    assert (read.cell, read.dev_correlation) == (run.cell, run.dev_correlation)
    assert RunJournal(path, "two").read() == {}
    assert RunJournal(None, "one").read() == {}


def test_every_learning_rate_is_tried_with_the_first_seed():
    """One group for each set and method."""
    plan = replace(PLAN, learning_rates={"lora": [1e-3, 1e-4], "full": [1e-4]}, seeds=[3, 4])
    groups = plan_cells(["MAEC-15", "MAEC-16"], plan)
    assert [len(group) for group in groups] == [2, 1, 2, 1]
    assert {cell.seed for group in groups for cell in group} == {3}


def test_a_better_forecast_recognises_the_event_better():
    """Its area is larger, and its gain over the other stands in the rows."""
    rng = np.random.default_rng(0)
    n = 600
    outcome = rng.normal(-4, 0.4, (n, 4))
    split = np.repeat(["train", "dev", "test"], 200)
    calls = SimpleNamespace(
        dataset="MAEC-15",
        labels={"reaction": outcome},
        ticker=(np.arange(n) // 2).astype(str),
        rows=lambda name, label: np.flatnonzero(split == name),
    )
    sets = [SimpleNamespace(calls=calls)]
    made = {
        name: event_forecasts(
            name, "ours", sets, [[outcome + rng.normal(0, noise, (n, 4))]], quantile=0.8
        )
        for name, noise in (("noisy", 1.0), ("linked", 0.1))
    }
    rows = {(r.name, r.metric): r for r in event_rows(list(made.values()), made["linked"])}
    assert rows["linked", "event AUC"].value > 0.95 > rows["noisy", "event AUC"].value
    assert rows["linked minus noisy", "event AUC difference"].low > 0
    assert relative_gain(made["linked"], made["noisy"]) > 0
