"""Several processes train as one would, and none of them outlives the run."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
import torch

from common.adapters.methods import Bottleneck, Full, LoRA, Prefix
from common.errors import TuningError
from common.tuning.distributed import join_group, run_distributed
from common.tuning.fitting import Job, fit_job
from common.tuning.loop import OneProcess
from common.tuning.recipe import Recipe
from common.tuning.trainer import Trainer
from common.tuning.tuned import load_tuned
from tests.common.tuning.rank_jobs import (
    FitAll,
    Report,
    TwoPasses,
    Unlike,
    tiny_examples,
    with_checkpoints,
)
from tests.common.tuning.rank_programs import pids_of, require_gone, run_torchrun
from tests.tiny_models import make_tiny

ROOT = Path(__file__).parents[3]
ALONE = OneProcess(torch.device("cpu"))
METHODS = (
    LoRA(rank=4),
    Bottleneck(size=4),
    Prefix(n_virtual_tokens=3, zero_gate=True),
    Full(),
)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of an encoder without dropout, one with it, and a language model."""
    folder = tmp_path_factory.mktemp("models")
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return {
        "encoder": make_tiny("bert", folder / "encoder", **still),
        "dropout": make_tiny("bert", folder / "dropout"),
        "decoder": make_tiny("llama", folder / "decoder", tied=True),
    }


def _job(model, method, *, causal=False, n_rows=9, **settings):
    """9 rows in batches of 4: the last step has one row, so only one rank has any."""
    recipe = Recipe(
        method=method, precision="fp32", device="cpu", batch_size=4, learning_rate=1e-3, **settings
    )
    rows, held_out = tiny_examples(n_rows, causal=causal), tiny_examples(7, causal=causal)
    return Job(str(model), method, recipe, rows, held_out, epochs=3)


def _equality_jobs(models, method):
    """Classification and language model, whole shares and row by row with checkpointing."""
    jobs = {}
    for name in ("encoder", "decoder"):
        kind = {"causal": name == "decoder"}
        jobs[name] = _job(models[name], method, **kind)
        passes = {"gradient_checkpointing": True, "micro_batch_size": 1}
        jobs[f"{name} row by row"] = _job(models[name], method, **kind, **passes)
    return jobs


def _losses(outcome):
    return torch.tensor([record.loss for record in outcome.state.steps])


def _metrics(outcome):
    return [record.metrics for record in outcome.state.evaluations]


def _require_equal(one, several):
    torch.testing.assert_close(_losses(several), _losses(one), atol=1e-5, rtol=0)
    assert one.weights.keys() == several.weights.keys()
    for name, weight in one.weights.items():
        torch.testing.assert_close(several.weights[name], weight, atol=1e-5, rtol=0, msg=name)
    for found, expected in zip(_metrics(several), _metrics(one), strict=True):
        assert found == pytest.approx(expected, rel=1e-5)


class TestEquality:
    """Processes share a global batch: what is learned does not depend on their number."""

    @pytest.mark.parametrize("method", METHODS, ids=lambda method: method.kind)
    def test_two_processes_learn_what_one_does(self, models, method):
        """Losses, weights and metrics, for each task and way of passing."""
        jobs = _equality_jobs(models, method)
        shared = run_distributed(FitAll(tuple(jobs.values())), n_processes=2, device="cpu")
        for name, job, several in zip(jobs, jobs.values(), shared, strict=True):
            assert several.world_size == 2, name
            _require_equal(fit_job(job, ALONE), several)

    def test_three_processes_learn_what_one_does(self, models):
        """With batches of 4 over 3 processes, shares differ in every step."""
        jobs = (
            _job(models["encoder"], Full()),
            _job(models["decoder"], LoRA(rank=4), causal=True),
        )
        shared = run_distributed(FitAll(jobs), n_processes=3, device="cpu")
        for job, several in zip(jobs, shared, strict=True):
            _require_equal(fit_job(job, ALONE), several)

    def test_gradients_of_all_passes_are_shared_once(self):
        """(1 + 4) and (2 + 8), averaged; a parameter without a gradient has none."""
        found = run_distributed(TwoPasses(), n_processes=2, device="cpu")
        assert found == {"gradients": [7.5, 7.5], "unused": None}

    def test_processes_that_train_other_parameters_are_refused(self):
        """A mistake in starting them must not become a run that hangs or mixes them up."""
        with pytest.raises(TuningError, match="same trained parameters"):
            run_distributed(Unlike(), n_processes=2, device="cpu")


class TestResume:
    """Rank 0 writes checkpoints; all go on from them to the same bits."""

    @pytest.mark.parametrize(
        ("n_processes", "dies", "dies_at"),
        [(2, 0, 5), pytest.param(3, 2, 4, marks=pytest.mark.slow)],
    )
    def test_a_killed_run_resumed_equals_an_uninterrupted_one(
        self, models, tmp_path, n_processes, dies, dies_at
    ):
        """With dropout; the rank is killed in a wait after a checkpoint or best weights."""
        job = _job(models["dropout"], LoRA(rank=4, dropout=0.1))
        whole = with_checkpoints(job, tmp_path / "whole")
        broken = with_checkpoints(job, tmp_path / "broken")
        again = with_checkpoints(job, tmp_path / "broken", resume=True)
        (expected,) = run_distributed(FitAll((whole,)), n_processes=n_processes, device="cpu")
        with pytest.raises(TuningError, match=f"rank {dies} was ended by SIGKILL"):
            run_distributed(FitAll((broken,), dies, dies_at), n_processes=n_processes, device="cpu")
        written = len(list((tmp_path / "broken").glob("step-*")))
        (found,) = run_distributed(FitAll((again,)), n_processes=n_processes, device="cpu")
        assert written > 0
        assert torch.equal(_losses(found), _losses(expected))
        assert _metrics(found) == _metrics(expected)
        for name, weight in expected.weights.items():
            assert torch.equal(found.weights[name], weight), name

    def test_a_run_may_go_on_with_fewer_processes(self, models, tmp_path):
        """Two begin, one goes on; rounding apart, it ends as one alone would."""
        job = _job(models["encoder"], LoRA(rank=4))
        begun = with_checkpoints(job, tmp_path)
        with pytest.raises(TuningError, match="SIGKILL"):
            run_distributed(FitAll((begun,), 1, 5), n_processes=2, device="cpu")
        _require_equal(
            fit_job(job, ALONE), fit_job(with_checkpoints(job, tmp_path, resume=True), ALONE)
        )


class TestTrainer:
    """What the caller gets back is what one process would have given."""

    def test_a_spawned_fit_saves_and_predicts_as_one_process_does(self, models, tmp_path):
        """The folder, the report and the trainer itself; the run is only slower here."""
        rows = [
            {"text": text, "label": label}
            for text, label in zip(tiny_examples(9).texts, "abababbab", strict=True)
        ]
        found = {}
        two_processes = {"distributed_strategy": "ddp", "n_processes": 2}
        for name, shared in {"one": {}, "two": two_processes}.items():
            trainer = Trainer(
                models["encoder"],
                method=LoRA(rank=4),
                precision="fp32",
                learning_rate=1e-3,
                batch_size=4,
                device="cpu",
                **shared,
            )
            report = trainer.fit(rows, eval_dataset=rows, out=tmp_path / name)
            texts = [row["text"] for row in rows]
            found[name] = report, [row.values for row in trainer.predict(texts)]
            assert [
                row.values
                for row in load_tuned(tmp_path / name, model=models["encoder"]).predict(texts)
            ] == found[name][1]
        (one, predicted), (two, predicted_by_two) = found["one"], found["two"]
        assert (one.n_processes, two.n_processes) == (1, 2)
        assert one.best_value == pytest.approx(two.best_value, abs=1e-5)
        losses = [record.loss for record in one.history]
        assert [record.loss for record in two.history] == pytest.approx(losses, abs=1e-5)
        for a, b in zip(predicted, predicted_by_two, strict=True):
            assert a["label"] == b["label"]
            assert a["probability"] == pytest.approx(b["probability"], abs=1e-5)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_nccl_shares_what_one_gpu_computes(self, tmp_path):
        """One rank on one GPU: the backend's calls, not their sums over several."""
        device = torch.device("cuda", 0)
        meeting = f"file://{tmp_path / 'meeting'}"
        with join_group(0, 1, device=device, timeout_s=60, meeting=meeting) as ranks:
            assert ranks.total([1.5, 2.0]) == [1.5, 2.0]
            assert ranks.agree("ränk") == "ränk"
            ranks.wait()
            assert TwoPasses()(ranks) == {"gradients": [15.0, 15.0], "unused": None}
        assert not torch.distributed.is_initialized()


class TestStart:
    """However a run is started, it starts or says what is missing."""

    def test_one_device_means_one_process_and_says_so(self, tmp_path, caplog):
        """The job runs in this very process."""
        caplog.set_level(logging.INFO)
        run_distributed(Report(str(tmp_path)), device="cpu")
        assert pids_of(tmp_path) == [os.getpid()]
        assert "one process, for this CPU" in caplog.text

    def test_torchrun_gives_the_ranks(self, models, tmp_path):
        """Both ranks report what one process learns."""
        text = _TORCHRUN.format(model=str(models["encoder"]), out=str(tmp_path))
        done = run_torchrun(text, tmp_path)
        assert done.returncode == 0, done.stderr
        job = _job(models["encoder"], LoRA(rank=4))
        expected = _losses(fit_job(job, ALONE)).tolist()
        for rank in range(2):
            found = json.loads((tmp_path / f"losses-{rank}.json").read_text())
            assert found == pytest.approx(expected, abs=1e-5)

    def test_torchrun_ends_all_when_one_is_killed(self, tmp_path):
        """Its agent sees the signal, tells it, and ends the other."""
        done = run_torchrun(_KILLED.format(folder=str(tmp_path)), tmp_path)
        assert done.returncode == 1
        assert "(exitcode: -9) local_rank: 1" in done.stderr
        require_gone(tmp_path, 2)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"n_processes": 0}, "n_processes of at least 1; found 0"),
            ({"device": "tpu"}, 'device "cpu" or "cuda"; found \'tpu\''),
        ],
    )
    def test_settings_that_no_machine_can_meet_are_refused(self, settings, message):
        """Before anything is started."""
        with pytest.raises(TuningError, match=message):
            run_distributed(Unlike(), **settings)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
    def test_gpus_that_are_not_there_are_refused(self):
        """A process for each of two GPUs."""
        with pytest.raises(TuningError, match=r"GPU.*found 2"):
            run_distributed(Unlike(), n_processes=2, device="cuda")

    def test_half_of_torchruns_variables_are_refused(self, monkeypatch):
        """The message names those that are missing."""
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(TuningError, match="found no LOCAL_RANK, MASTER_ADDR, MASTER_PORT"):
            run_distributed(Unlike(), device="cpu")

    def test_another_number_than_torchruns_is_refused(self, monkeypatch):
        """Two settings for one thing must not contradict each other."""
        for name, value in _LAUNCHED.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(TuningError, match="the 2 processes of torchrun; found 3"):
            run_distributed(Unlike(), n_processes=3, device="cpu")


_LAUNCHED = {
    "RANK": "0",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "1",
}
_TORCHRUN = """
import json, os
from functools import partial
from pathlib import Path
from common.adapters.methods import LoRA
from common.tuning.distributed import run_distributed
from common.tuning.fitting import fit_job
from tests.common.tuning.test_distributed import _job

outcome = run_distributed(partial(fit_job, _job({model!r}, LoRA(rank=4))), device="cpu")
losses = [record.loss for record in outcome.state.steps]
Path({out!r}, "losses-" + os.environ["RANK"] + ".json").write_text(json.dumps(losses))
"""
_KILLED = """
from common.tuning.distributed import run_distributed
from tests.common.tuning.rank_jobs import Report
run_distributed(Report({folder!r}, "kill"), device="cpu")
"""
