"""Fixtures of the protocol's tests."""

from __future__ import annotations

import pytest


@pytest.fixture
def one_thread():
    """Products of 16 units gain nothing from several threads, and lose where cores are busy."""
    import torch  # most of these tests need it not

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
