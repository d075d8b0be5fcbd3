"""A signing key that never leaves its device: PKCS#11, by the URI of RFC 7512.

``pkcs11:token=LABEL;object=LABEL?module-path=/path/of/module.so``; instead of ``object``, or
beside it, ``id`` with percent-encoded bytes.  Everything else a URI may hold is refused: an
attribute that is not understood might be the one that tells two keys apart.  A PIN never stands
in it, as command lines are seen by others.

The device takes the secret number of ECDSA from its own randomness, so two signatures over one
verdict differ, and what was signed does not.
"""

from __future__ import annotations

import hashlib
import importlib
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from cryptography.hazmat.primitives.asymmetric import ec

from ccverify.bundle.cose import CoseKey
from ccverify.errors import UsageError
from ccverify.results.signing import VerifierKey

__all__ = ["PIN_VARIABLE", "Pkcs11Uri", "is_pkcs11_uri", "load_pkcs11_key", "parse_pkcs11_uri"]

PIN_VARIABLE: Final = "CCVERIFY_PKCS11_PIN"

_SCHEME: Final = "pkcs11:"
_FORM: Final = "pkcs11:token=LABEL;object=LABEL?module-path=PATH"
_OIDS: Final[dict[bytes, tuple[ec.EllipticCurve, str]]] = {
    bytes.fromhex("06082a8648ce3d030107"): (ec.SECP256R1(), "sha256"),
    bytes.fromhex("06052b81040022"): (ec.SECP384R1(), "sha384"),
}
"""CKA_EC_PARAMS → curve and digest."""


@dataclass(frozen=True, slots=True)
class Pkcs11Uri:
    """Which key, on which token, through which module."""

    module: str
    token: str
    label: str | None
    key_id: bytes | None


def is_pkcs11_uri(text: str) -> bool:
    """Whether a name is meant to be a PKCS#11 URI, and not a file."""
    return text.startswith(_SCHEME)


def parse_pkcs11_uri(text: str) -> Pkcs11Uri:
    """Parse a URI as far as it is understood here.

    Raises:
        UsageError: an attribute that is missing, unknown or given twice.
    """
    path, _, query = text.removeprefix(_SCHEME).partition("?")
    attributes: dict[str, bytes] = {}
    for part, separator in ((path, ";"), (query, "&")):
        for item in filter(None, part.split(separator)):
            name, sign, value = item.partition("=")
            known = ("token", "object", "id") if separator == ";" else ("module-path",)
            if not sign or not value or name not in known or name in attributes:
                raise _unusable(f"attribute {item[:60]!r} is unknown, empty or given twice")
            attributes[name] = unquote_to_bytes(value)
    if not {"token", "module-path"} <= set(attributes) or not {"object", "id"} & set(attributes):
        raise _unusable("it does not say which key")
    try:
        texts = {name: value.decode() for name, value in attributes.items() if name != "id"}
    except UnicodeDecodeError:
        raise _unusable("it holds text that is not UTF-8") from None
    return Pkcs11Uri(
        texts["module-path"], texts["token"], texts.get("object"), attributes.get("id")
    )


def _unusable(problem: str) -> UsageError:
    return UsageError(f"the PKCS#11 key cannot be used: {problem}", expected=_FORM, where="--sign")


@dataclass(frozen=True, slots=True)
class Pkcs11Signer:
    """Signs with a key in a device.

    Attributes:
        key: the public key.
        digest: name of the hash that belongs to the curve.
        handle: the private key's object; its session stays open as long as it is held.
        mechanism: CKM_ECDSA.
    """

    key: CoseKey
    digest: str
    handle: Any
    mechanism: Any

    def sign(self, message: bytes) -> bytes:
        """Return r ‖ s; raises UsageError if the device does not sign."""
        digest = hashlib.new(self.digest, message).digest()
        try:
            signature: bytes = self.handle.sign(digest, mechanism=self.mechanism)
        except Exception as problem:
            raise _unusable(f"the device refused to sign ({_name(problem)})") from None
        if not self.key.verify(signature, message):
            raise _unusable("its signature does not verify under the public key beside it")
        return signature


def load_pkcs11_key(text: str, pin: str | None) -> VerifierKey:
    """Log in to a token and find its key pair.

    Args:
        text: the URI.
        pin: the user's PIN.

    Raises:
        UsageError: the package is not installed; no such module, token or key, or more than
            one; a wrong PIN; a key on another curve.
    """
    uri = parse_pkcs11_uri(text)
    try:
        api = importlib.import_module("pkcs11")
    except ImportError:
        raise UsageError(
            "python-pkcs11 is not installed", hint='pip install "ccverify[pkcs11]"'
        ) from None
    try:
        session = api.lib(uri.module).get_token(token_label=uri.token).open(user_pin=pin)
        wanted: dict[Any, Any] = {}
        if uri.label is not None:
            wanted[api.Attribute.LABEL] = uri.label
        if uri.key_id is not None:
            wanted[api.Attribute.ID] = uri.key_id
        private = _only(session, wanted, api.Attribute.CLASS, api.ObjectClass.PRIVATE_KEY)
        public = _only(session, wanted, api.Attribute.CLASS, api.ObjectClass.PUBLIC_KEY)
        parameters = bytes(public[api.Attribute.EC_PARAMS])
        point = bytes(public[api.Attribute.EC_POINT])
    except UsageError:
        raise
    except Exception as problem:
        # The package has some hundred exceptions, and a module may be any file at all.
        raise _unusable(f"{_name(problem)}") from None
    if parameters not in _OIDS:
        raise _unusable("it is on another curve than P-256 and P-384")
    curve, digest = _OIDS[parameters]
    key = CoseKey.of(_public_key(curve, point))
    return VerifierKey(Pkcs11Signer(key, digest, private, api.Mechanism.ECDSA))


def _only(session: Any, wanted: dict[Any, Any], attribute: Any, kind: Any) -> Any:
    found = list(session.get_objects({**wanted, attribute: kind}))
    if len(found) != 1:
        raise _unusable(f"{len(found)} objects of the kind {kind.name} fit, not one")
    return found[0]


def _public_key(curve: ec.EllipticCurve, point: bytes) -> ec.EllipticCurvePublicKey:
    """From CKA_EC_POINT: an OCTET STRING around the uncompressed point, which some leave out."""
    size = 1 + 2 * ((curve.key_size + 7) // 8)
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(curve, point[-size:])
    except ValueError:
        raise _unusable("its public key is not a point on its curve") from None


def _name(problem: Exception) -> str:
    return type(problem).__name__
