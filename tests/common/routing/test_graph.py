"""Graphs are checked whole before anything runs, and chain models with plain functions."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import numpy as np
import pytest

from common.errors import DeadlineError, ModelError, RoutingError, TaskError
from common.models.base import ModelProfile
from common.request import check_wanted, current_request, new_request
from common.routing.answer import Answer
from common.routing.graph import Graph, ModelStep, Step
from common.routing.router import ModelRouter
from common.task import Image, Result, Series, Task, Tensor, Text
from tests.common.routing.small_models import Failing, Held, WordCount


class Letters:
    """Counts each letter of a text: an array of 26."""

    profile = ModelProfile(name="letters", modality="text", digest="3", gives={"counts": (26,)})

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        texts = [task.parts["text"].text for task in tasks]
        codes = [[ord(c) - 97 for c in text if "a" <= c <= "z"] for text in texts]
        return [Result(arrays={"counts": np.bincount(c, minlength=26)}) for c in codes]


class Total:
    """Adds up a tensor of 26."""

    profile = ModelProfile(
        name="total", modality="tensor", digest="4", shapes=((26,),), gives={"sum": ()}
    )

    def predict(self, tasks: Sequence[Task]) -> list[Result]:
        values = [task.parts["vector"].values for task in tasks]
        return [Result(values={"sum": int(v.sum())}) for v in values]


def mean(series: Series) -> float:
    return float(series.values.mean())


def joined(total: Result, mean: float) -> Text:
    return Text(f"{total.values['sum']} letters, mean {mean}")


def linked() -> Graph:
    """Two branches, one of them a chain of two models, and a join."""
    return Graph(
        {"text": Text, "series": Series},
        [
            Step("joined", joined),
            ModelStep("letters", slot="text", source="text"),
            ModelStep("total", slot="vector", source="letters.counts"),
            Step("mean", mean),
        ],
        gives="joined",
    )


TASK = Task({"text": Text("abc ab"), "series": Series(np.array([1.0, 3.0]))})


@pytest.fixture
def router():
    with ModelRouter({"text": Letters(), "vector": Total()}) as router:
        yield router


def test_outputs_flow_into_inputs_branches_join_and_every_step_is_explained(router):
    found = router.run(linked(), TASK)
    assert found.output == Text("5 letters, mean 2.0")
    assert sorted(found.answers) == ["letters", "total"]
    assert found.answers["letters"].provenance.model == "letters"
    assert found.input_digest == TASK.digest()
    assert set(found.explanation) == {
        "letters: letters is the only model that takes text",
        "total: total is the only model that takes tensor",
        "mean: a function of series",
        "joined: a function of total and mean",
    }


def test_a_graph_takes_a_task_in_dictionary_form(router):
    found = router.run(linked(), {"text_prompt": "z", "series": [4.0]})
    assert found.output == Text("1 letters, mean 4.0")


def test_branches_run_side_by_side():
    """Each of the two waits for the other; one after the other they would never end."""
    both = threading.Barrier(2, timeout=30)

    def left(text: Text) -> int:
        return both.wait() * 0 + len(text.text)

    def right(text: Text) -> int:
        return both.wait() * 0 + 1

    def both_of(left: int, right: int) -> int:
        return left + right

    steps = [Step("left", left), Step("right", right), Step("sum", both_of)]
    with ModelRouter({"text": WordCount()}) as router:
        assert (
            router.run(Graph({"text": Text}, steps, gives="sum"), {"text_prompt": "ab"}).output == 3
        )


@pytest.mark.parametrize(
    ("inputs", "steps", "gives", "fault"),
    [
        ({"text": Text}, [Step("a", mean), Step("a", mean)], "a", "'a' that occurs twice"),
        ({"a": Text}, [ModelStep("a", "text", "a")], "a", "'a' that occurs twice"),
        ({"text": Text}, [ModelStep("a.b", "text", "text")], "a.b", "with a dot"),
        ({"text": Text}, [ModelStep("a", "text", "text")], "b", "no step 'b'"),
        ({"text": Text}, [ModelStep("a", "text", "txt")], "a", "'txt' that is absent"),
        ({"text": Text, "x": Text}, [ModelStep("a", "text", "text")], "a", "'x', which leads no"),
        (
            {"text": Text},
            [ModelStep("a", "text", "text"), ModelStep("b", "text", "text")],
            "a",
            "'b', which leads nowhere",
        ),
        (
            {},
            [ModelStep("a", "text", "b"), ModelStep("b", "text", "a")],
            "a",
            "a circle",
        ),
        ({"series": Text}, [Step("mean", mean)], "mean", "Text is given where Series is taken"),
        (
            {"series": Series},
            [Step("mean", mean), ModelStep("a", "text", "mean")],
            "a",
            "float is given where Text or Image",
        ),
        (
            {"series": Series},
            [
                Step("mean", mean),
                Step("x", lambda x: x, {"x": "mean.y"}, {"x": Any, "return": int}),
            ],
            "x",
            "array of what is no model's result",
        ),
        (
            {"v": Annotated[Tensor, (3,)]},
            [Step("x", lambda v: 1, types={"v": Annotated[Tensor, (4,)], "return": int})],
            "x",
            r"Tensor of shape \(3\) is given where Tensor of shape \(4\)",
        ),
        ({"x": Text}, [Step("a", lambda x: x)], "a", "no type of x"),
        ({"x": Text}, [Step("a", lambda *x: x)], "a", "no type of"),
        ({"x": Text}, [Step("a", lambda x, /: 1, types={"x": Text, "return": int})], "a", "cannot"),
        ({"x": Text}, [Step("a", 5)], "a", "not a callable"),
        ({"x": 5}, [ModelStep("a", "text", "x")], "a", "type int"),
    ],
)
def test_a_graph_that_cannot_work_is_not_made(inputs, steps, gives, fault):
    with pytest.raises(TaskError, match=fault):
        Graph(inputs, steps, gives=gives)


def test_every_fault_is_named_at_once():
    with pytest.raises(TaskError, match=r"'b' that is absent; a source 'c' that is absent"):
        Graph({}, [ModelStep("a", "text", "b"), ModelStep("d", "text", "c")], gives="a")


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        (
            ModelStep("last", "image", "letters.counts"),
            "no model in slot 'image' that takes Tensor",
        ),
        (ModelStep("last", "vector", "letters.other"), "letters does not say it gives"),
        (ModelStep("last", "text", "letters.counts"), "no model in slot 'text' that takes Tensor"),
        (ModelStep("last", "short", "letters.counts"), r"takes Tensor of shape \(26\)"),
    ],
)
def test_models_that_do_not_fit_are_named_before_anything_runs(step, fault):
    first = Held("letters", gives={"counts": (26,)})
    narrow = Total()
    narrow.profile = ModelProfile(name="n", modality="tensor", digest="5", shapes=((25,),))
    with ModelRouter({"text": first, "vector": Total(), "short": narrow}) as router:
        graph = Graph({"text": Text}, [ModelStep("letters", "text", "text"), step], gives="last")
        with pytest.raises(TaskError, match=fault):
            router.run(graph, {"text_prompt": "a"})
    assert first.traces == []


@pytest.mark.parametrize(
    ("task", "fault"),
    [
        (Task({"text": Text("a")}), "no part 'series'"),
        (Task({**TASK.parts, "image": Image(np.zeros((2, 2)))}), "'image' too many"),
        (Task({**TASK.parts, "series": Text("a")}), "Text is given where Series is taken"),
    ],
)
def test_a_task_that_does_not_fit_is_refused_before_anything_runs(router, task, fault):
    with pytest.raises(TaskError, match=fault):
        router.run(linked(), task)


def test_a_step_that_gives_another_type_than_it_says_is_an_error(router):
    def wrong(text: Text) -> Series:
        return text

    graph = Graph({"text": Text}, [Step("wrong", wrong)], gives="wrong")
    with pytest.raises(ModelError, match=r"'wrong'.*Text is given where Series"):
        router.run(graph, {"text_prompt": "a"})


def test_an_array_of_another_shape_than_the_model_says_is_refused_where_it_is_taken():
    lying = Letters()
    lying.profile = ModelProfile(name="lying", modality="text", digest="6", gives={"counts": (25,)})

    def takes(counts: Annotated[Tensor, (25,)]) -> int:
        return counts.values.size

    graph = Graph(
        {"text": Text},
        [ModelStep("letters", "text", "text"), Step("n", takes, {"counts": "letters.counts"})],
        gives="n",
    )
    with (
        ModelRouter({"text": lying}) as router,
        pytest.raises(ModelError, match=r"'letters\.counts'"),
    ):
        router.run(graph, {"text_prompt": "a"})


def test_a_failing_step_raises_its_own_error_and_gives_up_the_other_branch(router):
    waits, ended = threading.Event(), threading.Event()

    def fails(series: Series) -> float:
        waits.wait(30)
        raise KeyError("reason")

    def slow(text: Text) -> int:
        waits.set()
        current_request().given_up.wait(30)
        ended.set()
        check_wanted()
        return 1

    def join(fails: float, slow: int) -> float:
        return fails + slow

    graph = Graph(
        {"text": Text, "series": Series},
        [Step("fails", fails), Step("slow", slow), Step("join", join)],
        gives="join",
    )
    with pytest.raises(KeyError, match="reason"):
        router.run(graph, TASK)
    assert ended.wait(30)


def test_a_model_that_fails_gives_way_to_the_next_inside_a_graph():
    models = [Failing("broken", [ZeroDivisionError()]), WordCount()]
    graph = Graph({"text": Text}, [ModelStep("count", "text", "text")], gives="count")
    with ModelRouter({"text": models}) as router:
        found = router.run(graph, {"text_prompt": "a b"})
    assert isinstance(found.output, Answer)
    assert found.explanation == ("count: words answered after broken failed (ZeroDivisionError)",)


def test_the_deadline_of_the_request_holds_for_the_graph():
    model = Held()
    graph = Graph({"text": Text}, [ModelStep("count", "text", "text")], gives="count")
    with ModelRouter({"text": model}) as router:
        with pytest.raises(DeadlineError):
            router.run(graph, {"text_prompt": "a"}, request=new_request(timeout_s=0.05))
        model.go.set()


def test_a_part_no_model_can_take_is_found_when_it_comes():
    short = WordCount("short", max_length=1)
    graph = Graph({"text": Text}, [ModelStep("count", "text", "text")], gives="count")
    with ModelRouter({"text": short}) as router, pytest.raises(RoutingError, match="1 tokens"):
        router.run(graph, {"text_prompt": "one two three"})


def test_functions_may_be_partial_classes_or_objects_and_keep_their_defaults(router):
    class Scale:
        def __init__(self, factor: float) -> None:
            self.factor = factor

        def __call__(self, mean: float, offset: float = 0.0) -> float:
            return self.factor * mean + offset

    def power(scaled: float, exponent: int) -> str:
        return str(scaled**exponent)

    steps = [
        Step("mean", mean),
        Step("scaled", Scale(2.0)),
        Step("power", partial(power, exponent=3)),
        Step("text", Text, {"text": "power"}),
    ]
    found = router.run(Graph({"series": Series}, steps, gives="text"), {"series": [1.0, 3.0]})
    assert found.output == Text("64.0")
