"""The Engine protocol on Ray: models run in replicas, processes on one machine or many.

    engine = RayEngine(replicas=2)                      # on this machine
    engine = RayEngine(address="10.0.0.1:6379")         # on a cluster

A replica holds several models and opens what it is asked for: from its name or folder
where the model was opened by one, else a copy of the model itself. What models need
(cores, GPUs, custom resources) is their placement; models of one placement share its
replicas and their queue. A call whose replica dies is sent to another one: it may begin
more than once, with the same idempotency key.
"""

from __future__ import annotations

import atexit
import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from common.errors import ModelError, SettingsError
from common.models.base import Model, ModelProfile
from common.models.catalogue import DeferredModel, Recipe, open_model, recipe_of
from common.routing.engine import Call, EngineLoad
from common.routing.ray_engine.keeper import Keeper, ReplicaHealth, Replicas, reason_of
from common.routing.ray_engine.queue import CallQueue
from common.routing.ray_engine.replica import Replica, thread_limits
from common.routing.ray_engine.session import RaySession
from common.task import Result

__all__ = ["Placement", "RayEngine"]

_SHIPPED = 16  # copies of models kept in the object store for replicas to come


@dataclass(frozen=True)
class Placement:
    """What one replica reserves on the machine that it runs on.

    Args:
        cpus: Cores; models compute with as many threads, at least one.
        gpus: GPUs; with one, models that are opened by name lie on it.
        resources: Custom resources of Ray, such as {"ct": 1}.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if min(self.cpus, self.gpus, *self.resources.values(), 0) < 0:
            raise SettingsError(
                "placement",
                expected="amounts of 0 or more",
                found="a negative one",
                remedy="Leave out what a model does not need.",
            )
        object.__setattr__(self, "resources", MappingProxyType(dict(self.resources)))

    @property
    def threads(self) -> int:
        """Threads that a model computes with."""
        return max(1, int(self.cpus))


class RayEngine:
    """Runs calls in replicas: actors of Ray.

    Args:
        address: Host and port of a cluster's head; without one, Ray is started on this
            machine, for this process, on loopback.
        replicas: How many replicas each placement gets.
        queue: How many calls may wait at a placement.
        models: Most models open in a replica at a time; the least recently used goes first.
        placement: What models need that are not named in `placements`.
        placements: What a model needs, by its profile's name.
        start_s: Seconds that a replica may take to start.
        open_s: Seconds that it may take to open a model.
        patience_s: How long a model may work on after its call has been given up, before
            its replica is replaced.

    Raises:
        MissingExtraError: Ray is not installed.
        SettingsError: The cluster cannot be joined, or this process has such an engine.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        replicas: int = 2,
        queue: int = 64,
        models: int = 4,
        placement: Placement | None = None,
        placements: Mapping[str, Placement] = MappingProxyType({}),
        start_s: float = 120.0,
        open_s: float = 600.0,
        patience_s: float = 30.0,
    ) -> None:
        self._n_replicas = replicas
        self._room = queue
        self._models = models
        self._placement = placement or Placement()
        self._placements = dict(placements)
        self._start_s, self._open_s, self._patience_s = start_s, open_s, patience_s
        self._lock = threading.Lock()
        self._shipping = threading.Lock()
        self._pools: dict[Placement, _Pool] = {}
        self._shipped: OrderedDict[str, Any] = OrderedDict()
        self._closed = False
        self._left = False
        self._session = RaySession(
            address, **_reserved({self._placement, *self._placements.values()}, replicas)
        )
        self._ray = self._session.ray
        atexit.register(self._abandon)
        self._pool_of(self._placement)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def submit(self, call: Call) -> Future[list[Result]]:
        """Takes a call, to be answered by the next replica of the model's placement.

        Raises:
            OverloadError: `queue` calls wait there already, or the engine is closing.
        """
        placement = self._placements.get(call.model.profile.name, self._placement)
        return self._pool_of(placement).queue.put(call)

    def open(self, spec: str | Path, part_name: str) -> Model:
        """Returns a model whose weights are opened in replicas only, never in this process.

        Args:
            spec: As `common.models.catalogue.open_model` takes it; a folder lies at the
                same path of every machine.
            part_name: The part that it is to answer.

        Raises:
            BackboneError: It is absent there or damaged.
            RoutingError: Models for this part have to be given as objects.
            ModelError: The process that opened it died, or took too long.
        """
        recipe = Recipe(spec, part_name)
        ask = self._ray.remote(num_cpus=0, max_retries=0, max_calls=1)(_profile_of)
        try:
            profile = self._ray.get(ask.remote(recipe), timeout=self._open_s)
        except self._ray.exceptions.RayError as error:
            raise ModelError(
                "model",
                expected="one that can be opened in a process of its own",
                found=reason_of(error),
                remedy="Look at the machines' memory.",
            ) from error
        if isinstance(profile, Exception):
            raise profile
        return DeferredModel(profile, recipe)

    @property
    def folder(self) -> Path | None:
        """Where a Ray that was started here keeps its files until it is closed."""
        return self._session.folder

    def load(self) -> EngineLoad:
        """Returns how busy the engine is now; the service time is the longest placement's."""
        loads = [pool.queue.load() for pool in self._all_pools()]
        times_s = [load.service_s for load in loads if load.service_s is not None]
        return EngineLoad(
            sum(load.running for load in loads),
            sum(load.waiting for load in loads),
            max(times_s, default=None),
        )

    def health(self) -> dict[Placement, tuple[ReplicaHealth, ...]]:
        """Returns how each replica is now."""
        with self._lock:
            pools = dict(self._pools)
        return {
            placement: tuple(keeper.health() for keeper in pool.keepers)
            for placement, pool in pools.items()
        }

    def close(self) -> None:
        """Takes no more calls, and returns when those taken and all processes have ended."""
        pools = self._closing_pools()
        for pool in pools:
            pool.queue.close()
        self._leave(pools)

    def _abandon(self) -> None:
        """Ends at the program's exit, when nobody is left to wait for an answer."""
        pools = self._closing_pools()
        for pool in pools:
            pool.queue.abandon()
            for keeper in pool.keepers:
                keeper.end_replica()
        self._leave(pools)

    def _closing_pools(self) -> list[_Pool]:
        with self._lock:
            self._closed = True
            return list(self._pools.values())

    def _leave(self, pools: list[_Pool]) -> None:
        for pool in pools:
            for keeper in pool.keepers:
                keeper.wait()
        with self._lock:
            if self._left:
                return
            self._left = True
        self._shipped.clear()
        atexit.unregister(self._abandon)
        self._session.close()

    def _all_pools(self) -> list[_Pool]:
        with self._lock:
            return list(self._pools.values())

    def _pool_of(self, placement: Placement) -> _Pool:
        with self._lock:
            pool = self._pools.get(placement)
            if pool is None:
                pool = self._new_pool(placement)
                self._pools[placement] = pool
            return pool

    def _new_pool(self, placement: Placement) -> _Pool:
        queue = CallQueue(self._room, patience_s=self._patience_s)
        if self._closed:
            queue.close()
        actor = self._actor(placement)

        def spawn() -> Any:
            _require_room(placement, self._ray.nodes())
            return actor.remote(
                threads=placement.threads, models=self._models, on_gpu=placement.gpus > 0
            )

        replicas = Replicas(self._ray, spawn, self._source, self._start_s, self._open_s)
        keepers = tuple(Keeper(queue, replicas) for _ in range(self._n_replicas))
        for keeper in keepers:
            keeper.start()
        return _Pool(queue, keepers)

    def _actor(self, placement: Placement) -> Any:
        # One thread asks the model; the other takes what is told meanwhile.
        return self._ray.remote(
            num_cpus=placement.cpus,
            num_gpus=placement.gpus,
            resources=dict(placement.resources),
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=1,
            concurrency_groups={"control": 1},
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": thread_limits(placement.threads)},
        )(Replica)

    def _source(self, model: Model) -> Any:
        """Returns what a replica opens `model` from: a recipe, or a copy in the object store."""
        recipe = recipe_of(model)
        if recipe is not None:
            return recipe
        identity = model.profile.identity
        with self._shipping:
            if identity not in self._shipped:
                self._shipped[identity] = self._copied(model)
            self._shipped.move_to_end(identity)
            while len(self._shipped) > _SHIPPED:
                self._shipped.popitem(last=False)
            return self._shipped[identity]

    def _copied(self, model: Model) -> Any:
        try:
            return self._ray.put(model)
        except Exception as error:  # whatever a class does when it is copied
            raise ModelError(
                "model",
                expected="one that can be copied to a replica",
                found=f"{type(model).__name__}, which cannot ({type(error).__name__})",
                remedy="Give it by name or folder, or run it on the local engine.",
            ) from error


@dataclass(frozen=True)
class _Pool:
    """A placement's queue, and the keepers of its replicas."""

    queue: CallQueue
    keepers: tuple[Keeper, ...]


def _profile_of(recipe: Recipe) -> ModelProfile | Exception:
    try:
        return open_model(recipe.spec, recipe.part_name).profile
    except Exception as error:  # noqa: BLE001  # the caller gets it without a trace in a log
        return error


def _require_room(placement: Placement, nodes: list[dict[str, Any]]) -> None:
    """Refuses what no machine could ever hold: Ray would wait for one."""
    needs = {"CPU": placement.cpus, "GPU": placement.gpus, **placement.resources}
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    if not any(
        all(machine.get(name, 0.0) >= amount for name, amount in needs.items())
        for machine in machines
    ):
        raise SettingsError(
            "placement",
            expected="a machine with " + ", ".join(f"{n} {name}" for name, n in needs.items() if n),
            found=f"none among {len(machines)}",
            remedy="Start a worker with these resources, or ask for less.",
        )


def _reserved(placements: set[Placement], replicas: int) -> dict[str, Any]:
    """Returns what a Ray that is started for these placements has to offer."""
    resources: dict[str, float] = {}
    for placement in placements:
        for name, amount in placement.resources.items():
            resources[name] = resources.get(name, 0.0) + amount * replicas
    return {"cpus": sum(one.cpus for one in placements) * replicas, "resources": resources}
