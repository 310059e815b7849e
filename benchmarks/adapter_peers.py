"""What the bank is measured against in this process: peft in four ways."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["HotSwapSlots", "PeftLRU", "PeftModelOf"]


class PeftModelOf:
    """A PeftModel on a copy of a network, its adapters loaded from folders.

    Args:
        network: The base.
        folders: Adapters to load, in this order.
    """

    def __init__(self, network: Any, folders: Mapping[str, Path]) -> None:
        from peft import PeftModel

        (first, folder), *others = folders.items()
        self.model = PeftModel.from_pretrained(copy.deepcopy(network), str(folder), first)
        for name, path in others:
            self.model.load_adapter(str(path), name)
        self.model.eval()

    def adapter_names(self, ids: Any, mask: Any, names: Sequence[str]) -> Any:
        """Runs one batch with peft's own mixed-batch argument."""
        import torch

        with torch.inference_mode():
            return self.model(
                input_ids=ids, attention_mask=mask, adapter_names=list(names)
            ).last_hidden_state

    def switching(self, ids: Any, mask: Any, names: Sequence[str]) -> None:
        """Runs the rows of each adapter as a batch of its own, after set_adapter."""
        import torch

        with torch.inference_mode():
            for name in dict.fromkeys(names):
                rows = [row for row, other in enumerate(names) if other == name]
                self.model.set_adapter(name, inference_mode=True)
                _ = self.model(input_ids=ids[rows], attention_mask=mask[rows]).last_hidden_state


class PeftLRU:
    """At most `slots` adapters in a PeftModel: load_adapter on a miss, delete_adapter for room.

    Args:
        network: The base.
        folders: All adapters, by name.
        slots: How many stay loaded.
    """

    def __init__(self, network: Any, folders: Mapping[str, Path], slots: int) -> None:
        first = next(iter(folders))
        self._peft = PeftModelOf(network, {first: folders[first]})
        self._folders, self._slots = folders, slots
        self._loaded: OrderedDict[str, None] = OrderedDict({first: None})

    def run(self, ids: Any, mask: Any, names: Sequence[str]) -> Any:
        """Loads what is absent and runs one batch through `adapter_names`."""
        wanted = list(dict.fromkeys(names))
        for name in wanted:
            if name in self._loaded:
                self._loaded.move_to_end(name)
        for name in wanted:
            if name in self._loaded:
                continue
            if len(self._loaded) >= self._slots:
                oldest, _ = self._loaded.popitem(last=False)
                self._peft.model.delete_adapter(oldest)
            self._peft.model.load_adapter(str(self._folders[name]), name)
            self._loaded[name] = None
        return self._peft.adapter_names(ids, mask, names)


class HotSwapSlots:
    """`slots` adapters in a PeftModel whose weights `hotswap_adapter` overwrites on a miss.

    peft's fastest way: it needs adapters of one rank and the same layers.

    Args:
        network: The base.
        folders: All adapters, by name.
        slots: How many are held.
    """

    def __init__(self, network: Any, folders: Mapping[str, Path], slots: int) -> None:
        held = list(folders)[:slots]
        self._peft = PeftModelOf(network, {f"slot{i}": folders[x] for i, x in enumerate(held)})
        self._folders = folders
        self._slot_of = OrderedDict((name, f"slot{i}") for i, name in enumerate(held))

    def run(self, ids: Any, mask: Any, names: Sequence[str]) -> Any:
        """Swaps in what is absent and runs one batch through `adapter_names`."""
        from peft.utils.hotswap import hotswap_adapter

        wanted = list(dict.fromkeys(names))
        for name in wanted:
            if name in self._slot_of:
                self._slot_of.move_to_end(name)
        for name in wanted:
            if name not in self._slot_of:
                _, slot = self._slot_of.popitem(last=False)
                hotswap_adapter(self._peft.model, str(self._folders[name]), slot)
                self._slot_of[name] = slot
        return self._peft.adapter_names(ids, mask, [self._slot_of[name] for name in names])
