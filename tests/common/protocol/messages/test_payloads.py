"""A payload that was constructed is valid."""

from __future__ import annotations

import math

import pytest

from common.errors import MessageError
from common.protocol.messages.payloads import GradientFrame, SessionDelta, TransactionRecord


@pytest.mark.parametrize(
    "build",
    [
        lambda: SessionDelta("../x", 0),
        lambda: SessionDelta("s", -1),
        lambda: SessionDelta("s", 1.0),
        lambda: SessionDelta("s", 0, {"a": 1}, ("a",)),
        lambda: SessionDelta("s", 0, {"\ud800": 1}),
        lambda: TransactionRecord("t", "step", "done", "key", math.nan),
        lambda: TransactionRecord("t", 3, "done", "key", 0.0),
        lambda: GradientFrame(-1, "site", 1, {}),
        lambda: GradientFrame(0, "a/b", 1, {}),
        lambda: GradientFrame(0, "site", 1 << 63, {}),
    ],
)
def test_unusable_payloads_cannot_be_constructed(build):
    with pytest.raises(MessageError):
        build()
