"""Prints HAR, HARQ, AR and ARQ of SP500RM from statsmodels' formulas, and quantile regressions.

Run with TANDEM_DATA set. The regressors are written out with pandas' rolling means and the
regressions fitted by statsmodels (OLS, WLS, RLM, QuantReg): nothing of the kit is used.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import statsmodels.api as sm
import statsmodels.formula.api as smf

path = Path(os.environ["TANDEM_DATA"]) / "finance/realized_vol/SP500RM.csv.gz"
days = pd.read_csv(path)[["RV", "RQ"]]
days["root"] = np.sqrt(days.RQ)
days["week"], days["month"] = days.RV.rolling(5).mean(), days.RV.rolling(22).mean()
for horizon in (1, 5, 22):
    days[f"ahead_{horizon}"] = days.RV.rolling(horizon).mean().shift(-horizon)


def show(name: str, values: pd.Series) -> None:
    print(f"{name} = ({', '.join(f'{value:.8f}' for value in values)})")


whole = days.assign(noise=(days.root - days.root.mean()) * days.RV)
show("AR", smf.ols("ahead_1 ~ RV", whole).fit().params)
show("ARQ", smf.ols("ahead_1 ~ RV + noise", whole).fit().params)

usable = days[days.month.notna()]
centred = usable.assign(noise=(usable.root - days.root.mean()) * usable.RV)
last = centred.iloc[[-1]]
for horizon in (1, 5, 22):
    formula = f"ahead_{horizon} ~ RV + week + month"
    har = smf.ols(formula, centred).fit()
    harq = smf.ols(f"{formula} + noise", centred).fit()
    show(f"HAR_{horizon}", har.params)
    show(f"HARQ_{horizon}", harq.params)
    print(f"HAR_FORECAST_{horizon} = {har.predict(last).iloc[0]:.8f}")
    print(f"HARQ_FORECAST_{horizon} = {harq.predict(last).iloc[0]:.8f}")

logs = smf.ols("np.log(ahead_5) ~ np.log(RV) + np.log(week) + np.log(month)", usable).fit()
show("LOG_HAR_5", logs.params)
smeared = np.exp(logs.predict(last)).iloc[0] * np.exp(logs.resid).mean()
print(f"LOG_HAR_FORECAST_5 = {smeared:.8f}")

pairs = usable[usable.ahead_1.notna()]
regressors = sm.add_constant(pairs[["RV", "week", "month"]])
first = sm.OLS(pairs.ahead_1, regressors).fit()
weights = 1 / first.fittedvalues.clip(lower=pairs.ahead_1.min())
show("WLS_1", sm.WLS(pairs.ahead_1, regressors, weights=weights).fit().params)
for level in (0.05, 0.5, 0.95):
    fitted = sm.QuantReg(pairs.ahead_1, regressors).fit(q=level, max_iter=5000, p_tol=1e-9)
    show(f"QUANTILE_{level}", fitted.params)
