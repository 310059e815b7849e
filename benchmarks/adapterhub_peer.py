"""AdapterHub's `adapters` as a peer, in a process and an environment of its own.

Run by the interpreter of an environment with `adapters`, never with ours: it needs an older
transformers. Reads one JSON object of settings, then a command per line ("base", "mixed"),
runs that once and answers "done".

Its LoRA reaches query, key, value, intermediate and output layers of BERT, but not the
attention's own output layer: "all-linear" is five of six layers here.
"""

from __future__ import annotations

import json
import sys
from typing import Any

__all__ = ["main"]


def main() -> None:
    """Builds the models that the settings ask for and obeys commands until the input ends."""
    settings = json.loads(sys.stdin.readline())
    calls = _calls(settings)
    _answer("ready")
    for line in sys.stdin:
        calls[line.strip()]()
        _answer("done")


def _calls(settings: dict[str, Any]) -> dict[str, Any]:
    import adapters  # type: ignore[import-not-found, unused-ignore]  # in this environment only
    import adapters.composition as compose  # type: ignore[import-not-found, unused-ignore]
    import torch
    from transformers import BertConfig, BertModel

    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    config = BertConfig(**settings["shape"])
    base, adapted = (BertModel(config).eval().requires_grad_(False) for _ in range(2))
    adapters.init(adapted)
    wide = settings["targets"] == "all-linear"
    lora = adapters.LoRAConfig(
        r=settings["rank"],
        alpha=settings["alpha"],
        attn_matrices=["q", "k", "v"] if wide else ["q", "v"],
        intermediate_lora=wide,
        output_lora=wide,
        init_weights="bert",  # B is not zero
    )
    names = [f"a{number}" for number in range(settings["adapters"])]
    for name in names:
        adapted.add_adapter(name, config=lora)
    rows = settings["rows"]
    share = [rows // len(names)] * len(names)
    split = compose.BatchSplit(*names, batch_sizes=share) if len(names) > 1 else names[0]
    adapted.set_active_adapters(split)
    adapted.eval()
    ids = torch.randint(100, config.vocab_size, (rows, settings["tokens"]))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def call(model: Any) -> Any:
        with torch.inference_mode():
            return model(**inputs).last_hidden_state

    return {"base": lambda: call(base), "mixed": lambda: call(adapted)}


def _answer(word: str) -> None:
    sys.stdout.write(f"peer: {word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
