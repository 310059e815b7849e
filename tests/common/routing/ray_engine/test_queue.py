"""The queue before the replicas: who takes what, who fails when, and what is refused."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field

import pytest

from common.errors import DeadlineError, ModelError, OverloadError
from common.request import RequestContext, new_request
from common.routing.engine import Call
from common.routing.ray_engine.queue import CallQueue
from common.task import Result
from tests.common.routing.ray_models import Doubler, a_task


@dataclass(eq=False)
class Hand:
    """A worker that does what the test says."""

    open_models: frozenset[str] = frozenset()
    given_up: list[int] = field(default_factory=list)
    ended: int = 0

    def give_up(self, number: int) -> None:
        self.given_up.append(number)

    def end_replica(self) -> None:
        self.ended += 1


@pytest.fixture
def queue():
    queue = CallQueue(2, patience_s=0.0)
    yield queue
    queue.abandon()


def hands(queue: CallQueue, n: int) -> list[Hand]:
    for _ in range(n):
        queue.expect_worker()
    return [Hand() for _ in range(n)]


def put(
    queue: CallQueue, name: str = "m", request: RequestContext | None = None
) -> Future[list[Result]]:
    return queue.put(Call(Doubler(name), (a_task(),), request or new_request(), "key"))


def test_one_call_for_each_worker_and_as_many_as_may_wait_are_taken(queue: CallQueue) -> None:
    hands(queue, 1)
    for _ in range(3):
        put(queue)
    with pytest.raises(OverloadError):
        put(queue)


def test_calls_are_answered_in_their_order(queue: CallQueue) -> None:
    (hand,) = hands(queue, 1)
    first, second = put(queue), put(queue)
    for n in (1, 2):
        assert queue.take(hand, wait_s=5) is not None
        queue.done(hand, [Result({"n": n})], 0.1)
    assert [f.result(1)[0].values["n"] for f in (first, second)] == [1, 2]


def test_a_call_is_left_to_the_idle_worker_that_has_its_model_open(queue: CallQueue) -> None:
    (without,) = hands(queue, 1)
    queue.expect_worker()
    holder = Hand(frozenset({Doubler("a").profile.identity}))
    taken: dict[Hand, str] = {}

    def take(hand: Hand) -> None:
        ticket = queue.take(hand, wait_s=10)
        assert ticket is not None
        taken[hand] = ticket.call.model.profile.name
        queue.done(hand, [], 0.1)

    threads = [threading.Thread(target=take, args=(hand,)) for hand in (without, holder)]
    for thread in threads:
        thread.start()
    while len(queue._idle) < 2:
        queue.pause(0.01)
    futures = [put(queue, "a"), put(queue, "b")]
    assert [future.result(10) for future in futures] == [[], []]
    for thread in threads:
        thread.join()
    assert taken == {holder: "a", without: "b"}


def test_a_call_whose_worker_died_comes_first(queue: CallQueue) -> None:
    (hand,) = hands(queue, 1)
    first, _ = put(queue), put(queue)
    taken = queue.take(hand, wait_s=5)
    queue.give_back(hand, "it died", begun=True)
    again = queue.take(hand, wait_s=5)
    assert again is taken
    queue.done(hand, [], 0.1)
    assert first.result(1) == []


def test_the_third_death_ends_a_call_and_one_before_it_began_does_not_count(
    queue: CallQueue,
) -> None:
    (hand,) = hands(queue, 1)
    future = put(queue)
    for begun in (True, False, True, False, True):
        assert not future.done()
        assert queue.take(hand, wait_s=5) is not None
        queue.give_back(hand, "it died", begun=begun)
    with pytest.raises(ModelError, match="found 3 that died"):
        future.result(1)


def test_nothing_waits_for_replicas_none_of_which_can_be_started(queue: CallQueue) -> None:
    one, other = hands(queue, 2)
    future = put(queue)
    queue.not_started(one, "no room")
    assert not future.done()
    queue.not_started(other, "no room")
    for failed in (future, put(queue)):
        with pytest.raises(ModelError, match="no room"):
            failed.result(1)
    assert queue.take(one, wait_s=0.01) is None  # one has started after all
    assert not put(queue).done()


def test_a_worker_is_told_of_a_call_that_was_given_up_and_then_ended(queue: CallQueue) -> None:
    (hand,) = hands(queue, 1)
    request = new_request()
    future = put(queue, request=request)
    ticket = queue.take(hand, wait_s=5)
    assert ticket is not None
    ticket.number = 7
    request.give_up()
    with pytest.raises(DeadlineError):
        future.result(5)
    while not hand.ended:
        queue.pause(0.01)
    assert set(hand.given_up) == {7}
    queue.drop(hand)


def test_a_future_that_its_caller_cancels_leaves_the_queue(queue: CallQueue) -> None:
    (hand,) = hands(queue, 1)
    future, other = put(queue), put(queue)
    assert future.cancel()
    while queue.load().waiting == 2:
        queue.pause(0.01)
    assert queue.take(hand, wait_s=5) is not None
    queue.done(hand, [], 0.1)
    assert other.result(1) == []


def test_a_closing_queue_takes_nothing_and_ends_when_all_is_answered(queue: CallQueue) -> None:
    (hand,) = hands(queue, 1)
    future = put(queue)
    queue.close()
    with pytest.raises(OverloadError, match="closing"):
        put(queue)
    assert not queue.ended
    assert queue.take(hand, wait_s=5) is not None
    queue.done(hand, [], 0.1)
    assert queue.ended
    assert future.result(1) == []


def test_a_call_learns_how_long_its_model_worked_without_the_waiting(queue: CallQueue) -> None:
    (hand,) = hands(queue, 1)
    served = Call(Doubler("m"), (a_task(),), new_request(), "served")
    waiting = Call(Doubler("m"), (a_task(),), new_request(), "waiting")
    queue.put(served)
    unserved = queue.put(waiting)
    assert queue.take(hand, wait_s=5) is not None
    waiting.request.give_up()
    with pytest.raises(DeadlineError):
        unserved.result(5)
    assert waiting.work.seconds == 0.0
    queue.done(hand, [], 0.25)
    assert served.work.seconds == 0.25
