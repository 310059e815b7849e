"""Ray is started for this process alone and leaves with it; a cluster is joined by its token."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from common.errors import SettingsError
from common.routing.ray_engine.session import RaySession, remove_abandoned

ROOT = Path(__file__).parents[4]
PROGRAMS = "tests.common.routing.ray_programs"
TOKEN = "0123456789abcdef" * 2  # of the test's own cluster


def run(program: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", PROGRAMS, program, str(folder)],
        cwd=ROOT,
        env={**without_ray(), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def without_ray() -> dict[str, str]:
    """The environment without what an engine of this process has put there."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("address", ["here", "ray://127.0.0.1:10001", "127.0.0.1:x", "host:99999"])
def test_what_is_no_address_is_refused_before_ray_is_asked(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", raising=False)
    with pytest.raises(SettingsError, match="a host and port"):
        RaySession(address, resources={})


def test_an_address_where_nobody_answers_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", raising=False)
    with pytest.raises(SettingsError, match="ConnectionRefusedError"):
        RaySession(f"127.0.0.1:{free_port()}", resources={})


def test_a_process_that_started_ray_for_itself_joins_no_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    with pytest.raises(SettingsError, match="from a new process"):
        RaySession("127.0.0.1:6379", resources={})


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_stays(tmp_path: Path) -> None:
    for name in ("tandem-ray-left", "tandem-ray-used", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lock").touch()
    (tmp_path / "tandem-ray-new").mkdir()  # whose lock is about to be made
    with (tmp_path / "tandem-ray-used" / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "other",
        "tandem-ray-new",
        "tandem-ray-used",
    }


@pytest.mark.slow
def test_a_program_that_ends_without_closing_leaves_nothing_behind(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with tempfile.TemporaryDirectory() as temporary:
        done = run("leave_without_closing", tmp_path, TMPDIR=temporary, HOME=str(home))
        assert (done.returncode, done.stdout) == (0, ""), done.stderr[-2000:]
        assert not list(Path(temporary).iterdir())
    children = (tmp_path / "children").read_text().split()
    assert len(children) > 4
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert not list(home.iterdir())  # Ray would put its token there


@pytest.mark.slow
def test_it_works_without_any_network_but_loopback(tmp_path: Path) -> None:
    program = f"{sys.executable} -m {PROGRAMS} leave_without_closing {tmp_path}"
    done = subprocess.run(
        ["unshare", "-rn", "bash", "-c", f"ip link set lo up && exec {program}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "children").exists()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A head and a worker machine, both here: one core each, a scanner at the worker."""
    port = free_port()
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    with ExitStack() as running:
        head = ("--head", f"--port={port}", "--include-dashboard=false")
        start(*head, env=environment, running=running)
        wait_for(port)
        worker = (f"--address=127.0.0.1:{port}", '--resources={"scanner": 1}')
        raylet = wait_for_raylet(start(*worker, env=environment, running=running))
        wait_for_resource("scanner", port, environment)
        yield {
            **environment,
            "TANDEM_RAY_ADDRESS": f"127.0.0.1:{port}",
            "WORKER_RAYLET": str(raylet),
        }


def start(*arguments: str, env: dict[str, str], running: ExitStack) -> subprocess.Popen[bytes]:
    ray = Path(sys.executable).with_name("ray")
    command = [str(ray), "start", "--block", "--num-cpus=1", "--disable-usage-stats", *arguments]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env={**without_ray(), **env}, stdout=quiet, stderr=quiet)
    running.callback(process.wait, 60)
    running.callback(process.terminate)
    return process


def wait_for(port: int) -> None:
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return


def wait_for_raylet(process: subprocess.Popen[bytes]) -> int:
    for _ in range(600):
        for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            if Path(f"/proc/{pid}/comm").read_text().strip() == "raylet":
                return int(pid)
        time.sleep(0.1)
    pytest.fail("the worker machine did not start")


def wait_for_resource(name: str, port: int, env: dict[str, str]) -> None:
    """Waits until the head knows the machine that has it: its process is there earlier."""
    ray = Path(sys.executable).with_name("ray")
    command = [str(ray), "status", f"--address=127.0.0.1:{port}"]
    for _ in range(60):
        told = subprocess.run(
            command, env={**without_ray(), **env}, capture_output=True, text=True, check=False
        )
        if name in told.stdout:
            return
        time.sleep(0.2)
    pytest.fail(f"the cluster did not get {name}: {told.stdout[-500:]}{told.stderr[-500:]}")


@pytest.mark.slow
def test_a_machine_lost_in_the_middle_of_a_request_loses_nothing(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    done = run("lose_a_machine", tmp_path, **cluster)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == [
        "answers 0.0 2.0 4.0 6.0",
        "effects call0 call1 call2 call3",
    ]


@pytest.mark.slow
def test_a_model_runs_on_the_machine_that_has_what_it_needs(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    done = run("place_by_resource", tmp_path, **cluster)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("pid ")
    wrong = run("place_by_resource", tmp_path, **{**cluster, "RAY_AUTH_TOKEN": "f" * 32})
    assert wrong.returncode != 0
    assert "give every machine its token" in wrong.stderr
