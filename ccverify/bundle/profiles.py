"""What each binding profile proves once it matches, and what it leaves unproven, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from ccverify.evidence import BindingProfile

__all__ = ["CHANNEL_INPUTS", "PROFILE_TEXTS", "ProfileText"]


class ProfileText(NamedTuple):
    """Sentences for people.

    Attributes:
        proves: what holds when every part and every device nonce matches.
        leaves: what may still be untrue then.
    """

    proves: tuple[str, ...]
    leaves: tuple[str, ...]


CHANNEL_INPUTS: Final[Mapping[str, str]] = {
    "session_key_thumbprint": "the session key that signs the bundle",
    "e2e_public_key": "the key to which the client encrypts",
    "hpke_key": "the HPKE key to which the client encrypts",
    "tls_fingerprint": "the public key of the TLS server",
    "tls_certificate": "the public key of the TLS server",
    "signing_address": "the key that signs answers",
    "signing_public_key": "the key that signs answers",
    "tee_public_key": "the key to which secrets are released",
}
"""Names in `Derivation.bound` that make a channel end in the TD, and what each is.

A bound key protects only the channel on which the client has seen that same key.
"""

_RELAYED: Final = (
    "That the devices are in the machine that made the quote: they only answered the same "
    "nonce, and their reports can be fetched from another machine."
)
_ONE_REQUEST: Final = "The quote and the device reports were made for the relying party's nonce."
_NO_CHANNEL: Final = "Who holds the other end of the connection: no key is bound."

PROFILE_TEXTS: Final[Mapping[BindingProfile, ProfileText]] = {
    BindingProfile.CCVERIFY: ProfileText(
        (
            _ONE_REQUEST,
            "The holder of the session key asked for all of it, and the quote covers the digest "
            "of every item of the manifest.",
        ),
        (_RELAYED,),
    ),
    BindingProfile.RAW_NONCE: ProfileText(
        (_ONE_REQUEST,),
        (_NO_CHANNEL, _RELAYED),
    ),
    BindingProfile.DSTACK: ProfileText(
        ("The caller of get_quote passed exactly the report data that the relying party expects.",),
        (
            "Who that caller was: any process in the guest may pass any report data.",
            "Anything that report data stands for, unless the relying party computed it.",
            _RELAYED,
        ),
    ),
    BindingProfile.REDPILL: ProfileText(
        (_ONE_REQUEST, "The signing address was named from inside the TD."),
        (
            "Who ends the TLS connection: answers may be read on the way, and only their "
            "signatures, if checked, show that they were not changed.",
            _RELAYED,
        ),
    ),
    BindingProfile.NEAR: ProfileText(
        (
            _ONE_REQUEST,
            "Signing address and TLS key fingerprint were named together from inside the TD.",
        ),
        (
            "That this connection uses that TLS key: the client must compare the fingerprint.",
            "At the gateway: which model node serves a request, and over which channel.",
            _RELAYED,
        ),
    ),
    BindingProfile.CHUTES: ProfileText(
        (
            _ONE_REQUEST,
            "The end-to-end key was named from inside the TD in answer to that nonce.",
            "Where the response carries a TLS certificate: its key was named there too.",
        ),
        (
            "That the TLS key answers this nonce: its hash stands in REPORTDATA on its own.",
            "Anything about an instance whose end-to-end key the client does not have.",
            "What a reseller does with a request that is not encrypted to the end-to-end key.",
            _RELAYED,
        ),
    ),
    BindingProfile.TINFOIL_V3: ProfileText(
        (
            _ONE_REQUEST,
            "TLS key, HPKE key and the exact text of the GPU evidence were named together from "
            "inside the TD.",
        ),
        (
            "The NVSwitch evidence: it is written anew after it was hashed, so what arrives "
            "cannot be compared with the hash.",
            "That the TD asked GPUs of its own machine: that rests on its measured software.",
            _RELAYED,
        ),
    ),
    BindingProfile.TRUSTEE: ProfileText(
        (
            _ONE_REQUEST,
            "The key for secrets and the exact text of the device evidence were named together "
            "from inside the TD.",
        ),
        (
            "That the TD asked devices of its own machine: that rests on its measured software.",
            _RELAYED,
        ),
    ),
}
