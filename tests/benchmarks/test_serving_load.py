"""The load is bounded and counts every request; the figures mean what their names say."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks import serving_load
from benchmarks.load_client import Load

ROOT = Path(__file__).parents[2]
MIB = 1 << 20


def _load(**changed):
    chosen = {"port": 1, "path": "/", "headers": {}, "body": "{text}", "clients": 1, "seconds": 1}
    return Load(**{**chosen, **changed})


@pytest.mark.parametrize("changed", [{"clients": 1001}, {"clients": 0}, {"seconds": 601}])
def test_a_load_without_bounds_is_refused(changed):
    with pytest.raises(ValueError, match="bounded"):
        _load(**changed)


def test_every_request_is_counted_and_each_asks_about_another_text():
    seen, answered = [], []

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            seen.append(self.rfile.read(int(self.headers["Content-Length"])))
            status = 503 if len(seen) % 5 == 0 else 200
            answered.append(status)
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    asked = {"port": server.server_port, "path": "/x", "headers": {}, "body": '"{text}"'}
    asked |= {"clients": 3, "seconds": 0.5}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load_client", json.dumps(asked)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    server.shutdown()
    server.server_close()
    seconds = [json.loads(line) for line in done.stdout.splitlines()]
    assert sum(one["answers"] for one in seconds) == answered.count(200)
    assert sum(one["others"].get("503", 0) for one in seconds) == answered.count(503)
    assert sum(len(one["milliseconds"]) for one in seconds) == len(answered)
    assert sum(one["lost"] for one in seconds) == 0
    assert len(set(seen)) == len(seen)


def test_a_port_that_nobody_serves_loses_requests():
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.load_client"),
            json.dumps(
                {"port": 1, "path": "/", "headers": {}, "body": "", "clients": 2, "seconds": 0.3}
            ),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert sum(json.loads(line)["lost"] for line in done.stdout.splitlines()) >= 2


@pytest.mark.parametrize("grown", [0.0, 0.2])
def test_growth_is_that_of_the_time_after_the_warm_up(grown):
    before = [(float(t), 10 * MIB * t) for t in range(10)]
    after = [(10.0 + t, round(100 * MIB * (1 + grown * t / 90))) for t in range(91)]
    assert serving_load._growth(before + after, 10) == pytest.approx(grown, abs=1e-6)


@pytest.mark.parametrize(
    ("changed", "met"),
    [
        ({}, True),
        ({"requests_per_s_vs_peer": 0.9}, False),
        ({"requests_per_s_vs_peer": None}, False),
        ({"lost": 1.0}, False),
        ({"errors": 1.0}, False),
        ({"memory_growth": 0.06}, False),
    ],
)
def test_every_target_has_to_be_met(changed, met):
    headlines = {
        "requests_per_s_vs_peer": 1.1,
        "vs_bentoml": 1.1,
        "vs_ray_serve": 1.2,
        "errors": 0.0,
        "lost": 0.0,
        "memory_growth": 0.01,
        **changed,
    }
    assert serving_load._met(headlines) is met
    assert serving_load._note(headlines)
