"""The Ray engine answers as the local one does, and loses nothing when a worker dies.

One Ray with two replicas serves the whole file.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from common.errors import (
    BackboneError,
    DeadlineError,
    ModelError,
    OverloadError,
    SettingsError,
    TaskError,
)
from common.models.base import Model
from common.models.catalogue import open_model
from common.request import RequestContext, new_request
from common.routing.engine import Call, LocalEngine
from common.routing.engines import open_engine
from common.routing.ray_engine.engine import Placement, RayEngine
from common.routing.ray_engine.process_tree import children_of
from common.settings import Settings
from common.task import Result, Series, Task, Tensor, Text
from tests.common.routing.ray_models import (
    Doubler,
    Dying,
    Facts,
    Gated,
    Raising,
    RaisingUnportable,
    Uncopied,
    UnportableError,
    a_task,
)
from tests.tiny_bert import make_tiny_bert

LONGEST_S = 20.0
_keys = itertools.count()


def call(
    model: Model, *tasks: Task, request: RequestContext | None = None, key: str | None = None
) -> Call:
    wanted = request or new_request(timeout_s=LONGEST_S)  # a test that fails ends, too
    return Call(model, tasks or (a_task(),), wanted, key or f"k{next(_keys)}")


def until(seen: Callable[[], object]) -> None:
    """Waits until something that is going to happen has happened."""
    end_s = time.monotonic() + LONGEST_S
    while not seen():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def begun(folder: Path) -> dict[str, list[int]]:
    """Processes that have begun to answer, by idempotency key."""
    found: dict[str, list[int]] = {}
    for path in folder.glob("begun-*"):
        _, key, pid = path.name.split("-")
        found.setdefault(key, []).append(int(pid))
    return found


def answers(future: Future[list[Result]]) -> list[Result]:
    return future.result(timeout=LONGEST_S)


@pytest.fixture(scope="module")
def engine() -> Iterator[RayEngine]:
    """Two replicas; other models have placements of their own."""
    at_sigterm = signal.getsignal(signal.SIGTERM)
    processes = set(descendants(os.getpid()))
    placements = {
        "with a scanner": Placement(cpus=2, resources={"scanner": 1}),
        "too large": Placement(gpus=1000),
    }
    with RayEngine(replicas=2, queue=4, models=2, placements=placements, patience_s=1.0) as engine:
        assert signal.getsignal(signal.SIGTERM) is at_sigterm
        yield engine
    assert set(descendants(os.getpid())) == processes
    assert engine.folder is not None
    assert not engine.folder.exists()
    with pytest.raises(OverloadError, match="closing"):
        engine.submit(call(Doubler()))


def alive(engine: RayEngine, placement: Placement = Placement()) -> list[int]:  # noqa: B008  # frozen
    """Processes of the replicas that stand ready or work."""
    replicas = engine.health()[placement]
    return [one.pid for one in replicas if one.state in {"idle", "running"} and one.pid]


def same(one: Result, other: Result) -> bool:
    assert dict(one.values) == dict(other.values)
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        assert array.dtype == other.arrays[name].dtype
        np.testing.assert_array_equal(array, other.arrays[name])
    return True


class TestAnswers:
    def test_a_named_model_answers_as_on_the_local_engine(
        self, engine: RayEngine, tmp_path: Path
    ) -> None:
        model = open_model(make_tiny_bert(tmp_path / "tiny"), "text")
        tasks = tuple(Task({"t": Text(text)}) for text in ("the bank", "risk grew"))
        with LocalEngine() as local:
            here = answers(local.submit(call(model, *tasks)))
        there = answers(engine.submit(call(model, *tasks)))
        assert len(here) == len(there)
        assert all(map(same, here, there))

    def test_a_model_opened_in_replicas_only_answers_as_the_local_one(
        self, engine: RayEngine
    ) -> None:
        task = Task({"s": Series(np.array([1.0, 2.0, 5.0]))}, {"horizon": 2})
        deferred = engine.open("naive", "series")
        (here,) = open_model("naive", "series").predict([task])
        (there,) = answers(engine.submit(call(deferred, task)))
        assert same(here, there)

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint8, np.int64])
    def test_a_shipped_model_answers_in_exact_types(self, engine: RayEngine, dtype: type) -> None:
        values = np.arange(40_000).astype(dtype).reshape(2, -1)
        (result,) = answers(engine.submit(call(Doubler(), Task({"x": Tensor(values)}))))
        assert result.arrays["doubled"].dtype == dtype
        np.testing.assert_array_equal(result.arrays["doubled"], (values * 2).astype(dtype))
        assert not result.arrays["doubled"].flags.writeable


class TestDeath:
    def test_a_worker_killed_in_the_middle_of_a_request_loses_nothing(
        self, engine: RayEngine, tmp_path: Path
    ) -> None:
        model = Gated(tmp_path)
        futures = {
            f"call{i}": engine.submit(call(model, a_task(i), key=f"call{i}")) for i in range(6)
        }
        until(lambda: len(begun(tmp_path)) == 2)
        (victim_key, (pid,)), _ = begun(tmp_path).items()
        os.kill(pid, signal.SIGKILL)
        until(lambda: len(begun(tmp_path)[victim_key]) == 2)  # begun again, elsewhere
        (tmp_path / "open").touch()
        for i, future in enumerate(futures.values()):
            assert answers(future)[0].arrays["doubled"].tolist() == [2.0 * i] * 3
        effects = (tmp_path / "effects").read_text().split()
        assert sorted(effects) == sorted(futures)  # each once, the one begun twice too
        until(lambda: len(alive(engine)) == 2)
        assert pid not in alive(engine)

    def test_a_worker_killed_while_idle_is_replaced_before_it_costs_a_call(
        self, engine: RayEngine
    ) -> None:
        for pid in alive(engine):
            os.kill(pid, signal.SIGKILL)
        time.sleep(1.1)  # longer than a silence that counts as being there
        futures = [engine.submit(call(Doubler(), a_task(i))) for i in range(4)]
        assert [float(answers(f)[0].arrays["doubled"][0]) for f in futures] == [0, 2, 4, 6]

    def test_a_call_that_kills_every_replica_fails_in_the_end(self, engine: RayEngine) -> None:
        with pytest.raises(ModelError, match="found 3 that died meanwhile"):
            answers(engine.submit(call(Dying("dying"))))
        assert answers(engine.submit(call(Doubler())))


class TestDeadlines:
    def test_the_future_fails_at_the_deadline_and_the_model_sees_it(
        self, engine: RayEngine, tmp_path: Path
    ) -> None:
        future = engine.submit(
            call(Gated(tmp_path), request=new_request(timeout_s=1.0), key="late")
        )
        with pytest.raises(DeadlineError, match="deadline"):
            answers(future)
        if begun(tmp_path):
            until((tmp_path / "ended-late").exists)

    def test_giving_up_is_seen_inside_the_running_model(
        self, engine: RayEngine, tmp_path: Path
    ) -> None:
        request = new_request()
        future = engine.submit(call(Gated(tmp_path), request=request, key="left"))
        until(lambda: begun(tmp_path))
        request.give_up()
        with pytest.raises(DeadlineError, match="gave up"):
            answers(future)
        until((tmp_path / "ended-left").exists)

    def test_a_call_that_waits_is_given_up_at_once(self, engine: RayEngine, tmp_path: Path) -> None:
        running = [engine.submit(call(Gated(tmp_path))) for _ in range(2)]
        until(lambda: len(begun(tmp_path)) == 2)
        request = new_request()
        waiting = engine.submit(call(Gated(tmp_path), request=request, key="never"))
        request.give_up()
        with pytest.raises(DeadlineError, match="gave up"):
            answers(waiting)
        (tmp_path / "open").touch()
        assert all(map(answers, running))
        assert "never" not in begun(tmp_path)

    def test_a_model_that_does_not_listen_is_ended_with_its_replica(
        self, engine: RayEngine, tmp_path: Path
    ) -> None:
        request = new_request()
        future = engine.submit(
            call(Gated(tmp_path, "deaf", listens=False), request=request, key="deaf")
        )
        until(lambda: begun(tmp_path))
        ((pid,),) = begun(tmp_path).values()
        request.give_up()
        with pytest.raises(DeadlineError):
            answers(future)
        until(lambda: pid not in alive(engine) and len(alive(engine)) == 2)
        assert answers(engine.submit(call(Doubler())))


class TestRoom:
    def test_a_full_queue_refuses_at_once(self, engine: RayEngine, tmp_path: Path) -> None:
        model = Gated(tmp_path)
        taken = [engine.submit(call(model)) for _ in range(2)]
        until(lambda: len(begun(tmp_path)) == 2)
        taken += [engine.submit(call(model)) for _ in range(4)]
        load = engine.load()
        assert (load.running, load.waiting) == (2, 4)
        with pytest.raises(OverloadError, match="4 calls waiting") as refused:
            engine.submit(call(model))
        assert refused.value.retry_after_s > 0
        (tmp_path / "open").touch()
        assert all(map(answers, taken))

    def test_the_least_recently_used_model_makes_room(self, engine: RayEngine) -> None:
        for name in ("a", "b", "a", "c"):
            for _ in range(2):
                assert answers(engine.submit(call(Doubler(name))))
        replicas = engine.health()[Placement()]
        for one in replicas:
            assert len(one.open_models) <= 2
        opened = {identity.split()[0] for one in replicas for identity in one.open_models}
        assert "c" in opened
        (result,) = answers(engine.submit(call(Doubler("b"))))
        assert result.values["name"] == "b"

    def test_models_compute_with_the_cores_of_their_placement(self, engine: RayEngine) -> None:
        (result,) = answers(engine.submit(call(Facts("facts"))))
        assert result.values["torch"] == 1
        assert result.values["OMP_NUM_THREADS"] == "1"
        assert result.values["pid"] in alive(engine)

    def test_a_model_with_a_placement_of_its_own_runs_there(self, engine: RayEngine) -> None:
        (result,) = answers(engine.submit(call(Facts("with a scanner"))))
        there = Placement(cpus=2, resources={"scanner": 1})
        assert result.values["torch"] == 2
        assert result.values["pid"] in alive(engine, there)

    def test_a_placement_that_no_machine_holds_fails_its_calls(self, engine: RayEngine) -> None:
        with pytest.raises(ModelError, match=r"a machine with 1\.0 CPU, 1000 GPU"):
            answers(engine.submit(call(Doubler("too large"))))

    def test_a_second_engine_in_a_process_is_refused(self, engine: RayEngine) -> None:
        with pytest.raises(SettingsError, match="one engine in a process"):
            open_engine(Settings(engine="ray"))


class TestErrors:
    @pytest.mark.parametrize(
        "error",
        [
            TaskError("task", expected="a", found="b", remedy="C."),
            OverloadError("gpu", expected="a", found="b", remedy="C.", retry_after_s=7.0),
            ValueError("no such row", 3),
        ],
    )
    def test_the_models_error_comes_as_itself(self, engine: RayEngine, error: Exception) -> None:
        with pytest.raises(type(error)) as caught:
            answers(engine.submit(call(Raising(error))))
        assert type(caught.value) is type(error)
        assert caught.value.args == error.args
        assert vars(caught.value).keys() >= vars(error).keys()
        assert "in predict" in " ".join(caught.value.__notes__)

    def test_an_error_that_cannot_be_carried_is_named(self, engine: RayEngine) -> None:
        with pytest.raises(ModelError, match="UnportableError") as caught:
            answers(engine.submit(call(RaisingUnportable("unportable"))))
        assert "patient" not in str(caught.value)

    def test_a_model_that_cannot_be_copied_is_refused(self, engine: RayEngine) -> None:
        with pytest.raises(ModelError, match="by name or folder"):
            answers(engine.submit(call(Uncopied())))

    def test_a_model_whose_copy_cannot_be_read_is_named(self, engine: RayEngine) -> None:
        with pytest.raises(ModelError, match="a copy that it cannot"):
            answers(engine.submit(call(Raising(UnportableError(text="patient")))))

    def test_a_folder_that_is_gone_is_the_callers_to_hear(
        self, engine: RayEngine, tmp_path: Path
    ) -> None:
        with pytest.raises(BackboneError):
            engine.open(tmp_path / "nothing", "text")


def test_nothing_of_a_task_or_an_error_is_in_rays_files(engine: RayEngine) -> None:
    payload = "Frau-Mustermann-1957"
    with pytest.raises(ValueError, match=payload):
        answers(engine.submit(call(Raising(ValueError(payload)), Task({"t": Text(payload)}))))
    assert engine.folder is not None
    assert (engine.folder.stat().st_mode & 0o777) == 0o700
    files = [path for path in engine.folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if payload.encode() in path.read_bytes()]


def test_rays_ports_are_open_to_this_machine_only(engine: RayEngine) -> None:
    """The second is IPv4 loopback as IPv6 writes it."""
    ports = listening_addresses([os.getpid(), *descendants(os.getpid())])
    assert len(ports) > 4
    assert set(ports) <= {"0100007F", "0000000000000000FFFF00000100007F"}


def descendants(pid: int) -> list[int]:
    return [each for child in children_of(pid) for each in (child, *descendants(child))]


def listening_addresses(pids: list[int]) -> list[str]:
    """Hexadecimal addresses of the TCP ports that the processes listen on (proc_net_tcp)."""
    sockets = set()
    for link in (link for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir()):
        with suppress(FileNotFoundError):  # closed meanwhile
            sockets.add(link.readlink().name.partition("[")[2].rstrip("]"))
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return [row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[9] in sockets]
