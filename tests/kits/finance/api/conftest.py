"""A server with the finance API on the shipped text model, called in this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from common.routing.cache import ResultCache
from common.serving.work import WorkThreads
from kits.finance.api.dependencies import FinanceService
from kits.finance.api.jobs import JobStore
from kits.finance.api.routes import finance_routes
from kits.finance.tasks import open_router
from tests.common.serving.serving_parts import Server, client_of, open_server


@dataclass
class Desk:
    """The server, its jobs, and a way to call it."""

    server: Server
    jobs: JobStore
    folder: Path

    async def call(
        self, method: str, path: str, *, role: str = "analyst", **more
    ) -> httpx.Response:
        headers = {**self.server.headers(role), **more.pop("headers", {})}
        async with client_of(self.server) as client:
            return await client.request(method, path, headers=headers, timeout=60, **more)

    async def ended(self, response: httpx.Response, role: str = "analyst") -> dict:
        """The status of a job that was just sent, once it has ended."""
        import asyncio

        for _ in range(3000):
            status = (await self.call("GET", response.headers["location"], role=role)).json()
            if status["state"] in {"done", "failed", "cancelled"}:
                return status
            await asyncio.sleep(0.02)
        raise AssertionError(status)


@pytest.fixture(scope="session")
def finance_router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    cache = ResultCache(tmp_path_factory.mktemp("cache"))
    yield open_router(cache=cache)
    cache.close()


@pytest.fixture
def desk(tmp_path: Path, finance_router) -> Iterator[Desk]:
    work = WorkThreads(threads=4, waiting=8)
    folder = tmp_path / "jobs"
    jobs = JobStore(folder, queue=3, queue_each=4)
    service = FinanceService(finance_router, jobs, work)
    with open_server(tmp_path, routes=[finance_routes(service)], rate_per_s=1e6) as server:
        jobs._audit = server.parts.audit  # the log is opened with the server
        yield Desk(server, jobs, folder)
    jobs.close()
    work.close()
