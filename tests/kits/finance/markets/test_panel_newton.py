"""The search finds known maxima, inside the box and on its bounds, for each row alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kits.finance.markets.panel_newton import maximise

LONGEST = np.array([1.0, 1.0, 1.0])


def quadratic(centres: np.ndarray, curvature: np.ndarray):  # type: ignore[no-untyped-def]
    def value_and_gradient(x, rows):  # type: ignore[no-untyped-def]
        d = x - centres[rows]
        return -0.5 * np.einsum("ni,ij,nj->n", d, curvature, d), -d @ curvature

    return value_and_gradient


@given(st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_a_quadratic_in_a_box_ends_where_its_first_order_conditions_hold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(3, 3))
    curvature = root @ root.T + 0.1 * np.eye(3)
    objective = quadratic(rng.normal(scale=2, size=(6, 3)), curvature)
    lower, upper = -np.ones(3), np.ones(3)
    found = maximise(objective, np.zeros((6, 3)), lower=lower, upper=upper, longest=LONGEST)
    assert found.converged.all()
    _, gradient = objective(found.x, np.arange(6))
    inside = (found.x > lower) & (found.x < upper)
    assert (np.abs(gradient[inside]) < 1e-3).all()
    assert (gradient[found.x == lower] <= 1e-9).all()
    assert (gradient[found.x == upper] >= -1e-9).all()


def test_rosenbrocks_valley_is_walked_to_its_end() -> None:
    def objective(x, rows):  # type: ignore[no-untyped-def]
        a, b = x.T
        value = -((1 - a) ** 2 + 100 * (b - a * a) ** 2)
        gradient = [2 * (1 - a) + 400 * a * (b - a * a), -200 * (b - a * a)]
        return value, np.stack(gradient, axis=1)

    start = np.array([[-1.2, 1.0], [2.0, -1.0]])
    box = np.full(2, 5.0)
    found = maximise(objective, start, lower=-box, upper=box, longest=np.ones(2))
    assert found.converged.all()
    np.testing.assert_allclose(found.x, 1.0, atol=1e-4)


def test_rows_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 3))
    box = np.full(3, 0.8)
    objective = quadratic(centres, np.diag([1.0, 10.0, 100.0]))
    together = maximise(objective, np.zeros((5, 3)), lower=-box, upper=box, longest=LONGEST)
    for row in range(5):
        alone = maximise(
            quadratic(centres[row : row + 1], np.diag([1.0, 10.0, 100.0])),
            np.zeros((1, 3)),
            lower=-box,
            upper=box,
            longest=LONGEST,
        )
        np.testing.assert_array_equal(alone.x[0], together.x[row])


def test_of_several_starts_the_best_reaches_the_higher_of_two_maxima() -> None:
    """-(x^2 - 9)^2 + 20 x has a low maximum on the left; its start is given up, not the other."""

    def objective(x, rows):  # type: ignore[no-untyped-def]
        value = -((x**2 - 9) ** 2) + 20 * x
        return value[:, 0], -4 * x * (x**2 - 9) + 20

    start = np.array([[-2.5], [2.0], [2.5], [-2.0]])  # two problems with two starts each
    found = maximise(
        objective,
        start,
        lower=np.array([-5.0]),
        upper=np.array([5.0]),
        longest=np.ones(1),
        problem=np.array([0, 0, 1, 1]),
    )
    for rows in ([0, 1], [2, 3]):
        best = max(rows, key=lambda row: found.value[row])
        assert found.x[best, 0] > 3.0
        assert found.converged[best]
        assert abs(-4 * found.x[best, 0] * (found.x[best, 0] ** 2 - 9) + 20) < 1e-3
