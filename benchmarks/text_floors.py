"""Floors of a text task: the largest class, TF-IDF, and the frozen base's embeddings.

Each reads the same window of tokens as the tuned networks and the same training rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.token_rows import TokenRows, TokenSplit, batch_of, drawn_rows
from common.backbones import Backbone

__all__ = ["FLOORS", "floor_predictions"]

Ints = npt.NDArray[np.int64]

FLOORS = ("majority", "tf-idf", "frozen base")
_TF_IDF_C = 20.0  # as in the SOURCE.md of pathrep-bench
_FROZEN_C = (1.0, 10.0, 100.0)  # chosen on the development rows, as a learning rate is


def floor_predictions(
    name: str,
    splits: Sequence[TokenSplit],
    backbone: Backbone,
    *,
    n_train: int,
    seeds: Sequence[int],
    device: str = "cpu",
) -> tuple[Ints, ...]:
    """Returns the classes of each seed's test rows.

    "tf-idf": words and word pairs with logistic regression; "frozen base": mean last
    hidden states with logistic regression, its C chosen with the first seed.

    Args:
        name: One of `FLOORS`.
        splits: The task's splits; seed s uses split s modulo their number.
        backbone: The base, on `device`.
        n_train: Training rows.
        seeds: Seeds of the draw of training rows.
        device: "cpu" or "cuda".
    """
    if name == "majority":
        return tuple(_majority(_of(splits, seed), n_train, seed) for seed in seeds)
    if name == "tf-idf":
        return tuple(_tf_idf(_of(splits, seed), backbone, n_train, seed) for seed in seeds)
    return _frozen(splits, backbone, n_train, seeds, device)


def _of(splits: Sequence[TokenSplit], seed: int) -> TokenSplit:
    return splits[seed % len(splits)]


def _majority(split: TokenSplit, n_train: int, seed: int) -> Ints:
    labels = split.train.labels[drawn_rows(split.train, n_train, seed)]
    return np.full(len(split.test.labels), np.bincount(labels).argmax(), dtype=np.int64)


def _tf_idf(split: TokenSplit, backbone: Backbone, n_train: int, seed: int) -> Ints:
    from sklearn.feature_extraction.text import TfidfVectorizer

    rows = drawn_rows(split.train, n_train, seed)
    words = backbone.tokenizer.batch_decode(split.train.ids[rows], skip_special_tokens=True)
    test = backbone.tokenizer.batch_decode(split.test.ids, skip_special_tokens=True)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=50_000)
    features = vectorizer.fit_transform(words)
    model = _fit(features, split.train.labels[rows], _TF_IDF_C)
    classes: Ints = model.predict(vectorizer.transform(test))
    return classes


def _frozen(
    splits: Sequence[TokenSplit],
    backbone: Backbone,
    n_train: int,
    seeds: Sequence[int],
    device: str,
) -> tuple[Ints, ...]:
    chosen: float | None = None
    predictions = []
    for seed in seeds:
        split = _of(splits, seed)
        rows = drawn_rows(split.train, n_train, seed)
        states = _states(split.train, rows, backbone, device)
        labels = split.train.labels[rows]
        if chosen is None:
            dev = _states(split.dev, None, backbone, device)
            scores = [_fit(states, labels, C).score(dev, split.dev.labels) for C in _FROZEN_C]
            chosen = _FROZEN_C[int(np.argmax(scores))]
        model = _fit(states, labels, chosen)
        predictions.append(model.predict(_states(split.test, None, backbone, device)))
    return tuple(predictions)


def _fit(features: Any, labels: Ints, C: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=C, max_iter=300, tol=1e-3).fit(features, labels)


def _states(part: TokenRows, rows: Ints | None, backbone: Backbone, device: str) -> Any:
    """Returns the mean last hidden state of each row, `(n_rows, hidden_size)`."""
    import torch

    from common.tuning.objectives import mean_states

    rows = np.arange(len(part.labels)) if rows is None else rows
    means = []
    with torch.inference_mode():
        for start in range(0, len(rows), 64):
            batch = batch_of(part, rows[start : start + 64], device)
            mask = batch.attention_mask
            if mask is None:  # no padding
                mask = torch.ones_like(batch.input_ids)
            hidden = backbone.model(input_ids=batch.input_ids, attention_mask=mask)
            states = mean_states(hidden.last_hidden_state, mask, batch.owners, batch.n_rows)
            means.append(states.cpu().numpy())
    return np.concatenate(means)
