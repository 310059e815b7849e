"""Opens the model that a name or folder stands for, given the part that it is to answer."""

from __future__ import annotations

from pathlib import Path

from common.errors import RoutingError
from common.models.base import Model

__all__ = ["open_model"]


def open_model(spec: str | Path, part_name: str) -> Model:
    """Returns the model for parts named `part_name`.

    Args:
        spec: For "text" a bundled name ("minilm"), a folder or a hub id; for "image" a
            folder with a network (`common.models.network`); for "series" a name in
            `common.models.forecaster.FORECASTERS`.
        part_name: "text", "image" or "series".

    Raises:
        RoutingError: Models for this part have to be given as objects.
        BackboneError: The named model is absent or damaged.
    """
    if part_name == "text":
        from common.backbones import load_backbone
        from common.models.text import TextEncoder

        return TextEncoder(load_backbone(spec))
    if part_name == "image":
        from common.models.network import open_network

        return open_network(Path(spec))
    if part_name == "series":
        from common.models.forecaster import Forecaster

        return Forecaster.named(str(spec))
    raise RoutingError(
        f"model for part {part_name!r}",
        expected="a part named text, image or series when the model is given by name",
        found=repr(part_name),
        remedy="Give a Model object for other parts.",
    )
