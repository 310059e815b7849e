"""Attach a tuning method to a frozen base; save, load and merge what was trained.

LoRA, prefix and bottleneck work on a copy of the base's structure that shares its
tensors, so the base is neither written nor rewired; full tuning works on a copy of the
weights. LoRA and bottleneck leave the base's output exactly as it was until they are
trained, and so does a zero-gated prefix; `starting_distance` measures it for a plain one.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from common.adapters.anatomy import Anatomy, anatomy_of
from common.adapters.folder import (
    CONFIG,
    GATED_PREFIX,
    WEIGHTS,
    adapter_digest,
    kind_of,
    read_json,
    read_tensors,
    remove_saved,
    require_base,
    unfit,
    write_base,
    write_settings,
)
from common.adapters.full import load_whole, save_whole, whole_copy
from common.adapters.methods import Bottleneck, Full, LoRA, Method, Prefix
from common.backbones import Backbone
from common.errors import AdapterError
from common.task import digest_of

if TYPE_CHECKING:
    from common.adapters.heads import Head

__all__ = [
    "Adapter",
    "adapter_digest",
    "attach_adapter",
    "attach_new",
    "count_trained",
    "merge_adapter",
    "save_adapter",
    "sharing_copy",
    "starting_distance",
]


@dataclass(frozen=True)
class Adapter:
    """A tuning method attached to a base.

    Args:
        backbone: The base with the adapter in its `model`; it shares the base's tensors,
            unless the method is `Full`. Its `max_tokens` is what a prefix leaves.
        name: The folder's name.
        digest: sha256 of the adapter's files; empty while it is being trained.
        n_parameters: How many parameters the adapter has.
        method: The method and its settings.
    """

    backbone: Backbone
    name: str
    digest: str
    n_parameters: int
    method: Method


def attach_new(backbone: Backbone, method: Method, *, seed: int = 0) -> Adapter:
    """Attaches an untrained adapter, its parameters ready to be trained.

    Args:
        backbone: The base; it is not changed.
        method: How to tune it.
        seed: Seed of the initial values.

    Raises:
        AdapterError: The base cannot take the method; the message says why and which
            methods it takes.
    """
    import torch

    _require_bare(backbone)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if isinstance(method, Full):
            model = whole_copy(backbone.model)
        else:
            anatomy = anatomy_of(backbone)
            method.require(anatomy)
            model = _with_new(backbone.model, method, anatomy)
    adapted = _adapted(backbone, model, method)
    return Adapter(adapted, "untrained", "", count_trained(model), method)


def attach_adapter(backbone: Backbone, folder: Path) -> Adapter:
    """Attaches the adapter in `folder` to `backbone`, frozen, in evaluation mode.

    Args:
        backbone: The base that the adapter was trained on; it is not changed.
        folder: A folder that `save_adapter` wrote.

    Raises:
        AdapterError: A file is absent or damaged, the method is unknown, it was trained on
            another base, or its tensors do not fit the base.
    """
    _require_bare(backbone)
    kind = kind_of(folder)
    require_base(folder, backbone)
    if kind == "full":
        method: Method = Full()
        model = copy.deepcopy(backbone.model)
        n_parameters = load_whole(model, folder)
    else:
        settings = read_json(folder / CONFIG)
        method = _method_from(settings, kind, backbone)
        tensors = read_tensors(folder / WEIGHTS)
        model = _with_saved(backbone.model, method, folder, tensors)
        n_parameters = sum(tensor.numel() for tensor in tensors.values())
    return Adapter(
        backbone=_adapted(backbone, model.eval().requires_grad_(False), method),
        name=folder.resolve().name,
        digest=adapter_digest(folder),
        n_parameters=n_parameters,
        method=method,
    )


def save_adapter(adapter: Adapter, folder: Path, *, head: Head | None = None) -> None:
    """Writes adapter, tokenizer, head and which base they belong to.

    Args:
        adapter: What to save.
        folder: Where; made if it is not there.
        head: The head trained with it.

    An adapter that was saved there before gives way to it.

    Raises:
        AdapterError: The folder holds a model that was not saved by this function.
    """
    from common.adapters.heads import save_head

    folder.mkdir(parents=True, exist_ok=True)
    remove_saved(folder)
    backbone = adapter.backbone
    if isinstance(adapter.method, Full):
        save_whole(backbone, folder)
    elif _is_gated(adapter.method):
        _save_gated_prefix(backbone, adapter.method, folder)
    else:
        backbone.model.peft_config["default"].base_model_name_or_path = backbone.name
        backbone.model.save_pretrained(str(folder), save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    if backbone.tokenizer is not None:
        backbone.tokenizer.save_pretrained(str(folder))
    if head is not None:
        save_head(head, folder)
    write_base(backbone, folder)


def merge_adapter(adapter: Adapter) -> Backbone:
    """Returns a base with the adapter's update in its weights: no cost at inference.

    The outputs equal those of the unmerged adapter up to rounding. Neither the base nor
    the adapter is changed; weights without an update are shared with them.

    Raises:
        AdapterError: The adapter cannot be merged, since its update is not linear: that of
            a prefix and of all bottlenecks but those with the activation "linear".
    """
    if isinstance(adapter.method, Full):
        return adapter.backbone
    if isinstance(adapter.method, Prefix):
        raise AdapterError(
            "adapter to merge",
            expected="LoRA, whose update adds to the weights",
            found="a prefix, whose update depends on the input",
            remedy="Serve it unmerged, or train LoRA where a merged model is needed.",
        )
    model = adapter.backbone.model
    merged = sharing_copy(model, but=_written_by_merging(model)).merge_and_unload()
    backbone = adapter.backbone
    key = adapter.digest or _state_digest(model)
    return replace(
        backbone,
        model=merged.eval().requires_grad_(False),
        name=f"{backbone.name}+{adapter.name}",
        digest=digest_of(backbone.digest.encode(), key.encode()),
    )


def starting_distance(adapter: Adapter) -> float:
    """Returns how far an untrained adapter's hidden states are from its base's, at most.

    It is 0 for every method but a plain prefix, whose keys draw attention from the start.

    Returns:
        Largest absolute difference over a short text of tokens spread over the vocabulary.
    """
    if not isinstance(adapter.method, Prefix) or adapter.method.zero_gate:
        return 0.0
    from common.adapters.prefix import prefix_distance

    return prefix_distance(adapter.backbone.model)


def count_trained(model: Any) -> int:
    """Returns how many parameters of `model` receive gradients."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _with_new(model: Any, method: LoRA | Prefix | Bottleneck, anatomy: Anatomy) -> Any:
    from peft import get_peft_model

    if isinstance(method, Prefix):
        from common.adapters.prefix import attach_prefix

        if method.zero_gate:
            return _with_gated_prefix(model, method)
        return attach_prefix(sharing_copy(model), method.n_virtual_tokens)
    with _without_deprecations():
        return get_peft_model(sharing_copy(model), _peft_config(method, anatomy))


def _with_saved(model: Any, method: Method, folder: Path, tensors: dict[str, Any]) -> Any:
    """Loads a folder onto a copy of the structure; every tensor must have its place."""
    from peft.utils import get_peft_model_state_dict

    if _is_gated(method):
        return _with_gated_prefix(model, method, tensors)
    if isinstance(method, Bottleneck):
        from common.adapters.bottleneck import register

        register()
    try:
        adapted = _loaded_by_peft(sharing_copy(model), folder, prefix=isinstance(method, Prefix))
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise unfit("tensors and targets that fit the base", type(error).__name__) from error
    slots = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    shapes = {name: tuple(tensor.shape) for name, tensor in slots.items()}
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != shapes:
        raise unfit(f"{len(shapes)} tensors that fit the base", f"{len(tensors)} others")
    return adapted


def _loaded_by_peft(base: Any, folder: Path, *, prefix: bool) -> Any:
    from peft import PeftConfig, PeftModel

    if prefix:
        from common.adapters.prefix import load_prefix

        return load_prefix(base, folder)
    config = PeftConfig.from_pretrained(str(folder))
    config.task_type = None
    with _without_deprecations():
        return PeftModel.from_pretrained(base, str(folder), config=config)


def _is_gated(method: Method) -> TypeGuard[Prefix]:
    return isinstance(method, Prefix) and method.zero_gate


def _with_gated_prefix(model: Any, method: Prefix, tensors: dict[str, Any] | None = None) -> Any:
    """Attaches a prefix of our own route, which is no peft model."""
    from common.adapters.prefix import attach_gated_prefix, load_gated_prefix

    adapted = sharing_copy(model)
    attach_gated_prefix(adapted, method.n_virtual_tokens)
    if tensors is not None:
        load_gated_prefix(adapted, tensors)
    return adapted


def _save_gated_prefix(backbone: Backbone, method: Prefix, folder: Path) -> None:
    from safetensors.torch import save_file

    from common.adapters.prefix import gated_prefix_tensors

    tensors = {name: x.cpu() for name, x in gated_prefix_tensors(backbone.model).items()}
    save_file(tensors, str(folder / WEIGHTS), metadata={"format": "pt"})
    write_settings(
        {
            "peft_type": GATED_PREFIX,
            "base_model_name_or_path": backbone.name,
            "num_virtual_tokens": method.n_virtual_tokens,
        },
        folder,
    )


def _peft_config(method: LoRA | Bottleneck, anatomy: Anatomy) -> Any:
    from peft import LoraConfig

    if isinstance(method, LoRA):
        return LoraConfig(
            r=method.rank,
            lora_alpha=method.alpha,
            lora_dropout=method.dropout,
            target_modules=anatomy.pattern(method.names(anatomy)),
        )
    from common.adapters.bottleneck import BottleneckConfig, register

    register()
    return BottleneckConfig(
        size=method.size,
        variant=method.variant,
        activation=method.activation,
        scale=method.scale,
        target_modules=anatomy.pattern(method.sites(anatomy)),
    )


def _method_from(settings: dict[str, Any], kind: str, backbone: Backbone) -> Method:
    """Reads a method back from peft's settings."""
    try:
        if kind == "prefix":
            gated = settings["peft_type"] == GATED_PREFIX
            return Prefix(int(settings["num_virtual_tokens"]), zero_gate=gated)
        if kind == "bottleneck":
            fields = ("size", "variant", "activation", "scale")
            return Bottleneck(**{name: settings[name] for name in fields})
        targets = _targets_from(settings["target_modules"], anatomy_of(backbone))
        dropout = float(settings.get("lora_dropout", 0.0))
        return LoRA(int(settings["r"]), settings["lora_alpha"], dropout, targets)
    except (KeyError, TypeError, ValueError) as error:
        raise unfit(f"the settings of {kind}", type(error).__name__) from error


def _targets_from(target_modules: str | Sequence[str], anatomy: Anatomy) -> Any:
    names = anatomy.matched(target_modules)
    if set(names) == set(anatomy.query_value):
        return "attention"
    return "all-linear" if set(names) == set(anatomy.names) else names


def _adapted(backbone: Backbone, model: Any, method: Method) -> Backbone:
    if isinstance(method, Prefix):
        room = method.max_tokens(anatomy_of(backbone), backbone.max_tokens)
        return replace(backbone, model=model, max_tokens=room)
    return replace(backbone, model=model)


def _require_bare(backbone: Backbone) -> None:
    kinds = {type(module).__name__ for module in backbone.model.modules()}
    if hasattr(backbone.model, "peft_config") or "GatedPrefix" in kinds:
        raise AdapterError(
            "base to adapt",
            expected="one without an adapter",
            found="an adapter on it",
            remedy="Take the base that it was attached to, or merge_adapter() first.",
        )


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """Leaves out the warning that peft itself causes by asking transformers an old question."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        yield


def sharing_copy(model: Any, *, but: Collection[int] = ()) -> Any:
    """Copies a module's structure but not its tensors, except those with an id in `but`."""
    tensors = (*model.parameters(), *model.buffers())
    return copy.deepcopy(model, {id(x): x for x in tensors if id(x) not in but})


def _written_by_merging(model: Any) -> set[int]:
    """Returns the ids of the tensors that merging changes."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    bases = [x.get_base_layer() for x in model.modules() if isinstance(x, BaseTunerLayer)]
    return {id(parameter) for base in bases for parameter in base.parameters()}


def _state_digest(model: Any) -> str:
    from peft.utils import get_peft_model_state_dict

    state = sorted(get_peft_model_state_dict(model, save_embedding_layers=False).items())
    arrays = [(name, tensor.detach().float().cpu().numpy()) for name, tensor in state]
    return digest_of(*(piece for name, x in arrays for piece in (name.encode(), x.tobytes())))
