"""What binders are asked with in tests, and what they must have covered."""

from __future__ import annotations

import time
from collections.abc import Callable

from ccverify.bundle.endorsement import operator_payload, tpm_qualifying_data
from ccverify.bundle.tpm_item import parse_tpm_item
from ccverify.collect.binders import BindAsk
from ccverify.collect.model import Absence, Item, Outcome
from ccverify.tpm.verify import TpmResult, verify_tpm_quote

NONCE, THUMBPRINT, MANIFEST = bytes(range(32)), b"\xaa" * 32, b"\x55" * 48
QUALIFYING = tpm_qualifying_data(NONCE, THUMBPRINT, MANIFEST)
PAYLOAD = operator_payload(NONCE, THUMBPRINT, MANIFEST)


def bind_ask(seconds: float = 20.0, clock: Callable[[], float] = time.monotonic) -> BindAsk:
    return BindAsk(NONCE, THUMBPRINT, MANIFEST, clock() + seconds, clock)


def the_bound(outcome: Outcome) -> Item:
    assert isinstance(outcome, Item), outcome
    return outcome


def the_unbound(outcome: Outcome) -> Absence:
    assert isinstance(outcome, Absence), outcome
    assert outcome.text
    assert outcome.remedy
    return outcome


def tpm_result(outcome: Outcome) -> TpmResult:
    """What the item of a TPM proves; it must be without a problem."""
    item = the_bound(outcome)
    assert (item.label, item.type.value) == (
        "tpm-quote",
        "application/vnd.ccverify.tpm-quote+cbor",
    )
    result = verify_tpm_quote(parse_tpm_item(item.data), QUALIFYING)
    assert result.problems == ()
    return result
