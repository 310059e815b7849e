"""A process that shares a cache, for tests: `computing_process.py FOLDER JOB LEASE_S`.

It says "ready", waits for a line, and asks for three results on four threads. Job "count"
notes each computation as a line of FOLDER/calls; job "hang" says "computing" and sleeps in
its first one, to be killed there. Job "mix" asks for many results at random, forgets and
erases some, and checks every answer, until its input ends.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from common.models.base import ModelProfile
from common.routing.cache import ResultCache
from common.task import Result, Task, Text

PROFILE = ModelProfile(name="m", modality="text", digest="d")
TASKS = [Task({"text": Text(text)}) for text in ("one", "two", "three")]


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def mix(cache: ResultCache) -> None:
    """Uses the cache in every way on four threads until the input ends."""
    over = threading.Event()

    def compute(tasks):
        time.sleep(random.random() / 100)
        texts = [task.parts["text"].text for task in tasks]
        return [Result({"text": text}, {"x": np.full(2000, len(text))}) for text in texts]

    def use():
        while not over.is_set():
            texts = ["x" * random.randrange(40) for _ in range(random.choice([1, 1, 4]))]
            tasks = [Task({"text": Text(text)}) for text in texts]
            for text, fetched in zip(
                texts, cache.get_or_compute_many(PROFILE, tasks, compute), strict=True
            ):
                assert fetched.result.values["text"] == text
                assert (fetched.result.arrays["x"] == len(text)).all()
            if random.random() < 0.01:
                cache.forget(model_digest="d")
            elif random.random() < 0.01:
                cache.purge(random.random())

    with ThreadPoolExecutor(4) as pool:
        users = [pool.submit(use) for _ in range(4)]
        sys.stdin.read()
        over.set()
        for user in users:
            user.result()


def main() -> None:
    folder, job, lease_s = sys.argv[1:]
    if job == "mix":
        cache = ResultCache(Path(folder) / "results", lease_s=float(lease_s), size_bytes=300_000)
        say("ready")
        mix(cache)
        say("done")
        return
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
