"""The bodies of the finance API, as pydantic reads them; each becomes a question at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import InputError
from kits.finance.api.questions import (
    AssessmentQuestion,
    ForecastQuestion,
    PortfolioQuestion,
    PriceQuestion,
)
from kits.finance.api.uploads import MOST_FILES, Form, Upload
from kits.finance.holdings import TICKER_PATTERN

__all__ = [
    "AssessmentBody",
    "BacktestForecasts",
    "BacktestPrices",
    "PortfolioBody",
    "assessment_question",
    "backtest_question",
    "portfolio_question",
]

MOST_DAYS = 20_000  # about eighty years
METHOD_PATTERN = "[a-z0-9-]{1,40}"
_SHOWN_FAULTS = 20

_Ticker = Annotated[str, Field(pattern=f"^{TICKER_PATTERN}$", examples=["ABC"])]
_Day = Annotated[date | None, Field(description="Nothing later than this day is used.")]
_Level = Annotated[float, Field(ge=0.5, lt=1, description="Confidence level of VaR and ES.")]
_Days = Annotated[list[float], Field(min_length=1, max_length=MOST_DAYS)]

Body = TypeVar("Body", bound=BaseModel)


class _Closed(BaseModel):
    """Refuses what it has no field for: a mistyped name must not be dropped in silence."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class TextFile(_Closed):
    """A text file within JSON; others go as multipart/form-data."""

    name: Annotated[str, Field(min_length=1, max_length=200, examples=["call.txt"])]
    text: str


class _AssessmentFields(_Closed):
    ticker: _Ticker
    as_of: _Day = None


class AssessmentBody(_AssessmentFields):
    """One company: its disclosure and, where a score is wanted, its prices as CSV."""

    document: TextFile
    prices: TextFile | None = None


class PortfolioBody(_Closed):
    """A portfolio: the CSV's text, and the files that it names."""

    portfolio: Annotated[str, Field(max_length=5_000_000)]
    files: Annotated[list[TextFile], Field(min_length=1, max_length=MOST_FILES)]


class _BacktestFields(_Closed):
    ticker: _Ticker | None = None
    as_of: _Day = None
    level: _Level = 0.99
    method: Annotated[str, Field(pattern=f"^{METHOD_PATTERN}$")] = "fhs-garch"


class BacktestPrices(_BacktestFields):
    """Prices as CSV: each day's VaR is forecast from the days before it, and tested."""

    prices: TextFile


class BacktestForecasts(_Closed):
    """Your own forecasts, beside the losses that came; one entry a day, losses positive."""

    losses: _Days
    value_at_risk: _Days
    expected_shortfall: _Days | None = None
    level: _Level = 0.99


def assessment_question(body: bytes | Form) -> AssessmentQuestion:
    """Returns what an assessment's body asks for.

    Raises:
        InputError: The body does not fit; every fault is named by its place.
    """
    if isinstance(body, Form):
        fields = _fields(_AssessmentFields, body, {"document", "prices"})
        document, prices = _one(body, "document"), _one_or_none(body, "prices")
        return AssessmentQuestion(fields.ticker, document, _csv(prices), fields.as_of)
    read = _read(AssessmentBody, body)
    prices = None if read.prices is None else Upload.of_text(read.prices.name, read.prices.text)
    document = Upload.of_text(read.document.name, read.document.text)
    return AssessmentQuestion(read.ticker, document, _csv(prices), read.as_of)


def portfolio_question(body: bytes | Form) -> PortfolioQuestion:
    """Returns what a portfolio's body asks for.

    Raises:
        InputError: The body does not fit, or two files have one name.
    """
    if isinstance(body, Form):
        _fields(_Closed, body, {"portfolio", "files"})
        content = _one(body, "portfolio").content.read()
        files = list(body.files.get("files", ()))
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise _unfit(["portfolio: bytes that are no UTF-8"]) from None
    else:
        read = _read(PortfolioBody, body)
        text, files = read.portfolio, [Upload.of_text(one.name, one.text) for one in read.files]
    named = {one.name: one for one in files}
    if len(named) != len(files):
        raise _unfit(["files: two of one name"])
    return PortfolioQuestion(text, named)


def backtest_question(body: bytes | Form) -> PriceQuestion | ForecastQuestion:
    """Returns what a backtest's body asks for: on prices, or on forecasts.

    Raises:
        InputError: The body does not fit.
    """
    if isinstance(body, Form):
        fields = _fields(_BacktestFields, body, {"prices"})
        return _price_question(fields, _one(body, "prices"))
    if b'"prices"' in body:
        read = _read(BacktestPrices, body)
        return _price_question(read, Upload.of_text(read.prices.name, read.prices.text))
    told = _read(BacktestForecasts, body)
    shortfall = told.expected_shortfall
    lengths = {len(told.losses), len(told.value_at_risk), len(shortfall or told.losses)}
    if len(lengths) > 1:
        raise _unfit(["losses, value_at_risk, expected_shortfall: not of one length"])
    return ForecastQuestion(
        losses=tuple(told.losses),
        value_at_risk=tuple(told.value_at_risk),
        expected_shortfall=None if shortfall is None else tuple(shortfall),
        level=told.level,
    )


def _price_question(fields: _BacktestFields, prices: Upload) -> PriceQuestion:
    checked = _csv(prices) or prices
    return PriceQuestion(checked, fields.ticker, fields.as_of, fields.level, fields.method)


def _csv(prices: Upload | None) -> Upload | None:
    """Returns the file where it is a plain CSV: a small Parquet or archive can unfold hugely."""
    if prices is not None and prices.suffix != ".csv":
        raise _unfit(["prices: not a file that ends in .csv"])
    return prices


def _read(kind: type[Body], body: bytes) -> Body:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _unfit(_faults(error)) from None


def _fields(kind: type[Body], form: Form, file_names: set[str]) -> Body:
    """Returns a form's fields; empty ones count as left out."""
    faults = [f"{name}: no such file is taken" for name in form.files if name not in file_names]
    if faults:
        raise _unfit(["a file of another name than " + ", ".join(sorted(file_names))])
    given: Mapping[str, Any] = {name: text for name, text in form.fields.items() if text}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise _unfit(_faults(error)) from None


def _one_or_none(form: Form, name: str) -> Upload | None:
    found = form.files.get(name, ())
    if len(found) > 1:
        raise _unfit([f"{name}: {len(found)} files, not one"])
    return found[0] if found else None


def _one(form: Form, name: str) -> Upload:
    found = _one_or_none(form, name)
    if found is None:
        raise _unfit([f"{name}: no such file in the form"])
    return found


def _faults(error: ValidationError) -> list[str]:
    """Returns where and what is wrong, by names of our own fields; never the value."""
    return [f"{_place(one['loc'])}: {one['type']}" for one in error.errors(include_input=False)]


def _place(location: Sequence[str | int]) -> str:
    known = {name for kind in _KINDS for name in kind.model_fields}
    parts = [str(p) if isinstance(p, int) or p in known else "(no such field)" for p in location]
    return ".".join(parts) or "body"


_KINDS: tuple[type[BaseModel], ...] = (
    *(AssessmentBody, BacktestForecasts, BacktestPrices, PortfolioBody, TextFile),
)


def _unfit(faults: Sequence[str]) -> InputError:
    more = len(faults) - _SHOWN_FAULTS
    return InputError(
        "request body",
        expected="what /docs says for this address",
        found="; ".join(faults[:_SHOWN_FAULTS]) + (f"; and {more} more" if more > 0 else ""),
        remedy="Correct these places and send it again.",
    )
