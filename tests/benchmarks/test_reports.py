"""The labelled report sets: clean, split by patient, and never seen in training."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from benchmarks.reports import cancer_type, clean_report, fomc_stance
from common.errors import MissingInputError

CELL = '<c r="{column}{row}" t="inlineStr"><is><t>{text}</t></is></c>'
SHEET = (
    '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
    "<sheetData>{rows}</sheetData></worksheet>"
)
SPLITS = (5768, 78516, 944601)


@pytest.mark.parametrize(
    "mark",
    [
        "TCGA-XF-AAM3-01A-PR Redacted",
        "TCGA- HQ-A5M -01A-",
        "TOGA- BT-A20J-01A",
        "UUID:4e212BF3-FE4C- 4389-8583.76C7355eDD2C",
        "III IIIIIIIIIIIIIUIIII 11111IIIIIIIIUIIIIII",
    ],
)
def test_what_names_the_source_site_is_stripped(mark: str) -> None:
    cleaned = clean_report(f"Bladder, radical cystectomy: {mark} carcinoma, high grade.")
    assert cleaned.startswith("Bladder, radical cystectomy:")
    assert cleaned.endswith("carcinoma, high grade.")
    assert "TCGA" not in cleaned
    assert "A5M" not in cleaned
    assert "FE4C" not in cleaned
    assert "IIIIII" not in cleaned


def test_a_report_without_marks_keeps_its_words() -> None:
    words = "Kidney, right; partial nephrectomy: pT1a, 3.9 cm, margins free."
    assert clean_report(words) == words


def test_no_sentence_of_a_split_is_in_two_of_its_parts(tmp_path: Path) -> None:
    write_stance_files(tmp_path)
    task = fomc_stance(tmp_path, n_dev=4)
    assert len(task.splits) == 3
    for split in task.splits:
        parts = [set(part.texts) for part in (split.train, split.dev, split.test)]
        assert not parts[0] & parts[1]
        assert not parts[0] & parts[2]
        assert not parts[1] & parts[2]
        assert len(split.train) == 12 - 1 - 4  # one sentence is in the test, four are set aside


def test_a_seed_takes_its_official_split_in_turn(tmp_path: Path) -> None:
    write_stance_files(tmp_path)
    task = fomc_stance(tmp_path, n_dev=4)
    assert task.split(4) is task.splits[1]


def test_an_absent_set_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="Pass --data"):
        fomc_stance(tmp_path)


def test_the_cancer_type_task_holds_out_every_test_patient(tandem_data: Path) -> None:
    task = cancer_type(tandem_data)
    split = task.split(0)
    assert len(split.test) == 952
    assert len(task.classes) == 32
    assert len(split.train) > 4096
    assert not set(split.test.texts) & {*split.train.texts, *split.dev.texts}


def write_stance_files(data: Path) -> None:
    folder = data / "finance" / "fomc_stance"
    folder.mkdir(parents=True)
    for seed in SPLITS:
        train = [(f"Sentence {i} of {seed}.", i % 3) for i in range(11)] + [("Shared!", 0)]
        test = [(f"Tested {i} of {seed}.", i % 3) for i in range(5)] + [("shared", 0)]
        for kind, rows in (("train", train), ("test", test)):
            table = [("sentence", "label"), *rows]
            lines = "".join(
                f'<row r="{n}">'
                + CELL.format(column="A", row=n, text=sentence)
                + CELL.format(column="B", row=n, text=label)
                + "</row>"
                for n, (sentence, label) in enumerate(table, start=1)
            )
            path = folder / f"lab-manual-split-combine-{kind}-{seed}.xlsx"
            with zipfile.ZipFile(path, "w") as book:
                book.writestr("xl/worksheets/sheet1.xml", SHEET.format(rows=lines))
