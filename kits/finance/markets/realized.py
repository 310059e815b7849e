"""Realized measures of a day from its intraday returns.

Returns are logarithmic, of equal intervals within one session, `(..., n)`: the last axis runs
through the day, oldest first; one or many days. In decimals they give squared decimals per
session, in percent squared percent. The night is not in them. Gaps have to be filled before.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from common.errors import TableError

__all__ = [
    "bipower_variation",
    "negative_semivariance",
    "realized_quarticity",
    "realized_variance",
]

Floats = npt.NDArray[np.float64]


def realized_variance(intraday_returns: Floats) -> Floats:
    """Returns `sum_i r_i^2`, `(...)`: the variance of the session, jumps included.

    Andersen, Bollerslev, Diebold and Labys (2003), doi 10.1111/1468-0262.00418. A mean within
    the day is not taken out: it is of a lower order.

    Raises:
        TableError: There is no return, or one is not finite.
    """
    _refuse_unusable(intraday_returns, at_least=1)
    return np.asarray(np.sum(intraday_returns**2, axis=-1), dtype=np.float64)


def negative_semivariance(intraday_returns: Floats) -> Floats:
    """Returns `sum_i r_i^2 1(r_i < 0)`, `(...)`: the part of the falling intervals.

    Barndorff-Nielsen, Kinnebrock and Shephard (2010), doi
    10.1093/acprof:oso/9780199549498.003.0007. With the part of the rising ones it adds up to the
    realized variance.

    Raises:
        TableError: There is no return, or one is not finite.
    """
    _refuse_unusable(intraday_returns, at_least=1)
    return np.asarray(np.sum(np.minimum(intraday_returns, 0.0) ** 2, axis=-1), dtype=np.float64)


def bipower_variation(intraday_returns: Floats) -> Floats:
    """Returns `(pi / 2) n / (n - 1) sum_{i>1} |r_i| |r_{i-1}|`, `(...)`: jumps left out.

    Barndorff-Nielsen and Shephard (2004), doi 10.1093/jjfinec/nbh001; n / (n - 1) because one of
    the n products is missing. Less the realized variance it shows what jumps added.

    Raises:
        TableError: There are fewer than two returns, or one is not finite.
    """
    n = _refuse_unusable(intraday_returns, at_least=2)
    sizes = np.abs(intraday_returns)
    products = np.sum(sizes[..., 1:] * sizes[..., :-1], axis=-1)
    return np.asarray(np.pi / 2.0 * n / (n - 1) * products, dtype=np.float64)


def realized_quarticity(intraday_returns: Floats) -> Floats:
    """Returns `n / 3 sum_i r_i^4`, `(...)`, in the squared unit of the variance.

    Barndorff-Nielsen and Shephard (2002), doi 10.1111/1467-9868.00336: without jumps the error of
    the realized variance has the variance 2 RQ / n. It is what HARQ weighs a day by.

    Raises:
        TableError: There is no return, or one is not finite.
    """
    n = _refuse_unusable(intraday_returns, at_least=1)
    return np.asarray(n / 3.0 * np.sum(intraday_returns**4, axis=-1), dtype=np.float64)


def _refuse_unusable(intraday_returns: Floats, *, at_least: int) -> int:
    """Returns how many returns a day has."""
    n = intraday_returns.shape[-1] if intraday_returns.ndim else 0
    n_missing = int((~np.isfinite(intraday_returns)).sum())
    if n < at_least or n_missing:
        raise TableError(
            "intraday returns",
            expected=f"at least {at_least} of them a day, all finite",
            found=f"{n} a day, {n_missing} not finite",
            remedy="Sample prices at equal intervals and carry the last one over gaps.",
        )
    return int(n)
