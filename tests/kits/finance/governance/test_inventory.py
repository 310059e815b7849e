"""The inventory knows whose a model is, who approved it, and when it is due again."""

from __future__ import annotations

import json
import stat
from datetime import date

import pytest

from common.errors import AccessError, ConflictError, InputError, StoreError, UnknownNameError
from kits.finance.governance.inventory import ModelInventory, kit_models
from kits.finance.tasks import ADAPTER_FOLDER

REVIEW = date(2027, 6, 30)


@pytest.fixture
def inventory(tmp_path):
    found = ModelInventory(tmp_path / "finance" / "inventory.sqlite")
    yield found
    found.close()


def register(inventory, version="1", **changes):
    fields = {"owner": "Risk Models", "purpose": "Scores", "next_review_date": REVIEW}
    return inventory.register("finance.linkage", version=version, **(fields | changes))


def test_a_new_version_is_a_challenger(inventory):
    """With what was said of it, and no approval."""
    entry = register(inventory)
    assert (entry.status, entry.approvals, entry.next_review_date) == ("challenger", (), REVIEW)
    assert inventory.entries() == (entry,)


def test_promotion_needs_somebody_other_than_the_owner(inventory):
    """The owner's own approval is noted and does not suffice."""
    register(inventory)
    with pytest.raises(AccessError, match="0 approvals"):
        inventory.promote("finance.linkage", "1")
    inventory.approve("finance.linkage", "1", approver="risk models", comment="Ours.")
    with pytest.raises(AccessError, match="1 approvals"):
        inventory.promote("finance.linkage", "1")
    inventory.approve("finance.linkage", "1", approver="Validation", comment="Report 12.")
    entry = inventory.promote("finance.linkage", "1")
    assert entry.status == "champion"
    assert [one.approver for one in entry.approvals] == ["risk models", "Validation"]


def test_there_is_one_champion_at_a_time(inventory):
    """The one before is retired, and stays in the inventory."""
    for version in ("1", "2"):
        register(inventory, version)
        inventory.approve("finance.linkage", version, approver="Validation", comment="Seen.")
        inventory.promote("finance.linkage", version)
    assert {e.version: e.status for e in inventory.entries()} == {"1": "retired", "2": "champion"}


def test_reviews_come_due_except_for_retired_versions(inventory):
    """A review sets the next date."""
    register(inventory)
    register(inventory, "2")
    inventory.retire("finance.linkage", "2")
    after = date(2027, 7, 1)
    assert inventory.overdue(REVIEW) == ()
    assert [entry.version for entry in inventory.overdue(after)] == ["1"]
    inventory.review("finance.linkage", "1", next_review_date=date(2028, 6, 30))
    assert inventory.overdue(after) == ()


def test_what_is_missing_or_taken_is_told(inventory):
    """Empty fields, ids with blanks, a version twice, a version that is not there."""
    with pytest.raises(InputError, match="no owner; no purpose"):
        register(inventory, owner=" ", purpose="")
    with pytest.raises(InputError, match="an id that is no"):
        inventory.approve("My Model", "1", approver="X", comment="y")
    register(inventory)
    with pytest.raises(ConflictError, match="entered already"):
        register(inventory)
    for call in (inventory.promote, inventory.retire, inventory.entry):
        with pytest.raises(UnknownNameError):
            call("finance.linkage", "9")
    assert len(inventory.entries()) == 1


def test_the_file_is_private_and_outlives_its_process(inventory, tmp_path):
    """Another opening reads the same; another kind of file is refused."""
    entry = register(inventory)
    path = tmp_path / "finance" / "inventory.sqlite"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    inventory.close()
    again = ModelInventory(path)
    assert again.entries() == (entry,)
    again.close()
    (tmp_path / "other").write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError):
        ModelInventory(tmp_path / "other")


def test_the_kits_own_models_can_be_entered(inventory):
    """The shipped adapter's version is its digest."""
    models = {model.model_id: model for model in kit_models()}
    metrics = json.loads((ADAPTER_FOLDER / "metrics.json").read_text())
    assert models["finance.text.maec-lora"].version == metrics["adapter_digest"]
    for model in models.values():
        inventory.register(
            model.model_id,
            version=model.version,
            owner="Risk Models",
            purpose=model.purpose,
            next_review_date=REVIEW,
        )
    assert len(inventory.entries()) == len(models) >= 4
