"""A bar in a terminal, lines in a log elsewhere, nothing from other ranks."""

from __future__ import annotations

import io
import logging

from common.tuning import progress
from common.tuning.checkpoints import EvaluationRecord, StepRecord
from common.tuning.progress import Bar, Lines, Silence, show_training

STEP = StepRecord(3, 0.51234, 1e-3)
EVALUATION = EvaluationRecord(3, {"accuracy": 0.75, "loss": 0.4})


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_is_for_terminals(monkeypatch):
    monkeypatch.setattr("sys.stderr", _Terminal())
    assert isinstance(show_training(10), Bar)
    assert isinstance(show_training(10, rank=1), Silence)
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert isinstance(show_training(10), Lines)


def test_a_bar_shows_loss_throughput_and_metrics(monkeypatch):
    terminal = _Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    with show_training(3) as display:
        display.step(STEP, 12345.6)
        display.evaluation(EVALUATION)
    shown = terminal.getvalue()
    for words in ("loss 0.5123", "12,346 tokens/s", "accuracy 0.7500"):
        assert words in shown


def test_lines_come_at_the_end_and_with_evaluations(caplog, capsys):
    caplog.set_level(logging.INFO, logger="common")
    with Lines(3) as display:
        display.step(StepRecord(1, 0.6, 1e-3), 1.0)  # too soon for a line
        display.step(STEP, 12345.6)
        display.evaluation(EVALUATION)
    assert caplog.messages == [
        "step 3 of 3, loss 0.5123, 12346 tokens/s",
        "step 3 of 3, accuracy 0.7500, loss 0.4000",
    ]
    assert capsys.readouterr() == ("", "")


def test_lines_come_every_ten_seconds(caplog, monkeypatch):
    caplog.set_level(logging.INFO, logger="common")
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    display = Lines(100)
    for second in range(25):
        now[0] = float(second)
        display.step(StepRecord(second + 1, 0.5, 1e-3), 1.0)
    assert [message.split(",")[0] for message in caplog.messages] == [
        "step 11 of 100",
        "step 21 of 100",
    ]
