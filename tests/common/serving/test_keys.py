"""Keys are kept as digests, in a file that only its owner reads, and end when revoked."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import AuthenticationError, InputError, StoreError, UnknownNameError
from common.serving.keys import KeyStore

ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(tmp_path):
    return KeyStore(tmp_path / "keys" / "keys.json")


def test_a_key_is_known_by_its_digest_alone(store, tmp_path):
    key = store.add("risk-desk", "analyst", rate_per_s=5, body_bytes=1000)
    path = tmp_path / "keys" / "keys.json"
    assert key.rsplit(".", 1)[1] not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    record = store.authenticate(key)
    assert (record.key_id, record.role, record.rate_per_s, record.body_bytes) == (
        "risk-desk",
        "analyst",
        5,
        1000,
    )


def test_each_key_is_another(store):
    keys = {store.add(f"k{i}", "admin") for i in range(20)}
    assert len({key.rsplit(".", 1)[1] for key in keys}) == 20
    assert [record.key_id for record in store.list()] == sorted(f"k{i}" for i in range(20))


@pytest.mark.parametrize(
    "change",
    [
        lambda key: "",
        lambda key: key[:-1],
        lambda key: key[:-1] + ("A" if key[-1] != "A" else "B"),
        lambda key: key.replace("risk-desk", "other"),
        lambda key: key.upper(),
        lambda key: key + "\n",
        lambda key: "tandem.risk-desk." + "é" * 43,
        lambda key: "tandem.risk-desk.\ud800",
        lambda key: "x" * 100_000,
    ],
)
def test_any_other_key_is_refused_without_being_repeated(store, change):
    key = store.add("risk-desk", "analyst")
    with pytest.raises(AuthenticationError) as refused:
        store.authenticate(change(key))
    assert "risk-desk" not in str(refused.value)
    assert key.rsplit(".", 1)[1] not in str(refused.value)


def test_a_revoked_key_is_refused_and_its_id_stays_taken(store):
    key = store.add("desk", "admin")
    assert store
    store.revoke("desk")
    with pytest.raises(AuthenticationError):
        store.authenticate(key)
    assert not store
    with pytest.raises(InputError, match="taken"):
        store.add("desk", "admin")
    with pytest.raises(UnknownNameError):
        store.revoke("nobody")


def test_a_change_by_another_process_is_seen_by_the_next_request(store, tmp_path):
    key = store.add("desk", "admin")
    store.authenticate(key)
    program = (
        "import sys, pathlib; from common.serving.keys import KeyStore;"
        "KeyStore(pathlib.Path(sys.argv[1])).revoke('desk')"
    )
    path = tmp_path / "keys" / "keys.json"
    subprocess.run([sys.executable, "-c", program, str(path)], cwd=ROOT, check=True)
    with pytest.raises(AuthenticationError):
        store.authenticate(key)


@pytest.mark.parametrize("key_id", ["", "../x", "A", "a b", "a.b", "-a", "a" * 65, "é"])
def test_an_id_that_is_not_plain_is_refused(store, key_id):
    with pytest.raises(InputError, match="an id"):
        store.add(key_id, "analyst")
    assert store.list() == ()


@pytest.mark.parametrize(
    ("role", "limits"), [("root", {}), ("admin", {"rate_per_s": 0}), ("admin", {"body_bytes": 0})]
)
def test_a_role_or_limit_that_is_none_is_refused(store, role, limits):
    with pytest.raises(InputError):
        store.add("desk", role, **limits)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"format": 2, "keys": []}', '{"format": 1, "keys": [{"a": 1}]}']
)
def test_a_file_that_is_none_makes_no_key_good(tmp_path, text):
    path = tmp_path / "keys.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(StoreError):
        KeyStore(path).authenticate("tandem.a." + "A" * 43)


def test_a_file_that_others_can_read_is_refused(store, tmp_path):
    key = store.add("desk", "admin")
    path = tmp_path / "keys" / "keys.json"
    path.chmod(0o644)
    with pytest.raises(StoreError, match="others"):
        KeyStore(path).authenticate(key)
    assert json.loads(path.read_text())["format"] == 1
