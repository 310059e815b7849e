"""Manual overrides: somebody's figure beside the model's own, with a reason and two people.

    log = OverrideLog.from_settings()
    proposed = log.propose(Path("out/assessment.json"), figure="/score", value=35.0,
                           reason="Litigation settled after the filing.", by="A. Weber",
                           expires=date(2027, 3, 31))
    log.approve(proposed.override_id, by="C. Okafor")

An override takes effect when a second person approves it, and ends on its expiry date or
when it is withdrawn. The model's number is never changed: an assessment shows the overrides
in force for its ticker beside it. The log is append-only and chained (`chained_log`). Who a
name belongs to is for the caller to know: names are compared, not proven.
"""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from common.errors import (
    AccessError,
    ConflictError,
    InputError,
    MissingInputError,
    UnknownNameError,
)
from common.settings import Settings, load_settings
from kits.finance.governance.chained_log import ChainedLog, Record
from kits.finance.governance.lineage import value_at

__all__ = ["BOUNDS", "LONGEST_DAYS", "Override", "OverrideLog"]

BOUNDS: Mapping[str, tuple[float, float]] = {
    "/score": (0.0, 100.0),
    "/event_probability": (0.0, 1.0),
    "/volatility_linked": (0.0, math.inf),
}
"""The figures that may be overridden, by JSON Pointer, with their least and largest value."""

LONGEST_DAYS = 366
"""Days that an override may last: a judgement is made anew at least once a year."""

_LEAST_REASON = 15  # characters; "ok" and "see mail" are no reasons


@dataclass(frozen=True)
class Override:
    """One figure that people set beside the model's own.

    Args:
        override_id: 16 hexadecimal digits of the proposal's place in the log.
        ticker: The company.
        figure: JSON Pointer of the figure in assessment.json.
        model_value: The model's own number in the assessment that was looked at.
        value: The number that is to be used.
        reason: Why.
        assessment_sha256: Of the assessment.json that was looked at.
        proposed_by: The first person.
        proposed: When, ISO 8601 in UTC.
        expires: The last day on which it is in force.
        approved_by: The second person; None while it is only proposed.
        approved: When.
        withdrawn_by: Who ended it early; None where nobody did.
        withdrawn: When.
    """

    override_id: str
    ticker: str
    figure: str
    model_value: float
    value: float
    reason: str
    assessment_sha256: str
    proposed_by: str
    proposed: str
    expires: date
    approved_by: str | None = None
    approved: str | None = None
    withdrawn_by: str | None = None
    withdrawn: str | None = None

    def in_force(self, on: date) -> bool:
        """Says whether two people agreed on it and it has not ended by that day."""
        return self.approved is not None and self.withdrawn is None and on <= self.expires

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values only."""
        return {**asdict(self), "expires": self.expires.isoformat()}


class OverrideLog:
    """The overrides of one place of work, in one folder.

    Args:
        folder: Of the log; made by the first proposal.
    """

    def __init__(self, folder: Path) -> None:
        self._log = ChainedLog(folder)

    @classmethod
    def from_settings(cls, settings: Settings | None = None) -> OverrideLog:
        """Opens the log of TANDEM_HOME."""
        return cls((settings or load_settings()).home / "finance" / "overrides")

    def all(self) -> tuple[Override, ...]:
        """Returns all overrides, the oldest first, the ended ones too.

        Raises:
            StoreError: The log was tampered with.
        """
        return tuple(_folded(self._log.records()).values())

    def in_force(self, ticker: str, *, on: date) -> tuple[Override, ...]:
        """Returns the overrides of a ticker that hold on a day.

        Raises:
            StoreError: The log was tampered with.
        """
        name = ticker.strip().upper()
        return tuple(one for one in self.all() if one.ticker == name and one.in_force(on))

    def propose(
        self, assessment: Path, *, figure: str, value: float, reason: str, by: str, expires: date
    ) -> Override:
        """Proposes a number beside the model's own; it has no effect until it is approved.

        Args:
            assessment: The assessment.json that shows the model's number.
            figure: One of `BOUNDS`.
            value: The number that is to be used.
            reason: Why, in a sentence.
            by: The person who proposes it.
            expires: The last day on which it is to hold, at most `LONGEST_DAYS` ahead.

        Raises:
            InputError: One of them cannot be used; all faults are listed.
            StoreError: The log was tampered with; nothing is written.
        """
        looked_at, sha256 = _read_assessment(assessment)
        now = datetime.now(UTC)
        _require_sound(looked_at, figure, value, reason, by, expires, now.date())
        members = {
            "time": now.isoformat(timespec="seconds"),
            "event": "proposed",
            "ticker": str(looked_at["ticker"]).strip().upper(),
            "figure": figure,
            "model_value": float(looked_at[figure.removeprefix("/")]),
            "value": float(value),
            "reason": reason.strip(),
            "assessment_sha256": sha256,
            "by": by.strip(),
            "expires": expires.isoformat(),
        }
        return _proposal(self._log.append(lambda _: members))

    def approve(self, override_id: str, *, by: str) -> Override:
        """Approves a proposal as the second person; from now on it is in force.

        Raises:
            AccessError: It is the person who proposed it.
            ConflictError: It was approved or withdrawn before, or has expired, or another
                one of the same figure is in force.
            UnknownNameError: There is no such proposal.
        """

        def decide(records: tuple[Record, ...]) -> Mapping[str, Any]:
            proposal = _named(records, override_id)
            _require_open(proposal, _folded(records).values())
            if _person(by) == _person(proposal.proposed_by):
                raise AccessError(
                    "approval of an override",
                    expected="a second person",
                    found="the person who proposed it",
                    remedy="Have somebody else look at it and approve it.",
                )
            return _event("approved", override_id, by)

        self._log.append(decide)
        return _named(self._log.records(), override_id)

    def withdraw(self, override_id: str, *, by: str, reason: str) -> Override:
        """Ends a proposal or an override before it expires; it stays in the log.

        Raises:
            InputError: There is no reason, or no name.
            ConflictError: It was withdrawn before.
            UnknownNameError: There is no such proposal.
        """
        if len(reason.strip()) < _LEAST_REASON:
            raise _unsound([_NO_REASON])

        def decide(records: tuple[Record, ...]) -> Mapping[str, Any]:
            if _named(records, override_id).withdrawn is not None:
                raise _conflict("one that was withdrawn")
            return {**_event("withdrawn", override_id, by), "reason": reason.strip()}

        self._log.append(decide)
        return _named(self._log.records(), override_id)


_NO_REASON = f"a reason of fewer than {_LEAST_REASON} characters"


def _folded(records: tuple[Record, ...]) -> dict[str, Override]:
    """Returns the overrides as the events leave them, by id."""
    found: dict[str, Override] = {}
    for record in records:
        if record["event"] == "proposed":
            one = _proposal(record)
        elif record["event"] == "approved":
            one = found[record["override_id"]]
            one = replace(one, approved_by=record["by"], approved=record["time"])
        else:
            one = found[record["override_id"]]
            one = replace(one, withdrawn_by=record["by"], withdrawn=record["time"])
        found[one.override_id] = one
    return found


def _proposal(record: Record) -> Override:
    return Override(
        override_id=record["hash"][:16],
        ticker=record["ticker"],
        figure=record["figure"],
        model_value=record["model_value"],
        value=record["value"],
        reason=record["reason"],
        assessment_sha256=record["assessment_sha256"],
        proposed_by=record["by"],
        proposed=record["time"],
        expires=date.fromisoformat(record["expires"]),
    )


def _named(records: tuple[Record, ...], override_id: str) -> Override:
    found = _folded(records).get(override_id)
    if found is None:
        raise UnknownNameError(
            "override",
            expected="the id of a proposal",
            found="an id that none has",
            remedy="List them and copy the id.",
        )
    return found


def _require_open(proposal: Override, others: Iterable[Override]) -> None:
    today = datetime.now(UTC).date()
    if proposal.withdrawn is not None:
        raise _conflict("one that was withdrawn")
    if proposal.approved is not None:
        raise _conflict("one that was approved before")
    if proposal.expires < today:
        raise _conflict("one that has expired")
    same = (proposal.ticker, proposal.figure)
    if any(one.in_force(today) and (one.ticker, one.figure) == same for one in others):
        raise _conflict("another override of that figure in force, which has to be withdrawn first")


def _event(event: str, override_id: str, by: str) -> dict[str, Any]:
    if not _person(by):
        raise _unsound(["no name of a person"])
    time = datetime.now(UTC).isoformat(timespec="seconds")
    return {"time": time, "event": event, "override_id": override_id, "by": by.strip()}


def _person(name: str) -> str:
    """Returns a name without what tells no two people apart: case, blanks, width, dots."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(letter for letter in folded if letter.isalnum() or letter == "@")


def _read_assessment(path: Path) -> tuple[Mapping[str, Any], str]:
    try:
        content = path.read_bytes()
        found = json.loads(content)
        if isinstance(found, dict) and "ticker" in found:
            return found, hashlib.sha256(content).hexdigest()
        fault = "another JSON"
    except OSError as error:
        raise MissingInputError(
            "assessment",
            expected="an assessment.json",
            found=type(error).__name__,
            remedy="Give the file that the assessment was written to.",
        ) from None
    except ValueError as error:
        fault = f"a file that is none ({type(error).__name__})"
    raise InputError(
        "assessment",
        expected="an assessment.json",
        found=fault,
        remedy="Give the file that the assessment was written to.",
    )


def _require_sound(  # noqa: PLR0917  # the fields of one proposal
    looked_at: Mapping[str, Any],
    figure: str,
    value: float,
    reason: str,
    by: str,
    expires: date,
    today: date,
) -> None:
    faults = []
    if figure not in BOUNDS:
        faults.append(f"a figure that is none of {', '.join(BOUNDS)}")
    else:
        low, high = BOUNDS[figure]
        if not (math.isfinite(value) and low <= value <= high):
            faults.append(f"a value outside {low:g} to {high:g}")
        try:
            number = value_at(looked_at, figure)
        except LookupError:
            number = None
        if not isinstance(number, int | float):
            faults.append("an assessment without that number")
    if len(reason.strip()) < _LEAST_REASON:
        faults.append(_NO_REASON)
    if not _person(by):
        faults.append("no name of a person")
    if not today <= expires <= today + timedelta(days=LONGEST_DAYS):
        faults.append(f"an expiry date that is past, or more than {LONGEST_DAYS} days ahead")
    if faults:
        raise _unsound(faults)


def _unsound(faults: list[str]) -> InputError:
    return InputError(
        "override",
        expected="a figure of the assessment, a number within its bounds, a reason, a person's "
        "name and an expiry date",
        found="; ".join(faults),
        remedy="Correct the proposal.",
    )


def _conflict(found: str) -> ConflictError:
    return ConflictError(
        "override",
        expected="a proposal that waits for its second person",
        found=found,
        remedy="List the overrides; propose a new one if it is still wanted.",
    )
