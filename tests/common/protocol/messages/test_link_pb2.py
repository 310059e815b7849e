"""The module beside link.proto is the one that protoc makes of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.protocol.messages import buffers, link_pb2
from common.protocol.messages.payloads import KINDS
from tests.reference.link_protocol import PROTO, ROOT, generated

MODULE = (ROOT / PROTO).with_name("link_pb2.py")


def without_version(text: str) -> str:
    """Another release of protoc writes its own version, and nothing else, otherwise."""
    text = re.sub(r"(?m)^# Protobuf Python Version: .*\n", "", text)
    return re.sub(r"(?s)ValidateProtobufRuntimeVersion\(.*?\n\)\n", "", text)


def test_the_module_is_that_of_the_proto() -> None:
    pytest.importorskip("grpc_tools")
    assert without_version(MODULE.read_text()) == without_version(generated())


def test_the_fields_that_the_codec_reads_by_number_have_these_numbers() -> None:
    fields = link_pb2.Envelope.DESCRIPTOR.fields_by_name
    assert fields["padding"].number == buffers._PADDING
    assert fields["buffers"].number == buffers._BUFFERS
    assert list(KINDS) == [field.name for field in fields["task"].containing_oneof.fields]


def test_the_script_is_named_in_the_proto() -> None:
    assert Path("tests/reference/link_protocol.py").name in (ROOT / PROTO).read_text()
