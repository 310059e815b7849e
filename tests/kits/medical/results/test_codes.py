"""Coded concepts say what the standards say."""

from __future__ import annotations

import pytest
from pydicom.sr import codedict

from kits.medical.results import codes

NAMED = [value for value in vars(codes).values() if isinstance(value, codes.Concept)]
TABLES = (codes.PROCEDURES, codes.REGIONS, codes.LATERALITIES, codes.SUPPORT_VALUES)
CONCEPTS = [*NAMED, *(concept for table in TABLES for concept in table.values())]
IN_CONTEXT_GROUPS = [concept for concept in CONCEPTS if concept.clause.startswith("CID ")]

# Verhoeff's dihedral group D5 and its permutation (SNOMED CT TIG, SCTID check-digit).
PERMUTATION = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def _multiply(a: int, b: int) -> int:
    """The product of two elements of D5, rotations 0-4 and reflections 5-9."""
    if a < 5:
        return (a + b) % 5 if b < 5 else 5 + (a + b - 5) % 5
    return 5 + (a - 5 - b) % 5 if b < 5 else (a - b) % 5


def _verhoeff_holds(number: str) -> bool:
    check = 0
    for position, digit in enumerate(reversed(number)):
        value = int(digit)
        for _ in range(position % 8):
            value = PERMUTATION[value]
        check = _multiply(check, value)
    return check == 0


def _luhn_holds(number: str) -> bool:
    digits = [int(digit) for digit in reversed(number)]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


@pytest.mark.parametrize("concept", IN_CONTEXT_GROUPS, ids=lambda c: c.meaning)
def test_a_concept_is_in_the_context_group_that_it_names(concept: codes.Concept):
    """pydicom's copy of PS3.16 has value, scheme and meaning there."""
    group = getattr(codedict.codes, concept.clause.replace("CID ", "cid"))
    members = [getattr(group, name) for name in group.dir()]
    found = [
        m for m in members if (m.value, m.scheme_designator) == (concept.value, concept.scheme)
    ]
    assert [m.meaning for m in found] in ([concept.meaning], [concept.value])


@pytest.mark.parametrize("concept", CONCEPTS, ids=lambda c: c.meaning)
def test_check_digits_hold(concept: codes.Concept):
    """SNOMED CT and LOINC codes carry a check digit; a wrong keystroke breaks it."""
    if concept.scheme == "SCT":
        assert _verhoeff_holds(concept.value)
    if concept.scheme == "LN":
        assert _luhn_holds(concept.value.replace("-", ""))


def test_private_concepts_are_few_and_ours():
    """Only what no standard scheme has is private, and every scheme has a FHIR system."""
    private = {c.value for c in CONCEPTS if c.scheme == codes.PRIVATE_SCHEME}
    assert private == {
        "report-support",
        "not-mentioned",
        "no-report",
        "suspicion",
    }
    assert {c.scheme for c in CONCEPTS} - {"UMLS"} == set(codes.FHIR_SYSTEMS)


@pytest.mark.parametrize("concept", CONCEPTS, ids=lambda c: c.meaning)
def test_value_and_meaning_fit_their_attributes(concept: codes.Concept):
    """Code Value is SH (16), or Long Code Value beyond; Code Meaning is LO (64)."""
    assert len(concept.value) <= 16
    assert len(concept.meaning) <= 64


def test_a_concept_is_one_code_in_dicom_and_in_fhir():
    """The same value and meaning in both forms."""
    assert codes.NODULE.coding["code"] == codes.NODULE.code.value == "27925004"
    assert codes.NODULE.coding["system"] == "http://snomed.info/sct"
