"""Blocking work runs beside the event loop, ends when its caller goes, and is bounded."""

from __future__ import annotations

import asyncio
import threading

import pytest
from starlette.requests import Request

from common.errors import DeadlineError, OverloadError
from common.request import check_wanted, current_request, new_request, serving
from common.serving.work import WorkThreads


def request_that(receive):
    return Request({"type": "http", "method": "POST", "headers": [], "path": "/"}, receive)


async def never():
    await asyncio.Event().wait()


@pytest.fixture
def work():
    opened = WorkThreads(threads=1, waiting=1)
    yield opened
    opened.close()


def test_work_sees_the_request_that_it_is_done_for(work):
    async def run():
        with serving(new_request(trace_id="1" * 32)):
            return await work.run(request_that(never), lambda: current_request().trace_id)

    assert asyncio.run(run()) == "1" * 32


def test_what_work_raises_reaches_its_caller(work):
    def fail():
        raise KeyError("x")

    with pytest.raises(KeyError):
        asyncio.run(work.run(request_that(never), fail))


def test_a_caller_who_goes_away_ends_the_work(work):
    async def gone():
        return {"type": "http.disconnect"}

    def until_given_up():
        while True:
            check_wanted()

    async def run():
        with serving(new_request(timeout_s=30)):
            await work.run(request_that(gone), until_given_up)

    with pytest.raises(DeadlineError, match="gave up"):
        asyncio.run(run())


def test_a_cancelled_task_gives_its_request_up(work):
    entered, ended = threading.Event(), threading.Event()

    def until_given_up():
        entered.set()
        try:
            while True:
                check_wanted()
        finally:
            ended.set()

    async def run():
        with serving(new_request(timeout_s=30)):
            task = asyncio.ensure_future(work.run(None, until_given_up))
            await asyncio.to_thread(entered.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await asyncio.to_thread(ended.wait, 10)

    assert asyncio.run(run())


def test_more_work_than_may_wait_is_refused_at_once_and_room_comes_back(work):
    release = threading.Event()

    async def run():
        held = [asyncio.ensure_future(work.run(None, release.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadError, match="2 requests"):
            await work.run(None, int)
        release.set()
        await asyncio.gather(*held)
        return await work.run(None, int)

    assert asyncio.run(run()) == 0
