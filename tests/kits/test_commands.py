"""Keys, audit and purge from the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.protocol.sessions.session import SessionStore
from common.serving.audit import AuditEntry, AuditLog
from common.serving.audit_chain import audit_files
from common.serving.keys import KeyStore
from common.settings import load_settings
from kits.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path))
    load_settings.cache_clear()
    yield tmp_path
    load_settings.cache_clear()


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["tandem", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return call


@pytest.mark.parametrize("verb", ["serve", "purge", "keys", "audit"])
def test_help_of_each_verb_answers(run: Run, verb: str) -> None:
    status, out, _ = run(verb, "--help")
    assert status == 0
    assert "Usage" in out


def test_a_key_is_shown_once_listed_without_it_and_revoked(run: Run, home: Path) -> None:
    status, out, _ = run("keys", "add", "risk-desk", "--role", "integrator", "--rate", "5")
    key = out.strip()
    assert status == 0
    store = KeyStore(home / "keys.json")
    assert store.authenticate(key).role == "integrator"
    _, listed, _ = run("keys", "list")
    assert "risk-desk  integrator" in listed
    assert "5 requests/s" in listed
    assert key not in listed
    assert run("keys", "revoke", "risk-desk")[0] == 0
    assert not store
    assert "revoked 2" in run("keys", "list")[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("keys", "add", "Bad Id"),
        ("keys", "add", "fine", "--role", "root"),
        ("keys", "revoke", "nobody"),
        ("audit", "verify"),
        ("audit", "verify", "--noted", "1"),
    ],
)
def test_unusable_input_ends_with_status_2(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments)[0] == 2


def test_a_log_is_verified_and_a_change_is_named(run: Run, home: Path) -> None:
    with AuditLog(home / "audit") as log:
        for number in range(3):
            log.record(AuditEntry(f"{number + 1:032x}", "desk", "GET /x", 200))
    status, out, _ = run("audit", "verify")
    assert status == 0
    assert "3 records, 0 faults" in out
    head = out.split("head ")[1].strip()
    assert run("audit", "verify", "--noted", head)[0] == 0
    (path,) = audit_files(home / "audit")
    path.write_bytes(path.read_bytes().replace(b"desk", b"disk", 1))
    status, _, err = run("audit", "verify", "--folder", home / "audit")
    assert status == 1
    assert "edited" in err


def test_purge_erases_what_is_old_and_leaves_the_audit_log(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with AuditLog(home / "audit") as log:
        log.record(AuditEntry("1" * 32, "desk", "GET /x", 200))
    old = SessionStore(home / "link" / "sessions.sqlite", clock=lambda: 0.0)
    old.create()
    old.close()
    status, out, _ = run("purge")
    assert status == 0
    assert "erased: 1 sessions" in out
    assert len(audit_files(home / "audit")) == 1
