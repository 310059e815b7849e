"""Writes the model card of the finance kit, as a page and as Markdown, from what was measured.

Both are written from the same sections (`card_sections`) and need nothing from elsewhere: the
page opens offline and prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from kits.finance.governance.inventory import InventoryEntry, ModelInventory
from kits.finance.governance.surroundings import current_software
from kits.finance.reporting.card_evidence import CardEvidence, read_evidence
from kits.finance.reporting.card_sections import CardSection, CardTable, card_sections
from kits.finance.reporting.delivery import deliver, require_folder
from kits.finance.reporting.page import render_page

__all__ = ["render_card_html", "render_card_markdown", "write_model_card"]

_TITLE = "Model card: Tandem, finance kit"


def write_model_card(
    out: Path,
    *,
    evidence: CardEvidence | None = None,
    inventory: Sequence[InventoryEntry] | None = None,
    on: date | None = None,
) -> tuple[Path, Path]:
    """Writes `model_card.html` and `model_card.md` to `out`, both or neither.

    Equal evidence, inventory and day give equal files.

    Args:
        out: Folder; made when absent.
        evidence: What was measured; by default what lies beside the weights, and recorded
            benchmarks where this is a checkout.
        inventory: Entries of the model inventory; by default that of TANDEM_HOME.
        on: The day for which reviews are said to be due; today by default.

    Returns:
        The page and the Markdown file.

    Raises:
        InputError: `out` is a file.
        StoreError: A file that the card is written from is damaged.
    """
    require_folder(out)
    day = on or datetime.now(UTC).date()
    entries = _entries() if inventory is None else inventory
    sections = card_sections(evidence or read_evidence(), entries, on=day)
    contents = {
        "model_card.html": render_card_html(sections, on=day),
        "model_card.md": render_card_markdown(sections, on=day),
    }
    deliver(contents, out)
    return out / "model_card.html", out / "model_card.md"


def render_card_html(sections: Sequence[CardSection], *, on: date) -> str:
    """Returns the page; every value is escaped."""
    return render_page(
        "model_card.html.j2", title=_TITLE, sections=sections, on=on, software=current_software()
    )


def render_card_markdown(sections: Sequence[CardSection], *, on: date) -> str:
    """Returns the Markdown text."""
    blocks = [f"# {_TITLE}", f"Written for {on}. Software: {_software()}."]
    for number, section in enumerate(sections, start=1):
        blocks.append(f"## {number}. {section.title}")
        blocks.append(f"*{section.clause}*")
        blocks += [_escaped(text) for text in section.paragraphs]
        if section.points:
            blocks.append("\n".join(f"- {_escaped(point)}" for point in section.points))
        blocks += [_markdown_table(table) for table in section.tables]
    return "\n\n".join(blocks) + "\n"


def _entries() -> tuple[InventoryEntry, ...]:
    inventory = ModelInventory.from_settings()
    try:
        return inventory.entries()
    finally:
        inventory.close()


def _software() -> str:
    return ", ".join(f"{name} {version}" for name, version in current_software().items())


def _markdown_table(table: CardTable) -> str:
    rows = [table.columns, ("---",) * len(table.columns), *table.rows]
    lines = [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows]
    return "\n".join([f"**{_escaped(table.caption)}**", "", *lines])


def _escaped(text: str) -> str:
    """Returns a text whose signs mean nothing to Markdown and HTML, on one line."""
    for sign in "\\|<>*`[]":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
