"""A side's memory is its own, not that of the process that measures it."""

from __future__ import annotations

from benchmarks.process_memory import peak_of_side
from benchmarks.shapes import Shape
from benchmarks.tuning_sides import SIDES, Workload, build_base, build_side

_TINY = Shape(
    "tiny",
    "bert",
    "made here",
    {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 200,
        "max_position_embeddings": 16,
    },
)


def test_what_the_measuring_process_holds_is_not_counted():
    workload = Workload(_TINY, 1, 4)
    base = build_base(workload)
    side = build_side(SIDES[0], base, workload)
    before = peak_of_side(side, base, workload)
    held = bytearray(b"x") * (1 << 30)
    after = peak_of_side(side, base, workload)
    assert len(held) == 1 << 30
    assert after < before + (1 << 29)
