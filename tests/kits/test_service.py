"""`tandem serve` as its users run it: a process, a port, a key, a signal."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from common.errors import SettingsError
from common.serving.audit_chain import audit_files, verify_audit
from common.serving.keys import KeyStore
from common.settings import Settings
from kits.service import run_service

ROOT = Path(__file__).parents[2]
PATIENT = "Jane Doe, born 1970-01-01, coughs"
TASK = {
    "type": "multimodal",
    "text_prompt": PATIENT,
    "series": [101.2, 99.8, 97.1, 98.4, 96.0, 95.2],
    "parameters": {"horizon": 3},
}


@dataclass
class Served:
    """A server's process and how to reach it."""

    process: subprocess.Popen[bytes]
    home: Path
    port: int
    keys: dict[str, str]
    log: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def headers(self, role: str = "analyst") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[role]}"}


def free_port() -> int:
    with socket.socket() as drawn:
        drawn.bind(("127.0.0.1", 0))
        return drawn.getsockname()[1]


def start(home: Path, *, roles: tuple[str, ...], **settings: object) -> Served:
    store = KeyStore(home / "keys.json")
    keys = {role: store.add(role, role) for role in roles}
    port, log = free_port(), home / "stderr.txt"
    environment = {
        **os.environ,
        "TANDEM_HOME": str(home),
        "TANDEM_GRPC_PORT": str(free_port()),
        **{f"TANDEM_{name.upper()}": str(value) for name, value in settings.items()},
    }
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "kits", "serve", "--port", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=stderr,
            stderr=stderr,
        )
    return Served(process, home, port, keys, log)


def wait_until_ready(served: Served, client: httpx.Client) -> None:
    for _ in range(600):
        if served.process.poll() is not None:
            break
        try:
            if client.get("/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(served.log.read_text()[-3000:])


def end(served: Served) -> None:
    if served.process.poll() is None:
        served.process.kill()
    served.process.wait()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("serve")
    opened = start(home, roles=("analyst", "integrator", "admin"), body_bytes=100_000)
    try:
        with httpx.Client(base_url=opened.address) as client:
            wait_until_ready(opened, client)
        yield opened
    finally:
        end(opened)


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.address, timeout=60) as opened:
        yield opened


def test_one_task_gets_one_accountable_answer(served: Served, client: httpx.Client) -> None:
    response = client.post("/v1/link/tasks", json=TASK, headers=served.headers())
    assert response.status_code == 200
    parts = response.json()["parts"]
    assert parts["text"]["result"]["arrays"]["embedding"]["shape"] == [384]
    assert parts["series"]["result"]["arrays"]["forecast"]["shape"] == [3]
    assert len(parts["text"]["provenance"]["model_digest"]) == 64
    assert "server" not in response.headers


def test_the_models_of_both_kits_are_listed(served: Served, client: httpx.Client) -> None:
    listed = client.post("/v2/repository/index", headers=served.headers()).json()
    names = {one["name"] for one in listed if one["state"] == "READY"}
    assert names == {"ets", "maec-lora", "minilm", "naive", "nodule-net", "theta"}


def test_a_key_is_needed_and_ends_when_it_is_revoked(served: Served, client: httpx.Client) -> None:
    assert client.post("/v1/link/tasks", json=TASK).status_code == 401
    store = KeyStore(served.home / "keys.json")
    key = store.add("guest", "analyst")
    assert client.post("/v1/sessions", headers={"X-API-Key": key}).status_code == 201
    store.revoke("guest")
    assert client.post("/v1/sessions", headers={"X-API-Key": key}).status_code == 401


def test_an_oversize_body_is_refused_with_and_without_its_length(
    served: Served, client: httpx.Client
) -> None:
    headers = {**served.headers(), "Content-Type": "application/json"}
    large = b"x" * 200_000
    assert client.post("/v1/link/tasks", content=large, headers=headers).status_code == 413
    pieces = (large[:20_000] for _ in range(10))
    assert client.post("/v1/link/tasks", content=pieces, headers=headers).status_code == 413


def test_malformed_http_is_refused_by_the_server_itself(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as raw:
        raw.sendall(
            b"POST /v1/link/tasks HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"
        )
        assert raw.recv(100).startswith(b"HTTP/1.1 400")


def test_metrics_show_requests_models_and_memory(served: Served, client: httpx.Client) -> None:
    client.post("/v1/link/tasks", json=TASK, headers=served.headers())
    text = client.get("/metrics", headers=served.headers("integrator")).text
    assert 'tandem_requests_total{method="POST",route="/v1/link/tasks",status="200"}' in text
    assert 'tandem_model_answers_total{cached="yes",model="minilm"}' in text
    assert "process_resident_memory_bytes" in text


def test_nothing_of_a_payload_or_key_is_written_anywhere(
    served: Served, client: httpx.Client
) -> None:
    client.post("/v1/link/tasks", json=TASK, headers=served.headers())
    client.post("/v1/link/tasks", json={**TASK, "x": PATIENT}, headers=served.headers())
    client.get(f"/nowhere/{PATIENT}", headers=served.headers())
    time.sleep(1.2)  # the audit log is flushed each second
    written = served.log.read_bytes() + b"".join(
        path.read_bytes() for path in (served.home / "audit").iterdir()
    )
    assert b"Jane" not in written
    assert b"POST /v1/link/tasks" in written
    for key in served.keys.values():
        assert key.rsplit(".", 1)[1].encode() not in written
    assert verify_audit(served.home / "audit").faults == []


def test_the_finance_kit_assesses_a_call_and_keeps_the_result_for_its_key(
    served: Served, client: httpx.Client
) -> None:
    call = "We may not recover the cost of the plant in Springfield. Orders fell again. " * 12
    body = {"ticker": "ABC", "document": {"name": "call.txt", "text": call}}
    made = client.post("/v1/finance/assessments", json=body, headers=served.headers())
    assert made.status_code == 201, made.text
    assert made.json()["assessment"]["text"]["evidence"]
    page = client.get(made.json()["links"]["files"]["report.html"], headers=served.headers())
    assert "Springfield" in page.text
    assert client.delete(made.json()["links"]["job"], headers=served.headers()).status_code == 204
    assert list((served.home / "finance" / "jobs").iterdir()) == []
    time.sleep(1.2)  # the audit log is flushed each second
    written = served.log.read_bytes() + b"".join(
        path.read_bytes() for path in (served.home / "audit").iterdir()
    )
    assert b"Springfield" not in written
    assert b"/v1/finance/assessments/{job_id}/files/{name}" in written


def test_a_second_server_on_the_same_home_is_refused(served: Served) -> None:
    with pytest.raises(SettingsError, match="keys") as refused:
        run_service(Settings(home=served.home / "elsewhere"))
    assert "tandem keys add" in str(refused.value)
    environment = {**os.environ, "TANDEM_HOME": str(served.home)}
    done = subprocess.run(
        [sys.executable, "-m", "kits", "serve", "--port", str(free_port())],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "another that does" in done.stderr


def test_without_keys_only_loopback_is_served(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="loopback"):
        run_service(Settings(home=tmp_path, host="0.0.0.0"), insecure_local=True)  # noqa: S104
    with pytest.raises(SettingsError, match="at least one good API key"):
        run_service(Settings(home=tmp_path))


def open_requests(client: httpx.Client, served: Served) -> float:
    text = client.get("/metrics", headers=served.headers("integrator")).text
    found = re.search(r"^tandem_open_requests (\S+)$", text, re.M)
    assert found is not None
    return float(found[1])


def certificate(folder: Path) -> tuple[Path, Path]:
    paths = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-out", str(paths[0]), "-keyout", str(paths[1])),
        ],
        check=True,
        capture_output=True,
    )
    return paths


def test_sigterm_over_tls_finishes_what_is_open_and_turns_the_rest_away(
    tmp_path: Path, debian_tool: Callable[[str], str]
) -> None:
    debian_tool("openssl")
    chain, key = certificate(tmp_path)
    opened = start(
        tmp_path / "home",
        roles=("analyst", "integrator"),
        tls_certificate=chain,
        tls_key=key,
        drain_notice_s=3,
    )
    trusted = ssl.create_default_context(cafile=str(chain))
    headers = {**opened.headers(), "Content-Type": "application/json"}
    try:
        with httpx.Client(
            base_url=f"https://localhost:{opened.port}", verify=trusted, timeout=60
        ) as client:
            wait_until_ready(opened, client)
            body = json.dumps(TASK).encode()

            def in_two_halves() -> Iterator[bytes]:
                yield body[:10]
                while open_requests(client, opened) < 2:  # this one and the one that asks
                    time.sleep(0.01)
                os.kill(opened.process.pid, signal.SIGTERM)
                while client.get("/health/ready").status_code != 503:
                    time.sleep(0.01)
                turned_away = client.post("/v1/link/tasks", content=body, headers=headers)
                assert turned_away.status_code == 503
                assert int(turned_away.headers["retry-after"]) >= 1
                assert client.get("/health/live").status_code == 200
                yield body[10:]

            finished = client.post("/v1/link/tasks", content=in_two_halves(), headers=headers)
        assert finished.status_code == 200
        assert opened.process.wait(30) == 0
        assert verify_audit(opened.home / "audit").faults == []
        (log,) = audit_files(opened.home / "audit")
        records = [json.loads(line) for line in log.read_text().splitlines()]
        tasks = [one["status"] for one in records if one["action"].endswith("/tasks")]
        assert sorted(tasks) == [200]
        assert [one["status"] for one in records if one["key_id"] == "-"] == [503]
    finally:
        end(opened)
