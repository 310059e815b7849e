"""The kit's models, adapters and routes, as data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import RoutingError

if TYPE_CHECKING:  # these bring torch with them
    from common.models.text import TunedTextModel
    from common.routing.cache import ResultCache
    from common.routing.router import ModelRouter

__all__ = [
    "ADAPTER_FOLDER",
    "BACKBONE",
    "LINKAGE_FILE",
    "MAX_PASSAGE_TOKENS",
    "open_router",
    "open_text_model",
    "text_model_of",
]

BACKBONE = "minilm"
ADAPTER_FOLDER = Path(__file__).parent / "weights" / "maec-lora"
LINKAGE_FILE = ADAPTER_FOLDER / "linkage.json"
MAX_PASSAGE_TOKENS = 96  # three or four spoken sentences, so that a passage can be quoted


def open_text_model(folder: Path = ADAPTER_FOLDER) -> TunedTextModel:
    """Loads the text model: base, adapter and head.

    Raises:
        BackboneError: The base is absent or damaged.
        AdapterError: The adapter is absent, damaged or belongs to another base.
    """
    from common.backbones import load_backbone
    from common.models.text import load_regressor

    return load_regressor(load_backbone(BACKBONE), folder)


def open_router(*, cache: ResultCache | None) -> ModelRouter:
    """Returns the kit's routes: text to the adapted regressor.

    Raises:
        BackboneError: The base is absent or damaged.
        AdapterError: The adapter is absent, damaged or belongs to another base.
    """
    from common.routing.router import ModelRouter

    return ModelRouter({"text": open_text_model()}, cache=cache)


def text_model_of(router: ModelRouter) -> TunedTextModel:
    """Returns the first model of the router's text slot that scores passages.

    Raises:
        RoutingError: There is none.
    """
    from common.models.text import TunedTextModel

    for model in router.models.get("text", ()):
        if isinstance(model, TunedTextModel) and model.head.gives_score:
            return model
    raise RoutingError(
        "finance router",
        expected="a text regressor in the slot text",
        found="none",
        remedy="Build the router with kits.finance.tasks.open_router.",
    )
