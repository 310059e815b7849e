"""The engine that the settings name: threads of this process, or Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.routing.engine import LocalEngine
from common.settings import Settings, load_settings

if TYPE_CHECKING:
    from common.routing.ray_engine.engine import Placement, RayEngine

__all__ = ["open_engine"]


def open_engine(settings: Settings | None = None) -> LocalEngine | RayEngine:
    """Returns the engine of TANDEM_ENGINE, to be closed by the caller.

    Args:
        settings: Of this process; read from the environment without them.

    Raises:
        MissingExtraError: Ray is named and not installed.
        SettingsError: The Ray cluster cannot be joined, or a placement cannot be used.
    """
    chosen = settings or load_settings()
    if chosen.engine == "local":
        return LocalEngine(chosen.workers, queue=chosen.queue)
    from common.routing.ray_engine.engine import Placement, RayEngine

    return RayEngine(
        chosen.ray_address,
        replicas=chosen.ray_replicas,
        queue=chosen.queue,
        models=chosen.ray_models,
        placement=Placement(chosen.ray_cpus, chosen.ray_gpus),
        placements={name: _placement(needs) for name, needs in chosen.ray_placements.items()},
    )


def _placement(needs: dict[str, float]) -> Placement:
    from common.routing.ray_engine.engine import Placement

    resources = {name: amount for name, amount in needs.items() if name not in {"cpus", "gpus"}}
    return Placement(needs.get("cpus", 1.0), needs.get("gpus", 0.0), resources)
