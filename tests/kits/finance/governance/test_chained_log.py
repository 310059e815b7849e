"""Decisions are appended, never changed: any edit, removal or cut is found."""

from __future__ import annotations

import json
import multiprocessing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InputError, StoreError
from kits.finance.governance.chained_log import ChainedLog

NAME = "audit-000000000001.jsonl"


def filled(folder, n=4):
    log = ChainedLog(folder)
    for at in range(n):
        log.append(lambda _, at=at: {"event": "noted", "at": at})
    return log


def test_records_come_back_in_order(tmp_path):
    """With sequence numbers and the hash of the one before."""
    records = filled(tmp_path).records()
    assert [record["at"] for record in records] == [0, 1, 2, 3]
    assert [record["sequence"] for record in records] == [1, 2, 3, 4]
    assert records[2]["previous"] == records[1]["hash"]


def test_an_absent_log_is_an_empty_one(tmp_path):
    """Reading makes no folder."""
    assert ChainedLog(tmp_path / "log").records() == ()
    assert not (tmp_path / "log").exists()


def test_a_decision_that_raises_writes_nothing(tmp_path):
    """The log stands as before, and takes the next."""

    def refuse(records):
        raise InputError("x", expected="y", found="z", remedy="w")

    log = filled(tmp_path)
    with pytest.raises(InputError):
        log.append(refuse)
    assert len(log.records()) == 4
    assert log.append(lambda records: {"n": len(records)})["n"] == 4


@given(line=st.integers(0, 3), harm=st.sampled_from(["edit", "remove", "swap", "cut", "copy"]))
def test_whatever_is_done_to_it_is_found(tmp_path_factory, line, harm):
    """An edited, removed, moved, cut or repeated record; nothing can be appended then."""
    folder = tmp_path_factory.mktemp("log")
    log = filled(folder)
    lines = (folder / NAME).read_text().splitlines(keepends=True)
    if harm == "edit":
        lines[line] = lines[line].replace(f'"at":{line}', '"at":9')
    elif harm == "remove":
        del lines[line]
    elif harm == "swap":
        lines[line], lines[line - 1] = lines[line - 1], lines[line]
    elif harm == "cut":
        del lines[line:]
    else:
        lines.insert(line, lines[line])
    (folder / NAME).write_text("".join(lines))
    with pytest.raises(StoreError):
        log.records()
    with pytest.raises(StoreError):
        log.append(lambda _: {})


def test_a_line_torn_by_a_power_cut_is_cut_off(tmp_path):
    """It was never told to anybody as written."""
    log = filled(tmp_path)
    with (tmp_path / NAME).open("a") as file:
        file.write('{"at": 4, "eve')
    assert len(log.records()) == 4
    log.append(lambda _: {"event": "noted", "at": 5})
    assert [record["at"] for record in log.records()] == [0, 1, 2, 3, 5]


def test_a_head_that_lags_behind_is_no_fault(tmp_path):
    """A process may be killed between the record and the head."""
    log = filled(tmp_path)
    first = json.loads((tmp_path / NAME).read_text().splitlines()[0])
    head = {"format": 1, "sequence": 1, "hash": first["hash"]}
    (tmp_path / "head.json").write_text(json.dumps(head))
    assert len(log.records()) == 4
    (tmp_path / "head.json").unlink()
    with pytest.raises(StoreError, match=r"head\.json is gone"):
        log.records()


def test_processes_take_turns(tmp_path):
    """Every record of every process is there, in one chain."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        pool.starmap(_append, [(tmp_path, name) for name in ("a", "b")])
    assert (
        sorted(record["by"] for record in ChainedLog(tmp_path).records()) == ["a"] * 5 + ["b"] * 5
    )


def _append(folder, name):
    for _ in range(5):
        ChainedLog(folder).append(lambda _: {"by": name})
