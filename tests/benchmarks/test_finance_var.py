"""`finance.var` gives every side the same days, and its peers are what they say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from arch.data import sp500

from benchmarks.finance_var import var
from benchmarks.var_peers import PEERS, peer_quantiles
from common.errors import MissingInputError
from kits.finance.risk.methods import METHODS
from kits.finance.risk.rolling import roll_tail_risk

RETURNS = np.diff(np.log(sp500.load()["Adj Close"].to_numpy()))[:560]


def test_the_peers_agree_with_the_kits_own_methods() -> None:
    peers = peer_quantiles(100 * RETURNS, tail=0.025, window_days=500, refit_days=20)
    assert set(peers) == set(PEERS)
    asked = {"level": 0.975, "window_days": 500, "refit_days": 20}
    for peer, method, tolerance in (
        ("GARCH-t", "garch-t", 1e-5),
        ("GARCH-normal", "garch-normal", 1e-5),
        ("HS", "historical", 0.05),  # interpolated quantiles against order statistics
        ("FHS", "fhs-garch", 0.05),
    ):
        ours = roll_tail_risk(RETURNS, method=method, **asked)
        assert -peers[peer] == pytest.approx(100 * ours.value_at_risk, rel=tolerance)


def test_the_configured_step_is_the_methods_own() -> None:
    config = json.loads(Path("benchmarks/configs/finance.var.json").read_text(encoding="utf-8"))
    assert config["level_step"] == METHODS[config["method"]].level_step


def test_a_folder_without_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="arch_sp500"):
        var(tmp_path, quick=True)


@pytest.mark.slow
def test_a_quick_run_gives_every_side_its_rows(tandem_data: Path) -> None:
    outcome = var(tandem_data, quick=True)
    names = {row.name for row in outcome.rows if row.metric == "Kupiec p"}
    assert names == {*PEERS, "ours, level fixed", "ours"}
    assert set(outcome.headlines) == {
        "kupiec_p",
        "conditional_coverage_p",
        "pinball",
        "series_passing_share",
    }
    assert {row.dataset for row in outcome.rows} == {"S&P 500", "2 series"}
