"""`serving.adapters`: the bank of adapters against peft and AdapterHub, LoRA, random weights.

Rows, by their fields: `dataset` is "<targets> <n> adapters <rows>x<tokens>"; `metric`:

- "batch time" (ms) of one batch; with 16 adapters every row has its own. Sides: "base
  alone" (plain transformers, the floor), "bank, base rows", "bank", "bank, one adapter for
  all rows", "bank, every method" (LoRA, two prefixes, bottleneck and base rows), "peft
  adapter_names", "peft switching" (set_adapter, then the rows of that adapter), and from a
  process of its own "AdapterHub BatchSplit" and "AdapterHub's base alone";
- "largest difference": the bank's rows against peft's adapter_names (the control);
- "register" (ms): one adapter, the first 20 and the last 20 of 1,000, and peft's
  load_adapter, its first and its last;
- "overcommitted batch time" (ms): every row draws another adapter of a working set four
  times the cache ("uniform", or "zipf": the k-th adapter drawn with weight 1 / k), for the
  bank, for a peft LRU (load_adapter, delete_adapter) and for peft's hotswap_adapter into as
  many slots; both then run `adapter_names`.

Intervals are quartiles over rounds in which every side runs once in turn. AdapterHub needs
an environment of its own: TANDEM_ADAPTERHUB_PYTHON names its interpreter; without it these
rows are left out, and the note says so.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.adapter_peers import HotSwapSlots, PeftLRU, PeftModelOf
from benchmarks.interleaved import interleave, ratio, spread
from benchmarks.lora_folders import write_lora_folders
from benchmarks.paired import Interval
from benchmarks.peer_process import PeerProcess
from benchmarks.shapes import SHAPES, Shape, build_encoder, draw_tokens
from benchmarks.suite import Outcome, Role, Row
from common.adapters.anatomy import anatomy_of
from common.adapters.bank import AdapterBank
from common.adapters.methods import Bottleneck, LoRA, Method, Prefix
from common.backbones import Backbone

__all__ = ["adapters"]

_CONFIG = Path(__file__).parent / "configs" / "serving.adapters.json"
_PYTHON = "TANDEM_ADAPTERHUB_PYTHON"
_SHORT = {"all-linear": "all_linear", "attention": "qv"}
_HUB_KEY = {"all-linear": "vs_adapterhub", "attention": "qv_vs_adapterhub"}
_ROOMY = 8 << 30  # bytes; more than any bank here asks for
# The bound of each headline, and whether larger is better.
_TARGETS = {
    "all_linear_vs_adapter_names": (1.4, True),
    "all_linear_vs_switching": (3.0, True),
    "all_linear_time_vs_base": (1.10, False),
    "qv_vs_adapter_names": (1.10, True),
    "qv_vs_switching": (2.3, True),
    "register_1000_vs_first": (1.2, False),
    "overcommit_vs_lru": (5.0, True),
}
Seconds = dict[str, list[float]]


@dataclass(frozen=True)
class _Setting:
    """One base with adapters of one kind of targets on disk."""

    config: Mapping[str, Any]
    shape: Shape
    backbone: Backbone
    targets: str
    folders: Mapping[str, Path]
    ids: Any
    mask: Any

    @property
    def names(self) -> list[str]:
        return list(self.folders)

    def of(self, n: int) -> str:
        targets = "q,v" if self.targets == "attention" else self.targets
        return f"{targets} {n} adapters {self.config['rows']}x{self.config['tokens']}"


def adapters(_data: Path | None, *, quick: bool) -> Outcome:
    """Measures `serving.adapters`.

    Args:
        _data: Not used; tokens and weights are drawn here.
        quick: A small network, fewer adapters and rounds.
    """
    config = json.loads(_CONFIG.read_text(encoding="utf-8"))
    if quick:
        config |= {"shape": config["quick_shape"], **config["quick"]}
    rows: list[Row] = []
    headlines: dict[str, float | None] = dict.fromkeys(_TARGETS)
    for targets in config["targets"]:
        with tempfile.TemporaryDirectory() as folder:
            setting = _setting(config, targets, Path(folder))
            for part in (_mixed, _sizes, _register, _overcommit):
                more, found = part(setting)
                rows += more
                headlines |= found
    return Outcome(
        rows,
        headlines,
        "exceeded" if not _missed(headlines) else "not shown",
        _note(headlines),
        config=config,
        seeds=[config["seed"]],
    )


def _setting(config: Mapping[str, Any], targets: str, folder: Path) -> _Setting:
    shape = SHAPES[config["shape"]]
    network = build_encoder(shape, seed=config["seed"]).requires_grad_(False)
    hidden = int(shape.settings["hidden_size"])
    backbone = Backbone(network, None, shape.name, "0" * 64, 512, hidden)
    method = LoRA(config["rank"], config["alpha"], 0.0, targets)  # type: ignore[arg-type]  # as the config names it
    n = max(config["overcommit"]["adapters"], *config["peer_sizes"])
    anatomy = anatomy_of(backbone)
    paths = write_lora_folders(backbone, anatomy, method, folder, n=n, seed=config["seed"])
    ids = draw_tokens(shape, batch=config["rows"], length=config["tokens"], seed=config["seed"])
    named = {path.name: path for path in paths}
    return _Setting(config, shape, backbone, targets, named, ids, ids.new_ones(ids.shape))


def _mixed(setting: _Setting) -> tuple[list[Row], dict[str, float]]:
    """Times one batch of 1 and of 16 adapters, on all sides."""
    rows: list[Row] = []
    for n in setting.config["peer_sizes"]:
        with ExitStack() as stack:
            sides, delta = _sides(setting, n, stack)
            seconds = interleave(sides, rounds=setting.config["rounds"])
        rows += [_time_row(side, setting.of(n), times) for side, times in seconds.items()]
        rows.append(_row(("bank", setting.of(n), "largest difference"), delta, "1", "control"))
        rows += _against_hub(setting.of(n), seconds)
    ours, short = seconds["bank"], _SHORT[setting.targets]
    found = {
        f"{short}_vs_adapter_names": ratio(seconds["peft adapter_names"], ours).value,
        f"{short}_vs_switching": ratio(seconds["peft switching"], ours).value,
        f"{short}_time_vs_base": ratio(ours, seconds["base alone"]).value,
    }
    if "AdapterHub BatchSplit" in seconds:
        found[_HUB_KEY[setting.targets]] = ratio(seconds["AdapterHub BatchSplit"], ours).value
    return rows, found


def _sides(
    setting: _Setting, n: int, stack: ExitStack
) -> tuple[dict[str, Callable[[], object]], float]:
    """Returns the sides of a batch over `n` adapters, and how far the bank is from peft."""
    import torch

    ids, mask, n_rows = setting.ids, setting.mask, len(setting.ids)
    chosen = {name: setting.folders[name] for name in setting.names[:n]}
    names = [setting.names[row % n] for row in range(n_rows)]
    bank = AdapterBank(setting.backbone, folders=chosen)
    peft = PeftModelOf(setting.backbone.model, chosen)
    delta = bank.hidden_states(ids, mask, names) - peft.adapter_names(ids, mask, names)
    network = setting.backbone.model

    def base_alone() -> object:
        with torch.inference_mode():
            return network(input_ids=ids, attention_mask=mask).last_hidden_state

    sides: dict[str, Callable[[], object]] = {
        "base alone": base_alone,
        "bank, base rows": lambda: bank.hidden_states(ids, mask, [None] * n_rows),
        "bank": lambda: bank.hidden_states(ids, mask, names),
        "peft adapter_names": lambda: peft.adapter_names(ids, mask, names),
        "peft switching": lambda: peft.switching(ids, mask, names),
    }
    if n > 1:
        every = _every_method(setting, stack)
        sides["bank, one adapter for all rows"] = lambda: bank.hidden_states(
            ids, mask, names[:1] * n_rows
        )
        sides["bank, every method"] = lambda: every.hidden_states(
            ids, mask, [*every.names, None, None, None, None] * (n_rows // 8)
        )
    if python := os.environ.get(_PYTHON):
        hub = stack.enter_context(
            PeerProcess(python, "adapterhub_peer.py", _hub_settings(setting, n))
        )
        sides["AdapterHub's base alone"] = lambda: hub.ask("base")
        sides["AdapterHub BatchSplit"] = lambda: hub.ask("mixed")
    return sides, float(delta.abs().max())


def _every_method(setting: _Setting, stack: ExitStack) -> AdapterBank:
    """Returns a bank of LoRA, two prefixes and a bottleneck."""
    from common.adapters.attach import attach_new, save_adapter

    root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    methods: dict[str, Method] = {
        "bottleneck": Bottleneck(),
        "lora": LoRA(targets="all-linear"),
        "prefix": Prefix(16),
        "prefix, gated": Prefix(16, zero_gate=True),
    }
    base = replace(setting.backbone, tokenizer=None)
    for name, method in methods.items():
        save_adapter(attach_new(base, method), root / name)
    return AdapterBank(base, folders={name: root / name for name in methods})


def _hub_settings(setting: _Setting, n: int) -> dict[str, Any]:
    import torch

    config = setting.config
    return {
        "shape": dict(setting.shape.settings),
        "threads": torch.get_num_threads(),
        "adapters": n,
        "targets": setting.targets,
        **{key: config[key] for key in ("rank", "alpha", "rows", "tokens", "seed")},
    }


def _against_hub(dataset: str, seconds: Seconds) -> list[Row]:
    if "AdapterHub BatchSplit" not in seconds:
        return []
    theirs = ratio(seconds["AdapterHub BatchSplit"], seconds["AdapterHub's base alone"])
    ours = ratio(seconds["bank"], seconds["base alone"])
    metric = "batch time against its own base"
    return [
        _row(("AdapterHub BatchSplit", dataset, metric), theirs, "1", "peer"),
        _row(("bank", dataset, metric), ours, "1", "ours"),
    ]


def _sizes(setting: _Setting) -> tuple[list[Row], dict[str, float]]:
    """Times a batch that draws its adapters from ever larger banks, all in memory."""
    config = setting.config
    banks = {n: AdapterBank(setting.backbone, cache_bytes=_ROOMY) for n in config["bank_sizes"]}
    for n, bank in banks.items():
        for name, folder in _copies(setting, n):
            bank.load(name, folder)
    draws = {n: _draws(n, config, config["rounds"] + 1) for n in banks}
    for n, bank in banks.items():  # the weights that will be asked for come into memory
        for names in draws[n]:
            bank.hidden_states(setting.ids, setting.mask, names)

    def next_draw(n: int, turns: Iterator[list[str]]) -> object:
        return banks[n].hidden_states(setting.ids, setting.mask, next(turns))

    sides = {f"{n}": partial(next_draw, n, iter(draws[n])) for n in banks}
    seconds = interleave(sides, rounds=config["rounds"])
    return [_time_row("bank", setting.of(int(n)), times) for n, times in seconds.items()], {}


def _copies(setting: _Setting, n: int) -> Iterator[tuple[str, Path]]:
    """Yields `n` names; beyond the folders at hand they come round again, as other adapters."""
    paths = list(setting.folders.values())
    return ((f"a{number}", paths[number % len(paths)]) for number in range(n))


def _draws(n: int, config: Mapping[str, Any], batches: int) -> list[list[str]]:
    random = np.random.default_rng(config["seed"])
    n_rows = config["rows"]
    picks = [random.choice(n, n_rows, replace=n < n_rows) for _ in range(batches)]
    return [[f"a{number}" for number in pick] for pick in picks]


def _register(setting: _Setting) -> tuple[list[Row], dict[str, float]]:
    """Times registering 1,000 adapters with the bank, and as many as is bearable with peft."""
    config = setting.config
    n = max(config["bank_sizes"])
    bank = AdapterBank(setting.backbone)
    seconds = [_timed(partial(bank.load, *x)) for x in _copies(setting, n)]
    some = min(20, n // 2)
    first, last = seconds[:some], seconds[-some:]
    few = list(setting.folders.items())[: max(config["peer_sizes"])]
    peft = PeftModelOf(setting.backbone.model, dict(few[:1])).model
    theirs = [_timed(partial(peft.load_adapter, str(path), name)) for name, path in few[1:]]
    data, metric = setting.of(n), "register"
    rows = [
        _row((f"bank, first {some}", data, metric), spread(first), "ms", "ours"),
        _row((f"bank, last {some}", data, metric), spread(last), "ms", "ours"),
        _row(("peft load_adapter, second", data, metric), 1000 * theirs[0], "ms", "peer"),
        _row((f"peft load_adapter, {len(few)}th", data, metric), 1000 * theirs[-1], "ms", "peer"),
    ]
    if setting.targets != "all-linear":
        return rows, {}
    return rows, {"register_1000_vs_first": float(np.median(last) / np.median(first))}


def _overcommit(setting: _Setting) -> tuple[list[Row], dict[str, float]]:
    """Times batches whose adapters are drawn from four times what is kept in memory."""
    import torch

    plan = setting.config["overcommit"]
    slots, n = plan["slots"], plan["adapters"]
    folders = {name: setting.folders[name] for name in setting.names[:n]}
    flat = sum(x.numel() for x in _tensors(folders["a0"])) * torch.float32.itemsize
    rows, found = [], {}
    for law in ("uniform", "zipf"):
        bank = AdapterBank(setting.backbone, folders=folders, cache_bytes=slots * flat)
        runs = {
            "bank": bank.hidden_states,
            "peft LRU": PeftLRU(setting.backbone.model, folders, slots).run,
            "peft hotswap_adapter": HotSwapSlots(setting.backbone.model, folders, slots).run,
        }
        seconds = _run_draws(setting, runs, law)
        data = f"{law}, {slots} of {setting.of(n)}"
        for side, times in seconds.items():
            role: Role = "ours" if side == "bank" else "peer"
            of = (side, data, "overcommitted batch time")
            rows.append(_row(of, spread(times), "ms", role))
        if law == "uniform" and setting.targets == "all-linear":
            lru, swap = seconds["peft LRU"], seconds["peft hotswap_adapter"]
            found["overcommit_vs_lru"] = ratio(lru, seconds["bank"]).value
            found["overcommit_vs_hotswap"] = ratio(swap, seconds["bank"]).value
    return rows, found


def _run_draws(setting: _Setting, runs: Mapping[str, Any], law: str) -> Seconds:
    """Runs the same draws on every side, batch by batch in turn."""
    plan, n_rows = setting.config["overcommit"], setting.config["rows"]
    ranks = np.arange(1, plan["adapters"] + 1)
    shares = 1 / ranks if law == "zipf" else np.ones(len(ranks))
    random = np.random.default_rng(setting.config["seed"])
    order = random.permutation(len(ranks))
    seconds: Seconds = {side: [] for side in runs}
    for number in range(plan["warm_up"] + plan["batches"]):
        drawn = random.choice(order, n_rows, replace=False, p=shares / shares.sum())
        names = [f"a{pick}" for pick in drawn]
        for side, run in runs.items():
            took = _timed(partial(run, setting.ids, setting.mask, names))
            if number >= plan["warm_up"]:
                seconds[side].append(took)
    return seconds


def _tensors(folder: Path) -> Sequence[Any]:
    from safetensors.torch import load_file

    return list(load_file(str(folder / "adapter_model.safetensors")).values())


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _time_row(side: str, dataset: str, times: Sequence[float]) -> Row:
    role: Role = "ours" if side.startswith("bank") else "peer"
    role = "floor" if "base alone" in side else role
    return _row((side, dataset, "batch time"), spread(times), "ms", role)


def _row(of: tuple[str, str, str], found: Interval | float, unit: str, role: Role) -> Row:
    """Returns a row of name, data set and metric."""
    if isinstance(found, Interval):
        return Row(*of, found.value, found.low, found.high, unit, role)
    return Row(*of, found, None, None, unit, role)


def _missed(headlines: Mapping[str, float | None]) -> list[str]:
    missed = []
    for key, (bound, larger) in _TARGETS.items():
        value = headlines.get(key)
        if value is None or (value < bound if larger else value > bound):
            missed.append(key)
    return missed


def _note(headlines: Mapping[str, float | None]) -> str:
    missed = _missed(headlines)
    note = f"Targets missed: {', '.join(missed)}." if missed else "Every target is met."
    if "overcommit_vs_hotswap" in headlines:
        note += " The LRU is peft's load_adapter and delete_adapter; see also hotswap_adapter."
    if _PYTHON not in os.environ:
        note += f" AdapterHub did not run: {_PYTHON} names no interpreter."
    return note
