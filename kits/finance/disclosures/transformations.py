"""Turns what an inline XBRL fact shows into its value.

Formats are those of the Inline XBRL Transformation Registry, versions 1 to 5, and of the
SEC's registry (EDGAR XBRL Guide). Their names differ between versions by hyphens and case
alone, so both are taken away before a format is looked up.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal, InvalidOperation

__all__ = ["as_number", "as_text"]

_DOT = re.compile(r"\d{1,3}(?:[,\s\u2019']\d{3})*(?:\.\d*)?|\d+(?:\.\d*)?|\.\d+")
_COMMA = re.compile(r"\d{1,3}(?:[.\s\u2019']\d{3})*(?:,\d*)?|\d+(?:,\d*)?|,\d+")
_UNIT = re.compile(r"(\d[\d,.\s]*?)\s*[^\d\s]+\s*(\d{1,2})\s*\D*")
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_WORDS = {word: number for number, word in enumerate(_ONES.split())}
_WORDS |= {word: 10 * number for number, word in enumerate(_TENS.split(), start=2)}
_WORDS |= {"no": 0, "none": 0, "nil": 0, "a": 1, "an": 1}
_POWERS = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_DATES: dict[str, tuple[str, ...]] = {
    "datemonthnamedayyearen": ("%B %d %Y", "%b %d %Y"),
    "datelongus": ("%B %d %Y", "%b %d %Y"),
    "datedaymonthnameyearen": ("%d %B %Y", "%d %b %Y"),
    "datelonguk": ("%d %B %Y", "%d %b %Y"),
    "datemonthdayyear": ("%m %d %Y", "%m %d %y"),
    "dateslashus": ("%m %d %Y", "%m %d %y"),
    "datedaymonthyear": ("%d %m %Y", "%d %m %y"),
    "dateslasheu": ("%d %m %Y", "%d %m %y"),
    "datedoteu": ("%d %m %Y", "%d %m %y"),
    "dateyearmonthday": ("%Y %m %d",),
}
_TRUE = frozenset({"fixedtrue", "booleantrue"})
_FALSE = frozenset({"fixedfalse", "booleanfalse"})
_EMPTY = frozenset({"fixedempty", "nocontent"})
_CHECKED = frozenset("☑☒⌧✓✔✕✖xXþý")


def as_number(text: str, form: str, *, scale: int = 0, sign: str = "") -> Decimal:
    """Returns the number that a numeric fact stands for.

    Args:
        text: What is shown, without exclusions.
        form: The format with its prefix ("ixt:num-dot-decimal"), or "".
        scale: The power of ten to multiply by.
        sign: "-" where the value is the negative of what is shown.

    Raises:
        ValueError: The text does not have that format, or the format is not known.
    """
    reader = _NUMBERS.get(_name(form))
    if reader is None:
        raise ValueError(f"format {form} is not known for numbers")
    try:
        number = reader(" ".join(text.split()))
    except (InvalidOperation, KeyError) as error:
        raise ValueError(
            f"what is shown does not have the format {form or 'of a number'}"
        ) from error
    number = number.scaleb(scale)
    if number == number.to_integral_value():
        number = Decimal(int(number))  # 364980000000, not 3.6498E+11
    return -number if sign == "-" else number


def as_text(text: str, form: str) -> str:
    """Returns a textual fact's value: dates as YYYY-MM-DD, booleans as true or false.

    Durations, names of states and exchanges, and dates without a year stay as shown.

    Raises:
        ValueError: The text does not have the date format that it claims.
    """
    name = _name(form)
    if name in _TRUE or name in _FALSE:
        return "true" if name in _TRUE else "false"
    if name in _EMPTY:
        return ""
    if name == "boolballotbox":
        return "true" if set(text) & _CHECKED else "false"
    if name in _DATES:
        return _read_date(text, _DATES[name]).isoformat()
    return text


def _name(form: str) -> str:
    return form.rpartition(":")[2].replace("-", "").lower()


def _read_date(text: str, patterns: tuple[str, ...]) -> date:
    plain = " ".join(re.sub(r"[^\w]|(?<=\d)(?:st|nd|rd|th)\b", " ", text).split())
    for pattern in patterns:
        try:
            return datetime.strptime(plain, pattern).date()  # noqa: DTZ007  # a day has no zone
        except ValueError:
            continue
    raise ValueError("what is shown is no date of the format that it claims")


def _plain(text: str) -> Decimal:
    return Decimal(text.replace(",", "").replace(" ", ""))


def _dot(text: str) -> Decimal:
    if not _DOT.fullmatch(text):
        raise InvalidOperation
    return Decimal(re.sub(r"[^\d.]", "", text))


def _comma(text: str) -> Decimal:
    if not _COMMA.fullmatch(text):
        raise InvalidOperation
    return Decimal(re.sub(r"[^\d,]", "", text).replace(",", "."))


def _unit(text: str) -> Decimal:
    match = _UNIT.fullmatch(text)
    if match is None:
        raise InvalidOperation
    return Decimal(re.sub(r"\D", "", match[1])) + Decimal(match[2]) / 100


def _zero(text: str) -> Decimal:
    del text
    return Decimal(0)


def _words(text: str) -> Decimal:
    total = part = 0
    words = re.findall(r"[a-z]+", text.lower().replace(" and ", " "))
    if not words:
        raise InvalidOperation
    for word in words:
        if word == "hundred":
            part = (part or 1) * 100
        elif word in _POWERS:
            total, part = total + (part or 1) * _POWERS[word], 0
        else:
            part += _WORDS[word]
    return Decimal(total + part)


_NUMBERS: dict[str, Callable[[str], Decimal]] = {
    "": _plain,
    "numdotdecimal": _dot,
    "numcommadot": _dot,
    "numspacedot": _dot,
    "numdotdecimalin": _plain,
    "numcommadecimal": _comma,
    "numdotcomma": _comma,
    "numspacecomma": _comma,
    "numcomma": _comma,
    "numunitdecimal": _unit,
    "numwordsen": _words,
    "numdash": _zero,
    "zerodash": _zero,
    "fixedzero": _zero,
}
