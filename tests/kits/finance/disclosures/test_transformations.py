"""What a tagged fact shows becomes its value, by the format that it names."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kits.finance.disclosures.transformations import as_number, as_text


@pytest.mark.parametrize(
    ("text", "form", "value"),
    [
        ("1,234.5", "ixt:num-dot-decimal", "1234.5"),
        ("1,234.5", "ixt:numdotdecimal", "1234.5"),
        ("1.234,5", "ixt:num-comma-decimal", "1234.5"),
        ("1 234,5", "ixt:numspacecomma", "1234.5"),
        ("12,34,567.50", "ixt:num-dot-decimal-in", "1234567.50"),
        ("5 dollars 7 cents", "ixt:num-unit-decimal", "5.07"),
        ("\u2014", "ixt:fixed-zero", "0"),
        ("-", "ixt:zerodash", "0"),
        ("no", "ixt-sec:numwordsen", "0"),
        ("Twenty-one", "ixt-sec:numwordsen", "21"),
        ("two hundred and five thousand three", "ixt-sec:numwordsen", "205003"),
        ("7", "", "7"),
    ],
)
def test_numbers_are_read_by_their_format(text: str, form: str, value: str) -> None:
    """Both spellings of the registry's names, old and new."""
    assert as_number(text, form) == Decimal(value)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("1.234,5", "ixt:num-dot-decimal"),
        ("many", "ixt-sec:numwordsen"),
        ("", ""),
        ("5", "ixt:new"),
    ],
)
def test_what_does_not_have_its_format_is_no_number(text: str, form: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match="format"):
        as_number(text, form)


@given(st.integers(0, 10**12), st.integers(-6, 9), st.booleans())
def test_scale_and_sign_are_applied_exactly(number: int, scale: int, negative: bool) -> None:
    """Written with separators, read back as the product."""
    value = as_number(
        f"{number:,}", "ixt:num-dot-decimal", scale=scale, sign="-" if negative else ""
    )
    assert value == Decimal(number).scaleb(scale) * (-1 if negative else 1)


@pytest.mark.parametrize(
    ("text", "form", "value"),
    [
        ("September 28, 2024", "ixt:date-monthname-day-year-en", "2024-09-28"),
        ("Sept. 28, 2024", "ixt:date-monthname-day-year-en", None),
        ("28 September 2024", "ixt:date-day-monthname-year-en", "2024-09-28"),
        ("9/28/2024", "ixt:date-month-day-year", "2024-09-28"),
        ("28.9.2024", "ixt:datedoteu", "2024-09-28"),
        ("\u2612", "ixt-sec:boolballotbox", "true"),
        ("\u2610", "ixt-sec:boolballotbox", "false"),
        ("anything", "ixt:fixed-true", "true"),
        ("anything", "ixt:nocontent", ""),
        ("Nasdaq", "ixt-sec:exchnameen", "Nasdaq"),
    ],
)
def test_texts_become_dates_and_booleans(text: str, form: str, value: str | None) -> None:
    """Other formats stay as shown; what is no date of its format is an error."""
    if value is None:
        with pytest.raises(ValueError, match="date"):
            as_text(text, form)
    else:
        assert as_text(text, form) == value
