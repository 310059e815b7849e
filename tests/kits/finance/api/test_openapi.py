"""The documented examples are answered, and no request that the schema allows ends in a 5xx."""

from __future__ import annotations

import asyncio

import pytest
import schemathesis

from kits.finance.api.examples import EXAMPLES
from tests.openapi_requests import try_operation

EXAMPLES_EACH = 12


@pytest.mark.parametrize(
    ("resource", "name"), [(r, n) for r, several in EXAMPLES.items() for n in several]
)
def test_an_example_is_answered_as_it_stands(desk, resource: str, name: str) -> None:
    async def run() -> None:
        schema = (await desk.call("GET", "/openapi.json")).json()
        operation = schema["paths"][f"/v1/finance/{resource}"]["post"]
        shown = operation["requestBody"]["content"]["application/json"]["examples"]
        value = shown[name]["value"]
        answer = await desk.call("POST", f"/v1/finance/{resource}", json=value)
        assert answer.status_code in {200, 201, 202}, answer.text
        if answer.status_code == 202:
            status = await desk.ended(answer)
            assert status["state"] == "done"
            assert (await desk.call("GET", status["links"]["result"])).status_code == 200

    asyncio.run(run())


def test_every_post_with_a_body_has_an_example(desk) -> None:
    schema = asyncio.run(desk.call("GET", "/openapi.json")).json()
    for path, operations in schema["paths"].items():
        content = operations.get("post", {}).get("requestBody", {}).get("content", {})
        if path.startswith("/v1/finance") and content:
            assert content["application/json"]["examples"], path


def test_no_request_that_the_schema_allows_or_forbids_is_answered_5xx(desk) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", desk.server.app)
    operations = [found.ok() for found in schema.get_all_operations()]
    finance = [one for one in operations if one.path.startswith("/v1/finance")]
    assert len(finance) >= 13
    for operation in finance:
        try_operation(operation, desk.server.headers("admin"), examples=EXAMPLES_EACH)
