"""Composition root of `tandem serve`: both kits' models behind one router and one server."""

from __future__ import annotations

import ipaddress
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI

from common.errors import MissingExtraError, SettingsError
from common.models.base import Model, ModelProfile
from common.protocol.sessions.session import SessionStore
from common.protocol.transactions.journal import Journal
from common.routing.batching import BatchingEngine
from common.routing.cache import ResultCache
from common.routing.engines import open_engine
from common.routing.health import Health
from common.routing.router import ModelRouter
from common.serving.app import AppParts, Closing, create_app
from common.serving.audit import AuditLog
from common.serving.drain import Drain
from common.serving.grpc_gate import GrpcGate
from common.serving.inference_grpc import GrpcListener, InferenceService, open_inference_server
from common.serving.inference_rest import OPEN_PATHS, inference_routes
from common.serving.keys import KeyStore
from common.serving.link_rest import link_routes
from common.serving.models import Inference, ServedModels
from common.serving.retention import Retention, Rule
from common.serving.security import AccessControl
from common.serving.server import Listener, run_server
from common.serving.session_rest import session_routes
from common.serving.telemetry import Telemetry
from common.serving.work import WorkThreads
from common.settings import Settings
from common.versions import software_versions

__all__ = ["build_app", "open_models", "open_retention", "run_service"]

_log = logging.getLogger(__name__)
_WAITING = 4  # requests that may wait for a thread, for each call that may wait in the engine


def run_service(settings: Settings, *, insecure_local: bool = False) -> None:
    """Serves until a signal ends it.

    Args:
        settings: Of this process.
        insecure_local: Take requests without keys; on a loopback address only.

    Raises:
        SettingsError: There is no good key, or keys are left out on an open address.
        StoreError: A file in TANDEM_HOME cannot be used.
        BackboneError: A model is absent or damaged.
    """
    keys = _keys_of(settings, insecure_local=insecure_local)
    listener = Listener(
        host=settings.host,
        port=settings.port,
        tls_certificate=settings.tls_certificate,
        tls_key=settings.tls_key,
        tls_client_ca=settings.tls_client_ca,
        connections=settings.connections,
        notice_s=settings.drain_notice_s,
        drain_s=settings.drain_s,
    )
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    if not _is_loopback(settings.host) and settings.tls_certificate is None:
        _log.warning("keys cross the network in the clear: set TANDEM_TLS_CERTIFICATE and _KEY")
    drain = Drain(retry_after_s=settings.drain_notice_s + 1)
    with ExitStack() as unfinished:  # what was opened is closed where the rest fails to open
        app = build_app(settings, keys, drain, unfinished)
        unfinished.pop_all()  # from here on the application's lifespan closes it
    _log.info("serving on %s://%s:%d", listener.scheme, listener.host, listener.port)
    run_server(app, listener, drain)


def build_app(
    settings: Settings, keys: KeyStore | None, drain: Drain, opened: ExitStack
) -> FastAPI:
    """Opens stores and models and returns the application, whose lifespan closes them.

    Args:
        settings: Of this process.
        keys: Who may call; None takes requests without keys.
        drain: Whether requests are taken.
        opened: Takes note of each thing opened, for the case that a later one fails.
    """
    telemetry = Telemetry()
    audit = opened.enter_context(AuditLog(settings.home / "audit"))
    stores = _open_stores(settings, opened)
    engine = _open_engine(settings, telemetry, opened)
    work = WorkThreads(threads=settings.workers + settings.queue, waiting=_WAITING * settings.queue)
    opened.callback(work.close)
    cache = stores.cache if settings.cache == "on" else None
    routing = _open_router(engine, cache)
    finance = _open_finance(settings, routing, work, audit, opened)
    telemetry.watch_cache(stores.cache)
    telemetry.watch("open_requests", "Requests not answered yet.", lambda: drain.open_requests)
    stores.retention.start()
    access = AccessControl(keys, rate_per_s=settings.rate_per_s, body_bytes=settings.body_bytes)
    gate = GrpcGate(access, telemetry, audit, drain, settings.request_timeout_s)

    def is_ready() -> bool:
        return not drain.draining and audit.writable

    def count(found: Inference) -> None:
        telemetry.count_answer(found.response.model_name, cached=found.cached)

    inference = InferenceService(routing.served, work, gate, ready=is_ready, count=count)
    return create_app(
        AppParts(
            access=access,
            telemetry=telemetry,
            audit=audit,
            drain=drain,
            routes=[
                link_routes(routing.router, work, telemetry),
                session_routes(stores.sessions, work),
                inference_routes(routing.served, work, ready=is_ready, count=count),
                *finance.routes,
            ],
            services=[*stores.closing, engine, routing.served, work, *finance.closing],
            edges=[lambda: open_inference_server(inference, _grpc_listener(settings))],
            checks={"audit log": lambda: audit.writable},
            open_paths=OPEN_PATHS,
            timeout_s=settings.request_timeout_s,
            version=software_versions().get("tandem-kits", "0"),
        )
    )


def open_models() -> dict[str, list[Model]]:
    """Opens the models of both kits, by the name of the part that they answer.

    `text` is embedded; `passage`, of an earnings call, is scored; `series` is continued;
    `image`, a nodule with its mask (`kits.medical.imaging.lesion`), is classified. A model
    whose extra is not installed is left out with a warning.

    Raises:
        BackboneError: A model is absent or damaged.
    """
    from common.backbones import load_backbone
    from common.models.forecaster import Forecaster
    from common.models.text import TextEncoder
    from kits.finance.tasks import BACKBONE, open_text_model

    slots: dict[str, list[Callable[[], Model]]] = {
        "text": [lambda: TextEncoder(load_backbone(BACKBONE))],
        "passage": [open_text_model],
        "series": [lambda name=name: Forecaster.named(name) for name in ("theta", "ets", "naive")],  # type: ignore[misc]  # mypy reads the default as part of the signature
        "image": [_open_nodule_network],
    }
    opened: dict[str, list[Model]] = {}
    for part, loaders in slots.items():
        for loader in loaders:
            try:
                opened.setdefault(part, []).append(loader())
            except (MissingExtraError, ModuleNotFoundError) as error:
                _log.warning("a model for part %s is left out: %s", part, error)
    return {part: models for part, models in opened.items() if models}


def _open_nodule_network() -> Model:
    from kits.medical.imaging.lesion import NoduleNetwork  # needs the kit's extra from here on

    return NoduleNetwork()


@contextmanager
def open_retention(settings: Settings) -> Iterator[Retention]:
    """Opens what is erased by age, for one call of `Retention.apply`."""
    with ExitStack() as opened:
        yield _open_stores(settings, opened).retention


@dataclass(frozen=True)
class _Stores:
    """What lies in TANDEM_HOME beside keys and audit log."""

    sessions: SessionStore
    journal: Journal
    cache: ResultCache
    retention: Retention

    @property
    def closing(self) -> tuple[Closing, ...]:
        """All of them, in the order in which they were opened."""
        return (self.sessions, self.journal, self.cache, self.retention)


def _open_stores(settings: Settings, opened: ExitStack) -> _Stores:
    sessions = SessionStore.from_settings(settings)
    opened.callback(sessions.close)
    journal = Journal(settings.home / "link" / "journal.sqlite")
    opened.callback(journal.close)
    cache = ResultCache.from_settings(settings)
    opened.callback(cache.close)
    retention = Retention(
        {
            "sessions": Rule(sessions, settings.session_days),
            "ended transactions": Rule(journal, settings.journal_days),
            "results": Rule(cache, settings.cache_days),
        }
    )
    opened.callback(retention.close)
    return _Stores(sessions, journal, cache, retention)


def _open_engine(settings: Settings, telemetry: Telemetry, opened: ExitStack) -> BatchingEngine:
    """Opens the engine that the settings name, behind one that makes batches."""
    calls = open_engine(settings)
    lanes = min(settings.workers, _n_cores())
    if settings.engine == "ray":  # the models work in its replicas, which share their own cores
        lanes = settings.ray_replicas
    else:
        _share_cores(lanes)
    engine = BatchingEngine(
        calls,
        batched=_gains_from_batches,
        tasks=settings.batch,
        lanes=lanes,
        queue=_WAITING * settings.queue,
    )
    opened.callback(engine.close)
    telemetry.watch(
        "engine_waiting", "Calls that wait.", lambda: calls.load().waiting + engine.waiting
    )
    telemetry.watch("engine_running", "Calls whose model works.", lambda: calls.load().running)
    return engine


@dataclass(frozen=True)
class _Routing:
    """The opened models, behind one cache, engine and record of health.

    Args:
        router: For tasks of several parts.
        served: By name, for the protocol.
        route: Makes a router of some of them.
    """

    router: ModelRouter
    served: ServedModels
    route: Callable[[Mapping[str, Any]], ModelRouter]


def _open_router(engine: BatchingEngine, cache: ResultCache | None) -> _Routing:
    """Opens the models, once for tasks of several parts and by name for the protocol."""
    health = Health()  # what fails for one kind of request is left alone for the other too

    def route(models: Mapping[str, Any]) -> ModelRouter:
        return ModelRouter(models, cache=cache, engine=engine, health=health)

    router, served = route(open_models()), ServedModels(route)
    for model in (one for several in router.models.values() for one in several):
        profile = model.profile
        served.add(profile.adapter or profile.name, lambda model=model: model)  # type: ignore[misc]  # mypy reads the default as part of the signature
    return _Routing(router, served, route)


@dataclass(frozen=True)
class _Finance:
    """The finance kit's routes, and what they hold open; nothing where the kit is left out."""

    routes: tuple[APIRouter, ...] = ()
    closing: tuple[Closing, ...] = ()


def _open_finance(
    settings: Settings, routing: _Routing, work: WorkThreads, audit: AuditLog, opened: ExitStack
) -> _Finance:
    """Opens the finance API on the text model that the server has opened."""
    passages = routing.router.models.get("passage")
    if not passages:
        return _Finance()
    from kits.finance.api.dependencies import FinanceService
    from kits.finance.api.jobs import KEPT_DAYS, JobStore
    from kits.finance.api.routes import finance_routes

    folder = settings.home / "finance" / "jobs"
    jobs = JobStore(folder, threads=max(1, settings.workers // 2), audit=audit)
    opened.callback(jobs.close)
    retention = Retention({"finance jobs": Rule(jobs, KEPT_DAYS)})
    opened.callback(retention.close)
    retention.start()
    service = FinanceService(routing.route({"text": list(passages)}), jobs, work)
    return _Finance((finance_routes(service),), (retention, jobs))


def _keys_of(settings: Settings, *, insecure_local: bool) -> KeyStore | None:
    keys = KeyStore.from_settings(settings)
    if insecure_local and not _is_loopback(settings.host):
        raise SettingsError(
            "server without keys",
            expected="a loopback address",
            found="another",
            remedy="Leave out --host, or use keys (tandem keys add NAME --role ROLE).",
        )
    if not insecure_local and not keys:
        raise SettingsError(
            "server",
            expected="at least one good API key",
            found="none",
            remedy="Add one (tandem keys add NAME --role ROLE), or use --insecure-local.",
        )
    return None if insecure_local else keys


def _grpc_listener(settings: Settings) -> GrpcListener:
    return GrpcListener(
        host=settings.host,
        port=settings.grpc_port,
        tls_certificate=settings.tls_certificate,
        tls_key=settings.tls_key,
        tls_client_ca=settings.tls_client_ca,
        message_bytes=settings.body_bytes,
        drain_s=settings.drain_s,
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _gains_from_batches(profile: ModelProfile) -> bool:
    """Whether many tasks at once cost less than one by one: networks, not forecasters."""
    return profile.deterministic and profile.modality in {"image", "text"}


def _share_cores(lanes: int) -> None:
    """Gives each batch that runs its share of the cores, so that they do not contend."""
    import torch

    torch.set_num_threads(max(1, _n_cores() // lanes))


def _n_cores() -> int:
    return len(os.sched_getaffinity(0))
