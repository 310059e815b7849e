"""Labelled texts: read from what users hold, checked once, with every fault in one error.

A data set is a list of dicts, a pandas DataFrame, a torch `Dataset` or a `datasets.Dataset`;
each is known by what it can do, so none of these packages is imported here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, get_args

import numpy as np

from common.adapters.heads import HeadTask, Label
from common.errors import TableError
from common.task import Array, digest_of

__all__ = ["Examples", "Target", "TaskKind", "read_examples"]

TaskKind = HeadTask
Target = int | float | tuple[int, ...] | None

_SPANS_SHOWN = 40  # of rows per kind of fault; a longer list is counted


@dataclass(frozen=True)
class Examples:
    """Texts with their targets, all usable.

    Args:
        texts: One text per row.
        targets: Per row: the index of its label (classification), the indexes of its
            labels (multi_label), its value (regression) or None (causal_lm).
        task: What the targets are.
        labels: The labels that the indexes point to; empty for regression and causal_lm.
    """

    texts: tuple[str, ...]
    targets: tuple[Target, ...]
    task: TaskKind
    labels: tuple[Label, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def fingerprint(self) -> str:
        """The sha256 over task, labels, texts and targets, in their order."""
        head = json.dumps([self.task, list(self.labels)])
        rows = (json.dumps(row) for row in zip(self.texts, self.targets, strict=True))
        return digest_of(head.encode(), *(row.encode() for row in rows))

    def take(self, rows: Sequence[int]) -> Examples:
        """Returns the examples of `rows`, in that order."""
        texts = tuple(self.texts[row] for row in rows)
        targets = tuple(self.targets[row] for row in rows)
        return Examples(texts, targets, self.task, self.labels)


def read_examples(
    data: Any,
    *,
    text: str = "text",
    label: str = "label",
    task: TaskKind | None = None,
    like: Examples | None = None,
) -> Examples:
    """Reads texts and labels from `data` and checks all of them.

    Without `task` the labels decide: strings, integers and booleans are classes, lists
    are sets of labels (the labels that apply, not a vector of zeros and ones), numbers
    with a fraction part or of a float type are values, and rows without a label column
    are texts for a language model.

    Args:
        data: A list of dicts, a pandas DataFrame, a `datasets.Dataset`, or a torch Dataset
            whose items are dicts or (text, label) pairs.
        text: Column of the texts.
        label: Column of the labels.
        task: What the labels are, where it must not be inferred.
        like: Training examples whose task and labels `data` must share, as an evaluation
            set does. It may then have a single row or class.

    Raises:
        TableError: `data` is of no such kind, has no text column, or has faulty rows:
            all of them are named in one message, counted from 0, without their contents.
    """
    texts, labels, names = _read_columns(data, text, label)
    kind = like.task if like else task or _infer(labels)
    if kind not in get_args(TaskKind):
        raise _table_error(f"task one of {', '.join(get_args(TaskKind))}", "another one")
    known = list(like.labels) if like else names
    faults = _text_faults(texts)
    if kind == "causal_lm":
        _raise_for(faults, len(texts))
        return Examples(tuple(texts), (None,) * len(texts), kind)
    if labels is None:
        raise _table_error(f"a column {label!r} for {kind}", "none", n_rows=len(texts))
    targets, vocabulary = _TARGETS[kind](labels, known, faults)
    if like is None:
        _check_variety(kind, targets, faults)
    _raise_for(faults, len(texts))
    return Examples(tuple(texts), tuple(targets), kind, tuple(vocabulary))


Faults = dict[str, list[int]]


def _read_columns(
    data: Any, text: str, label: str
) -> tuple[list[Any], list[Any] | None, list[Label]]:
    """Returns texts, labels (None without such a column) and class names, if data has them."""
    if hasattr(data, "columns") and hasattr(data, "iloc"):  # pandas
        return *_pick(list(data.columns), lambda name: data[name].tolist(), text, label), []
    if hasattr(data, "column_names") and hasattr(data, "features"):  # datasets.Dataset
        if not hasattr(data, "__len__"):
            raise _table_error("a data set with a length", "a stream")
        columns = _pick(data.column_names, lambda name: list(data[name]), text, label)
        return _named(columns, getattr(data.features.get(label), "names", None))
    if isinstance(data, str | bytes | Mapping) or not (
        hasattr(data, "__len__") and hasattr(data, "__getitem__")
    ):
        raise _table_error(
            "a list of dicts, a DataFrame, a datasets.Dataset or a torch Dataset with a length",
            type(data).__name__,
        )
    return *_read_rows([data[row] for row in range(len(data))], text, label), []


def _pick(
    names: Sequence[Any], column: Any, text: str, label: str
) -> tuple[list[Any], list[Any] | None]:
    if text not in names:
        raise _table_error(f"a column {text!r}", "no such column")
    return column(text), column(label) if label in names else None


def _named(
    columns: tuple[list[Any], list[Any] | None], names: Sequence[str] | None
) -> tuple[list[Any], list[Any] | None, list[Label]]:
    """Replaces the indexes of a `datasets.ClassLabel` column by its class names."""
    texts, labels = columns
    if names is None or labels is None:
        return texts, labels, []
    known = [names[i] if isinstance(i, int) and 0 <= i < len(names) else None for i in labels]
    return texts, known, list(names)


def _read_rows(rows: Sequence[Any], text: str, label: str) -> tuple[list[Any], list[Any] | None]:
    faults: Faults = {}
    pairs: list[tuple[Any, Any]] = []
    labelled = False
    for number, row in enumerate(rows):
        if isinstance(row, Mapping):
            if text not in row:
                _note(faults, f"no field {text!r}", number)
            labelled = labelled or label in row
            pairs.append((row.get(text, ""), row.get(label)))
        elif isinstance(row, tuple | list) and len(row) == 2:
            labelled = True
            pairs.append((row[0], row[1]))
        else:
            _note(faults, "neither a dict nor a (text, label) pair", number)
    _raise_for(faults, len(rows))
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs] if labelled else None


def _infer(labels: Sequence[Any] | None) -> TaskKind:
    if labels is None:
        return "causal_lm"
    present = [_plain(label) for label in labels if not _is_missing(label)]
    if any(isinstance(label, list | tuple | set | frozenset) for label in present):
        return "multi_label"
    if any(isinstance(label, Real) and not isinstance(label, Integral) for label in present):
        return "regression"
    return "classification"


def _plain(label: Any) -> Any:
    """Turns numpy and torch scalars and arrays into Python's own."""
    return label.tolist() if hasattr(label, "tolist") else label


def _is_missing(label: Any) -> bool:
    plain = _plain(label)
    if plain is None or type(plain).__name__ in {"NAType", "NaTType"}:
        return True
    return isinstance(plain, float) and math.isnan(plain)


def _text_faults(texts: Sequence[Any]) -> Faults:
    faults: Faults = {}
    for row, text in enumerate(texts):
        if _is_missing(text):
            _note(faults, "no text", row)
        elif not isinstance(text, str):
            _note(faults, "a text that is no string", row)
        elif not text.strip():
            _note(faults, "an empty text", row)
    return faults


def _class_targets(
    labels: Sequence[Any], known: Sequence[Label], faults: Faults
) -> tuple[list[Target], list[Label]]:
    plain = [None if _is_missing(given) else _label(given) for given in labels]
    for row, (given, label) in enumerate(zip(labels, plain, strict=True)):
        if label is None:
            _note(faults, "no label" if _is_missing(given) else "a label of another kind", row)
    vocabulary = list(known) or _vocabulary(plain, faults)
    index = {label: i for i, label in enumerate(vocabulary)}
    for row, label in enumerate(plain):
        if label is not None and label not in index:
            _note(faults, "a label that the training data does not have", row)
    targets = [-1 if label is None else index.get(label, -1) for label in plain]
    return list(targets), vocabulary


def _set_targets(
    labels: Sequence[Any], known: Sequence[Label], faults: Faults
) -> tuple[list[Target], list[Label]]:
    sets: list[list[Label]] = []
    for row, given in enumerate(labels):
        plain = _plain(given)
        if _is_missing(given):
            _note(faults, "no label", row)
        elif not isinstance(plain, list | tuple | set | frozenset):
            _note(faults, "a label that is no list", row)
        items = plain if isinstance(plain, list | tuple | set | frozenset) else []
        found = [_label(item) for item in items]
        if any(name is None for name in found):
            _note(faults, "a list with a missing label", row)
        if len(set(found)) < len(found):
            _note(faults, "a label named twice in one list", row)
        sets.append([name for name in found if name is not None])
    vocabulary = list(known) or _vocabulary([name for names in sets for name in names], faults)
    index = {label: i for i, label in enumerate(vocabulary)}
    for row, names in enumerate(sets):
        if any(name not in index for name in names):
            _note(faults, "a label that the training data does not have", row)
    return [tuple(sorted(index[n] for n in names if n in index)) for names in sets], vocabulary


def _value_targets(
    labels: Sequence[Any], _known: Sequence[Label], faults: Faults
) -> tuple[list[Target], list[Label]]:
    values: list[Target] = []
    for row, given in enumerate(labels):
        plain = _plain(given)
        value = math.nan
        if _is_missing(given):
            _note(faults, "no label", row)
        elif isinstance(plain, bool) or not isinstance(plain, Real):
            _note(faults, "a label that is no number", row)
        elif math.isinf(plain):
            _note(faults, "an infinite label", row)
        else:
            value = float(plain)
        values.append(value)
    return values, []


_TARGETS = {
    "classification": _class_targets,
    "multi_label": _set_targets,
    "regression": _value_targets,
}


def _label(given: Any) -> Label | None:
    """Returns a label as a string or an integer; None for anything else."""
    plain = _plain(given)
    if isinstance(plain, str):
        return plain if plain.strip() else None
    if isinstance(plain, Integral):  # a boolean becomes 0 or 1
        return int(plain)
    if isinstance(plain, float) and plain.is_integer():  # an integer column that lost its type
        return int(plain)
    return None


def _vocabulary(labels: Iterable[Label | None], faults: Faults) -> list[Label]:
    present = {label for label in labels if label is not None}
    if len({type(label) for label in present}) > 1:
        _note(faults, "labels of which some are numbers and some are strings", -1)
    return sorted(present, key=lambda label: (isinstance(label, str), label))


def _check_variety(kind: TaskKind, targets: Sequence[Target], faults: Faults) -> None:
    """Notes a table from which nothing can be learned: one row, one class, one value."""
    if len(targets) < 2:
        _note(faults, "fewer than two rows", -1)
        return
    if kind == "multi_label" and not any(targets):
        _note(faults, "no label in any row", -1)
    usable: Array = np.array([t for t in targets if not isinstance(t, tuple) and t is not None])
    usable = usable[np.isfinite(usable) & ~((usable < 0) & (kind == "classification"))]
    if kind in {"classification", "regression"} and np.unique(usable).size < 2:
        found = "one single class" if kind == "classification" else "one single value"
        _note(faults, f"{found} in all rows", -1)


def _note(faults: Faults, fault: str, row: int) -> None:
    """Adds a row to a kind of fault; row -1 means the table as a whole."""
    faults.setdefault(fault, []).append(row)


def _raise_for(faults: Faults, n_rows: int) -> None:
    if n_rows == 0:
        _note(faults, "no rows", -1)
    if not faults:
        return
    found = "; ".join(
        fault if rows == [-1] else f"{fault} in {_spans(rows)}" for fault, rows in faults.items()
    )
    raise _table_error("a text and a usable label in every row", found, n_rows=n_rows)


def _spans(rows: Sequence[int]) -> str:
    """Writes row numbers shortly: `rows 1, 4-6`."""
    spans: list[list[int]] = []
    for row in sorted(set(rows) - {-1}):
        if spans and row == spans[-1][1] + 1:
            spans[-1][1] = row
        else:
            spans.append([row, row])
    shown = ", ".join(f"{a}-{b}" if a < b else str(a) for a, b in spans[:_SPANS_SHOWN])
    more = sum(b - a + 1 for a, b in spans[_SPANS_SHOWN:])
    return f"row{'s' if len(rows) > 1 else ''} {shown}" + (f" and {more} more" if more else "")


def _table_error(expected: str, found: str, *, n_rows: int | None = None) -> TableError:
    counted = "" if n_rows is None else f" ({n_rows} rows, counted from 0)"
    return TableError(
        "training data",
        expected=expected,
        found=found + counted,
        remedy="Correct or drop what is named here; `text=`, `label=` and `task=` name columns "
        "and task where they differ.",
    )
