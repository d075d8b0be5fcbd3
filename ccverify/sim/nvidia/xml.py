"""XML written twice: as a file, and in its canonical form (Canonical XML 1.1, inclusive).

Written by hand, so that the simulation and a verifier's XML library cannot be wrong in the
same way.  Only elements, attributes, namespaces and text; no ``xml:`` attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["XmlNode"]

_ATTRIBUTE = str.maketrans(
    {"&": "&amp;", "<": "&lt;", '"': "&quot;", "\t": "&#x9;", "\n": "&#xA;", "\r": "&#xD;"}
)
_TEXT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#xD;"})

_Pairs = tuple[tuple[str, str], ...]


def _declaration(prefix: str, uri: str) -> tuple[str, str]:
    return (f"xmlns:{prefix}" if prefix else "xmlns", uri)


def _tag(name: str, attributes: list[tuple[str, str]]) -> str:
    return name + "".join(f' {key}="{value.translate(_ATTRIBUTE)}"' for key, value in attributes)


@dataclass(frozen=True, slots=True)
class XmlNode:
    """One element.

    Attributes:
        name: as written, ``prefix:local``.
        attributes: (name as written, value), in the order of the file.
        namespaces: (prefix, URI) declared here; the empty prefix is the default namespace.
        children: elements and text.
    """

    name: str
    attributes: _Pairs = ()
    namespaces: _Pairs = ()
    children: tuple[XmlNode | str, ...] = ()

    def text(self) -> str:
        """Return the element as it is in a file: order as given, empty elements closed at once."""
        declared = [_declaration(*pair) for pair in self.namespaces]
        tag = _tag(self.name, [*declared, *self.attributes])
        if not self.children:
            return f"<{tag}/>"
        inside = (
            child.translate(_TEXT) if isinstance(child, str) else child.text()
            for child in self.children
        )
        return f"<{tag}>{''.join(inside)}</{self.name}>"

    def canonical(self, inherited: Mapping[str, str] | None = None) -> bytes:
        """Return the canonical octets of this element as the apex of what is canonicalised.

        Args:
            inherited: prefix → URI of the namespaces in scope around it, which an apex repeats.
        """
        scope = {**(inherited or {}), **dict(self.namespaces)}
        return self._canonical(scope, sorted(scope.items())).encode("utf-8")

    def _canonical(self, scope: Mapping[str, str], declared: list[tuple[str, str]]) -> str:
        def place(attribute: tuple[str, str]) -> tuple[str, str]:
            prefix, colon, local = attribute[0].rpartition(":")
            return (scope[prefix] if colon else "", local)

        attributes = sorted(self.attributes, key=place)
        tag = _tag(self.name, [*(_declaration(*pair) for pair in declared), *attributes])
        inside = []
        for child in self.children:
            if isinstance(child, str):
                inside.append(child.translate(_TEXT))
                continue
            new = sorted(pair for pair in child.namespaces if scope.get(pair[0]) != pair[1])
            inside.append(child._canonical({**scope, **dict(new)}, new))
        return f"<{tag}>{''.join(inside)}</{self.name}>"
