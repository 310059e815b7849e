"""Scripts that the tests of distributed runs start as programs, and their process ids."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]


def pids_of(folder):
    return [json.loads(path.read_text())["pid"] for path in sorted(folder.glob("?.json"))]


def alive(folder):
    return [pid for pid in pids_of(folder) if Path(f"/proc/{pid}").exists()]


def require_gone(folder, n_processes):
    assert len(pids_of(folder)) == n_processes
    assert alive(folder) == []


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def environment():
    search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"}


def start_script(text, folder, *, stdin=False):
    script = folder / "script.py"
    script.write_text(text)
    return subprocess.Popen(
        [sys.executable, "-" if stdin else str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def run_script(text, folder, *, stdin=False):
    process = start_script(text, folder, stdin=stdin)
    output, errors = process.communicate(text if stdin else None, timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def run_torchrun(text, folder):
    script = folder / "script.py"
    script.write_text(text)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*launcher, "--nproc-per-node", "2", str(script)],
        env=environment(),
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
