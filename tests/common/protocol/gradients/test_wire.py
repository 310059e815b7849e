"""Messages come as they were sent, and what is no message is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import InputError, MessageError
from common.protocol.gradients.wire import Fault, FrameWire, GroupWire, Message
from common.protocol.messages.payloads import GradientFrame
from tests.common.protocol.mailboxes import Mailboxes

ROOT = Path(__file__).parents[4]
MEETING = """
import os, sys
import torch.distributed as dist
from common.errors import ExchangeError
from common.protocol.gradients import wire
wire._LEAST_TO_MEET_S = 1.0
rank = int(sys.argv[2])
dist.init_process_group("gloo", rank=rank, world_size=2, init_method=f"file://{sys.argv[1]}")
if rank == 1:
    os._exit(0)
try:
    wire.GroupWire(timeout_s=0.5)
except ExchangeError as error:
    print(error.expected, flush=True)
os._exit(0)
"""
MESSAGES = (
    Message(3),
    Message(3, torch.tensor(1.5)),
    Message(3, torch.randn(2, 0, 3), 4, n_samples=7),
    Message(3, torch.randn(2, 3).bfloat16(), 5, n_samples=7),
    Message(3, torch.randn(1).double(), fault=Fault(2, "not finite", 1)),
    Message(3, fault=Fault(0, "lost"), n_samples=1),
)


@pytest.mark.parametrize("message", MESSAGES, ids=range(len(MESSAGES)))
def test_a_message_arrives_as_it_was_sent(message):
    boxes = Mailboxes(2)
    boxes.wire(0).send(1, message)
    got = boxes.wire(1).receive(0, patience=1)
    assert (got.round, got.link, got.fault, got.n_samples) == (
        message.round,
        message.link,
        message.fault,
        message.n_samples,
    )
    if message.tensor is None:
        assert got.tensor is None
    else:
        assert got.tensor.dtype is message.tensor.dtype
        assert torch.equal(got.tensor, message.tensor)


def test_frames_carry_round_site_and_samples():
    boxes = Mailboxes(2)
    boxes.wire(0).send(1, Message(3, torch.zeros(2), n_samples=7))
    assert (boxes.frames[0].round, boxes.frames[0].site, boxes.frames[0].n_samples) == (
        3,
        "site0",
        7,
    )


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"header": np.zeros(3, dtype=np.int64)},
        {"header": np.zeros(16)},
        {"header": np.full(16, 99, dtype=np.int64)},
        {"header": np.array([0] * 6 + [1, 1, 5] + [0] * 7, dtype=np.int64)},
    ],
)
def test_a_frame_that_is_no_message_is_refused(tensors):
    frame = GradientFrame(0, "a", 0, tensors)
    wire = FrameWire(1, site="b", send=lambda *_: None, receive=lambda *_: frame)
    with pytest.raises(MessageError):
        wire.receive(0, patience=1)


def test_nothing_in_time_is_no_message():
    asked = []
    wire = FrameWire(
        1,
        site="b",
        send=lambda *_: None,
        receive=lambda rank, seconds: asked.append((rank, seconds)),
        timeout_s=2.0,
    )
    assert wire.receive(0, patience=3) is None
    assert asked == [(0, 6.0)]


def test_whole_numbers_do_not_travel():
    with pytest.raises(InputError) as caught:
        Mailboxes(2).wire(0).send(1, Message(0, torch.zeros(2, dtype=torch.int64)))
    assert "int64" in caught.value.found


def test_a_process_that_ends_before_it_makes_its_wire_is_told(tmp_path):
    """torch would wait for it for half an hour."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MEETING, str(tmp_path / "meeting"), str(rank)],
            cwd=ROOT,
            env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        told, _ = processes[0].communicate(timeout=120)
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()
    assert told == "every process to make its wire within 1 s\n"


def test_a_group_is_needed():
    with pytest.raises(InputError) as caught:
        GroupWire()
    assert caught.value.found == "no group"
