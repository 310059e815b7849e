"""Forecasters give what sktime gives."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import BackboneError, DeadlineError, TaskError
from common.models.forecaster import FORECASTERS, Forecaster
from common.request import new_request, serving
from common.routing import ModelRouter
from common.task import Series, Task


def test_the_naive_forecast_repeats_the_last_value() -> None:
    router = ModelRouter(models={"series": "naive"})
    answer = router.execute({"series": [1.0, 2.0, 5.0], "parameters": {"horizon": 3}})
    assert answer["series"].result.arrays["forecast"].tolist() == [5.0, 5.0, 5.0]


@pytest.mark.parametrize("name", sorted(FORECASTERS))
def test_every_named_forecaster_continues_a_level_series(name: str) -> None:
    rng = np.random.default_rng(0)
    task = Task({"series": Series(10 + rng.normal(0, 0.1, 80))}, {"horizon": 4})
    (result,) = Forecaster.named(name).predict([task])
    assert result.arrays["forecast"].shape == (4,)
    np.testing.assert_allclose(result.arrays["forecast"], 10, atol=0.6)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(BackboneError, match="ets, naive, theta"):
        ModelRouter(models={"series": "crystal-ball"})


def test_a_horizon_that_is_no_count_is_refused() -> None:
    with pytest.raises(TaskError, match="horizon"):
        Forecaster.named("naive").predict([Task({"s": Series(np.ones(4))}, {"horizon": 0})])


def test_a_caller_who_gives_up_ends_the_work_before_the_next_series() -> None:
    request = new_request()
    request.give_up()
    with serving(request), pytest.raises(DeadlineError, match="gave up"):
        Forecaster.named("naive").predict([Task({"s": Series(np.ones(4))})])
