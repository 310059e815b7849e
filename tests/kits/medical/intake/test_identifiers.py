"""Identifiers are valid DICOM UIDs that depend on their pieces alone."""

from __future__ import annotations

import re
from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from kits.medical.intake.identifiers import derive_uid

GOLDEN = "2.25.14793390428301502650402842793650157198"
"""Printed by tests/reference/derived_uid.py, which computes it by hand from hashlib."""


@given(st.lists(st.text(), max_size=4))
def test_a_uid_is_a_uuid_below_the_root_2_25(pieces: list[str]):
    """PS3.5 Annex B.2: at most 64 characters, no leading zero, an integer of 128 bits."""
    uid = derive_uid(*pieces)
    assert re.fullmatch(r"2\.25\.(0|[1-9]\d*)", uid)
    assert len(uid) <= 64
    value = UUID(int=int(uid.removeprefix("2.25.")))
    assert (value.version, value.variant) == (8, RFC_4122)


@given(st.text(), st.text(), st.text(min_size=1))
def test_where_one_piece_ends_matters(first: str, second: str, moved: str):
    """("ab", "c") and ("a", "bc") name two things."""
    assert derive_uid(first + moved, second) != derive_uid(first, moved + second)


def test_a_uid_repeats():
    """Equal pieces give equal UIDs, in every process and on every machine."""
    assert derive_uid("SEG instance", "digest") == GOLDEN
