"""A linkage is a graph without cycles, each of its lanes on processes of its own."""

from __future__ import annotations

import pytest

from common.errors import InputError
from common.protocol.gradients.linkage import Linkage

INPUTS = {"head": ("text", "image"), "text": (), "image": ("pixels",), "pixels": ()}


def test_stages_come_after_those_that_they_read():
    order = Linkage(INPUTS).order
    assert order[-1] == "head"
    assert order.index("pixels") < order.index("image")
    assert [Linkage(INPUTS).depth(name) for name in ("pixels", "text", "image", "head")] == [
        1,
        1,
        2,
        3,
    ]


def test_one_process_holds_all_stages_without_ranks():
    linkage = Linkage(INPUTS)
    assert (linkage.world_size, linkage.n_lanes) == (1, 1)
    assert set(linkage.stages_of(0)) == set(INPUTS)


def test_lanes_and_sites_have_names():
    linkage = Linkage({"text": (), "head": ("text",)}, {"text": (0, 2), "head": (1, 3)})
    assert [linkage.lane_of(rank) for rank in range(4)] == [0, 0, 1, 1]
    assert [linkage.site(rank) for rank in range(4)] == ["text.0", "head.0", "text.1", "head.1"]


def test_each_link_has_a_number_for_each_way():
    linkage = Linkage(INPUTS)
    links = [(source, name) for name in linkage.order for source in linkage.inputs[name]]
    numbers = [linkage.link(*pair, back=back) for pair in links for back in (False, True)]
    assert numbers == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("inputs", "ranks", "found"),
    [
        ({"head": ("text",)}, {}, "no stage text"),
        ({"a": ("b",), "b": ("a",)}, {}, "a cycle"),
        ({"a": (), "b": ()}, {}, "2: a, b"),
        ({"a/b": ()}, {}, "3 characters"),
        ({"a": (), "b": ("a",)}, {"a": (0,)}, "for a"),
        ({"a": (), "b": ("a",)}, {"a": (0, 1), "b": (2,)}, "[1, 2] of them"),
        ({"a": (), "b": ("a",)}, {"a": (0, 1), "b": (1, 2)}, "two of them on rank 1"),
        ({"a": (), "b": ("a",)}, {"a": (0,), "b": (2,)}, "[0, 2]"),
    ],
)
def test_what_is_no_linkage_is_refused_with_its_fault(inputs, ranks, found):
    with pytest.raises(InputError) as caught:
        Linkage(inputs, ranks)
    assert found in caught.value.found
