"""Price tables: what is read, what is refused, and that nothing later than as-of is seen."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.errors import MissingInputError, StaleDataError, TableError
from kits.finance.markets.prices import PriceHistory, read_prices

REAL = Path("finance/us_prices/prices_2010_2017.parquet")


def walk(rows: int = 600, *, seed: int = 0) -> pd.DataFrame:
    """A seeded random walk with whole bars on business days."""
    generator = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(generator.normal(0, 0.01, rows)))
    opening = close * np.exp(generator.normal(0, 0.003, rows))
    high = np.maximum(close, opening) * 1.004
    low = np.minimum(close, opening) / 1.004
    return pd.DataFrame(
        {
            "Date": pd.bdate_range("2014-01-02", periods=rows).strftime("%Y-%m-%d"),
            "Open": opening,
            "High": high,
            "Low": low,
            "Close": close,
            "Volume": 1000,
        }
    )


@pytest.fixture
def history_of(tmp_path: Path) -> Callable[..., PriceHistory]:
    """Writes a frame as CSV and reads it back as the history of ticker ACME."""

    def build(frame: pd.DataFrame, **options: object) -> PriceHistory:
        path = tmp_path / "prices.csv"
        frame.to_csv(path, index=False)
        return read_prices(path).history("acme", **options)  # type: ignore[arg-type]

    return build


class TestReading:
    def test_csv_and_parquet_give_the_same_history(self, tmp_path: Path) -> None:
        """The two formats differ in nothing that is used."""
        frame = walk()
        frame.to_csv(tmp_path / "p.csv", index=False)
        frame.to_parquet(tmp_path / "p.parquet")
        frame.assign(Date=pd.to_datetime(frame["Date"])).set_index("Date").to_parquet(
            tmp_path / "indexed.pq"
        )
        histories = [
            read_prices(tmp_path / n).history("ACME") for n in ("p.csv", "p.parquet", "indexed.pq")
        ]
        assert len({h.digest for h in histories}) == 1
        assert histories[0].close.shape == (600,)
        assert histories[0].notes == ()

    def test_tickers_that_pandas_would_misread_are_kept(self, tmp_path: Path) -> None:
        """NA and TRUE are tickers, not a missing value and a truth value."""
        long = pd.concat([walk(seed=i).assign(ticker=t) for i, t in enumerate(("NA", "TRUE"))])
        long.to_csv(tmp_path / "p.csv.gz", index=False)
        table = read_prices(tmp_path / "p.csv.gz")
        np.testing.assert_allclose(table.history("na").close, walk(seed=0)["Close"], rtol=1e-12)
        np.testing.assert_allclose(table.history("True").close, walk(seed=1)["Close"], rtol=1e-12)

    def test_exchange_dates_survive_time_zones(self, tmp_path: Path) -> None:
        """A midnight in Tokyo stays the day in Tokyo."""
        frame = walk()
        days = frame["Date"].copy()
        frame["Date"] = pd.to_datetime(frame["Date"]).dt.tz_localize("Asia/Tokyo")
        frame.to_parquet(tmp_path / "p.parquet")
        frame.to_csv(tmp_path / "p.csv", index=False)
        for name in ("p.parquet", "p.csv"):
            assert str(read_prices(tmp_path / name).history("X").dates[0]) == days[0]

    def test_adjusted_closes_scale_the_whole_bar(self, history_of: Callable) -> None:
        """After a 2:1 split the bar stands on the basis of the adjusted close."""
        frame = walk()
        history = history_of(frame.assign(**{"Adj Close": frame["Close"] / 2}))
        np.testing.assert_allclose(history.close, frame["Close"] / 2, rtol=1e-12)
        np.testing.assert_allclose(history.high, frame["High"] / 2, rtol=1e-12)

    def test_only_closes_are_enough(self, history_of: Callable) -> None:
        """Without open, high and low these are None."""
        history = history_of(walk()[["Date", "Close"]])
        assert history.open is None
        assert history.low is None

    def test_contradictory_bars_are_noted_and_not_fatal(self, history_of: Callable) -> None:
        """A zero open and a close above the high cost the bar, not the company."""
        frame = walk()
        frame.loc[10, "Open"] = 0.0
        frame.loc[20, "High"] = frame.loc[20, "Close"] * 0.99
        history = history_of(frame)
        assert np.flatnonzero(np.isnan(history.high)).tolist() == [10, 20]
        assert "2 of 600 daily bars" in history.notes[0]
        assert np.isfinite(history.close).all()

    def test_split_like_moves_are_noted(self, history_of: Callable) -> None:
        """A close that halves within a day raises a question, not an error."""
        frame = walk()[["Date", "Close"]]
        frame.loc[300:, "Close"] /= 4
        notes = history_of(frame).notes
        assert f"{frame['Date'][300]} (4 for 1)" in notes[0]
        assert "adjusted for splits" in notes[1]

    def test_declared_splits_are_brought_across(self, history_of: Callable) -> None:
        """Raw closes and already adjusted ones end on one basis, bars included."""
        frame = walk()
        frame["Stock Splits"] = 0.0
        frame.loc[[200, 400], "Stock Splits"] = (2.0, 0.1)
        raw = frame.copy()
        for name in ("Open", "High", "Low", "Close"):
            raw.loc[:199, name] *= 2.0 * 0.1
            raw.loc[200:399, name] *= 0.1
        plain, brought = history_of(frame), history_of(raw)
        np.testing.assert_allclose(brought.close, plain.close, rtol=1e-12)
        np.testing.assert_allclose(brought.high, plain.high, rtol=1e-12)
        assert (plain.basis, brought.basis) == ("close", "close brought across splits")
        assert (
            f"{frame['Date'][200]} (2 for 1), {frame['Date'][400]} (0.1 for 1)"
            in (brought.notes[0])
        )
        assert plain.notes == ()

    def test_splits_are_not_brought_across_adjusted_closes(self, history_of: Callable) -> None:
        """An adjusted close stands as it is."""
        frame = walk()
        splits = np.where(np.arange(600) == 200, 2.0, 0.0)
        history = history_of(frame.assign(**{"Adj Close": frame["Close"], "split": splits}))
        np.testing.assert_allclose(history.close, frame["Close"], rtol=1e-12)
        assert history.basis == "adjusted close"

    def test_the_currency_is_stated_and_part_of_the_digest(self, history_of: Callable) -> None:
        """Pence are not pounds; a table that is silent leaves it unknown."""
        silent = history_of(walk())
        pence, pounds = (history_of(walk().assign(Currency=c)) for c in ("GBp", "GBP"))
        assert (silent.currency, pence.currency, pounds.currency) == (None, "GBp", "GBP")
        assert len({silent.digest, pence.digest, pounds.digest}) == 3

    def test_standing_quotes_and_jumps_that_come_back_are_noted(self, history_of: Callable) -> None:
        """Seven equal closes, and one close with its comma astray."""
        frame = walk()[["Date", "Close"]]
        frame.loc[100:106, "Close"] = frame.loc[100, "Close"]
        frame.loc[300, "Close"] *= 10
        notes = " ".join(history_of(frame).notes)
        assert f"the longest 7 rows up to {frame['Date'][106]}" in notes
        assert f"came back the next day, the last on {frame['Date'][300]}" in notes

    def test_weekends_missing_weekdays_and_gaps_are_noted(self, history_of: Callable) -> None:
        """What a day of the forecast means follows from the rows."""
        daily = walk().assign(Date=pd.date_range("2014-01-02", periods=600).strftime("%Y-%m-%d"))
        assert "on Saturdays or Sundays" in history_of(daily).notes[0]
        thinned = walk(700).drop(index=range(5, 700, 9))
        assert "weekdays have no price" in history_of(thinned).notes[0]
        gap = walk(605).drop(index=range(50, 55))
        assert "1 gap of 6 to 10 days between rows" in history_of(gap).notes[-1]

    def test_a_part_of_a_history_is_what_a_shorter_file_gives(self, history_of: Callable) -> None:
        """The same rows, the same digest."""
        whole, short = history_of(walk(700)), history_of(walk(700).iloc[:600])
        assert whole.part(slice(600)).digest == short.digest

    def test_histories_are_read_only(self, history_of: Callable) -> None:
        """A history cannot be changed between stages."""
        with pytest.raises(ValueError, match="read-only"):
            history_of(walk()).close[0] = 1.0


class TestAsOf:
    def test_rows_after_as_of_change_nothing(self, history_of: Callable) -> None:
        """There is no look-ahead: faulty or altered later rows leave the digest alone."""
        frame = walk(700)
        as_of = dt.date.fromisoformat(frame["Date"][599])
        changed = frame.copy()
        changed.loc[600:, "Close"] = -1.0
        first, second, cut = (
            history_of(f, as_of=as_of) for f in (frame, changed, frame.iloc[:600])
        )
        assert first.digest == second.digest == cut.digest
        assert first.last_date == as_of
        assert "100 price rows after" in first.notes[0]

    def test_stale_prices_are_refused(self, history_of: Callable) -> None:
        """An as-of date eleven days after the last price is too late, ten days are not."""
        frame = walk()
        last = dt.date.fromisoformat(frame["Date"].iloc[-1])
        assert history_of(frame, as_of=last + dt.timedelta(days=10)).last_date == last
        with pytest.raises(StaleDataError, match=rf"{last}, 11 days before"):
            history_of(frame, as_of=last + dt.timedelta(days=11))

    def test_an_as_of_date_before_the_first_price_is_refused(self, history_of: Callable) -> None:
        """Nothing is known then."""
        with pytest.raises(TableError, match="0 rows up to the as-of date"):
            history_of(walk(), as_of=dt.date(2000, 1, 3))


def _duplicate(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame.iloc[:11], frame.iloc[10:]])


def _gap(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame.iloc[:50], frame.iloc[60:]])


def _standing(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(Close=frame["Close"].iloc[::4].reindex(frame.index).ffill())


def _setting(
    column: str, value: object, *, start: object = None
) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame if start is None else frame.assign(**{column: start})
        values = frame[column].astype(object)
        values.iloc[7] = value
        return frame.assign(**{column: values})

    return change


class TestFaults:
    @pytest.mark.parametrize(
        ("spoil", "found"),
        [
            (_duplicate, "1 rows with a date that occurs more than once"),
            (_gap, "1 gap of more than 10 days"),
            (lambda f: f.iloc[::-1], "599 rows dated before the row above"),
            (_setting("Date", "02/03/2014"), "1 rows whose date is not a day"),
            (_setting("Close", "n/a"), "1 rows whose close is not a number"),
            (_setting("Close", "inf"), "1 rows whose close is not a number"),
            (_setting("Close", -3.0), "1 rows with a close of zero or less"),
            (_setting("Close", 0.0), "1 rows with a close of zero or less"),
            (lambda f: f.iloc[:499], "499 rows up to the as-of date"),
            (lambda f: f.assign(Close=5.0), "the same close on each of the last 250 rows"),
            (_standing, "a close equal to the day before on 187 of the last 250 rows"),
            (lambda f: f.assign(split=-2.0), "600 rows whose split is not a ratio above zero"),
            (_setting("Split", "two", start=1.0), "1 rows whose split is not a ratio above zero"),
            (_setting("Currency", "EUR", start="USD"), "rows in 2 currencies"),
            (lambda f: f.assign(currency="$"), "a currency that is no code of three letters"),
        ],
    )
    def test_each_fault_of_the_rows_is_refused_with_a_remedy(
        self, history_of: Callable, spoil: Callable, found: str
    ) -> None:
        """Every bad input of the border has its words."""
        with pytest.raises(TableError, match="prices of ACME") as caught:
            history_of(spoil(walk()))
        assert found in caught.value.found
        assert "Correct or drop" in caught.value.remedy

    def test_all_faults_are_told_at_once(self, history_of: Callable) -> None:
        """Nobody has to correct a file fault by fault."""
        spoiled = _duplicate(_gap(_setting("Close", -1.0)(walk(400))))
        with pytest.raises(TableError) as caught:
            history_of(spoiled, as_of=dt.date(2020, 1, 2))
        for words in ("zero or less", "more than once", "1 gap", "391 rows", "days before it"):
            assert words in caught.value.found
        assert not isinstance(caught.value, StaleDataError)

    def test_faults_of_other_tickers_do_not_matter(self, tmp_path: Path) -> None:
        """Only the asked ticker's rows are checked."""
        bad = walk().assign(ticker="BAD", Close="x")
        pd.concat([walk().assign(ticker="GOOD"), bad]).to_csv(tmp_path / "p.csv", index=False)
        table = read_prices(tmp_path / "p.csv")
        assert len(table.history("GOOD").dates) == 600
        with pytest.raises(TableError, match="600 rows whose close is not a number"):
            table.history("BAD")

    def test_an_unknown_ticker_is_refused_with_close_matches(self, tmp_path: Path) -> None:
        """A slip of the finger is answered with what was meant."""
        walk().assign(Symbol="AAPL").to_csv(tmp_path / "p.csv", index=False)
        with pytest.raises(TableError, match="Did you mean AAPL"):
            read_prices(tmp_path / "p.csv").history("APPL")

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("ticker;date;close\nA;2014-01-02;3\n", "no column date; no column close"),
            ("date,Close,CLOSE\n2014-01-02,3,3\n", "two columns for close"),
            ("date,close\n", "no rows"),
            ("", "EmptyDataError"),
        ],
    )
    def test_files_without_the_columns_are_refused(
        self, tmp_path: Path, text: str, found: str
    ) -> None:
        """The header is checked before any row."""
        (tmp_path / "p.csv").write_text(text, encoding="utf-8")
        with pytest.raises(TableError) as caught:
            read_prices(tmp_path / "p.csv")
        assert found in caught.value.found

    @pytest.mark.parametrize("name", ["p.csv", "p.parquet", "p.csv.gz"])
    def test_other_binary_files_are_refused(self, tmp_path: Path, name: str) -> None:
        """A picture is no price table."""
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe" * 20)
        with pytest.raises(TableError):
            read_prices(tmp_path / name)

    def test_a_missing_file_is_refused(self, tmp_path: Path) -> None:
        """The path is not repeated in the message."""
        with pytest.raises(MissingInputError, match="no file of that name"):
            read_prices(tmp_path / "absent.csv")


class TestRealPrices:
    def test_most_real_tickers_are_read_and_the_others_refused_with_reason(
        self, tandem_data: Path
    ) -> None:
        """Every twentieth ticker of the open price file is read or refused, never half read."""
        table = read_prices(tandem_data / REAL)
        assert table.positions is not None
        read, refused = 0, []
        for ticker in list(table.positions)[::20]:
            try:
                history = table.history(ticker, as_of=dt.date(2016, 6, 30))
            except TableError as error:
                refused.append(error.found)
            else:
                read += 1
                assert history.last_date <= dt.date(2016, 6, 30)
        assert read > 10 * len(refused)
        assert all(refused)
