"""The chain of audit records: how one is written, hashed, and found edited or gone.

A record is one line of JSON. Its `hash` is the sha256 of all its other members in canonical
form (sorted keys, no spaces), the previous record's hash among them. Files are named by
their first record, `audit-<sequence>.jsonl`; the chain runs on from file to file. `head.json`
names the last record known to be on the disk.

What is found: a record edited, removed, inserted or moved, a file gone, and a log cut
behind its head. What is not: records of the last moment before the head was written, and
a log rewritten from some record on together with its head, by somebody who can write both.
Against the latter, note heads elsewhere from time to time and give them to `verify_audit`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import MissingInputError, StoreError

__all__ = [
    "FIRST",
    "FORMAT",
    "AuditReport",
    "ChainPlace",
    "audit_files",
    "chained",
    "read_head",
    "verify_audit",
]

FORMAT = 1
_Wanted = list[tuple["ChainPlace", str]]
_NAME = re.compile(r"audit-(\d{12})\.jsonl")


@dataclass(frozen=True)
class ChainPlace:
    """A place in the chain.

    Args:
        sequence: Number of the record there, from 1.
        hash: Its hash.
    """

    sequence: int
    hash: str


FIRST = ChainPlace(0, "0" * 64)
"""The place before the first record."""


@dataclass
class AuditReport:
    """What a verification found.

    Attributes:
        n_records: Whole records read.
        last: The last of them; note it elsewhere to prove later that the log was not rewritten.
        faults: One sentence for each fault; empty where the chain is whole.
    """

    n_records: int = 0
    last: ChainPlace = FIRST
    faults: list[str] = field(default_factory=list)


def chained(members: Mapping[str, Any], before: ChainPlace) -> tuple[str, ChainPlace]:
    """Returns the line, without its end, of the record that follows `before`, and its place."""
    record = {"format": FORMAT, "sequence": before.sequence + 1, **members, "previous": before.hash}
    written = _canonical(record)
    place = ChainPlace(before.sequence + 1, hashlib.sha256(written.encode()).hexdigest())
    return f'{written[:-1]},"hash":"{place.hash}"}}', place


def audit_files(folder: Path) -> list[Path]:
    """Returns the log's files in the chain's order."""
    return sorted(path for path in folder.glob("audit-*.jsonl") if _NAME.fullmatch(path.name))


def read_head(folder: Path) -> ChainPlace | None:
    """Returns the last record known to be on the disk; None where no head was ever written.

    Raises:
        StoreError: The head cannot be read, or is of a later format.
    """
    path = folder / "head.json"
    if not path.exists():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["format"] == FORMAT:
            return ChainPlace(int(stored["sequence"]), str(stored["hash"]))
        found = "another format"
    except (ValueError, KeyError, TypeError) as error:
        found = f"a file that is none ({type(error).__name__})"
    raise StoreError(
        "head of the audit log",
        expected=f"format {FORMAT}",
        found=found,
        remedy="Restore it from a backup; it shows whether the log's end was cut off.",
    )


def verify_audit(folder: Path, *, noted: Sequence[ChainPlace] = ()) -> AuditReport:
    """Reads a whole log and returns what is wrong with it; a server may be writing to it.

    Args:
        folder: The log's folder.
        noted: Places noted earlier that the chain must pass through.

    Raises:
        MissingInputError: There is no log in the folder.
    """
    report = AuditReport()
    if not folder.is_dir() or not (audit_files(folder) or (folder / "head.json").exists()):
        raise MissingInputError(
            "audit log",
            expected="a folder with audit-<sequence>.jsonl",
            found="none",
            remedy="Give the folder that the server writes to (TANDEM_HOME/audit).",
        )
    wanted: _Wanted = [(place, "a noted record") for place in noted]
    try:
        head = read_head(folder)  # first: a running server moves it after it writes the log
    except StoreError as error:
        report.faults.append(str(error))
    else:
        if head is not None:
            wanted.append((head, "the head"))
        elif audit_files(folder):
            report.faults.append("head.json is gone: a cut at the log's end cannot be seen")
    for path in audit_files(folder):
        _check_file(path, report, wanted)
    report.faults += [
        f"the log ends at record {report.last.sequence} before {name}, record {place.sequence}"
        for place, name in wanted
        if place.sequence > report.last.sequence
    ]
    return report


def _check_file(path: Path, report: AuditReport, wanted: _Wanted) -> None:
    first = int(path.name[6:18])
    if first != report.last.sequence + 1:
        report.faults.append(
            f"{path.name} follows record {report.last.sequence}: files between are gone or moved"
        )
    for number, line in enumerate(_whole_lines(path), start=1):
        record = _parsed(line)
        if record is None:
            report.faults.append(f"{path.name} line {number} is no record")
            continue
        _check_record(record, f"{path.name} line {number}", report)
        report.faults += [
            f"record {place.sequence} is not {name}: it was changed"
            for place, name in wanted
            if place.sequence == report.last.sequence and place.hash != report.last.hash
        ]


def _check_record(record: Mapping[str, Any], where: str, report: AuditReport) -> None:
    before, sequence = report.last, record["sequence"]
    if _hash_of(record) != record["hash"]:
        report.faults.append(f"{where}: record {sequence} was edited")
    if sequence > before.sequence + 1:
        report.faults.append(
            f"{where}: records {before.sequence + 1} to {sequence - 1} were removed"
        )
    elif sequence <= before.sequence:
        report.faults.append(f"{where}: record {sequence} after {before.sequence}: moved")
    elif record["previous"] != before.hash:
        report.faults.append(f"{where}: record {sequence} does not follow the one before it")
    report.n_records += 1
    report.last = ChainPlace(sequence, record["hash"])


def _whole_lines(path: Path) -> Iterator[bytes]:
    """Yields the lines that end; the last may still be under way, or torn by a power cut."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(record, dict) and {"sequence", "previous", "hash"} <= record.keys()
    return record if whole and type(record["sequence"]) is int else None


def _hash_of(record: Mapping[str, Any]) -> str:
    members = {name: value for name, value in record.items() if name != "hash"}
    return hashlib.sha256(_canonical(members).encode()).hexdigest()


def _canonical(members: Mapping[str, Any]) -> str:
    return json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
