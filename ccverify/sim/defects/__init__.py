"""Named defects: one honest attestation, wrong in exactly one way.

The table is what negative tests and the fixture writer iterate over.  It says what is wrong
and which attack that is, never what a verifier should answer: the answer belongs to the
verifier's own tests.
"""

from __future__ import annotations

from ccverify.sim.defects.chain import CHAIN_DEFECTS
from ccverify.sim.defects.collateral import COLLATERAL_DEFECTS
from ccverify.sim.defects.logs import LOG_DEFECTS
from ccverify.sim.defects.model import Area, Defect
from ccverify.sim.defects.quote import QUOTE_DEFECTS

__all__ = ["DEFECTS", "Area", "Defect"]

DEFECTS: dict[str, Defect] = {
    defect.name: defect
    for defect in (*CHAIN_DEFECTS, *COLLATERAL_DEFECTS, *QUOTE_DEFECTS, *LOG_DEFECTS)
}
"""All defects by name, in a stable order."""
