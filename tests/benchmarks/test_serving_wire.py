"""serving.wire compares codecs and servers that all give the array back."""

from __future__ import annotations

import numpy as np

from benchmarks.serving_wire import _codecs, _is_met, _round_trips


def test_every_codec_gives_the_array_back():
    array = np.random.default_rng(0).random((4, 5, 3)).astype(np.float32)
    sides = _codecs(array)
    assert set(sides) == {"link.proto", "Open Inference Protocol", "json", "orjson", "bytes"}
    assert all(np.array_equal(side(), array) for side in sides.values())


def test_every_server_answers_and_is_timed():
    """Four processes; that ours give the array back is checked before the timing."""
    array = np.random.default_rng(0).random((4, 5, 3)).astype(np.float32)
    single, in_a_row = _round_trips(array, {"wire_rounds": 2, "warm_up": 1, "pause_s": 0.0})
    assert set(single) == set(in_a_row) == {"REST", "REST echo", "gRPC", "gRPC echo"}
    assert all(len(seconds) == 2 for seconds in single.values())


def test_targets_know_which_way_is_better():
    assert _is_met("vs_json", 600.0)
    assert not _is_met("vs_json", 400.0)
    assert _is_met("rest_vs_echo", 1.2)
    assert not _is_met("rest_vs_echo", 1.6)
    assert not _is_met("grpc_vs_echo", None)
