"""Labelled report sets for the benchmarks: texts, labels and splits as their sources demand.

`cancer_type`: 32 TCGA cancer types from pathology reports. Test: the 952 reports of
pathrep-bench's test file. Pool: its validation file and tcga-ocr-12sites where `prb_role`
is empty, less every patient of the test file. Barcodes, UUIDs and scanned bar lines are
stripped, since a barcode names the source site and so the type.

`fomc_stance`: dovish, hawkish or neutral sentences of the Federal Reserve (Shah, Paturi and
Chava 2023, arXiv 2305.07972; CC BY-NC 4.0: evaluate only), three official splits
("split-combine"). Training sentences that occur in a split's test are left out.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np

from common.errors import MissingInputError

__all__ = ["LabelledTexts", "Split", "TextTask", "cancer_type", "clean_report", "fomc_stance"]

_PATHREP = Path("medical/pathology-reports/pathrep-bench")
_OCR = Path("medical/pathology-reports/tcga-ocr-12sites")
_FOMC = Path("finance/fomc_stance")
_FOMC_SPLITS = (5768, 78516, 944601)  # the authors' three seeds
_STANCES = ("dovish", "hawkish", "neutral")
_DEV_SEED = 20  # of the draw that sets the development rows aside

_MARKS = (
    re.compile(r"T[CO]GA\s*-[-\s]*\w{2}\s*-\s*\w{3,4}\]?(?:\s*[-.]\s*\w{2,3}\b)*-?"),
    re.compile(r"UUID:?\s*\w{8}(?:\s*[-.]\s*\w{4}){3}\s*[-.]?\s*\w{12}"),
    re.compile(r"PR\s*Redacted"),
    re.compile(r"[Il1|!\s]*(?:[Il1|!]{6,})[Il1|!\s]*"),
)
_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with the number of each one's class."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Sequence[int]) -> LabelledTexts:
        """Returns the given rows, in that order."""
        return LabelledTexts(
            tuple(self.texts[row] for row in rows), tuple(self.labels[row] for row in rows)
        )


@dataclass(frozen=True)
class Split:
    """Rows to learn from, rows to choose by, rows to report; no patient or text is in two."""

    train: LabelledTexts
    dev: LabelledTexts
    test: LabelledTexts


@dataclass(frozen=True)
class TextTask:
    """A classification task.

    Args:
        name: Its name in results.
        classes: Names of the classes; a label is an index into them.
        splits: Its official splits; seed s uses split s modulo their number.
        max_tokens: The window that is read, special tokens included: the first so many
            tokens of a text, for every method and every floor alike.
        data: sha256 of each file read.
    """

    name: str
    classes: tuple[str, ...]
    splits: tuple[Split, ...]
    max_tokens: int
    data: Mapping[str, str]

    def split(self, seed: int) -> Split:
        """Returns the split of a seed."""
        return self.splits[seed % len(self.splits)]


def cancer_type(data: Path, *, n_dev: int = 400, max_tokens: int = 256) -> TextTask:
    """Reads the cancer type task.

    Args:
        data: Folder of the open data sets.
        n_dev: Patients of the pool that are set aside to choose by.
        max_tokens: The window read.

    Raises:
        MissingInputError: A file is absent.
    """
    import pandas as pd

    files = [data / _PATHREP / "test.csv.gz", data / _PATHREP / "val.csv.gz"]
    files += sorted((data / _OCR).glob("*.csv.gz"))
    digests = _digests(files, data)
    test, val = (_pathrep(pd.read_csv(path)) for path in files[:2])
    ocr = pd.concat([pd.read_csv(path) for path in files[2:]], ignore_index=True)
    ocr = ocr[ocr["prb_role"].isna() & ocr["ocr_text"].notna()]
    ocr = pd.DataFrame({"patient": ocr["barcode"], "text": ocr["ocr_text"], "type": ocr["type"]})
    pool = pd.concat([val, ocr], ignore_index=True)
    pool = pool[~pool["patient"].isin(set(test["patient"]))]
    classes = tuple(sorted(set(test["type"]) | set(pool["type"])))
    patients = np.random.default_rng(_DEV_SEED).permutation(sorted(set(pool["patient"])))
    in_dev = pool["patient"].isin(set(patients[:n_dev]))
    split = Split(*(_labelled(part, classes) for part in (pool[~in_dev], pool[in_dev], test)))
    return TextTask("cancer_type", classes, (split,), max_tokens, digests)


def fomc_stance(data: Path, *, n_dev: int = 200, max_tokens: int = 128) -> TextTask:
    """Reads the stance task with its three official splits.

    Args:
        data: Folder of the open data sets.
        n_dev: Training sentences of each split that are set aside to choose by.
        max_tokens: The window read.

    Raises:
        MissingInputError: A file is absent.
    """
    names = [f"{kind}-{seed}" for seed in _FOMC_SPLITS for kind in ("train", "test")]
    files = [data / _FOMC / f"lab-manual-split-combine-{name}.xlsx" for name in names]
    digests = _digests(files, data)
    sheets = [_sheet(path) for path in files]
    splits = [
        _stance_split(train, test, n_dev)
        for train, test in zip(sheets[::2], sheets[1::2], strict=True)
    ]
    return TextTask("fomc_stance", _STANCES, tuple(splits), max_tokens, digests)


def clean_report(text: str) -> str:
    """Returns `text` without barcodes, UUIDs and scanned bar lines; white space made single."""
    for mark in _MARKS:
        text = mark.sub(" ", text)
    return " ".join(text.split())


def _pathrep(frame: Any) -> Any:
    import pandas as pd

    return pd.DataFrame(
        {
            "patient": frame["bcr_patient_barcode"],
            "text": frame["text"],
            "type": frame["type_code"],
        }
    )


def _labelled(frame: Any, classes: Sequence[str]) -> LabelledTexts:
    index = {name: number for number, name in enumerate(classes)}
    texts = tuple(clean_report(text) for text in frame["text"])
    return LabelledTexts(texts, tuple(index[name] for name in frame["type"]))


def _stance_split(
    train: Sequence[Mapping[str, str]], test: Sequence[Mapping[str, str]], n_dev: int
) -> Split:
    in_test = {_key(row["sentence"]) for row in test}
    kept: dict[str, Mapping[str, str]] = {}  # one row for each sentence
    for row in train:
        if _key(row["sentence"]) not in in_test:
            kept.setdefault(_key(row["sentence"]), row)
    rows = list(kept.values())
    order = np.random.default_rng(_DEV_SEED).permutation(len(rows))
    dev = [rows[i] for i in order[:n_dev]]
    rest = [rows[i] for i in order[n_dev:]]
    return Split(*(_stances(part) for part in (rest, dev, test)))


def _stances(rows: Sequence[Mapping[str, str]]) -> LabelledTexts:
    return LabelledTexts(
        tuple(" ".join(row["sentence"].split()) for row in rows),
        tuple(int(float(row["label"])) for row in rows),
    )


def _key(sentence: str) -> str:
    return " ".join(re.findall(r"\w+", sentence.casefold()))


def _sheet(path: Path) -> list[dict[str, str]]:
    """Reads a workbook's first sheet of inline strings and numbers, a dict for each row."""
    with zipfile.ZipFile(path) as book:
        root = ET.fromstring(book.read("xl/worksheets/sheet1.xml"))  # noqa: S314  # a pinned data set
    table = [
        {
            re.sub(r"\d", "", cell.attrib["r"]): "".join(cell.itertext())
            for cell in row.iter(f"{_SHEET}c")
        }
        for row in root.iter(f"{_SHEET}row")
    ]
    header = table[0]
    return [{name: row.get(column, "") for column, name in header.items()} for row in table[1:]]


def _digests(files: Sequence[Path], data: Path) -> dict[str, str]:
    absent = [path.name for path in files if not path.is_file()]
    if absent or not files:
        raise MissingInputError(
            "data set",
            expected=f"{len(files)} files under {files[0].parent.name if files else data.name}",
            found=f"{', '.join(absent[:3]) or 'none of them'} absent",
            remedy="Pass --data with the folder of the open data sets; their README says more.",
        )
    return {
        path.relative_to(data).as_posix(): sha256(path.read_bytes()).hexdigest() for path in files
    }
