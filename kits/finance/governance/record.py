"""The provenance record of an assessment: everything that is needed to make it again.

It names the inputs by their sha256 (and where they lay), the models, adapters and
coefficients by theirs, every setting, the software and the program's own text, the time,
and the digests of the files that came out. `digest` is the sha256 of all else in the record
as one JSON text, so an edited record is found. `kits.finance.replay` makes it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any

from common.content import json_text
from common.errors import InputError, MissingInputError, StoreError
from kits.finance.disclosures.language import LanguageReading
from kits.finance.governance.archive import Archive, FileStamp, file_sha256
from kits.finance.governance.surroundings import (
    code_digests,
    current_settings,
    current_software,
)
from kits.finance.risk.score import RiskAssessment
from kits.finance.tasks import LINKAGE_FILE

__all__ = [
    "RECORD_NAME",
    "InputFile",
    "ProvenanceRecord",
    "build_record",
    "read_record",
    "stamp_inputs",
]

RECORD_NAME = "record.json"

_FORMAT = 1

Stamps = Mapping[str, tuple[Path, FileStamp]]


@dataclass(frozen=True)
class InputFile:
    """A file that an assessment read.

    Args:
        role: "document" or "prices".
        name: Its file name.
        path: Where it lay, absolute.
        sha256: Of its bytes.
        content_digest: Of what was used of it: the price history up to the as-of date, or
            the whole document.
        archived: Whether a copy was kept by content.
    """

    role: str
    name: str
    path: str
    sha256: str
    content_digest: str
    archived: bool = False


@dataclass(frozen=True)
class ProvenanceRecord:
    """What went into an assessment and what came out; JSON values only.

    Args:
        ticker: As it was asked for.
        as_of: Last day whose data could be used, as it was asked for; None for the last price.
        inputs: The files that were read.
        models: As `Provenance.to_json`, one per model.
        coefficients: File name to sha256 of the coefficients that linked the models.
        settings: Module to its constants, and the defaults of the forecasts.
        software: Package to version; Python and the machine among them.
        code: Folder of the program to the sha256 of its text.
        passage_scores: `[start, end, score]` of each passage that the text model read.
        overrides: The manual overrides that were shown.
        run: Time, duration and cache counts.
        outputs: File name to sha256.
    """

    ticker: str
    as_of: str | None
    inputs: tuple[InputFile, ...]
    models: tuple[Mapping[str, Any], ...]
    coefficients: Mapping[str, str]
    settings: Mapping[str, Any]
    software: Mapping[str, str]
    code: Mapping[str, str]
    passage_scores: tuple[tuple[int, int, float], ...]
    overrides: tuple[Mapping[str, Any], ...]
    run: Mapping[str, Any]
    outputs: Mapping[str, str]

    def input(self, role: str) -> InputFile | None:
        """Returns the input of that role; None where there was none."""
        return next((one for one in self.inputs if one.role == role), None)

    @property
    def digest(self) -> str:
        """The sha256 of the record's content."""
        return hashlib.sha256(json_text(self._members(), "provenance record").encode()).hexdigest()

    def to_text(self) -> str:
        """Returns the file's text; equal records give equal texts."""
        members = {**self._members(), "digest": self.digest}
        return json.dumps(members, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def _members(self) -> dict[str, Any]:
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        read_back = json.dumps(
            {"format": _FORMAT, **own, "inputs": [asdict(i) for i in self.inputs]}
        )
        return dict(json.loads(read_back))


def stamp_inputs(**paths: object) -> Stamps:
    """Returns what the file system says of the inputs before they are read.

    Args:
        paths: Role to its file; what is none is left out, and left to whoever reads it.
    """
    return {
        role: (path, FileStamp.of(path))
        for role, path in paths.items()
        if isinstance(path, Path) and path.is_file()
    }


def build_record(
    assessment: RiskAssessment,
    reading: LanguageReading,
    *,
    stamps: Stamps,
    as_of: date | None,
    overrides: Sequence[Mapping[str, Any]],
    run: Mapping[str, Any],
    outputs: Mapping[str, str],
    archive: Archive | None = None,
) -> ProvenanceRecord:
    """Builds the record of an assessment that was just made.

    Args:
        assessment: What came out.
        reading: What the text model said of each passage.
        stamps: Of the inputs, from before they were read.
        as_of: As it was asked for.
        overrides: The manual overrides that are shown beside the figures.
        run: The run block of assessment.json.
        outputs: File name to text of the files that are written.
        archive: Where copies of the inputs are kept; without it the record names paths alone.

    Raises:
        InputError: An input changed since it was read.
    """
    return ProvenanceRecord(
        ticker=assessment.ticker,
        as_of=None if as_of is None else as_of.isoformat(),
        inputs=_inputs(assessment, stamps, archive),
        models=tuple(one.to_json() for one in assessment.provenance),
        coefficients={LINKAGE_FILE.name: file_sha256(LINKAGE_FILE)},
        settings=current_settings(),
        software=current_software(),
        code=code_digests(),
        passage_scores=tuple((p.start, p.end, p.score) for p in reading.passages),
        overrides=tuple(overrides),
        run=dict(run),
        outputs={name: hashlib.sha256(text.encode()).hexdigest() for name, text in outputs.items()},
    )


def read_record(path: Path) -> ProvenanceRecord:
    """Reads a record and checks that nobody edited it.

    Raises:
        MissingInputError: There is no such file.
        StoreError: It is no record, of a later format, or was edited.
    """
    path = path / RECORD_NAME if path.is_dir() else path
    try:
        members = json.loads(path.read_bytes())
        if members["format"] != _FORMAT:
            raise _no_record("another format")
        own = {field.name: members[field.name] for field in fields(ProvenanceRecord)}
        own["inputs"] = tuple(InputFile(**one) for one in own["inputs"])
        own["passage_scores"] = tuple(tuple(one) for one in own["passage_scores"])
        own |= {name: tuple(own[name]) for name in ("models", "overrides")}
        record, written = ProvenanceRecord(**own), members["digest"]
    except FileNotFoundError:
        raise MissingInputError(
            "provenance record",
            expected="record.json, or the folder that it lies in",
            found="neither",
            remedy="Give the folder that an assessment was written to.",
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_record(f"a file that is none ({type(error).__name__})") from error
    if record.digest != written:
        raise _no_record(f"content of digest {record.digest[:12]}..., so it was edited")
    return record


def _inputs(
    assessment: RiskAssessment, stamps: Stamps, archive: Archive | None
) -> tuple[InputFile, ...]:
    digests = {"document": assessment.document_digest}
    if assessment.market is not None:
        digests["prices"] = assessment.market.history.digest
    files = []
    for role, content_digest in digests.items():
        path, stamp = stamps[role]
        sha256 = file_sha256(path) if archive is None else archive.keep(path)
        if FileStamp.of(path) != stamp or (role == "document" and sha256 != content_digest):
            raise InputError(
                role,
                expected="a file that stays as it is while it is assessed",
                found="a file that was written to",
                remedy="Wait until whoever writes the file has ended, and run this again.",
            )
        kept = archive is not None
        files.append(
            InputFile(role, path.name, str(path.absolute()), sha256, content_digest, archived=kept)
        )
    return tuple(files)


def _no_record(found: str) -> StoreError:
    return StoreError(
        "provenance record",
        expected=f"a record of format {_FORMAT} as it was written",
        found=found,
        remedy="Restore it from where it was kept; an edited record proves nothing.",
    )
