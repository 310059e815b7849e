"""A process that shares a cache, for tests: `computing_process.py FOLDER JOB LEASE_S`.

It says "ready", waits for a line, and asks for three results on four threads. Job "count"
notes each computation as a line of FOLDER/calls; job "hang" says "computing" and sleeps in
its first one, to be killed there.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common.models.base import ModelProfile
from common.routing.cache import ResultCache
from common.task import Result, Task, Text

PROFILE = ModelProfile(name="m", modality="text", digest="d")
TASKS = [Task({"text": Text(text)}) for text in ("one", "two", "three")]


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main() -> None:
    folder, job, lease_s = sys.argv[1:]
    cache = ResultCache(Path(folder) / "results", lease_s=float(lease_s))

    def compute(tasks):
        if job == "hang":
            say("computing")
            time.sleep(600)
        with (Path(folder) / "calls").open("a") as calls:
            calls.writelines(f"{task.parts['text'].text}\n" for task in tasks)
        time.sleep(0.2)  # long enough for the others to come
        return [Result({"text": task.parts["text"].text.upper()}) for task in tasks]

    say("ready")
    sys.stdin.readline()
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(cache.get_or_compute_many, PROFILE, TASKS, compute) for _ in range(4)]
        for one in asked:
            assert [f.result.values["text"] for f in one.result()] == ["ONE", "TWO", "THREE"]
    say("done")


if __name__ == "__main__":
    main()
