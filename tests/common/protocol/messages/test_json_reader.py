"""JSON that two readers would read otherwise is refused, and its content is not repeated."""

from __future__ import annotations

import pytest

from common.errors import MessageError
from common.protocol.messages.envelope import Envelope


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"", "character 0"),
        (b"\xff", "no UTF-8 at byte 0"),
        (b'{"version": 1,', "character 14"),
        (b'{"a": 1, "a": 2}', "stands twice"),
        (b'{"a": NaN}', "NaN"),
        (b"[" * 100_000, "levels"),
        (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
        (b'{"version": 1, "kind": "task", "payload": {}, "secret": 5}', "1 other keys"),
    ],
)
def test_a_faulty_text_is_refused_with_its_place_and_none_of_its_content(text, found):
    with pytest.raises(MessageError, match=found) as caught:
        Envelope.from_text(text)
    assert "secret" not in str(caught.value)


def test_numbers_and_levels_that_other_readers_would_read_otherwise_are_refused():
    for value in ("1e999", "[" * 70 + "]" * 70):
        text = f'{{"version": 1, "kind": "result", "payload": {{"values": {{"a": {value}}}}}}}'
        with pytest.raises(MessageError):
            Envelope.from_text(text)
