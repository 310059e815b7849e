"""Bottleneck adapters as a method of peft: "BOTTLENECK" beside its own "LORA".

y + s up(f(down(x))) at the output y of a linear layer. Pfeiffer and Houlsby adapters read
that output (x = y); parallel ones read the input of the feed-forward part. Up starts at
zero, so that a new adapter leaves its base as it was, bit for bit; down as a linear layer
of torch does (Kaiming-uniform, as A of LoRA: Hu et al. 2021, arXiv 2106.09685).

Houlsby et al. 2019, arXiv 1902.00751; Pfeiffer et al. 2020, arXiv 2005.00247; He et al.
2021, arXiv 2110.04366.

peft has no public way in for a method from outside: its `PeftType` is a closed enumeration.
`register` adds the one member and then registers as peft's own methods do. Everything that
leans on peft's inner build stands in this file and is tested against `PEFT_VERSIONS`.
Reading such a folder with peft alone needs `register()` first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

import peft
import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer, check_adapters_to_merge
from peft.utils import PeftType, register_peft_method
from torch import Tensor, nn
from transformers.activations import ACT2FN

from common.adapters.anatomy import Anatomy, anatomy_of
from common.errors import AdapterError

__all__ = [
    "PEFT_VERSIONS",
    "BottleneckConfig",
    "BottleneckLayer",
    "BottleneckModel",
    "register",
]

PEFT_VERSIONS = ("0.21.",)  # whose inner build the tests have seen
_NAME = "BOTTLENECK"
_VARIANTS = ("pfeiffer", "houlsby", "parallel")


@dataclass
class BottleneckConfig(PeftConfig):  # type: ignore[misc]  # peft ships no types
    """Settings of bottleneck adapters, as `adapter_config.json` keeps them.

    Args:
        target_modules: Linear layers whose output is changed, as peft names them; those
            that the variant has in this architecture without it.
        size: Width of the bottleneck.
        variant: "pfeiffer", "houlsby" or "parallel".
        activation: Name of the function between down and up, as transformers has it.
        scale: Factor of the adapter's output.
        modules_to_save: Names of modules to train and save whole, such as a classifier.
    """

    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    size: int = 64
    variant: str = "pfeiffer"
    activation: str = "gelu"
    scale: float = 1.0
    modules_to_save: list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = _peft_type()
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)  # type: ignore[assignment]  # as peft keeps them
        if self.variant not in _VARIANTS:
            _refuse("a variant", " or ".join(_VARIANTS), repr(self.variant))
        if self.activation not in ACT2FN:
            _refuse("an activation", "a name that transformers has", repr(self.activation)[:40])
        if self.size < 1 or not self.scale > 0:
            _refuse("sizes", "size of 1 or more, scale above 0", f"{self.size}, {self.scale}")


class BottleneckLayer(nn.Module, BaseTunerLayer):  # type: ignore[misc]  # peft ships no types
    """A linear layer with bottleneck adapters at its output.

    Weights keep their own type: peft holds them in float32 over a bfloat16 base, and they
    are then computed in float32, unless autocast decides.

    Args:
        base_layer: The linear layer; its tensors are never written but by `merge`.
    """

    # what BaseTunerLayer, which has no types, brings
    get_base_layer: Callable[[], Any]
    set_adapter: Callable[..., None]
    active_adapters: list[str]
    disable_adapters: bool
    merged: bool
    _active_adapter: list[str]
    _move_adapter_to_device_of_base_layer: Callable[[str], None]

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")
    other_param_names = ("bottleneck_activation", "bottleneck_scale", "bottleneck_parallel")

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.bottleneck_down = nn.ModuleDict()
        self.bottleneck_up = nn.ModuleDict()
        self.bottleneck_activation: dict[str, str] = {}
        self.bottleneck_scale: dict[str, float] = {}
        self.bottleneck_parallel: dict[str, bool] = {}
        self.merged_adapters: list[str] = []
        self._source: Tensor | None = None
        self._unmerged: tuple[Tensor, Tensor | None] | None = None

    def add(self, adapter_name: str, config: BottleneckConfig, n_in: int) -> None:
        """Adds an untrained adapter, which changes nothing; it reads `n_in` numbers."""
        base = self.get_base_layer()
        width, device = int(base.out_features), base.weight.device
        down = nn.Linear(n_in, config.size, device=device)
        up = nn.Linear(config.size, width, device=device)
        if device.type != "meta":
            nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
            nn.init.zeros_(down.bias)
            nn.init.zeros_(up.weight)
            nn.init.zeros_(up.bias)
        self.bottleneck_down[adapter_name], self.bottleneck_up[adapter_name] = down, up
        self.bottleneck_activation[adapter_name] = config.activation
        self.bottleneck_scale[adapter_name] = config.scale
        self.bottleneck_parallel[adapter_name] = config.variant == "parallel"
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def keep(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Keeps the input of the feed-forward part until the end of it (a forward pre-hook)."""
        self._source = inputs[0]

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Returns `(..., out)`: the base's output and what the active adapters add to it."""
        source, self._source = self._source, None
        if self.disable_adapters and self.merged:
            self.unmerge()
        y: Tensor = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters or self.merged:
            return y
        for name in self.active_adapters:
            if name in self.bottleneck_down:
                read = source if self.bottleneck_parallel[name] else y
                y = y + self._update(name, read).to(y.dtype)
        return y

    def _update(self, name: str, x: Tensor | None) -> Tensor:
        if x is None:
            _refuse("a parallel adapter", "a feed-forward part that ran first", "none")
        down, up = self._parts(name)
        if not torch.is_autocast_enabled(x.device.type):
            x = x.to(down.weight.dtype)
        update: Tensor = up(ACT2FN[self.bottleneck_activation[name]](down(x)))
        scale = self.bottleneck_scale[name]
        return update if scale == 1 else update * scale

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Folds adapters into the base layer, where no function stands between down and up.

        (I + s U D) (W x + b) + s (U d + u) is again a linear layer.

        Raises:
            AdapterError: The adapter is not linear, or reads another layer's input.
        """
        known = check_adapters_to_merge(self, adapter_names)
        names = [name for name in known if name in self.bottleneck_up]
        for name in names:
            self.require_linear(name)
        base = self.get_base_layer()
        for name in names:
            weight, bias = self._folded(name)
            if safe_merge and not (torch.isfinite(weight).all() and torch.isfinite(bias).all()):
                _refuse("adapter to merge", "finite weights", "values that are not")
            if self._unmerged is None:
                self._unmerged = base.weight.data, None if base.bias is None else base.bias.data
            base.weight.data = weight.to(base.weight.dtype)
            base.bias = nn.Parameter(bias.to(base.weight.dtype), requires_grad=False)
            self.merged_adapters.append(name)

    def unmerge(self) -> None:
        """Gives the base layer its own weights back, bit for bit."""
        if self._unmerged is None:
            return
        base, (weight, bias) = self.get_base_layer(), self._unmerged
        base.weight.data = weight
        base.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self._unmerged, self.merged_adapters = None, []

    def _parts(self, name: str) -> tuple[nn.Linear, nn.Linear]:
        return cast("nn.Linear", self.bottleneck_down[name]), cast(
            "nn.Linear", self.bottleneck_up[name]
        )

    def _folded(self, name: str) -> tuple[Tensor, Tensor]:
        base, scale = self.get_base_layer(), self.bottleneck_scale[name]
        down, up = self._parts(name)
        change = scale * (up.weight.double() @ down.weight.double())  # (out, out)
        weight, bias = base.weight.double(), change.new_zeros(len(change))
        if base.bias is not None:
            bias = base.bias.double()
        constant = scale * (up.weight.double() @ down.bias.double() + up.bias.double())
        return weight + change @ weight, bias + change @ bias + constant

    def require_linear(self, name: str) -> None:
        """Raises AdapterError if the adapter `name` cannot be folded into its layer."""
        if self.bottleneck_activation[name] != "linear" or self.bottleneck_parallel[name]:
            raise AdapterError(
                "adapter to merge",
                expected="one that is linear at its own layer: LoRA, or a bottleneck with the "
                'activation "linear" that is not parallel',
                found=f"a bottleneck with {self.bottleneck_activation[name]}"
                + (", parallel" if self.bottleneck_parallel[name] else ""),
                remedy="Serve it unmerged, for example in an AdapterBank, or tune with LoRA().",
            )

    def extra_repr(self) -> str:
        """Names the adapters, in torch's own printing."""
        return ", ".join(self.bottleneck_down)


class BottleneckModel(BaseTuner):  # type: ignore[misc]  # peft ships no types
    """A base with bottleneck adapters, as peft builds it; make it with `get_peft_model`."""

    model: Any
    active_adapters: list[str]
    _replace_module: Callable[..., None]

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012  # peft's way; see _sites

    def _prepare_adapter_config(
        self, peft_config: BottleneckConfig, model_config: dict[str, Any]
    ) -> BottleneckConfig:
        """Fills in the layers that the variant has in this architecture."""
        del model_config
        if peft_config.target_modules is None:
            anatomy = anatomy_of(self.model)
            peft_config.target_modules = _default_targets(anatomy, peft_config.variant)
        return peft_config

    def _create_and_replace(  # noqa: PLR0917  # the signature is peft's
        self,
        peft_config: BottleneckConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **_kwargs: Any,
    ) -> None:
        layer = target if isinstance(target, BottleneckLayer) else BottleneckLayer(target)
        if not hasattr(layer.get_base_layer(), "out_features"):
            _refuse("adapter targets", "linear layers", type(target).__name__)
        n_in = int(layer.get_base_layer().out_features)
        if peft_config.variant == "parallel":
            source = _source_of(self.model, current_key)
            n_in = int(source.in_features)
            if layer.keep not in source._forward_pre_hooks.values():
                source.register_forward_pre_hook(layer.keep)
        if layer is target:
            layer.add(adapter_name, peft_config, n_in)
            return
        layer._active_adapter = [adapter_name]  # as peft's own layers do
        layer.add(adapter_name, peft_config, n_in)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    @contextmanager
    def _enable_peft_forward_hooks(self, *_args: Any, **kwargs: Any) -> Iterator[None]:
        """Refuses `adapter_names`, which peft would drop: all rows would get one adapter."""
        if kwargs.get("adapter_names") is not None:
            raise AdapterError(
                "adapter_names",
                expected="one adapter for all rows of a batch, chosen with set_adapter",
                found="one for each row",
                remedy="Serve rows with adapters of their own in an AdapterBank.",
            )
        yield

    def _unload_and_optionally_merge(self, merge: bool = True, **options: Any) -> nn.Module:
        """Takes the adapters off; all of them are checked before the first layer changes."""
        layers = [m for m in self.model.modules() if isinstance(m, BottleneckLayer)]
        if merge:
            for layer in layers:
                for name in options.get("adapter_names") or layer.active_adapters:
                    if name in layer.bottleneck_up:
                        layer.require_linear(name)
        unloaded: nn.Module = super()._unload_and_optionally_merge(merge=merge, **options)
        for module in unloaded.modules():
            hooks = module._forward_pre_hooks  # torch has no other list of them
            for key in [k for k, h in hooks.items() if getattr(h, "__self__", None) in layers]:
                del hooks[key]
        return unloaded


def register() -> None:
    """Makes "BOTTLENECK" a method of peft; more than once does no harm.

    Raises:
        AdapterError: peft has another version than those tested.
    """
    if not peft.__version__.startswith(PEFT_VERSIONS):
        raise AdapterError(
            "peft",
            expected=f"version {' or '.join(v + 'x' for v in PEFT_VERSIONS)}",
            found=peft.__version__,
            remedy="Install the pinned version: pip install -c constraints.txt peft.",
        )
    if _NAME in peft.mapping.PEFT_TYPE_TO_TUNER_MAPPING:
        return
    _peft_type()
    register_peft_method(name=_NAME.lower(), config_cls=BottleneckConfig, model_cls=BottleneckModel)


def _peft_type() -> Any:
    """Returns `PeftType.BOTTLENECK`, adding it to the enumeration at the first call."""
    if _NAME not in PeftType.__members__:
        member = str.__new__(PeftType, _NAME)
        member._name_, member._value_ = _NAME, _NAME
        PeftType._member_map_[_NAME] = member
        PeftType._value2member_map_[_NAME] = member
        PeftType._member_names_.append(_NAME)
        type.__setattr__(PeftType, _NAME, member)
    return PeftType[_NAME]


def _default_targets(anatomy: Anatomy, variant: str) -> str:
    sites = [anatomy.feed_forward_output]
    if variant == "houlsby":
        sites.insert(0, anatomy.attention_output)
    return anatomy.pattern(sites)


def _source_of(model: nn.Module, key: str) -> Any:
    """Returns the linear layer whose input a parallel adapter at `key` reads."""
    anatomy = anatomy_of(model)
    end = f".{anatomy.feed_forward_output}"
    if not key.endswith(end):
        _refuse("targets of parallel adapters", f"layers named *{end}", key)
    return model.get_submodule(f"{key.removesuffix(end)}.{anatomy.feed_forward_input}")


def _refuse(subject: str, expected: str, found: str) -> NoReturn:
    raise AdapterError(
        subject,
        expected=expected,
        found=found,
        remedy="Make the configuration with common.adapters.methods.Bottleneck.",
    )
