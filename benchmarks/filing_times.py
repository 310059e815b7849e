"""How long a 10-K takes from its file to the scores of its passages."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.filing_layouts import LAYOUTS
from benchmarks.finance_filings import read_split_filings
from benchmarks.suite import Row

__all__ = ["time_filing"]

_FILINGS = "finance/filings_samples"


def time_filing(folder: Path, config: Mapping[str, Any]) -> tuple[list[Row], float]:
    """Times a 10-K from its file to its passages' scores.

    Args:
        folder: Of the open data sets.
        config: `filing` (the file's name), `filing_layout`, `filing_rounds`, `filing_threads`,
            `seed`.

    Returns:
        The rows, and the median seconds of both steps together.
    """
    import torch

    from kits.finance.disclosures.filing import read_disclosure
    from kits.finance.disclosures.language import read_language
    from kits.finance.tasks import open_router, text_model_of

    name = config["filing"]
    filing = next(
        one for one in read_split_filings(folder / _FILINGS) if Path(one.name).name == name
    )
    page = LAYOUTS[config["filing_layout"]](filing, random.Random(config["seed"]))
    before = torch.get_num_threads()
    torch.set_num_threads(config["filing_threads"])
    router = open_router(cache=None)
    model = text_model_of(router)
    parsing, reading = [], []
    n_passages = 0
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "filing.htm"
        path.write_text(page, encoding="utf-8")
        for _ in range(config["filing_rounds"]):
            start = time.perf_counter()
            disclosure = read_disclosure(path)
            parsed = time.perf_counter()
            read = read_language(
                disclosure, router, count_tokens=model.count_tokens, max_tokens=model.max_tokens
            )
            parsing.append(parsed - start)
            reading.append(time.perf_counter() - parsed)
            n_passages = len(read.passages)
    torch.set_num_threads(before)
    n_words = sum(len(text.split()) for text in filing.items.values())
    of = f"10-K of {n_words} words"
    both = [a + b for a, b in zip(parsing, reading, strict=True)]
    rows = [
        _seconds("read_disclosure and read_language", of, both),
        _seconds("read_disclosure", of, parsing),
        _seconds("read_language", of, reading),
        Row("passages that were scored", of, "count", n_passages, None, None, "1", "ours"),
    ]
    return rows, float(np.median(both))


def _seconds(name: str, of: str, seconds: Sequence[float]) -> Row:
    low, median, high = (float(q) for q in np.percentile(seconds, (25, 50, 75)))
    return Row(name, of, "seconds", median, low, high, "s", "ours")
