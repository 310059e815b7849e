"""The items of the SEC's forms: their keys, numbers and captions, in the forms' order.

Forms 10-K (SEC 1673), 10-Q (SEC 1296) and 20-F (SEC 1852), with the captions that earlier
editions prescribed; Form 8-K (SEC 873) in both its numberings, by section since 23 August 2004
(Release 33-8400) and plain before.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Literal, NamedTuple

__all__ = ["ITEMS", "SINCE", "FilingForm", "Item", "item_name", "item_named"]

FilingForm = Literal["10-K", "10-Q", "8-K", "20-F"]

# fiscal periods that end before this day have no such item
SINCE: dict[str, date] = {
    "item_1a": date(2005, 12, 1),  # Release 33-8591
    "item_1b": date(2005, 12, 1),
    "item_1c": date(2023, 12, 15),  # Release 33-11216
}


class Item(NamedTuple):
    """An item of a form: its section key, its part (0: none), number and captions' pattern."""

    key: str
    part: int
    number: str
    caption: re.Pattern[str]


def _item(part: int, number: str, caption: str, *, key: str | None = None) -> Item:
    pattern = rf"(?:(?:{caption})|\W*(?:removed|reserved|intentionally omitted|omitted)\b)"
    key = key or f"part_{part}_item_{number.lower()}"
    return Item(key, part, number, re.compile(pattern, re.IGNORECASE))


def _item_whole(number: str, caption: str) -> Item:
    return _item(0, number, caption, key=f"item_{number.lower()}")


def _item_8k(number: str, caption: str) -> Item:
    return _item(0, number, caption, key=f"item_{number.replace('.', '_')}")


def _item_10k(part: int, number: str, caption: str) -> Item:
    return _item(part, number, caption, key=f"item_{number.lower()}")


ITEMS: dict[FilingForm, tuple[Item, ...]] = {
    "10-K": (
        _item_10k(1, "1", r"(?:description of )?(?:the |our )?(?:company.?s )?business"),
        _item_10k(1, "1A", r"risk factors?"),
        _item_10k(1, "1B", r"unresolved (?:sec )?staff comments?"),
        _item_10k(1, "1C", r"cyber ?security"),
        _item_10k(1, "2", r"(?:description of )?(?:our )?propert"),
        _item_10k(1, "3", r"legal (?:proceedings?|matters)|litigation"),
        _item_10k(1, "4", r"submission (?:of|or) matters|mine safety"),
        _item_10k(2, "5", r"market (?:for|price|information)|common (?:stock|equity)"),
        _item_10k(2, "6", r"(?:consolidated )?selected|(?:five|six|ten).year"),
        _item_10k(2, "7", r"management\W{0,2}s? discussion"),
        _item_10k(2, "7A", r"quantit|qualit|(?:disclosures? about )?market risk"),
        _item_10k(2, "8", r"(?:consolidated )?financial statements|index to (?:consolidated )?fin"),
        _item_10k(2, "9", r"(?:changes in|changes and|disagreements)"),
        _item_10k(2, "9A", r"(?:evaluation of )?(?:disclosure )?controls"),
        _item_10k(2, "9B", r"other information"),
        _item_10k(2, "9C", r"disclosures? regarding foreign"),
        _item_10k(3, "10", r"directors|executive officers"),
        _item_10k(3, "11", r"executive compensation|compensation|management remuneration"),
        _item_10k(3, "12", r"(?:security|stock|share) ?ownership|ownership of"),
        _item_10k(3, "13", r"certain (?:relationships|transactions)|relationships"),
        _item_10k(3, "14", r"principal account|controls and|exhibits?|fees"),
        _item_10k(4, "15", r"exhibits?|(?:consolidated )?financial statement|principal account"),
        _item_10k(4, "16", r"form 10-k summary|summary|exhibits?"),
    ),
    "10-Q": (
        _item(1, "1", r"(?:[\w]+ ){0,4}financial (?:statements?|information)"),
        _item(1, "2", r"management\W{0,2}s? discussion"),
        _item(1, "3", r"quantitative|qualitative|disclosures? about market risk"),
        _item(1, "4", r"(?:evaluation of )?(?:disclosure )?controls"),
        _item(2, "1", r"legal (?:proceedings?|matters)|litigation"),
        _item(2, "1A", r"risk factors?"),
        _item(2, "2", r"unregistered sale|changes in securit|(?:issuer )?(?:purchases|repurch)"),
        _item(2, "3", r"defaults?"),
        _item(2, "4", r"mine safety|submission (?:of|or) matters"),
        _item(2, "5", r"other (?:information|matters)"),
        _item(2, "6", r"exhibits?"),
    ),
    "20-F": (
        _item_whole("1", r"identity of directors"),
        _item_whole("2", r"offer statistics"),
        _item_whole("3", r"key information"),
        _item_whole("3D", r"risk factors?"),
        _item_whole("4", r"information on (?:the |our )?(?:company|group)"),
        _item_whole("4A", r"unresolved (?:sec )?staff comments?"),
        _item_whole("5", r"operating and financial review"),
        _item_whole("6", r"directors, senior management"),
        _item_whole("7", r"major shareholders"),
        _item_whole("8", r"(?:consolidated )?financial information"),
        _item_whole("9", r"(?:the )?offer and (?:the )?listing"),
        _item_whole("10", r"additional information"),
        _item_whole("11", r"quantit|qualit"),
        _item_whole("12", r"descriptions? of securities"),
        _item_whole("13", r"defaults?"),
        _item_whole("14", r"material modifications?"),
        _item_whole("15", r"(?:disclosure )?controls"),
        _item_whole("16A", r"audit committee"),
        _item_whole("16B", r"codes? of"),
        _item_whole("16C", r"principal account"),
        _item_whole("16D", r"exemptions?"),
        _item_whole("16E", r"purchases? of equity"),
        _item_whole("16F", r"changes? in (?:the )?(?:registrant|certifying|company)"),
        _item_whole("16G", r"corporate governance"),
        _item_whole("16H", r"mine safety"),
        _item_whole("16I", r"disclosures? regarding foreign"),
        _item_whole("16J", r"insider trading"),
        _item_whole("16K", r"cyber ?security"),
        _item_whole("17", r"(?:consolidated )?financial statements"),
        _item_whole("18", r"(?:consolidated )?financial statements"),
        _item_whole("19", r"exhibits?"),
    ),
    "8-K": (
        _item_8k("1", r"changes? in control"),
        _item_8k("2", r"acquisition (?:or|and|of)|disposition"),
        _item_8k("3", r"bankruptcy"),
        _item_8k("4", r"changes? in (?:the )?(?:registrant|company|certifying|.{0,30}accountant)"),
        _item_8k("5", r"other (?:events?|matters?|materially)|regulation fd"),
        _item_8k("6", r"resignations? of"),
        _item_8k("7", r"(?:consolidated )?financial statements?|exhibits|pro forma"),
        _item_8k("8", r"changes? in fiscal"),
        _item_8k("9", r"(?:sales? of equity|regulation fd)"),
        _item_8k("10", r"amendments? to"),
        _item_8k("11", r"temporary suspension"),
        _item_8k("12", r"results of operations|disclosure of results|public announcement"),
        _item_8k("1.01", r"entry into|material definitive"),
        _item_8k("1.02", r"termination of"),
        _item_8k("1.03", r"bankruptcy"),
        _item_8k("1.04", r"mine safety"),
        _item_8k("1.05", r"material cyber"),
        _item_8k("2.01", r"completion of|acquisition or"),
        _item_8k("2.02", r"results? of operations?|disclosure of results"),
        _item_8k("2.03", r"creation of|entry into"),
        _item_8k("2.04", r"triggering events?"),
        _item_8k("2.05", r"costs? associated"),
        _item_8k("2.06", r"material impairments?"),
        _item_8k("3.01", r"notice of|delisting|transfer of listing"),
        _item_8k("3.02", r"unregistered sales?"),
        _item_8k("3.03", r"material modifications?"),
        _item_8k("4.01", r"changes? in"),
        _item_8k("4.02", r"non-?reliance"),
        _item_8k("5.01", r"changes? in control"),
        _item_8k("5.02", r"departures?|election|appointment|compensatory"),
        _item_8k("5.03", r"amendments?"),
        _item_8k("5.04", r"temporary suspension"),
        _item_8k("5.05", r"amendments? (?:to|of)|code of ethics"),
        _item_8k("5.06", r"change in shell"),
        _item_8k("5.07", r"submission of|matters? voted"),
        _item_8k("5.08", r"shareholder"),
        _item_8k("6.01", r"abs informational"),
        _item_8k("6.02", r"change of servicer"),
        _item_8k("6.03", r"change in credit"),
        _item_8k("6.04", r"failure to make"),
        _item_8k("6.05", r"securities act"),
        _item_8k("7.01", r"regulation fd|reg\.? ?fd"),
        _item_8k("8.01", r"other events?"),
        _item_8k("9.01", r"financial statements?|exhibits?"),
    ),
}  # fmt: skip


def item_named(form: FilingForm, part: int | None, number: str) -> Item | None:
    """Returns the item of `form` with this number; `part` decides between equal numbers."""
    found = [item for item in ITEMS[form] if item.number == number.upper()]
    if form == "10-Q" and part is not None:
        found = [item for item in found if item.part == part]
    return found[0] if len(found) == 1 else None


def item_name(item: Item) -> str:
    """Returns an item's name in words, such as "Item 1A" or "Part II, Item 1A"."""
    part = f"Part {'I' * item.part}, " if item.key.startswith("part") else ""
    return f"{part}Item {item.number}"
