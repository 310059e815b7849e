"""Standard prefixes of the taxonomies that filings use, whatever prefix a file chose."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["standard_name"]

# yearly namespaces; those of 2009 are under xbrl.us
_STANDARD = re.compile(
    r"https?://(?:fasb\.org|xbrl\.us|xbrl\.sec\.gov|xbrl\.ifrs\.org/taxonomy)/"
    r"(?:[\d-]+/)?(?P<name>us-gaap|dei|srt|ifrs-full|country|currency|invest|ecd|cyd)(?:/|\Z)"
)


def standard_name(qname: str, namespaces: Mapping[str, str]) -> str:
    """Returns a prefixed name with the standard prefix of its namespace, if it has one.

    Args:
        qname: Such as "gaap:Assets".
        namespaces: Prefix to namespace, as the file declares them.
    """
    prefix, _, name = qname.strip().rpartition(":")
    standard = _STANDARD.match(namespaces.get(prefix, ""))
    if standard is not None:
        return f"{standard['name']}:{name}"
    return f"{prefix}:{name}" if prefix else name
