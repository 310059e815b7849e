"""An override needs a reason and two people, ends by itself, and leaves the model's number."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import (
    AccessError,
    ConflictError,
    InputError,
    MissingInputError,
    StoreError,
    UnknownNameError,
)
from common.settings import load_settings
from kits.finance.governance.overrides import LONGEST_DAYS, OverrideLog
from kits.finance.governance.record import read_record
from kits.finance.pipeline import assess
from kits.finance.replay import replay

REASON = "Litigation was settled after the filing."
TODAY = datetime.now(UTC).date()
LATER = TODAY + timedelta(days=90)


@pytest.fixture
def log(tmp_path):
    return OverrideLog(tmp_path / "log")


@pytest.fixture
def own_home(tmp_path):
    """A TANDEM_HOME that no other test sees."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TANDEM_HOME", str(tmp_path / "home"))
        load_settings.cache_clear()
        yield
    load_settings.cache_clear()


@pytest.fixture
def proposed(log, assessed):
    """A proposal on the real assessment."""
    return log.propose(
        assessed / "assessment.json",
        figure="/score",
        value=35.0,
        reason=REASON,
        by="A. Weber",
        expires=LATER,
    )


def test_a_proposal_alone_has_no_effect(log, proposed, assessed):
    """It carries the model's own number and the digest of what was looked at."""
    written = json.loads((assessed / "assessment.json").read_text())
    assert proposed.model_value == written["score"]
    assert proposed.assessment_sha256 == read_record(assessed).outputs["assessment.json"]
    assert log.all() == (proposed,)
    assert log.in_force("SP500", on=TODAY) == ()


def test_a_second_person_puts_it_in_force_until_it_expires(log, proposed):
    """For its own ticker alone, up to and with its last day."""
    approved = log.approve(proposed.override_id, by="C. Okafor")
    assert approved.approved_by == "C. Okafor"
    assert log.in_force("sp500 ", on=TODAY) == (approved,)
    assert log.in_force("SP500", on=LATER) == (approved,)
    assert log.in_force("SP500", on=LATER + timedelta(days=1)) == ()
    assert log.in_force("OTHER", on=TODAY) == ()
    assert approved.model_value == proposed.model_value


@pytest.mark.parametrize("name", ["A. Weber", "a weber", " A.WEBER ", "Ａ. Weber"])
def test_the_first_person_cannot_be_the_second(log, proposed, name):
    """However the name is written."""
    with pytest.raises(AccessError, match="second person"):
        log.approve(proposed.override_id, by=name)
    assert log.in_force("SP500", on=TODAY) == ()


def test_nobody_approves_twice_or_what_is_not_there(log, proposed):
    """Neither does a name of blanks."""
    with pytest.raises(InputError, match="no name"):
        log.approve(proposed.override_id, by=" . ")
    log.approve(proposed.override_id, by="C. Okafor")
    with pytest.raises(ConflictError, match="approved before"):
        log.approve(proposed.override_id, by="D. Silva")
    with pytest.raises(UnknownNameError):
        log.approve("0" * 16, by="D. Silva")


def test_a_figure_has_one_override_at_a_time(log, proposed, assessed):
    """A second one waits until the first is withdrawn."""
    log.approve(proposed.override_id, by="C. Okafor")
    other = log.propose(
        assessed / "assessment.json",
        figure="/score",
        value=50.0,
        reason=REASON,
        by="C. Okafor",
        expires=LATER,
    )
    with pytest.raises(ConflictError, match="withdrawn first"):
        log.approve(other.override_id, by="A. Weber")
    log.withdraw(proposed.override_id, by="A. Weber", reason="Superseded by new facts.")
    log.approve(other.override_id, by="A. Weber")
    assert [one.value for one in log.in_force("SP500", on=TODAY)] == [50.0]


def test_it_can_be_withdrawn_and_stays_in_the_log(log, proposed):
    """With a reason too."""
    log.approve(proposed.override_id, by="C. Okafor")
    with pytest.raises(InputError, match="reason"):
        log.withdraw(proposed.override_id, by="A. Weber", reason="no")
    ended = log.withdraw(proposed.override_id, by="A. Weber", reason="The court reopened it.")
    assert log.all() == (ended,)
    assert ended.value == 35.0
    assert log.in_force("SP500", on=TODAY) == ()
    with pytest.raises(ConflictError, match="withdrawn"):
        log.withdraw(proposed.override_id, by="A. Weber", reason="The court reopened it.")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reason": "  because   "}, "reason"),
        ({"figure": "/market/tail/value_at_risk"}, "a figure that is none of"),
        ({"value": 101.0}, "outside 0 to 100"),
        ({"value": float("nan")}, "outside 0 to 100"),
        ({"by": ""}, "no name"),
        ({"expires": date(2020, 1, 1)}, "expiry date"),
        ({"expires": TODAY + timedelta(days=LONGEST_DAYS + 1)}, "expiry date"),
    ],
)
def test_what_is_wrong_with_a_proposal_is_told(log, assessed, change, words):
    """Nothing is written."""
    proposal = {"figure": "/score", "value": 1.0, "reason": REASON, "by": "A", "expires": LATER}
    with pytest.raises(InputError, match=words):
        log.propose(assessed / "assessment.json", **(proposal | change))
    assert log.all() == ()


def test_an_assessment_without_the_number_cannot_be_overridden(log, tmp_path):
    """One of text alone has no score; one that is none is refused, and so is no file."""
    proposal = {"figure": "/score", "value": 1.0, "reason": REASON, "by": "A", "expires": LATER}
    path = tmp_path / "assessment.json"
    with pytest.raises(MissingInputError):
        log.propose(path, **proposal)
    for content, words in (
        ('{"ticker": "X", "score": null}', "without that number"),
        ("[", "none"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=words):
            log.propose(path, **proposal)


def test_an_edited_log_stops_everything(log, proposed, tmp_path):
    """A number that was changed in the file is never shown as approved."""
    log.approve(proposed.override_id, by="C. Okafor")
    (path,) = (tmp_path / "log").glob("audit-*.jsonl")
    path.write_text(path.read_text().replace('"value":35.0', '"value":5.0'))
    with pytest.raises(StoreError, match="edited"):
        log.in_force("SP500", on=TODAY)


def test_the_next_assessment_shows_it_beside_the_models_number(
    bundled_inputs, text_router, tmp_path, own_home
):
    """The model's number stays; a replay shows the same although it has ended since."""
    arguments = {
        "prices": bundled_inputs / "sp500.csv",
        "ticker": "SP500",
        "router": text_router,
    }
    document = bundled_inputs / "annual_report.html"
    assess(document, out=tmp_path / "first", **arguments)
    log = OverrideLog.from_settings()
    one = log.propose(
        tmp_path / "first" / "assessment.json",
        figure="/score",
        value=35.0,
        reason=REASON,
        by="A. Weber",
        expires=LATER,
    )
    log.approve(one.override_id, by="C. Okafor")
    assess(document, out=tmp_path / "second", **arguments)
    first, second = (
        json.loads((tmp_path / name / "assessment.json").read_text())
        for name in ("first", "second")
    )
    assert first["overrides"] == []
    (shown,) = second["overrides"]
    assert (shown["figure"], shown["value"], shown["model_value"]) == (
        "/score",
        35.0,
        first["score"],
    )
    assert shown["reason"] == REASON
    assert (shown["proposed_by"], shown["approved_by"]) == ("A. Weber", "C. Okafor")
    assert second["score"] == first["score"]
    log.withdraw(one.override_id, by="C. Okafor", reason="The court reopened it.")
    assert replay(tmp_path / "second", router=text_router).identical


@given(names=st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=2))
def test_approval_never_takes_one_name_twice(tmp_path_factory, assessed, names):
    """Whatever two names are: either they are two people, or it is refused."""
    log = OverrideLog(tmp_path_factory.mktemp("log"))
    first, second = names
    try:
        one = log.propose(
            assessed / "assessment.json",
            figure="/score",
            value=1.0,
            reason=REASON,
            by=first,
            expires=LATER,
        )
        approved = log.approve(one.override_id, by=second)
    except (AccessError, InputError):
        return
    assert approved.proposed_by.casefold() != approved.approved_by.casefold()
