"""A server that drains finishes what is open and takes nothing new."""

from __future__ import annotations

import pytest

from common.errors import OverloadError
from common.serving.drain import Drain


def test_requests_are_counted_while_they_are_open():
    drain = Drain()
    with drain.passage():
        with drain.passage():
            assert drain.open_requests == 2
        assert drain.open_requests == 1
    with pytest.raises(KeyError), drain.passage():
        raise KeyError
    assert drain.open_requests == 0


def test_after_its_begin_new_requests_are_told_when_to_come_again():
    drain = Drain(retry_after_s=7)
    with drain.passage():
        drain.begin()
        assert drain.draining
        with pytest.raises(OverloadError) as refused, drain.passage():
            pass
        assert refused.value.retry_after_s == 7
        assert drain.open_requests == 1
