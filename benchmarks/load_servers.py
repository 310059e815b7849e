"""The two servers that `serving.load` compares: `tandem serve`, and BentoML beside it."""

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

__all__ = ["LoadedServer", "resident_bytes", "serve_peer", "serve_tandem"]

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
def serve_tandem(home: Path, *, batch: int) -> Iterator[LoadedServer]:
    """Runs `tandem serve` inside the block.

    Args:
        home: An empty folder for keys, audit log and cache.
        batch: Most tasks in one call of the model.
    """
    key = KeyStore(home / "keys.json").add("load", "analyst", rate_per_s=1e6)
    port = _free_port()
    environment = {
        **os.environ,
        "TANDEM_HOME": str(home),
        "TANDEM_PORT": str(port),
        "TANDEM_GRPC_PORT": str(_free_port()),
        "TANDEM_BATCH": str(batch),
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
def serve_peer(python: str, folder: Path, settings: Mapping[str, Any]) -> Iterator[LoadedServer]:
    """Runs BentoML inside the block.

    Args:
        python: Interpreter of an environment with bentoml, torch and transformers.
        folder: An empty folder for its log.
        settings: What `bentoml_peer.py` reads.
    """
    port = _free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "TANDEM_PEER": json.dumps(dict(settings)),
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(folder / "bentoml"),
        "HF_HUB_OFFLINE": "1",
    }
    script = Path(__file__).with_name("bentoml_peer.py")
    command = [python, "-m", "bentoml", "serve", f"{script.stem}:Encoder"]
    command += ["--working-dir", str(script.parent), "--host", "127.0.0.1", "--port", str(port)]
    with _running(command, environment, folder / "peer.txt") as process:
        _wait(process, port, "/readyz", folder / "peer.txt")
        yield LoadedServer(
            process.pid,
            port,
            "/embed",
            {"Content-Type": "application/json"},
            json.dumps({"texts": ["{text}"]}),
        )


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
