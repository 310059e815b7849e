"""Prints the UID that `derive_uid("SEG instance", "digest")` must give.

Run with: python tests/reference/derived_uid.py
"""

import hashlib

sha = hashlib.sha256()
for piece in (b"SEG instance", b"digest"):
    sha.update(len(piece).to_bytes(8, "big") + piece)
octets = bytearray(sha.digest()[:16])
octets[6] = 0x80 | octets[6] & 0x0F  # RFC 9562 section 5.8: version 8
octets[8] = 0x80 | octets[8] & 0x3F  # and its variant
print("2.25." + str(int.from_bytes(octets, "big")))
