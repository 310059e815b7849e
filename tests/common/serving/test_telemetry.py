"""Counters are this server's own, and their labels take few values."""

from __future__ import annotations

from types import SimpleNamespace

from common.serving.telemetry import Telemetry


def lines(telemetry):
    return telemetry.exposition().decode().splitlines()


def test_two_servers_in_one_process_count_apart():
    one, other = Telemetry(), Telemetry()
    one.count_request("GET", "/x", 200, 0.01)
    counted = 'tandem_requests_total{method="GET",route="/x",status="200"} 1.0'
    assert counted in lines(one)
    assert counted not in lines(other)


def test_strange_methods_and_paths_become_one_label():
    telemetry = Telemetry()
    for number in range(50):
        telemetry.count_request(f"M{number}", "", 404, 0.01)
    assert 'tandem_requests_total{method="other",route="none",status="404"} 50.0' in lines(
        telemetry
    )


def test_answers_cache_and_gauges_are_shown_as_they_are_now():
    telemetry, cache, held = Telemetry(), SimpleNamespace(hits=1, misses=2), [3.0]
    telemetry.watch_cache(cache)
    telemetry.watch("open_requests", "Requests not answered yet.", lambda: held[0])
    telemetry.count_answer("minilm", cached=True)
    cache.hits, held[0] = 5, 4.0
    shown = lines(telemetry)
    assert 'tandem_cache_lookups_total{outcome="hit"} 5.0' in shown
    assert 'tandem_cache_lookups_total{outcome="miss"} 2.0' in shown
    assert "tandem_open_requests 4.0" in shown
    assert 'tandem_model_answers_total{cached="yes",model="minilm"} 1.0' in shown
