"""XBRL facts as a table: concept, value, unit, period, dimensions, and where each one stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Fact", "FactTable", "Period", "UnreadFact"]


@dataclass(frozen=True)
class Period:
    """An instant (`start_date` is None), a duration of whole days, or forever (both None).

    Args:
        start_date: First day of a duration.
        end_date: Last day of a duration, or the day at whose end an instant lies.
    """

    start_date: date | None
    end_date: date | None

    @property
    def is_instant(self) -> bool:
        """Whether it is the end of one day."""
        return self.start_date is None and self.end_date is not None

    @property
    def days(self) -> int | None:
        """Days of a duration, both ends included; None for instants and forever."""
        if self.start_date is None or self.end_date is None:
            return None
        return (self.end_date - self.start_date).days + 1


@dataclass(frozen=True)
class Fact:
    """One fact as tagged.

    Args:
        concept: "us-gaap:Assets". The prefixes us-gaap, ifrs-full, dei and srt stand for those
            taxonomies whatever the file calls them; others are the file's own.
        value: The number with scale and sign applied; the text of a textual fact; None where
            the fact is nil.
        unit: "USD", "shares", "USD/shares", "pure"; None for a textual fact.
        period: When it holds.
        dimensions: Axis and member of each dimension, sorted; empty for the whole company.
        decimals: The number is right to this many decimals (-6: to the million); None where
            it is exact or not said.
        entity: The identifier of the context's entity, such as a CIK of ten digits.
        start: Where its content begins in `FactTable.source`; `end` is where it ends.
        line: The line of `start`, from 1.
        hidden: Whether it stands in `ix:hidden`, where no reader sees it.
    """

    concept: str
    value: Decimal | str | None = field(repr=False)
    unit: str | None
    period: Period
    dimensions: tuple[tuple[str, str], ...]
    decimals: int | None
    entity: str
    start: int
    end: int
    line: int
    hidden: bool = False


@dataclass(frozen=True)
class UnreadFact:
    """A tagged fact whose value could not be understood, and why."""

    concept: str
    reason: str
    start: int
    line: int


@dataclass(frozen=True)
class FactTable:
    """All facts of one file, in the order in which they stand there.

    Args:
        facts: At least one.
        unread: Facts that were seen and could not be understood; none is dropped in silence.
        source: The decoded file that the offsets lead into.
        digest: sha256 of the file's bytes.
        kind: Facts inside HTML ("inline") or an XBRL instance ("instance").
    """

    facts: tuple[Fact, ...] = field(repr=False)
    unread: tuple[UnreadFact, ...]
    source: str = field(repr=False)
    digest: str
    kind: Literal["inline", "instance"]

    @cached_property
    def _by_concept(self) -> Mapping[str, tuple[Fact, ...]]:
        found: dict[str, list[Fact]] = {}
        for fact in self.facts:
            found.setdefault(fact.concept, []).append(fact)
        return {concept: tuple(facts) for concept, facts in found.items()}

    def of(self, concept: str, *, whole_company: bool = False) -> tuple[Fact, ...]:
        """Returns the facts of a concept, none if there are none.

        Args:
            concept: Such as "us-gaap:Assets".
            whole_company: Whether to leave out facts that carry dimensions.
        """
        facts = self._by_concept.get(concept, ())
        return tuple(f for f in facts if not (whole_company and f.dimensions))

    def document_fact(self, name: str) -> str | None:
        """Returns a fact about the document, such as "DocumentType", or None.

        Args:
            name: The concept's name in the dei taxonomy.
        """
        for fact in self.of(f"dei:{name}", whole_company=True):
            if fact.value is not None:
                return str(fact.value)
        return None

    def rows(self) -> list[dict[str, Any]]:
        """Returns one flat row a fact, ready for CSV, Parquet or a frame."""
        return [_row(fact) for fact in self.facts]

    def to_frame(self) -> pd.DataFrame:
        """Returns the rows as a frame; numbers stay exact (`decimal.Decimal`)."""
        import pandas as pd

        frame: pd.DataFrame = pd.DataFrame(self.rows(), columns=list(_COLUMNS))
        return frame


_COLUMNS: Sequence[str] = (
    "concept", "value", "unit", "start_date", "end_date", "dimensions", "decimals", "entity",
    "line", "start", "end", "hidden",
)  # fmt: skip


def _row(fact: Fact) -> dict[str, Any]:
    return {
        "concept": fact.concept,
        "value": fact.value,
        "unit": fact.unit,
        "start_date": fact.period.start_date,
        "end_date": fact.period.end_date,
        "dimensions": "; ".join(f"{axis}={member}" for axis, member in fact.dimensions),
        "decimals": fact.decimals,
        "entity": fact.entity,
        "line": fact.line,
        "start": fact.start,
        "end": fact.end,
        "hidden": fact.hidden,
    }
