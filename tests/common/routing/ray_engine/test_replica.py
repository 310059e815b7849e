"""A replica answers an attempt that comes again from memory, and hears who gave up."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path

import pytest
import torch

from common.errors import BackboneError, DeadlineError
from common.models.catalogue import Recipe
from common.models.forecaster import Forecaster
from common.routing.ray_engine.replica import Order, Replica
from tests.common.routing.ray_models import Doubler, Gated, Raising, a_task


@pytest.fixture
def replica():
    threads = torch.get_num_threads()
    yield Replica(threads=threads, models=2, remembered=2)
    torch.set_num_threads(threads)


def opened(replica: Replica, model: Doubler) -> str:
    identity = model.profile.identity
    assert replica.open(identity, model).error is None
    return identity


def order(model: str, *, number: int = 1, key: str = "k", remaining_s: float = 60.0) -> Order:
    return Order(number, key, model, (a_task(),), "0" * 31 + "1", remaining_s)


def test_an_attempt_that_comes_again_is_answered_from_memory(replica: Replica) -> None:
    model = opened(replica, Doubler())
    first = replica.answer(order(model, number=1))
    again = replica.answer(order(model, number=2))
    assert (first.executed, again.executed) == (True, False)
    assert again.results is first.results


def test_a_key_is_remembered_for_its_own_model_only(replica: Replica) -> None:
    one, other = opened(replica, Doubler("one")), opened(replica, Doubler("other"))
    replica.answer(order(one))
    assert replica.answer(order(other)).executed


def test_old_answers_make_room(replica: Replica) -> None:
    model = opened(replica, Doubler())
    for key in ("a", "b", "c"):
        replica.answer(order(model, key=key))
    assert replica.answer(order(model, key="a")).executed
    assert not replica.answer(order(model, key="c")).executed


def test_answers_larger_than_the_memory_are_not_kept() -> None:
    small = Replica(threads=torch.get_num_threads(), models=1, remembered_bytes=4)
    model = opened(small, Doubler())
    small.answer(order(model))
    assert small.answer(order(model)).executed


def test_an_error_is_not_remembered(replica: Replica) -> None:
    model = opened(replica, Raising(ValueError("x")))
    assert isinstance(replica.answer(order(model)).error, ValueError)
    assert replica.answer(order(model)).executed


def test_giving_up_before_the_attempt_begins_ends_it_and_no_later_one(replica: Replica) -> None:
    model = opened(replica, Doubler())
    replica.give_up(1)
    assert isinstance(replica.answer(order(model, number=1)).error, DeadlineError)
    assert replica.answer(order(model, number=2)).error is None


def test_giving_up_ends_the_running_attempt(replica: Replica, tmp_path: Path) -> None:
    model = opened(replica, Gated(tmp_path))
    replies = []
    thread = threading.Thread(target=lambda: replies.append(replica.answer(order(model))))
    thread.start()
    while not list(tmp_path.glob("begun-*")):
        thread.join(0.005)
    replica.give_up(1)
    thread.join()
    assert isinstance(replies[0].error, DeadlineError)


def test_an_attempt_that_comes_too_late_does_not_begin(replica: Replica, tmp_path: Path) -> None:
    model = opened(replica, Gated(tmp_path))
    assert isinstance(replica.answer(order(model, remaining_s=0.0)).error, DeadlineError)
    assert not list(tmp_path.glob("begun-*"))


def test_a_recipe_that_gives_another_model_is_refused(replica: Replica) -> None:
    here = Forecaster.named("naive").profile.identity
    assert replica.open(here, Recipe("naive", "series")).open_models == (here,)
    elsewhere = replica.open("theta elsewhere", Recipe("theta", "series"))
    assert isinstance(elsewhere.error, BackboneError)
    assert "same folder" in str(elsewhere.error)


def test_a_reply_and_an_order_show_nothing_of_what_they_carry(replica: Replica) -> None:
    model = opened(replica, Doubler())
    asked = order(model)
    reply = replica.answer(asked)
    assert "Tensor" not in repr(asked)
    assert "Result" not in repr(reply)
    assert pickle.loads(pickle.dumps(asked)).tasks[0].digest() == a_task().digest()  # noqa: S301  # our own bytes
