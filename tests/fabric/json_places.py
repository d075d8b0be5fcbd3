"""Every place of a JSON document, to put something else there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["places_of"]


def places_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each key or index of a document, outermost first, with the container that it is in."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield key, value
        if isinstance(value[key], dict | list):
            yield from places_of(value[key])
