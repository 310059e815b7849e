"""The audit log is written in a chain, and whatever is done to it afterwards is found."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import MissingInputError, OverloadError, StoreError
from common.serving import audit as audit_module
from common.serving.audit import AuditEntry, AuditLog
from common.serving.audit_chain import ChainPlace, audit_files, verify_audit
from common.task import Provenance

ROOT = Path(__file__).parents[3]
MODEL = Provenance("minilm", "a" * 64, "b" * 64, adapter="maec", adapter_digest="c" * 64)


def entry(number: int) -> AuditEntry:
    return AuditEntry(f"{number + 1:032x}", "desk", "POST /v1/link/tasks", 200, (MODEL,), "d" * 64)


def written(folder: Path, n: int = 10, **options: int) -> Path:
    with AuditLog(folder, **options) as log:
        for number in range(n):
            log.record(entry(number))
    return folder


def lines_of(folder: Path) -> list[bytes]:
    return audit_files(folder)[-1].read_bytes().splitlines(keepends=True)


def rewrite(folder: Path, lines: list[bytes]) -> None:
    audit_files(folder)[-1].write_bytes(b"".join(lines))


def test_a_record_says_who_what_and_which_models(tmp_path):
    folder = written(tmp_path / "audit", 1)
    record = json.loads(lines_of(folder)[0])
    assert {name: record[name] for name in ("sequence", "key_id", "action", "status")} == {
        "sequence": 1,
        "key_id": "desk",
        "action": "POST /v1/link/tasks",
        "status": 200,
    }
    assert record["models"] == [
        {
            "model": "minilm",
            "digest": "a" * 64,
            "adapter": "maec",
            "adapter_digest": "c" * 64,
        }
    ]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_whole_log_has_no_faults_also_over_several_files_and_runs(tmp_path):
    folder = written(tmp_path, 30, file_bytes=3000)
    written(folder, 30, file_bytes=3000)
    report = verify_audit(folder)
    assert report.faults == []
    assert (report.n_records, report.last.sequence) == (60, 60)
    assert len(audit_files(folder)) > 5


def test_an_edited_record_is_found(tmp_path):
    folder = written(tmp_path)
    lines = lines_of(folder)
    lines[4] = lines[4].replace(b'"desk"', b'"disk"')
    rewrite(folder, lines)
    assert ["edited" in fault for fault in verify_audit(folder).faults] == [True]


def test_a_record_edited_with_its_hash_is_found_by_the_next(tmp_path):
    folder = written(tmp_path)
    lines = lines_of(folder)
    record = json.loads(lines[4])
    from common.serving.audit_chain import chained

    members = {
        name: value
        for name, value in record.items()
        if name not in {"format", "sequence", "previous", "hash"}
    }
    members["key_id"] = "disk"
    line, _ = chained(members, ChainPlace(record["sequence"] - 1, record["previous"]))
    lines[4] = line.encode() + b"\n"
    rewrite(folder, lines)
    (fault,) = verify_audit(folder).faults
    assert "record 6 does not follow" in fault


def test_a_removed_record_is_found(tmp_path):
    folder = written(tmp_path)
    lines = lines_of(folder)
    del lines[3:5]
    rewrite(folder, lines)
    (fault,) = verify_audit(folder).faults
    assert "records 4 to 5 were removed" in fault


def test_reordered_records_are_found(tmp_path):
    folder = written(tmp_path)
    lines = lines_of(folder)
    lines[3], lines[4] = lines[4], lines[3]
    rewrite(folder, lines)
    assert any("moved" in fault for fault in verify_audit(folder).faults)


def test_an_inserted_line_is_found(tmp_path):
    folder = written(tmp_path)
    lines = lines_of(folder)
    rewrite(folder, [*lines[:3], b"{}\n", *lines[3:5], lines[4], *lines[5:]])
    faults = verify_audit(folder).faults
    assert any("no record" in fault for fault in faults)
    assert any("moved" in fault for fault in faults)


@pytest.mark.parametrize("kept", [0, 1, 9])
def test_a_log_cut_at_its_end_is_found_and_not_written_on(tmp_path, kept):
    folder = written(tmp_path)
    rewrite(folder, lines_of(folder)[:kept])
    (fault,) = verify_audit(folder).faults
    assert f"ends at record {kept} before the head, record 10" in fault
    with pytest.raises(StoreError, match="cut off"):
        AuditLog(folder)


def test_a_file_that_is_gone_is_found(tmp_path):
    folder = written(tmp_path, 30, file_bytes=3000)
    audit_files(folder)[1].unlink()
    assert any("gone" in fault for fault in verify_audit(folder).faults)
    audit_files(folder)[0].unlink()
    assert any("gone" in fault for fault in verify_audit(folder).faults)


def test_a_head_that_is_gone_or_changed_is_found(tmp_path):
    folder = written(tmp_path)
    head = folder / "head.json"
    stored = json.loads(head.read_text())
    head.write_text(json.dumps({**stored, "hash": "0" * 64}))
    assert any("is not the head" in fault for fault in verify_audit(folder).faults)
    head.write_text("{}")
    assert any("head" in fault for fault in verify_audit(folder).faults)
    head.unlink()
    assert any("head.json is gone" in fault for fault in verify_audit(folder).faults)


def test_a_log_rewritten_with_its_head_is_found_by_a_head_noted_earlier(tmp_path):
    folder = written(tmp_path / "one")
    noted = verify_audit(folder).last
    forged = written(tmp_path / "two")
    assert verify_audit(forged).faults == []
    assert any("a noted record" in fault for fault in verify_audit(forged, noted=[noted]).faults)
    assert verify_audit(folder, noted=[noted]).faults == []
    later = ChainPlace(11, "e" * 64)
    assert any("before a noted record" in f for f in verify_audit(folder, noted=[later]).faults)


def test_a_folder_without_a_log_is_refused(tmp_path):
    with pytest.raises(MissingInputError):
        verify_audit(tmp_path)


def test_a_torn_last_line_is_cut_and_the_chain_goes_on(tmp_path):
    folder = written(tmp_path)
    lines = lines_of(folder)
    rewrite(folder, [*lines, b'{"action":"PO'])
    assert verify_audit(folder).faults == []
    written(folder, 2)
    report = verify_audit(folder)
    assert report.faults == []
    assert report.n_records == 13
    assert any(b"torn" in line for line in lines_of(folder))


def test_a_later_format_is_refused(tmp_path):
    folder = written(tmp_path)
    lines = lines_of(folder)
    rewrite(folder, [*lines[:-1], lines[-1].replace(b'"format":1', b'"format":2')])
    with pytest.raises(StoreError, match="another format"):
        AuditLog(folder)


def test_one_process_writes(tmp_path):
    with AuditLog(tmp_path), pytest.raises(StoreError, match="another"):
        AuditLog(tmp_path)
    AuditLog(tmp_path).close()


def test_no_request_is_taken_that_cannot_be_audited(tmp_path, monkeypatch):
    with AuditLog(tmp_path, capacity=3) as log:
        log.check_room()
        log.record(entry(0))
        log.flush()

        def refuse(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(log, "_append", refuse)
        log.record(entry(1))
        with pytest.raises(StoreError):
            log.flush()
        with pytest.raises(StoreError, match="No space left"):
            log.check_room()


def test_a_full_queue_turns_requests_away(tmp_path, monkeypatch):
    import threading

    held, release = threading.Event(), threading.Event()
    real = audit_module.chained

    def slow(*arguments):
        held.set()
        release.wait(10)
        return real(*arguments)

    monkeypatch.setattr(audit_module, "chained", slow)
    with AuditLog(tmp_path, capacity=2) as log:
        log.record(entry(0))
        assert held.wait(10)
        log.record(entry(1))
        log.record(entry(2))
        with pytest.raises(OverloadError):
            log.check_room()
        release.set()
        log.flush()
        log.check_room()
    assert verify_audit(tmp_path).n_records == 3


def test_a_killed_writer_leaves_a_whole_chain(tmp_path):
    program = (
        "import sys, pathlib; from common.serving.audit import AuditEntry, AuditLog;"
        "log = AuditLog(pathlib.Path(sys.argv[1]), flush_s=0.01)\n"
        "for n in range(10**9):\n"
        "    log.record(AuditEntry(f'{n + 1:032x}', 'desk', 'GET /', 200))\n"
        "    if n % 100 == 0: log.flush(); print(n, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    flushed = 0
    for line in process.stdout:
        flushed = int(line)
        if flushed >= 500:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    assert verify_audit(tmp_path).faults == []
    written(tmp_path, 3)
    report = verify_audit(tmp_path)
    assert report.faults == []
    assert report.n_records >= flushed + 3
