"""LiteLLM's `Router` as a peer, in a process and an environment of its own.

Run by the interpreter of an environment with `litellm`, never with ours. Reads one JSON
object of settings, then a command per line ("completion 6", "acompletion 6"), runs that so
many times on end on a mocked answer and says how many seconds each took. Nothing is sent
anywhere.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["main"]


def main() -> None:
    """Makes the router that the settings ask for and obeys commands until the input ends."""
    settings = json.loads(sys.stdin.readline())
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # prices from the package, not the web
    import litellm  # type: ignore[import-not-found, unused-ignore]  # in this environment only

    litellm.suppress_debug_info = True
    deployment = {"model": "openai/mock", "api_key": "none", "mock_response": settings["answer"]}
    router = litellm.Router(model_list=[{"model_name": "m", "litellm_params": deployment}])
    _say("ready")
    asyncio.run(_obey(router, settings["answer"]))


async def _obey(router: Any, answer: str) -> None:
    async def waited(number: int) -> Any:
        return await router.acompletion(model="m", messages=_messages(number))

    async def blocking(number: int) -> Any:
        return router.completion(model="m", messages=_messages(number))

    calls: dict[str, Callable[[int], Awaitable[Any]]] = {
        "acompletion": waited,
        "completion": blocking,
    }
    for line in iter(sys.stdin.readline, ""):
        name, times = line.split()
        took = []
        for number in range(int(times)):
            start = time.perf_counter()
            found = await calls[name](number)
            took.append(time.perf_counter() - start)
            if found.choices[0].message.content != answer:
                raise RuntimeError("the mock gave another answer")
            await asyncio.sleep(0)  # what the router has put off until after the answer
        _say(json.dumps(took))


def _messages(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"words {number}"}]


def _say(word: str) -> None:
    sys.stdout.write(f"peer: {word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
