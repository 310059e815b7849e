"""The servers that `serving.load` compares: `tandem serve`, BentoML and Ray Serve."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from common.serving.keys import KeyStore

__all__ = ["LoadedServer", "cpu_seconds", "resident_bytes", "serve_peer", "serve_tandem"]

_ROOT = Path(__file__).parents[1]
_START_S = 120.0


@dataclass(frozen=True)
class LoadedServer:
    """A server that answers, and how it is asked for one embedding.

    Args:
        pid: Of its first process.
        port: On 127.0.0.1.
        path: Of the request.
        headers: Of the request.
        body: JSON with {text} where the text goes.
    """

    pid: int
    port: int
    path: str
    headers: Mapping[str, str]
    body: str


@contextmanager
def serve_tandem(home: Path, settings: Mapping[str, Any]) -> Iterator[LoadedServer]:
    """Runs `tandem serve` inside the block.

    Args:
        home: An empty folder for keys, audit log and cache.
        settings: TANDEM_ settings by name in lower case.
    """
    key = KeyStore(home / "keys.json").add("load", "analyst", rate_per_s=1e6)
    port = _free_port()
    environment = {
        **os.environ,
        "TANDEM_HOME": str(home),
        "TANDEM_PORT": str(port),
        "TANDEM_GRPC_PORT": str(_free_port()),
        **{f"TANDEM_{name.upper()}": str(value) for name, value in settings.items()},
    }
    command = [sys.executable, "-W", "ignore", "-m", "kits", "serve"]
    with _running(command, environment, home / "log.txt") as process:
        _wait(process, port, "/health/ready", home / "log.txt")
        yield LoadedServer(
            process.pid,
            port,
            "/v1/link/tasks",
            {"X-API-Key": key, "Content-Type": "application/json"},
            json.dumps({"type": "text", "text_prompt": "{text}"}),
        )


@contextmanager
def serve_peer(
    name: str, python: str, folder: Path, settings: Mapping[str, Any]
) -> Iterator[LoadedServer]:
    """Runs BentoML or Ray Serve inside the block.

    Args:
        name: "BentoML" or "Ray Serve".
        python: Interpreter of an environment with it, torch and transformers.
        folder: For its log and files.
        settings: What `bentoml_peer.py` or `ray_serve_peer.py` reads.
    """
    port, scripts = _free_port(), Path(__file__).parent
    environment = {
        **{key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        "TANDEM_PEER": json.dumps({**settings, "port": port}),
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(folder / "bentoml"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "HF_HUB_OFFLINE": "1",
    }
    if name == "BentoML":
        command = [python, "-m", "bentoml", "serve", "bentoml_peer:Encoder"]
        command += ["--working-dir", str(scripts), "--host", "127.0.0.1", "--port", str(port)]
        ready = "/readyz"
    else:
        command, ready = [python, str(scripts / "ray_serve_peer.py")], "/embed"
    log = folder / f"{name}.txt"
    with _running(command, environment, log) as process:
        _wait(process, port, ready, log)
        headers = {"Content-Type": "application/json"}
        body = json.dumps({"texts": ["{text}"]})
        yield LoadedServer(process.pid, port, "/embed", headers, body)


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time of a process and of all below it that still run (Linux, proc(5))."""
    parents, ticks = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            except OSError:  # it has ended meanwhile
                continue
            parents[int(folder.name)] = int(stat[1])
            ticks[int(folder.name)] = int(stat[11]) + int(stat[12])

    def of(root: int) -> int:
        below = [child for child, parent in parents.items() if parent == root]
        return ticks.get(root, 0) + sum(of(child) for child in below)

    return of(pid) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Returns the resident memory of one process (Linux, proc(5))."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("the process has ended")


@contextmanager
def _running(
    command: list[str], environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as written:
        process = subprocess.Popen(  # noqa: S603  # our own command
            command,
            cwd=_ROOT,
            env=dict(environment),
            stdout=written,
            stderr=written,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, path: str, log: Path) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except (OSError, HTTPException):
            time.sleep(0.2)
        finally:
            connection.close()
    raise RuntimeError(f"a server did not start: {log.read_text(encoding='utf-8')[-2000:]}")


def _free_port() -> int:
    with socket.socket() as drawn:
        drawn.bind(("127.0.0.1", 0))
        port: int = drawn.getsockname()[1]
        return port
