"""An adapter's folder: which files it holds, their digest, and reading them safely.

- LoRA, prefix, bottleneck: peft's `adapter_config.json` and `adapter_model.safetensors`;
  a prefix with a gate has the peft_type "GATED_PREFIX", so that peft does not take it for
  a plain one.
- Full tuning: a whole model folder, `config.json` (transformers) and `model*.safetensors`.
- Either: `base.json` with name, digest and revision of the base that it was trained on;
  `head.safetensors` if a head was trained with it; the tokenizer's files.

Nothing is ever unpickled and nothing of a folder is run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from common.backbones import Backbone
from common.errors import AdapterError
from common.task import digest_of

__all__ = [
    "BASE",
    "CONFIG",
    "GATED_PREFIX",
    "WEIGHTS",
    "Kind",
    "adapter_digest",
    "kind_of",
    "read_json",
    "read_tensors",
    "remove_saved",
    "require_base",
    "unfit",
    "write_base",
    "write_settings",
]

Kind = Literal["lora", "prefix", "bottleneck", "full"]

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
BASE = "base.json"
GATED_PREFIX = "GATED_PREFIX"  # peft_type

_MODEL_CONFIG = "config.json"
_KINDS: dict[str, Kind] = {
    "BOTTLENECK": "bottleneck",
    GATED_PREFIX: "prefix",
    "LORA": "lora",
    "PREFIX_TUNING": "prefix",
}


def kind_of(folder: Path) -> Kind:
    """Returns which method a folder's adapter was trained with.

    Raises:
        AdapterError: A file is absent or damaged, or the method is another.
    """
    if not (folder / CONFIG).is_file() and any(folder.glob("model*.safetensors")):
        _require_files(folder, BASE)
        return "full"
    _require_files(folder, CONFIG, WEIGHTS, BASE)
    peft_type = read_json(folder / CONFIG).get("peft_type")
    if peft_type not in _KINDS:
        raise unfit(f"peft_type {', '.join(_KINDS)}", repr(peft_type))
    return _KINDS[str(peft_type)]


def adapter_digest(folder: Path) -> str:
    """Returns the sha256 over configuration, base and every safetensors file of a folder."""
    settings = CONFIG if (folder / CONFIG).is_file() else _MODEL_CONFIG
    present = {settings} & {path.name for path in folder.glob("*.json")}
    names = sorted({*present, BASE, *(path.name for path in folder.glob("*.safetensors"))})
    pieces = [piece for name in names for piece in (name.encode(), (folder / name).read_bytes())]
    return digest_of(*pieces)


def write_base(backbone: Backbone, folder: Path) -> None:
    """Writes which base an adapter was trained on."""
    base = {"name": backbone.name, "digest": backbone.digest, "revision": backbone.revision}
    (folder / BASE).write_text(json.dumps(base, indent=2) + "\n", encoding="utf-8")


def write_settings(settings: Mapping[str, Any], folder: Path) -> None:
    """Writes an adapter's settings, for a method that peft has not."""
    text = json.dumps(dict(sorted(settings.items())), indent=2)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def require_base(folder: Path, backbone: Backbone) -> None:
    """Raises AdapterError unless the folder's adapter was trained on `backbone`."""
    trained_on = read_json(folder / BASE).get("digest")
    if trained_on != backbone.digest:
        raise AdapterError(
            "adapter",
            expected=f"one trained on {backbone.name} ({backbone.digest[:12]}...)",
            found=f"one trained on {str(trained_on)[:12]}...",
            remedy="Load the base that base.json in the adapter's folder names.",
        )


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file.

    Raises:
        AdapterError: It is none.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise unfit(f"JSON in {path.name}", "something else") from error
    if not isinstance(content, dict):
        raise unfit(f"a JSON object in {path.name}", type(content).__name__)
    return content


def read_tensors(path: Path) -> dict[str, Any]:
    """Returns the tensors of a safetensors file, by name.

    Raises:
        AdapterError: It is none, or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Any] = load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise unfit(f"safetensors in {path.name}", "a damaged file") from error
    return tensors


def remove_saved(folder: Path) -> None:
    """Removes the files of an adapter saved earlier, so that no two are mixed.

    Raises:
        AdapterError: The folder holds a model without `base.json`: not one of ours.
    """
    saved = [folder / CONFIG, folder / _MODEL_CONFIG, *folder.glob("*.safetensors*")]
    present = [path for path in saved if path.is_file()]
    if present and not (folder / BASE).is_file():
        raise AdapterError(
            "folder to save to",
            expected=f"one that is empty, or holds an adapter with its {BASE}",
            found=f"{present[0].name} of another model",
            remedy="Name another folder; nothing was changed.",
        )
    for path in present:
        path.unlink()


def unfit(expected: str, found: str) -> AdapterError:
    """Returns the error for a folder whose content cannot be used."""
    return AdapterError(
        "adapter",
        expected=expected,
        found=found,
        remedy="Restore the adapter's folder from where it came, or train it again.",
    )


def _require_files(folder: Path, *names: str) -> None:
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        raise unfit(f"a folder with {', '.join(names)}", f"no {', '.join(absent)}")
