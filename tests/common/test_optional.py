"""Optional packages are imported, or their extra is named."""

from __future__ import annotations

import pytest

from common.errors import MissingExtraError
from common.optional import require


def test_an_installed_module_is_returned() -> None:
    assert require("json", extra="dev").loads("1") == 1


def test_an_absent_module_names_its_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"tandem-kits\[gpu\]"):
        require("no_such_package", extra="gpu")
