"""HAR of log daily variance for many companies by one least squares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kits.finance.markets.har_regression import HAR_WINDOWS
from kits.finance.markets.log_variance import FittedHAR, har_future

__all__ = ["fit_panel_har"]

Floats = npt.NDArray[np.float64]


def fit_panel_har(logs: Sequence[Floats]) -> tuple[FittedHAR, ...]:
    """Fits every series of ln v, `(T_i,)`, oldest first; series of one length go together."""
    fits: dict[int, FittedHAR] = {}
    lengths = np.array([len(series) for series in logs])
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        fits |= zip(
            rows.tolist(), _fit_equal(np.stack([logs[i] for i in rows.tolist()])), strict=True
        )
    return tuple(fits[i] for i in range(len(logs)))


def _fit_equal(logs: Floats) -> list[FittedHAR]:
    """Fits `(N, T)` by the QR decomposition of each company's regressors."""
    longest = HAR_WINDOWS[-1]
    regressors = np.ones((len(logs), logs.shape[1] - longest, 1 + len(HAR_WINDOWS)))
    for column, window in enumerate(HAR_WINDOWS, start=1):
        runs = np.lib.stride_tricks.sliding_window_view(logs, window, axis=1)
        regressors[:, :, column] = runs.mean(axis=-1)[:, longest - window : -1]
    target = logs[:, longest:]
    q, r = np.linalg.qr(regressors)
    coefficients = np.linalg.solve(r, np.einsum("ntk,nt->nk", q, target)[:, :, None])[:, :, 0]
    residuals = target - np.einsum("ntk,nk->nt", regressors, coefficients)
    last = logs[:, -longest:]
    point, psi = har_future(coefficients, last)
    return [
        FittedHAR(
            point=point[i],
            psi=psi[i],
            residuals=residuals[i],
            coefficients=coefficients[i],
            last=last[i],
        )
        for i in range(len(logs))
    ]
