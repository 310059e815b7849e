"""Whatever our own OpenAPI schema lets a client send, no answer is a 5xx."""

from __future__ import annotations

import schemathesis

from common.models.forecaster import Forecaster
from common.protocol.sessions.session import SessionStore
from common.routing.engine import LocalEngine
from common.routing.router import ModelRouter
from common.serving.inference_rest import OPEN_PATHS, inference_routes
from common.serving.link_rest import link_routes
from common.serving.models import ServedModels
from common.serving.session_rest import session_routes
from common.serving.telemetry import Telemetry
from common.serving.work import WorkThreads
from tests.common.serving.serving_parts import open_server
from tests.common.serving.test_link_rest import Length
from tests.openapi_requests import try_operation

EXAMPLES = 25


def test_no_request_that_the_schema_allows_or_forbids_is_answered_5xx(tmp_path):
    engine, work = LocalEngine(2, queue=8), WorkThreads(threads=4, waiting=8)
    sessions = SessionStore(tmp_path / "sessions.sqlite")
    models = {"text": Length(), "series": Forecaster.named("naive")}
    served = ServedModels(lambda one: ModelRouter(one, engine=engine))
    for name, model in models.items():
        served.add(name, lambda model=model: model)
    routes = [
        link_routes(ModelRouter(models, engine=engine), work, Telemetry()),
        session_routes(sessions, work),
        inference_routes(served, work),
    ]
    with open_server(tmp_path, routes=routes, rate_per_s=1e6, open_paths=OPEN_PATHS) as server:
        schema = schemathesis.openapi.from_asgi("/openapi.json", server.app)
        operations = [found.ok() for found in schema.get_all_operations()]
        assert len(operations) >= 15
        for operation in operations:
            try_operation(operation, server.headers("admin"), examples=EXAMPLES)
    for part in (work, engine, sessions):
        part.close()
