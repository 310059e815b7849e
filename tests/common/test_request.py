"""A request's deadline and cancellation reach the work that is done for it."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace

import pytest

from common.errors import DeadlineError, InputError
from common.request import check_wanted, current_request, new_request, serving


def test_outside_a_request_nothing_is_checked():
    check_wanted()
    assert current_request().deadline_s == math.inf


def test_an_expired_deadline_ends_the_work():
    request = new_request(timeout_s=1e-9)
    time.sleep(0.001)
    with serving(request), pytest.raises(DeadlineError, match="has passed"):
        check_wanted()
    assert request.remaining_s() == 0


def test_a_caller_who_gave_up_ends_the_work():
    request = new_request()
    with serving(request):
        check_wanted()
        request.give_up()
        with pytest.raises(DeadlineError, match="gave up"):
            check_wanted()


def test_each_thread_serves_its_own_request():
    seen = []
    with serving(new_request(trace_id="1" * 32)):
        thread = threading.Thread(target=lambda: seen.append(current_request().trace_id))
        thread.start()
        thread.join()
        assert current_request().trace_id == "1" * 32
    assert seen != ["1" * 32]


@pytest.mark.parametrize("trace_id", ["", "0" * 32, "A" * 32, "1" * 31, "1" * 33, "../../etc"])
def test_a_trace_id_that_is_none_is_refused(trace_id):
    with pytest.raises(InputError, match="trace id"):
        new_request(trace_id=trace_id)


@pytest.mark.parametrize("timeout_s", [0, -1, math.inf, math.nan])
def test_a_timeout_that_is_none_is_refused(timeout_s):
    with pytest.raises(InputError, match="timeout"):
        new_request(timeout_s=timeout_s)


def test_a_copy_that_names_a_call_is_given_up_with_the_request():
    request = new_request()
    named = replace(request, idempotency_key="call-1")
    request.give_up()
    with serving(named), pytest.raises(DeadlineError, match="gave up"):
        check_wanted()
