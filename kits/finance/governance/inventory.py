"""The model inventory: which models are in use, whose they are, who approved them, until when.

One private SQLite file under TANDEM_HOME. Of each model one version at most is champion;
a version becomes it only when somebody other than the model's owner approved it. SR 11-7
(Federal Reserve and OCC, April 2011), part VI "Model Inventory".
"""

from __future__ import annotations

import json
import re
import sqlite3
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal, get_args

from common.errors import AccessError, ConflictError, InputError, UnknownNameError
from common.protocol.database import Database
from common.settings import Settings, load_settings
from kits.finance.tasks import ADAPTER_FOLDER

__all__ = ["Approval", "InventoryEntry", "KitModel", "ModelInventory", "Status", "kit_models"]

Status = Literal["challenger", "champion", "retired"]

_APPLICATION_ID = 0x74644D31  # "tdM1"
_ANOTHER_CHAMPION, _THIS = "status = 'champion' AND version <> ?", "version = ?"
_MODEL_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_MIGRATIONS = (
    (
        """CREATE TABLE model (
            id TEXT PRIMARY KEY,
            owner TEXT NOT NULL,
            purpose TEXT NOT NULL
        ) STRICT""",
        """CREATE TABLE version (
            model TEXT NOT NULL REFERENCES model,
            version TEXT NOT NULL,
            status TEXT NOT NULL,
            registered TEXT NOT NULL,
            next_review TEXT NOT NULL,
            PRIMARY KEY (model, version)
        ) STRICT""",
        "CREATE UNIQUE INDEX one_champion ON version (model) WHERE status = 'champion'",
        """CREATE TABLE approval (
            model TEXT NOT NULL,
            version TEXT NOT NULL,
            approver TEXT NOT NULL,
            time TEXT NOT NULL,
            comment TEXT NOT NULL,
            FOREIGN KEY (model, version) REFERENCES version
        ) STRICT""",
    ),
)


@dataclass(frozen=True)
class Approval:
    """Somebody's consent to the use of one version.

    Args:
        approver: Who.
        time: When, ISO 8601 in UTC.
        comment: On what grounds.
    """

    approver: str
    time: str
    comment: str


@dataclass(frozen=True)
class InventoryEntry:
    """One version of one model.

    Args:
        model_id: Stable id of the model.
        version: Of this entry: a digest or a release.
        owner: Who answers for the model.
        purpose: What it is for.
        status: "challenger", "champion" or "retired".
        registered: When, ISO 8601 in UTC.
        next_review_date: The day by which it is to be reviewed again.
        approvals: The oldest first.
    """

    model_id: str
    version: str
    owner: str
    purpose: str
    status: Status
    registered: str
    next_review_date: date
    approvals: tuple[Approval, ...] = ()

    def overdue(self, on: date) -> bool:
        """Says whether its review is due on a day; a retired version needs none."""
        return self.status != "retired" and self.next_review_date < on


@dataclass(frozen=True)
class KitModel:
    """A model that this kit brings.

    Args:
        model_id: For the inventory.
        version: Digest of its adapter, or the release of the package that holds it.
        purpose: What it is for.
    """

    model_id: str
    version: str
    purpose: str


class ModelInventory:
    """The inventory in one file.

    Args:
        path: The file; made where it is absent, for the owner only.

    Raises:
        StoreError: The file is damaged, of another kind, or of a later version.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, application_id=_APPLICATION_ID, migrations=_MIGRATIONS)

    @classmethod
    def from_settings(cls, settings: Settings | None = None) -> ModelInventory:
        """Opens the inventory of TANDEM_HOME."""
        return cls((settings or load_settings()).home / "finance" / "inventory.sqlite")

    def register(
        self, model_id: str, *, version: str, owner: str, purpose: str, next_review_date: date
    ) -> InventoryEntry:
        """Enters a version as a challenger; owner and purpose hold for all its versions.

        Raises:
            InputError: A field is empty, or the id is no plain one.
            ConflictError: The version is entered already.
        """
        _require_fields(model_id, version=version, owner=owner, purpose=purpose)
        with self._database.writing() as tables:
            if _find(tables, model_id, version) is not None:
                raise _conflict("a version that is new", "one that is entered already")
            tables.execute(
                "INSERT INTO model VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE"
                " SET owner = excluded.owner, purpose = excluded.purpose",
                (model_id, owner.strip(), purpose.strip()),
            )
            tables.execute(
                "INSERT INTO version VALUES (?, ?, 'challenger', ?, ?)",
                (model_id, version, _now(), next_review_date.isoformat()),
            )
        return self.entry(model_id, version)

    def approve(
        self, model_id: str, version: str, *, approver: str, comment: str
    ) -> InventoryEntry:
        """Notes an approval.

        Raises:
            InputError: A field is empty.
            UnknownNameError: There is no such version.
        """
        _require_fields(model_id, approver=approver, comment=comment)
        with self._database.writing() as tables:
            _require(tables, model_id, version)
            tables.execute(
                "INSERT INTO approval VALUES (?, ?, ?, ?, ?)",
                (model_id, version, approver.strip(), _now(), comment.strip()),
            )
        return self.entry(model_id, version)

    def promote(self, model_id: str, version: str) -> InventoryEntry:
        """Makes a version the champion; the champion before it is retired.

        Raises:
            AccessError: Nobody but the owner approved it.
            UnknownNameError: There is no such version.
        """
        with self._database.writing() as tables:
            entry = _require(tables, model_id, version)
            owner = entry.owner.casefold()
            if all(one.approver.casefold() == owner for one in entry.approvals):
                raise AccessError(
                    "promotion of a model",
                    expected="an approval by somebody other than its owner",
                    found=f"{len(entry.approvals)} approvals, none of somebody else",
                    remedy="Have it validated and approved by somebody independent.",
                )
            _set_status(
                tables, model_id, "retired", "status = 'champion' AND version <> ?", version
            )
            _set_status(tables, model_id, "champion", _THIS, version)
        return self.entry(model_id, version)

    def retire(self, model_id: str, version: str) -> InventoryEntry:
        """Takes a version out of use; it stays in the inventory.

        Raises:
            UnknownNameError: There is no such version.
        """
        with self._database.writing() as tables:
            _require(tables, model_id, version)
            _set_status(tables, model_id, "retired", _THIS, version)
        return self.entry(model_id, version)

    def review(self, model_id: str, version: str, *, next_review_date: date) -> InventoryEntry:
        """Notes that a version was reviewed, by the day by which it is to be again.

        Raises:
            UnknownNameError: There is no such version.
        """
        with self._database.writing() as tables:
            _require(tables, model_id, version)
            tables.execute(
                "UPDATE version SET next_review = ? WHERE model = ? AND version = ?",
                (next_review_date.isoformat(), model_id, version),
            )
        return self.entry(model_id, version)

    def entry(self, model_id: str, version: str) -> InventoryEntry:
        """Returns one version's entry.

        Raises:
            UnknownNameError: There is no such version.
        """
        with self._database.reading() as tables:
            return _require(tables, model_id, version)

    def entries(self) -> tuple[InventoryEntry, ...]:
        """Returns all entries, by model, the oldest first."""
        with self._database.reading() as tables:
            rows = tables.execute(
                "SELECT model, version FROM version ORDER BY model, registered, version"
            ).fetchall()
            return tuple(_require(tables, *row) for row in rows)

    def overdue(self, on: date) -> tuple[InventoryEntry, ...]:
        """Returns the versions in use whose review is due."""
        return tuple(entry for entry in self.entries() if entry.overdue(on))

    def close(self) -> None:
        """Closes the file."""
        self._database.close()


def kit_models() -> tuple[KitModel, ...]:
    """Returns the models that this kit brings, to be entered by who answers for them."""
    from importlib.metadata import version

    release = version("tandem-kits")
    adapters = []
    for metrics in sorted(ADAPTER_FOLDER.parent.glob("*/metrics.json")):
        digest = json.loads(metrics.read_bytes()).get("adapter_digest", release)
        name = metrics.parent.name
        adapters.append(KitModel(f"finance.text.{name}", str(digest), "Text signal of disclosures"))
    return (
        *adapters,
        KitModel("finance.linkage", release, "Probability of high 30-day volatility, 0-100 score"),
        KitModel("finance.har", release, "Volatility forecast from daily ranges"),
        KitModel("finance.garch-t", release, "Volatility forecast, value at risk, shortfall"),
    )


def _find(tables: sqlite3.Connection, model_id: str, version: str) -> InventoryEntry | None:
    row = tables.execute(
        "SELECT owner, purpose, status, registered, next_review FROM version"
        " JOIN model ON model.id = version.model WHERE model = ? AND version = ?",
        (model_id, version),
    ).fetchone()
    if row is None:
        return None
    owner, purpose, status, registered, next_review = row
    approvals = tables.execute(
        "SELECT approver, time, comment FROM approval WHERE model = ? AND version = ?"
        " ORDER BY rowid",
        (model_id, version),
    )
    return InventoryEntry(
        model_id=model_id,
        version=version,
        owner=owner,
        purpose=purpose,
        status=next(one for one in get_args(Status) if one == status),
        registered=registered,
        next_review_date=date.fromisoformat(next_review),
        approvals=tuple(Approval(*one) for one in approvals),
    )


def _require(tables: sqlite3.Connection, model_id: str, version: str) -> InventoryEntry:
    found = _find(tables, model_id, version)
    if found is None:
        raise UnknownNameError(
            "model inventory",
            expected="a model and a version of it that were entered",
            found="another",
            remedy="List the inventory, or register the version first.",
        )
    return found


def _set_status(
    tables: sqlite3.Connection, model_id: str, status: Status, which: str, version: str
) -> None:
    tables.execute(
        f"UPDATE version SET status = ? WHERE model = ? AND {which}",  # noqa: S608  # a constant
        (status, model_id, version),
    )


def _require_fields(model_id: str, **fields: str) -> None:
    faults = [f"no {name}" for name, value in fields.items() if not value.strip()]
    if not _MODEL_ID.fullmatch(model_id):
        faults.append("an id that is no 1 to 64 of a-z, 0-9, dot, - and _")
    if faults:
        raise InputError(
            "model inventory",
            expected="a plain id and all fields filled in",
            found="; ".join(faults),
            remedy="Fill in what is missing.",
        )


def _conflict(expected: str, found: str) -> ConflictError:
    return ConflictError(
        "model inventory",
        expected=expected,
        found=found,
        remedy="Enter a new version, or work with the entry that is there.",
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
