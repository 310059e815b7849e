"""Several processes train as one would, and none of them outlives the run."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from common.adapters.methods import Bottleneck, Full, LoRA, Prefix
from common.errors import InputError, TuningError
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


class TestProcesses:
    """They meet, agree, and end with the run, however it ends."""

    def test_what_ranks_agree_on_is_the_same_for_all(self, tmp_path):
        """Totals are sums over ranks; a text is the first one's."""
        found = run_distributed(Report(str(tmp_path)), n_processes=2, device="cpu")
        assert found["totals"] == [2.0, 1.0]
        assert found["nothing"] == []
        assert found["agreed"] == ["ränk 0", ""]
        assert found["threads"] == max(1, torch.get_num_threads() // 2)
        _require_gone(tmp_path, 2)

    def test_an_exception_ends_all_and_tells_where_it_was(self, tmp_path):
        """The error names kind and rank; its note has the rank's traceback."""
        error = _fails(tmp_path, "raise", rank=1)
        assert error.found == "ValueError on rank 1"
        assert "row 3 is odd" in error.__notes__[0]
        assert "rank_jobs.py" in error.__notes__[0]

    def test_an_error_of_ours_comes_back_as_it_is(self, tmp_path):
        """An InputError on rank 1 is an InputError for the caller."""
        with pytest.raises(InputError) as caught:
            run_distributed(Report(str(tmp_path), "input_error"), n_processes=2, device="cpu")
        assert caught.value.remedy == "Do c."
        assert caught.value.__notes__[0].startswith("On rank 1 of 2")
        _require_gone(tmp_path, 2)

    @pytest.mark.parametrize("rank", [0, 1])
    def test_a_killed_rank_ends_all(self, tmp_path, rank):
        """As the kernel kills when memory runs out."""
        error = _fails(tmp_path, "kill", rank=rank)
        assert error.found == f"that rank {rank} was ended by SIGKILL"
        assert "out of memory" in error.remedy

    def test_a_rank_that_leaves_ends_all(self, tmp_path):
        """A library that calls exit is no good end."""
        assert _fails(tmp_path, "exit", rank=0).found == "that rank 0 left with code 7"

    @pytest.mark.parametrize("action", ["hang", "stop"])
    def test_a_rank_that_no_longer_answers_ends_all_after_the_timeout(self, tmp_path, action):
        """Also one that the system has stopped, which no ordinary signal ends."""
        error = _fails(tmp_path, action, rank=1)
        assert error.found == "none from rank 1"
        assert "within 4 s" in error.expected

    @pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
    def test_no_rank_outlives_its_caller(self, tmp_path, signal_number):
        """Ctrl-C, and a caller that is killed and can clean up nothing."""
        caller = _start_script(
            "from common.tuning.distributed import run_distributed\n"
            "from tests.common.tuning.rank_jobs import Report\n"
            f"run_distributed(Report({str(tmp_path)!r}, 'hang'), n_processes=2, device='cpu')\n",
            tmp_path,
        )
        _wait_for(lambda: len(list(tmp_path.glob("?.json"))) == 2)
        caller.send_signal(signal_number)
        _, errors = caller.communicate(timeout=20)
        assert caller.returncode != 0
        assert ("KeyboardInterrupt" in errors) == (signal_number == signal.SIGINT)
        _wait_for(lambda: not _alive(tmp_path))


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
        assert _pids(tmp_path) == [os.getpid()]
        assert "one process, for this CPU" in caplog.text

    def test_torchrun_gives_the_ranks(self, models, tmp_path):
        """Both ranks report what one process learns."""
        text = _TORCHRUN.format(model=str(models["encoder"]), out=str(tmp_path))
        done = _run_torchrun(text, tmp_path)
        assert done.returncode == 0, done.stderr
        job = _job(models["encoder"], LoRA(rank=4))
        expected = _losses(fit_job(job, ALONE)).tolist()
        for rank in range(2):
            found = json.loads((tmp_path / f"losses-{rank}.json").read_text())
            assert found == pytest.approx(expected, abs=1e-5)

    def test_torchrun_ends_all_when_one_is_killed(self, tmp_path):
        """Its agent sees the signal, tells it, and ends the other."""
        done = _run_torchrun(_KILLED.format(folder=str(tmp_path)), tmp_path)
        assert done.returncode == 1
        assert "(exitcode: -9) local_rank: 1" in done.stderr
        _require_gone(tmp_path, 2)

    @pytest.mark.parametrize("way", ["file", "standard input"])
    def test_a_script_needs_no_guard_for_what_modules_define(self, tmp_path, way):
        """The ranks do not run it again: it prints once."""
        text = _PLAIN.format(folder=str(tmp_path))
        done = _run_script(text, tmp_path, stdin=way == "standard input")
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == ["started", "[2.0, 1.0]"]

    def test_a_script_with_a_job_of_its_own_needs_its_guard(self, tmp_path):
        """Without it the error names expected, found and remedy; there is no fork bomb."""
        done = _run_script(_OWN_JOB.format(guard="if True:"), tmp_path)
        assert done.returncode == 1
        last = done.stderr.split("TuningError: ")[-1]
        assert 'expected the script to start training under `if __name__ == "__main__":`' in last
        assert "found training that starts whenever the script is imported" in last
        guarded = _run_script(_OWN_JOB.format(guard='if __name__ == "__main__":'), tmp_path)
        assert guarded.stdout == "6.0\n", guarded.stderr

    def test_what_a_prompt_defines_cannot_be_imported(self, tmp_path):
        """Standard input stands for a notebook's cells: there is no file to import."""
        done = _run_script(_OWN_JOB.format(guard="if True:"), tmp_path, stdin=True)
        assert done.returncode == 1
        assert "found Job, defined in a notebook, at a prompt or on standard input" in done.stderr

    def test_a_job_that_cannot_be_carried_is_refused(self):
        """A lambda has no name to be imported by."""
        with pytest.raises(TuningError, match="that pickle can carry"):
            run_distributed(lambda ranks: ranks.rank, n_processes=2, device="cpu")

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
_PLAIN = """
print("started", flush=True)
from common.tuning.distributed import run_distributed
from tests.common.tuning.rank_jobs import Report
print(run_distributed(Report({folder!r}), n_processes=2, device="cpu")["totals"])
"""
_OWN_JOB = """
from dataclasses import dataclass
from common.tuning.distributed import run_distributed

@dataclass
class Job:
    factor: float
    def __call__(self, ranks):
        return ranks.total([self.factor])[0]

{guard}
    print(run_distributed(Job(3.0), n_processes=2, device="cpu"))
"""


def _fails(folder, action, *, rank):
    """Runs a job in which a rank fails; the error, once all processes are known to be gone."""
    began = time.monotonic()
    with pytest.raises(TuningError) as caught:
        run_distributed(
            Report(str(folder), action, rank), n_processes=2, device="cpu", timeout_s=4.0
        )
    assert time.monotonic() - began < 30
    _require_gone(folder, 2)
    return caught.value


def _pids(folder):
    return [json.loads(path.read_text())["pid"] for path in sorted(folder.glob("?.json"))]


def _alive(folder):
    return [pid for pid in _pids(folder) if Path(f"/proc/{pid}").exists()]


def _require_gone(folder, n_processes):
    assert len(_pids(folder)) == n_processes
    assert _alive(folder) == []


def _wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def _environment():
    search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"}


def _start_script(text, folder, *, stdin=False):
    script = folder / "script.py"
    script.write_text(text)
    return subprocess.Popen(
        [sys.executable, "-" if stdin else str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
    )


def _run_script(text, folder, *, stdin=False):
    process = _start_script(text, folder, stdin=stdin)
    output, errors = process.communicate(text if stdin else None, timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def _run_torchrun(text, folder):
    script = folder / "script.py"
    script.write_text(text)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*launcher, "--nproc-per-node", "2", str(script)],
        env=_environment(),
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
