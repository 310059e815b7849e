"""Reads the facts of an XBRL instance (XBRL 2.1), with where each one stands.

expat is told to refuse every declared entity; it opens no file and no address. Schemas and
linkbases that the instance points at are not read: a fact says of itself all that is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.parsers import expat

from common.errors import DocumentError
from kits.finance.disclosures.taxonomies import standard_name
from kits.finance.disclosures.xbrl_contexts import ContextReader, RawFact

__all__ = ["looks_like_instance", "read_instance"]

_INSTANCE = "http://www.xbrl.org/2003/instance"
_LINKBASE = "http://www.xbrl.org/2003/linkbase"
_ROOT = re.compile(r"<(?:[\w.-]+:)?xbrl[\s>]")
_SEPARATOR = " "


def looks_like_instance(source: str) -> bool:
    """Whether the root element seems to be `xbrl`."""
    return _ROOT.search(source[:20_000]) is not None


def read_instance(source: str) -> tuple[list[RawFact], ContextReader]:
    """Returns the facts of an instance as they stand, and its contexts and units.

    Args:
        source: The decoded file.

    Raises:
        DocumentError: It is not well-formed, declares entities, or is no instance.
    """
    reader = _InstanceReader(source)
    try:
        reader.parser.Parse(reader.content, True)
    except expat.ExpatError as error:
        raise _no_instance(f"XML that ends in a fault on line {error.lineno}") from error
    if not reader.is_instance:
        raise _no_instance("XML with another root element")
    return reader.facts, reader.contexts


class _InstanceReader:
    def __init__(self, source: str) -> None:
        # the file is decoded already: what its declaration says no longer holds
        self.content = source.encode("utf-8")
        self.one_to_one = len(self.content) == len(source)
        self.facts: list[RawFact] = []
        self.is_instance = False
        self.namespaces: dict[str, str] = {}
        self.prefixes: dict[str, str] = {}
        self.contexts = ContextReader(lambda name: standard_name(name, self.namespaces))
        self.depth = 0
        self.item: tuple[str, dict[str, str], int] | None = None
        self.item_depth = 0
        self.text: list[str] = []
        self.place = (0, 0)  # bytes and characters already counted
        self.parser = expat.ParserCreate("utf-8", _SEPARATOR)
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.data
        self.parser.StartNamespaceDeclHandler = self.namespace
        self.parser.EntityDeclHandler = self.entity

    def namespace(self, prefix: str | None, uri: str) -> None:
        self.namespaces.setdefault(prefix or "", uri)
        self.prefixes.setdefault(uri, prefix or "")

    def entity(self, *declaration: object) -> None:
        del declaration
        raise _no_instance("a declared entity, which no filing needs")

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        self.depth += 1
        uri, _, local = name.rpartition(_SEPARATOR)
        if self.depth == 1:
            self.is_instance = (uri, local) == (_INSTANCE, "xbrl")
        elif self.contexts.is_open or (uri == _INSTANCE and local in ("context", "unit")):
            self.contexts.start(local.lower(), _lowered(attributes))
        elif uri not in (_INSTANCE, _LINKBASE) and self.item is None and self.depth == 2:
            lowered = _lowered(attributes)
            if "contextref" in lowered:
                concept = standard_name(f"{self.prefixes.get(uri, '')}:{local}", self.namespaces)
                self.item, self.text = (concept, lowered, self.after_tag()), []
                self.item_depth = self.depth

    def data(self, text: str) -> None:
        self.contexts.data(text)
        if self.item is not None:
            self.text.append(text)

    def end(self, name: str) -> None:
        if self.contexts.is_open:
            self.contexts.end(name.rpartition(_SEPARATOR)[2].lower())
        if self.item is not None and self.depth == self.item_depth:
            concept, attributes, start = self.item
            text = "".join(self.text)
            numeric = "unitref" in attributes
            end = max(self.offset(self.parser.CurrentByteIndex), start)
            self.facts.append(RawFact(concept, attributes, text, start, end, numeric))
            self.item = None
        self.depth -= 1

    def after_tag(self) -> int:
        """Returns the offset after the start tag at which the parser stands."""
        begin = self.parser.CurrentByteIndex
        quoted = b""
        for position in range(begin, len(self.content)):
            byte = self.content[position : position + 1]
            if quoted:
                quoted = b"" if byte == quoted else quoted
            elif byte in (b'"', b"'"):
                quoted = byte
            elif byte == b">":
                return self.offset(position + 1)
        return self.offset(begin)

    def offset(self, byte: int) -> int:
        """Returns the character that a byte of the content begins; calls go forward."""
        if self.one_to_one:
            return byte
        counted, characters = self.place
        if byte < counted:
            counted, characters = 0, 0
        characters += len(self.content[counted:byte].decode("utf-8"))
        self.place = (byte, characters)
        return characters


def _lowered(attributes: Mapping[str, str]) -> dict[str, str]:
    return {name.rpartition(_SEPARATOR)[2].lower(): value for name, value in attributes.items()}


def _no_instance(found: str) -> DocumentError:
    return DocumentError(
        "XBRL instance",
        expected="well-formed XML with the root element xbrl and no declared entity",
        found=found,
        remedy="Give the instance document as EDGAR publishes it (such as *_htm.xml).",
    )
