"""Newton's method in a box for many small maximisations at once.

Every problem has its own few coordinates; problems are rows, coordinates columns. The Hessian
is taken from differences of the exact gradient at the start and every few steps, and brought
up to date in between by the symmetric rank-one formula (Nocedal and Wright 2006, equation
6.24). Bounds are kept as Bertsekas (1982, "Projected Newton methods for optimization problems
with simple constraints") keeps them: coordinates that lie on a bound and are pushed outwards
stand still, the others take the Newton step, which is then projected onto the box and halved
until the objective rises enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

__all__ = ["Maximum", "ValueAndGradient", "maximise"]

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]
ValueAndGradient = Callable[[Floats, Rows], tuple[Floats, Floats]]

DECREMENT = 1e-10
"""Half the Newton decrement, in units of the objective, below which a row has converged."""

_MOST_STEPS = 80
_MOST_HALVINGS = 20
_RACE_STEPS = 6  # after which starts of one problem are compared
_RACE_MARGIN = 4.0  # in units of the objective: who is further behind is given up
_RACE_DISTANCE = 0.02  # in the largest coordinate: who is nearer runs to the same place
_FRESH_FOR = 8  # steps that a Hessian is brought up to date before it is taken anew
_DIFFERENCE = 1e-6  # of a coordinate, for the Hessian: near the root of float64's precision
_LEAST_CURVATURE = 1e-8  # of the largest eigenvalue: flat directions take bounded steps
_ARMIJO = 1e-4
_TOUCHING = 1e-7  # a coordinate this near a bound lies on it


@dataclass(frozen=True, eq=False)
class Maximum:
    """Where the search ended.

    Args:
        x: `(n_rows, k)`, inside the box.
        value: `(n_rows,)`, the objective there.
        converged: `(n_rows,)`, whether the Newton decrement fell below `DECREMENT`.
        n_steps: Steps of the slowest row.
    """

    x: Floats
    value: Floats
    converged: Flags
    n_steps: int


def maximise(
    value_and_gradient: ValueAndGradient,
    start: Floats,
    *,
    lower: Floats,
    upper: Floats,
    longest: Floats,
    problem: Rows | None = None,
) -> Maximum:
    """Maximises every row's objective from its own start.

    Args:
        value_and_gradient: The objective of rows: takes `(m, k)` and their row numbers
            `(m,)`, gives `(m,)` and `(m, k)`. A row number may occur more than once.
        start: `(n_rows, k)`, inside the box.
        lower: `(k,)`.
        upper: `(k,)`.
        longest: `(k,)`, the longest step of each coordinate.
        problem: `(n_rows,)`, the number of each row's problem where several rows are starts of
            one: after a few steps those behind, or beside the best one, are given up and stay
            where they are, not converged.
    """
    n_rows, k = start.shape
    x, hessian = start.copy(), np.empty((n_rows, k, k))
    age = np.full(n_rows, _FRESH_FOR)
    active = np.arange(n_rows, dtype=np.intp)
    best, gradient = value_and_gradient(x, active)
    converged = np.zeros(n_rows, dtype=bool)
    n_steps = 0
    while len(active) and n_steps < _MOST_STEPS:
        n_steps += 1
        old = active[age[active] >= _FRESH_FOR]
        if len(old):
            hessian[old] = _hessian(value_and_gradient, x[old], gradient[old], old, upper)
            age[old] = 0
        at, g = x[active], gradient[active]
        step = _newton_step(hessian[active], g, at, lower, upper)
        small = 0.5 * np.einsum("nk,nk->n", step, g) < DECREMENT
        converged[active[small]] = True
        rows, step, at = active[~small], step[~small], at[~small]
        if not len(rows):
            break
        step *= np.minimum(1.0, (longest / np.maximum(np.abs(step), 1e-300)).min(axis=1))[:, None]
        found, values, gradients, moved = _search(
            partial(_of_rows, value_and_gradient, rows),
            (at, best[rows], gradient[rows]),
            step,
            lower=lower,
            upper=upper,
        )
        hessian[rows] = _brought_up(hessian[rows], found - at, gradients - gradient[rows])
        stuck = rows[~moved & (age[rows] == 0)]  # a fresh Hessian did not help either
        age[rows] = np.where(moved, age[rows] + 1, _FRESH_FOR)
        x[rows], best[rows], gradient[rows] = found, values, gradients
        active = rows[~np.isin(rows, stuck)]
        if problem is not None and n_steps == _RACE_STEPS:
            active = active[_in_race(x, best, problem)[active]]
    return Maximum(x=x, value=best, converged=converged, n_steps=n_steps)


def _in_race(x: Floats, value: Floats, problem: Rows) -> Flags:
    """Returns which rows lead their problem, or are near the lead in value and away in place."""
    order = np.lexsort((-value, problem))
    first = np.unique(problem[order], return_index=True)[1]
    leader = np.empty(int(problem.max()) + 1, dtype=np.intp)
    leader[problem[order][first]] = order[first]
    ahead = leader[problem]
    near = value >= value[ahead] - _RACE_MARGIN
    elsewhere = np.abs(x - x[ahead]).max(axis=1) > _RACE_DISTANCE
    return np.asarray((near & elsewhere) | (ahead == np.arange(len(x))))


def _hessian(
    value_and_gradient: ValueAndGradient, at: Floats, g: Floats, rows: Rows, upper: Floats
) -> Floats:
    """Returns `(m, k, k)`, symmetric, by one-sided differences that stay in the box."""
    m, k = at.shape
    h = _DIFFERENCE * np.maximum(0.1, np.abs(at))
    h = np.where(at + h > upper, -h, h)
    hessian = np.empty((m, k, k))
    for j in range(k):
        moved = at.copy()
        moved[:, j] += h[:, j]
        _, gradients = value_and_gradient(moved, rows)
        hessian[:, j] = (gradients - g) / h[:, j, None]
    return np.asarray(0.5 * (hessian + hessian.transpose(0, 2, 1)))


def _brought_up(hessian: Floats, step: Floats, change: Floats) -> Floats:
    """Returns the Hessians after the rank-one update; unchanged where it would not be stable."""
    missing = change - np.einsum("nij,nj->ni", hessian, step)
    along = np.einsum("ni,ni->n", missing, step)
    size = np.linalg.norm(missing, axis=1) * np.linalg.norm(step, axis=1)
    stable = np.abs(along) > 1e-8 * size
    weight = np.where(stable, 1.0 / np.where(stable, along, 1.0), 0.0)
    return np.asarray(hessian + weight[:, None, None] * missing[:, :, None] * missing[:, None, :])


def _newton_step(hessian: Floats, g: Floats, at: Floats, lower: Floats, upper: Floats) -> Floats:
    """Returns an ascent step that does not leave the box at once.

    A coordinate on a bound stands still when its gradient points outwards, or when the step of
    the others would carry it there.
    """
    free = ~(((at <= lower) & (g < 0)) | ((at >= upper) & (g > 0)))
    while True:
        step = _free_step(hessian, g * free, free)
        blocked = ((at <= lower) & (step < 0)) | ((at >= upper) & (step > 0))
        if not blocked.any():
            return step
        free &= ~blocked


def _free_step(hessian: Floats, g: Floats, free: Flags) -> Floats:
    """Returns |H|^-1 g over the free coordinates, with small eigenvalues raised; else zero."""
    both = free[:, :, None] & free[:, None, :]
    bent = np.where(both, -hessian, np.eye(hessian.shape[-1]))
    eigenvalues, vectors = np.linalg.eigh(bent)
    size = np.abs(eigenvalues)
    size = np.maximum(size, _LEAST_CURVATURE * size.max(axis=1, keepdims=True))
    along = np.einsum("nij,ni->nj", vectors, g) / size
    return np.asarray(np.einsum("nij,nj->ni", vectors, along) * free)


def _of_rows(
    value_and_gradient: ValueAndGradient, rows: Rows, x: Floats, some: Rows
) -> tuple[Floats, Floats]:
    return value_and_gradient(x, rows[some])


def _search(
    value_and_gradient: ValueAndGradient,
    start: tuple[Floats, Floats, Floats],
    step: Floats,
    *,
    lower: Floats,
    upper: Floats,
) -> tuple[Floats, Floats, Floats, Flags]:
    """Halves each row's step until its objective rises enough.

    Returns the points, their values and gradients, and which rows moved; the others' stay.
    """
    at, value, g = start
    found, values, gradients = at.copy(), value.copy(), g.copy()
    moved = np.zeros(len(at), dtype=bool)
    waiting = np.arange(len(at), dtype=np.intp)
    length = 1.0
    for _ in range(_MOST_HALVINGS):
        tried = at[waiting] + length * step[waiting]
        tried = np.where(tried < lower + _TOUCHING, lower, tried)
        tried = np.where(tried > upper - _TOUCHING, upper, tried)
        risen, slope = value_and_gradient(tried, waiting)
        promised = np.einsum("nk,nk->n", tried - at[waiting], g[waiting])
        enough = (risen - value[waiting] >= _ARMIJO * promised) & (promised > 0)
        there = waiting[enough]
        found[there], values[there], gradients[there] = tried[enough], risen[enough], slope[enough]
        moved[there] = True
        waiting = waiting[~enough]
        length *= 0.5
        if not len(waiting):
            break
    return found, values, gradients, moved
