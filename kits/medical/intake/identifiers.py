"""DICOM unique identifiers that repeat for equal input."""

from __future__ import annotations

from uuid import UUID

from common.task import digest_of

__all__ = ["derive_uid"]


def derive_uid(*pieces: str) -> str:
    """Returns a DICOM UID that depends on `pieces` alone.

    The first 128 bits of their sha256 become a version 8 UUID (RFC 9562 section 5.8), whose
    integer stands below the root 2.25 (DICOM PS3.5 Annex B.2), so 44 characters at most.

    Args:
        pieces: What the identified thing is made from: digests, and a word for its kind.

    Returns:
        "2.25." and an integer without leading zeros.
    """
    digest = digest_of(*(piece.encode() for piece in pieces))
    bits = int(digest[:32], 16)
    bits = bits & ~(0xF << 76) | (8 << 76)  # version 8
    bits = bits & ~(0x3 << 62) | (0x2 << 62)  # variant of RFC 9562
    return f"2.25.{UUID(int=bits).int}"
