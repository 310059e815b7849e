"""Bytes that nobody would write give a value or a TandemError (ten minutes: see codec_fuzz.py)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.fuzz import codec_fuzz

ROOT = Path(__file__).parents[2]


def test_the_codec_withstands_ten_seconds() -> None:
    done = subprocess.run(
        [sys.executable, codec_fuzz.__file__, "--seconds", "10", "--seed", "7"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "no fault" in done.stdout


def test_the_fuzzer_reads_some_of_what_it_makes_and_every_kind() -> None:
    source = codec_fuzz.Mutation(3)
    outcomes = {codec_fuzz.check(source.next()) for _ in range(3000)}
    kinds = {f"read as {envelope.kind}" for envelope in codec_fuzz.seeds()}
    assert outcomes == kinds | {"refused", "read in the article's form"}


def test_the_same_seed_gives_the_same_bytes_however_much_was_made_before() -> None:
    first, second = codec_fuzz.Mutation(5), codec_fuzz.Mutation(5)
    made = [first.next() for _ in range(5000)]
    assert [second.next() for _ in range(5000)] == made


def test_a_fault_ends_the_run_and_shows_its_bytes(monkeypatch, capsys) -> None:
    def faulty(message: bytes, *, max_bytes: int) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(codec_fuzz.Envelope, "from_bytes", faulty)
    assert codec_fuzz.run_mutation(60, seed=1) == 1
    assert f"input 1 of seed 1: {codec_fuzz.Mutation(1).next().hex()}" in capsys.readouterr().out
