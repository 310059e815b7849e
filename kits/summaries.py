"""The few lines that a terminal shows of results: scores, backtests, replays, readings."""

from __future__ import annotations

from typing import Any

__all__ = [
    "assessment_summary",
    "backtest_summary",
    "portfolio_summary",
    "reading_summary",
    "replay_summary",
]


def assessment_summary(written: dict[str, Any]) -> str:
    """Returns the lines for what `assessment.json` holds."""
    lines = [f"{written['ticker']}, {written['form']}"]
    market = written["market"]
    if market is not None:
        tail = market["tail"]
        lines += [
            f"as of {written['as_of']}",
            f"score {written['score']:.1f} of 100. {written['event_definition']}",
            f"from prices alone {100 * written['event_probability_prices_only']:.1f}",
            f"one-day {tail['level']:.1%} VaR {tail['value_at_risk']:.2%} ({tail['method']})",
            f"one-day {tail['level']:.1%} ES {tail['expected_shortfall']:.2%}",
        ]
    text = written["text"]
    lines.append(f"text signal {text['value']:+.4f}, {text['percentile']:.0f}th percentile")
    lines += [
        f"  {reason['contribution']:+.3f} {reason['statement']}" for reason in written["reasons"]
    ]
    return "\n".join(lines + [f"note: {note}" for note in written["notes"]])


def portfolio_summary(written: dict[str, Any]) -> str:
    """Returns the lines for what `portfolio.json` holds: the riskiest first, failures last."""
    found = written["summary"]
    lines = [f"{found['n_assessed']} of {found['n_companies']} companies assessed"]
    if found["mean_score"] is not None:
        lines.append(
            f"mean score {found['mean_score']:.1f} of 100, over {found['weight_scored']:.1%} "
            f"of the weight; {found['expected_events']:.1f} events expected"
        )
    done = [one for one in written["companies"] if one["status"] == "assessed"]
    done.sort(key=lambda one: (one["score"] is None, -(one["score"] or 0.0), one["line"]))
    for one in done:
        score = "   -" if one["score"] is None else f"{one['score']:4.1f}"
        lines.append(f"  {score}  {one['ticker']}, {one['form']}")
    failed = [one for one in written["companies"] if one["status"] == "failed"]
    lines += [
        f"not assessed: line {one['line']}, {one['ticker']}: {one['failure']}" for one in failed
    ]
    return "\n".join(lines + [f"note: {note}" for note in written["notes"]])


def backtest_summary(written: dict[str, Any]) -> str:
    """Returns the lines for a backtest: exceptions, the zone, each test with its verdict."""
    light = written["traffic_light"]
    span = f", {written['first_date']} to {written['last_date']}" if written["first_date"] else ""
    expected = f"({written['expected_exceptions']:.1f} expected)"
    last = f"traffic light of the last {light['n_days']} days"
    lines = [
        f"{written['ticker']}, {written['level']:.1%} one-day VaR: {written['method']}",
        f"{written['n_exceptions']} of {written['n_days']} days lost more {expected}{span}",
        f"{last}: {light['zone']}, {light['n_exceptions']} exceptions",
    ]
    if written["green_share"] is not None:
        lines.append(f"green in {written['green_share']:.1%} of all runs of 250 days")
    for test in written["tests"]:
        verdict = "rejects" if test["rejects"] else "does not reject"
        lines.append(f"  p {test['p_value']:.3f}  {test['name']}: {verdict}")
    return "\n".join(lines + [f"note: {note}" for note in written["notes"]])


def replay_summary(written: dict[str, Any]) -> str:
    """Returns the lines for a replay: whether it is the same, and what differs."""
    if written["identical"]:
        first = "identical: every file came out byte for byte"
    elif written["ran"]:
        first = "not identical"
    else:
        first = "could not be run again"
    lines = [first]
    if written["score_difference"] is not None:
        lines.append(f"largest difference of a passage's score: {written['score_difference']:.2g}")
    lines += [
        f"{one['kind']} {one['name']}: was {one['recorded']}; is {one['found']}"
        for one in written["differences"]
    ]
    return "\n".join(lines)


def reading_summary(written: dict[str, Any]) -> str:
    """Returns the lines for what `reading.json` holds."""
    lines = [f"region {written['region']['name']}: {written['region']['reason']}"]
    for lesion in written["lesions"]:
        measured, probability = lesion["measurements"], lesion["probability"]
        score = "not scored" if probability is None else f"suspicion {probability:.2f}"
        lines.append(
            f"  {lesion['identifier']} {measured['long_axis_mm']:.1f} x "
            f"{measured['short_axis_mm']:.1f} mm, {score}, report: {lesion['report_support']}"
        )
    lines.append(written["conclusion"])
    if written["disagreement"]:
        lines.append(f"disagreement: {written['disagreement']}")
    return "\n".join(lines + [f"note: {limit}" for limit in written["limitations"]])
