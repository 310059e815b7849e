"""Labelled texts are read alike from every kind of table, and all faults are told at once."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from common.errors import TableError
from common.tuning.datasets import read_examples

TEXTS = ["debt may grow", "sales grow", "risk", "profit"]


def _rows(labels):
    return [{"text": text, "label": label} for text, label in zip(TEXTS, labels, strict=True)]


def test_lists_frames_torch_and_datasets_read_alike():
    """Four kinds of table with the same rows give the same examples and fingerprint."""
    import datasets
    import torch

    rows = _rows(["bad", "good", "bad", "good"])

    class Pairs(torch.utils.data.Dataset):
        def __len__(self):
            return len(rows)

        def __getitem__(self, index):
            return rows[index]["text"], rows[index]["label"]

    kinds = [rows, pd.DataFrame(rows), datasets.Dataset.from_list(rows), Pairs()]
    read = [read_examples(data) for data in kinds]
    assert all(examples == read[0] for examples in read)
    assert len({examples.fingerprint for examples in read}) == 1
    assert read[0].labels == ("bad", "good")
    assert read[0].targets == (0, 1, 0, 1)


def test_class_names_of_a_datasets_column_are_the_labels():
    import datasets

    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["no", "maybe", "yes"]),
        }
    )
    data = datasets.Dataset.from_list(_rows([0, 2, 0, 2]), features=features)
    examples = read_examples(data)
    assert examples.labels == ("no", "maybe", "yes")
    assert examples.targets == (0, 2, 0, 2)


@pytest.mark.parametrize(
    ("labels", "task"),
    [
        (["a", "b", "a", "b"], "classification"),
        ([1, 0, 1, 0], "classification"),
        ([True, False, True, False], "classification"),
        ([np.int64(3), 1, 1, 3], "classification"),
        ([0.5, 1.0, 2.0, 3.5], "regression"),
        ([["a"], [], ["a", "b"], ["b"]], "multi_label"),
    ],
)
def test_labels_tell_the_task(labels, task):
    assert read_examples(_rows(labels)).task == task


def test_rows_without_labels_are_for_a_language_model():
    examples = read_examples([{"text": "debt may grow"}])
    assert examples.task == "causal_lm"
    assert examples.targets == (None,)


def test_the_task_can_be_given():
    """Whole numbers are classes unless the caller says that they are values."""
    examples = read_examples(_rows([1, 2, 3, 4]), task="regression")
    assert examples.targets == (1.0, 2.0, 3.0, 4.0)


def test_label_sets_become_sorted_indexes():
    examples = read_examples(_rows([["b", "a"], [], ["c"], ["a"]]))
    assert examples.labels == ("a", "b", "c")
    assert examples.targets == ((0, 1), (), (2,), (0,))


def test_all_faults_come_in_one_message_without_contents():
    """Empty, absent and non-text texts, and missing and NaN labels, each with its rows."""
    rows = [
        {"text": "SECRET debt", "label": "a"},
        {"text": "  ", "label": "a"},
        {"text": None, "label": "b"},
        {"text": 7, "label": "b"},
        {"text": "fine", "label": None},
        {"text": "fine", "label": math.nan},
        {"text": "fine", "label": "SECRETLABEL"},
    ]
    with pytest.raises(TableError) as raised:
        read_examples(rows)
    message = str(raised.value)
    assert "an empty text in row 1;" in message
    assert "no text in row 2;" in message
    assert "a text that is no string in row 3;" in message
    assert "no label in rows 4-5" in message
    assert "7 rows, counted from 0" in message
    assert "SECRET" not in message


def test_a_single_row_teaches_nothing():
    with pytest.raises(TableError, match="fewer than two rows"):
        read_examples([{"text": "debt", "label": "a"}])


def test_a_single_class_teaches_nothing():
    with pytest.raises(TableError, match="one single class in all rows"):
        read_examples(_rows(["a"] * 4))


def test_a_constant_value_teaches_nothing():
    with pytest.raises(TableError, match="one single value in all rows"):
        read_examples(_rows([0.5] * 4))


def test_no_rows_are_refused():
    with pytest.raises(TableError, match="no rows"):
        read_examples([])


def test_infinite_values_are_refused():
    with pytest.raises(TableError, match="an infinite label in row 2"):
        read_examples(_rows([0.5, 1.5, math.inf, 2.5]))


def test_a_vector_of_zeros_and_ones_is_no_set():
    """[1, 0, 1] names label 1 twice; it is refused rather than misread."""
    with pytest.raises(TableError, match="named twice in one list in rows 0-3"):
        read_examples(_rows([[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 0]]))


def test_numbers_and_strings_do_not_mix():
    with pytest.raises(TableError, match="some are numbers and some are strings"):
        read_examples(_rows(["a", 1, "a", 1]))


def test_missing_columns_are_named():
    with pytest.raises(TableError, match="a column 'body'"):
        read_examples(pd.DataFrame(_rows(["a", "b"] * 2)), text="body")
    with pytest.raises(TableError, match="no field 'body' in rows 0-3"):
        read_examples(_rows(["a", "b"] * 2), text="body")


def test_a_generator_is_refused_with_what_would_do():
    with pytest.raises(TableError, match="a list of dicts, a DataFrame"):
        read_examples(row for row in _rows(["a", "b"] * 2))


def test_evaluation_rows_share_the_training_labels():
    """They may have a single row or class, but no label that training does not know."""
    train = read_examples(_rows(["a", "b"] * 2))
    assert read_examples([{"text": "debt", "label": "b"}], like=train).targets == (1,)
    with pytest.raises(TableError, match="does not have in row 1"):
        read_examples([{"text": "debt", "label": "b"}, {"text": "x", "label": "c"}], like=train)


def test_a_long_list_of_faults_is_counted():
    rows = [{"text": "" if i % 2 else "fine", "label": i % 3} for i in range(200)]
    with pytest.raises(TableError, match="and 60 more"):
        read_examples(rows)


def test_reading_needs_no_torch():
    """Rows are read before anything heavy is loaded."""
    program = (
        "import sys; from common.tuning.datasets import read_examples; "
        "read_examples([{'text': 'a', 'label': 0}, {'text': 'b', 'label': 1}]); "
        "import common.tuning.recipe; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'pandas', 'datasets')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
