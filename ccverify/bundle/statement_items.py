"""The items of a statement of a fabric's manager, taken out of the bundle that it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ccverify.bundle.model import ItemType
from ccverify.bundle.package import Bundle

__all__ = ["FACTS_LABEL", "statement_items"]

FACTS_LABEL: Final = "fabric-manager"
"""Under which the facts are read, whatever their label in the bundle is."""


def statement_items(bundle: Bundle) -> Mapping[str, bytes] | None:
    """Return label → bytes for `ccverify.fabric.statement.read_statement`.

    Args:
        bundle: of anything.

    Returns:
        None if it is no statement: then nobody says anything of a Fabric Manager in it.
    """
    facts = bundle.of_type(ItemType.FABRIC_MANAGER)
    if not facts:
        return None
    # The facts come last, so that no dump can stand in their place under their name.
    return {**bundle.of_type(ItemType.FABRIC_DUMP), FACTS_LABEL: next(iter(facts.values()))}
