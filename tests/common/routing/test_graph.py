"""Graphs are checked before they run, and each step sees the outcomes it needs."""

from __future__ import annotations

import threading

import pytest

from common.errors import TaskError
from common.routing.graph import Graph, Step


def test_outcomes_flow_along_the_needs() -> None:
    graph = Graph(
        [
            Step("join", lambda i: i["a"] + i["b"], needs=("a", "b")),
            Step("a", lambda _: 1),
            Step("b", lambda i: i["a"] + 1, needs=("a",)),
        ]
    )
    assert graph.run() == {"a": 1, "b": 2, "join": 3}


def test_independent_steps_run_side_by_side() -> None:
    """Each of the two waits for the other; one after the other they would never end."""
    both = threading.Barrier(2, timeout=30)
    graph = Graph([Step("a", lambda _: both.wait()), Step("b", lambda _: both.wait())])
    assert set(graph.run()) == {"a", "b"}


def test_every_fault_of_a_graph_is_named_before_anything_runs() -> None:
    ran: list[str] = []
    with pytest.raises(TaskError, match=r"absent.*circle"):
        Graph(
            [
                Step("a", lambda _: ran.append("a"), needs=("b", "nowhere")),
                Step("b", lambda _: ran.append("b"), needs=("a",)),
            ]
        )
    with pytest.raises(TaskError, match="twice"):
        Graph([Step("a", lambda _: None), Step("a", lambda _: None)])
    assert ran == []


def test_a_failing_step_raises_its_own_error() -> None:
    def fail(_: object) -> None:
        raise KeyError("reason")

    with pytest.raises(KeyError, match="reason"):
        Graph([Step("a", fail)]).run()
