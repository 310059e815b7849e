"""Prints Diebold-Mariano statistics by another route: OLS on a constant with statsmodels' HAC.

The losses are drawn here; the covariance comes from statsmodels, Harvey's factor and Student's t
from their formulas.
"""

from __future__ import annotations

import numpy as np
import statsmodels.api as sm
from scipy import stats

rng = np.random.default_rng(7)
noise = rng.normal(size=400)
difference = 0.3 + noise + 0.6 * np.roll(noise, 1)


def uniform(lags: int) -> np.ndarray:
    return np.ones(lags + 1)


for name, horizon, lags, weights in (
    ("BARTLETT_H1", 1, 5, None),
    ("BARTLETT_H5", 5, 8, None),
    ("RECTANGULAR_H5", 5, 4, uniform),
):
    options = {"maxlags": lags, "use_correction": False}
    if weights is not None:
        options["kernel"] = weights
    fitted = sm.OLS(difference, np.ones(400)).fit(cov_type="HAC", cov_kwds=options)
    factor = np.sqrt((401 - 2 * horizon + horizon * (horizon - 1) / 400) / 400)
    statistic = factor * fitted.tvalues[0]
    print(f"{name} = ({statistic:.8f}, {2 * stats.t.sf(abs(statistic), 399):.8f})")
