"""Contexts and units of an XBRL document (XBRL 2.1, 4.7 and 4.8; Dimensions 1.0, 2.1).

Both readers, of instances and of inline XBRL, tell a `ContextReader` what they meet; names
come to it in lower case and without their prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from kits.finance.disclosures.fact_table import Period

__all__ = ["Context", "ContextReader", "RawFact"]

NON_DIMENSIONAL = "non-dimensional"
"""The axis under which other content of a segment or scenario is kept."""


@dataclass(frozen=True)
class Context:
    """Of whom and when a fact speaks, and on which dimensions."""

    entity: str
    period: Period
    dimensions: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class RawFact:
    """A fact element as it stands, before its context, unit and format are applied.

    Args:
        concept: Prefix and name, the prefix made standard.
        attributes: By lower-case name without prefix ("contextref", "scale", "nil" ...).
        text: Its text, continuations joined, exclusions left out.
        start: Where its content begins in the source; `end` is where it ends.
        numeric: Whether it claims to be a number.
    """

    concept: str
    attributes: Mapping[str, str]
    text: str = field(repr=False)
    start: int
    end: int
    numeric: bool
    hidden: bool = False


@dataclass
class _Draft:
    """What has been read of a context or unit so far."""

    identifier: str
    entity: str = ""
    start: str | None = None
    end: str | None = None
    dimensions: list[tuple[str, str]] = field(default_factory=list)
    numerator: list[str] = field(default_factory=list)
    denominator: list[str] = field(default_factory=list)


class ContextReader:
    """Collects contexts and units from start, text and end events.

    Args:
        qname: Brings a prefixed name of the document into its standard form.
    """

    def __init__(self, qname: Callable[[str], str]) -> None:
        self.contexts: dict[str, Context] = {}
        self.units: dict[str, str] = {}
        self.faults: dict[str, str] = {}
        self._qname = qname
        self._draft: _Draft | None = None
        self._path: list[str] = []
        self._text = ""
        self._axis = ""

    @property
    def is_open(self) -> bool:
        """Whether a context or unit is being read."""
        return self._draft is not None

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """Takes the start of an element."""
        if self._draft is None:
            if name in ("context", "unit"):
                self._draft, self._path = _Draft(attributes.get("id", "")), [name]
            return
        if name in ("explicitmember", "typedmember"):
            self._axis = self._qname(attributes.get("dimension", ""))
        elif self._path[-1] in ("segment", "scenario"):
            self._draft.dimensions.append((NON_DIMENSIONAL, name))
        self._path.append(name)
        if "typedmember" not in self._path[:-1]:
            self._text = ""

    def data(self, text: str) -> None:
        """Takes text."""
        if self._draft is not None:
            self._text += text

    def end(self, name: str) -> None:
        """Takes the end of an element."""
        draft = self._draft
        if draft is None or name not in self._path:
            return
        while self._path.pop() != name:  # HTML tolerates a missing end tag
            pass
        value = self._text.strip()
        if name in ("context", "unit"):
            self._finish(name, draft)
        elif name == "identifier":
            draft.entity = value
        elif name == "startdate":
            draft.start = value
        elif name in ("enddate", "instant"):
            draft.end = value
        elif name == "explicitmember":
            draft.dimensions.append((self._axis, self._qname(value)))
        elif name == "typedmember":
            draft.dimensions.append((self._axis, value))
        elif name == "measure":
            in_denominator = "unitdenominator" in self._path
            (draft.denominator if in_denominator else draft.numerator).append(_measure(value))

    def _finish(self, name: str, draft: _Draft) -> None:
        self._draft = None
        if name == "unit":
            numerator = "*".join(draft.numerator) or "pure"
            self.units[draft.identifier] = "/".join(
                [numerator, *(["*".join(draft.denominator)] if draft.denominator else [])]
            )
            return
        try:
            period = Period(_first_day(draft.start), _last_day(draft.end))
        except ValueError:
            self.faults[draft.identifier] = "its context's period is no date"
            return
        self.contexts[draft.identifier] = Context(
            draft.entity, period, tuple(sorted(draft.dimensions))
        )


def _measure(qname: str) -> str:
    return qname.rpartition(":")[2]


def _first_day(text: str | None) -> date | None:
    return None if text is None else datetime.fromisoformat(text).date()


def _last_day(text: str | None) -> date | None:
    """Returns the day; a bare date means its end, midnight the day before (XBRL 2.1, 4.7.2)."""
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    at_midnight = "T" in text and moment.time() == datetime.min.time()
    return moment.date() - timedelta(days=1) if at_midnight else moment.date()
