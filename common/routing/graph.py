"""Small acyclic graphs of named steps, checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from common.errors import TaskError

__all__ = ["Graph", "Step"]


@dataclass(frozen=True)
class Step:
    """A plain function of the outcomes of the steps that it needs.

    Args:
        name: Unique in the graph.
        run: Called with the outcomes of `needs`, by name.
        needs: Names of the steps whose outcomes it takes.
    """

    name: str
    run: Callable[[Mapping[str, Any]], Any]
    needs: tuple[str, ...] = ()


class Graph:
    """Steps in a valid order; those that do not wait for each other run side by side.

    Args:
        steps: The steps, in any order.

    Raises:
        TaskError: A name occurs twice, a needed step is absent, or steps wait in a circle.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = {step.name: step for step in steps}
        faults = []
        if len(self.steps) != len(steps):
            faults.append("a name that occurs twice")
        absent = sorted({need for step in steps for need in step.needs} - set(self.steps))
        faults += [f"a step {name!r} that is needed and absent" for name in absent]
        try:
            TopologicalSorter({step.name: step.needs for step in steps}).prepare()
        except CycleError as error:
            faults.append("a circle " + " -> ".join(error.args[1]))
        if faults:
            raise TaskError(
                "graph",
                expected="uniquely named steps without circles",
                found="; ".join(faults),
                remedy="Correct the steps' names and needs.",
            )

    def run(self) -> dict[str, Any]:
        """Runs every step on threads of its own and returns the outcomes by name.

        The first error of a step is raised after the steps already running have ended.
        """
        sorter = TopologicalSorter({step.name: step.needs for step in self.steps.values()})
        sorter.prepare()
        outcomes: dict[str, Any] = {}
        running: dict[Future[Any], str] = {}
        with ThreadPoolExecutor(len(self.steps), thread_name_prefix="step") as threads:
            while sorter.is_active():
                for name in sorter.get_ready():
                    step = self.steps[name]
                    inputs = {need: outcomes[need] for need in step.needs}
                    running[threads.submit(step.run, inputs)] = name
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    name = running.pop(future)
                    outcomes[name] = future.result()
                    sorter.done(name)
        return outcomes
