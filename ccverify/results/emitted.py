"""The verdict bundle: a verdict, signed, with all it was made from.

Whoever has the bundle and the verifier's public key can check who judged, what was judged, and
judge again: the same inputs give the same bytes.  Format: docs/spec/verdict-bundle.md.

Reading goes from the outside in.  `parse_verdict_bundle` takes the signature's word for
nothing; `SealedVerdict.open` believes it only under a key that the reader named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ccverify.bundle.cbor import decode, encode
from ccverify.bundle.cmw import (
    CMW_CBOR_TYPE,
    CMW_COSE_TYPE,
    Collection,
    Indicator,
    Record,
    encode_collection,
    parse_collection,
)
from ccverify.bundle.cose import CoseKey, Sign1, Signer, parse_sign1, sign1, sign1_problem
from ccverify.errors import EvidenceError, UsageError
from ccverify.results.emitted_model import (
    FILE_LISTS,
    Request,
    Role,
    StoredFile,
    VerdictBundle,
)
from ccverify.trust.store import TrustKind

__all__ = [
    "MAX_VERDICT_BUNDLE_BYTES",
    "VERDICT_BUNDLE_TYPE",
    "Request",
    "Role",
    "SealedVerdict",
    "StoredFile",
    "VerdictBundle",
    "parse_verdict_bundle",
    "seal_verdict_bundle",
]

VERDICT_BUNDLE_TYPE: Final = "tag:ccverify,2026:verdict-bundle#1"
MAX_VERDICT_BUNDLE_BYTES: Final = 64 * 1024 * 1024

_WHAT: Final = "verdict bundle"
_VERSION: Final = 1
_MAX_FILES: Final = 4096
_MAX_ITEMS: Final = 16 * _MAX_FILES
_MAX_INPUTS_BYTES: Final = 4 * 1024 * 1024
_MAX_NAME: Final = 4096
_MAX_CHANNEL: Final = 16
_DIGEST_BYTES: Final = 48
_EPOCH_BYTES: Final = 32
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = 253402300799  # 9999-12-31T23:59:59Z


_INDICATORS: Final[Mapping[str, Indicator]] = {
    "policy": Indicator.POLICY,
    "evidence": Indicator.EVIDENCE,
    "collateral": Indicator.ENDORSEMENTS | Indicator.REFERENCE_VALUES,
    "trust-roots": Indicator.ENDORSEMENTS,
}
_JSON: Final = "application/json"
_CBOR: Final = "application/cbor"
_BYTES: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class SealedVerdict:
    """A verdict bundle that was read, its signature not verified."""

    signed: Sign1 = field(repr=False)

    def open(self, keys: Iterable[CoseKey]) -> tuple[VerdictBundle | None, CoseKey | None, str]:
        """Verify the signature, then read what is inside.

        Args:
            keys: of the verifiers that the reader believes.

        Returns:
            The bundle and the key that signed it, or None, None and the problem.

        Raises:
            EvidenceError: what is validly signed is malformed.
        """
        known = {key.thumbprint: key for key in keys}
        key = known.get(self.signed.kid or b"")
        if key is None:
            named = (self.signed.kid or b"").hex() or "no key"
            return None, None, f"signed by {named}, which is not among the keys given"
        problem = sign1_problem(self.signed, key)
        if problem is not None:
            return None, None, problem
        return _parse_payload(self.signed.payload), key, ""


# --- sealing ------------------------------------------------------------------------------------


def seal_verdict_bundle(bundle: VerdictBundle, signer: Signer) -> bytes:
    """Return the bundle, signed: the same bytes for the same bundle and a deterministic signer.

    Raises:
        UsageError: more or longer than a bundle may hold.
    """
    records = {
        "verdict": Record(_JSON, bundle.verdict, Indicator.RESULTS),
        "request": Record(_CBOR, encode(_request_map(bundle.request)), None),
    }
    inputs: dict[str, Any] = {
        "v": _VERSION,
        "verifier": bundle.verifier,
        "trust": {"kind": bundle.trust_kind.value, "sha384": bytes.fromhex(bundle.trust_sha384)},
    }
    lists = zip(FILE_LISTS, ((bundle.policy,), bundle.evidence, bundle.collateral,
                         bundle.trust_roots), strict=True)  # fmt: skip
    for name, files in lists:
        entries = []
        for number, file in enumerate(files):
            label = None if file.data is None else f"{name}-{number}"
            entries.append({**_file_map(file), "record": label})
            if label is not None and file.data is not None:
                records[label] = Record(_BYTES, file.data, _INDICATORS[name])
        inputs[name] = entries
    records["inputs"] = Record(_CBOR, encode(inputs), None)
    payload = encode_collection(Collection(VERDICT_BUNDLE_TYPE, records))
    sealed = sign1(
        payload,
        signer,
        content_type=CMW_CBOR_TYPE,
        typ=CMW_COSE_TYPE,
        kid=signer.key.thumbprint,
    )
    _require_readable(sealed)
    return sealed


def _require_readable(sealed: bytes) -> None:
    """Whatever is sealed can be read again: limits are found now, not in ten years."""
    try:
        _parse_payload(parse_verdict_bundle(sealed).signed.payload)
    except EvidenceError as problem:
        raise UsageError(
            "this is more than a verdict bundle may hold",
            expected=problem.expected,
            found=problem.found or problem.message,
            hint="embed digests only (--embed digests), or give the collateral as one pack "
            "(ccverify collateral pack)",
        ) from None


def _request_map(request: Request) -> dict[str, Any]:
    members: dict[str, Any] = {
        "nonce": request.nonce,
        "report_data": request.report_data,
        "channel": dict(request.channel),
        "at": int((request.at - _EPOCH).total_seconds()),
    }
    if request.epoch is not None:
        # Without one there is no such member: bundles from before it keep their bytes.
        members["epoch"] = request.epoch
    return members


def _file_map(file: StoredFile) -> dict[str, Any]:
    return {
        "role": file.role.value,
        "name": file.name,
        "sha384": file.sha384,
        "size": file.size,
        "in_folder": file.in_folder,
    }


# --- parsing ------------------------------------------------------------------------------------


def parse_verdict_bundle(data: bytes) -> SealedVerdict:
    """Parse the outside of a verdict bundle: the signature's envelope.

    Raises:
        EvidenceError: not a signed bundle of this kind, malformed, or too large.
    """
    signed = parse_sign1(data, what=_WHAT, error=EvidenceError, limit=MAX_VERDICT_BUNDLE_BYTES)
    types = (signed.content_type, signed.typ)
    if types != (CMW_CBOR_TYPE, CMW_COSE_TYPE):
        raise EvidenceError(
            f"{_WHAT} states other media types",
            expected=f"{CMW_CBOR_TYPE}, {CMW_COSE_TYPE}",
            found=", ".join(map(str, types)),
        )
    return SealedVerdict(signed)


def _parse_payload(payload: bytes) -> VerdictBundle:
    collection = parse_collection(
        payload,
        type_=VERDICT_BUNDLE_TYPE,
        what=_WHAT,
        error=EvidenceError,
        limit=MAX_VERDICT_BUNDLE_BYTES,
    )
    records = dict(collection.records)
    verdict = _take(records, "verdict", _JSON, Indicator.RESULTS)
    request = _parse_request(_take(records, "request", _CBOR, None))
    where = f"{_WHAT}: inputs"
    inputs = _map(
        _take(records, "inputs", _CBOR, None), where, {"v", "verifier", "trust", *FILE_LISTS}
    )
    if inputs["v"] != _VERSION or isinstance(inputs["v"], bool):
        raise _bad(f"{where}.v", str(_VERSION), inputs["v"])
    lists = {name: _parse_files(inputs[name], name, records) for name in FILE_LISTS}
    if records:
        raise _bad(_WHAT, "only records that inputs lists", ", ".join(sorted(records)))
    kind, digest = _parse_trust(inputs["trust"])
    if len(lists["policy"]) != 1 or any(
        file.data is None for file in (*lists["policy"], *lists["trust-roots"])
    ):
        raise _bad(f"{where}.policy", "one policy, and it and the trust roots whole", "otherwise")
    return VerdictBundle(
        verdict=verdict,
        request=request,
        policy=lists["policy"][0],
        evidence=lists["evidence"],
        collateral=lists["collateral"],
        trust_kind=kind,
        trust_sha384=digest,
        verifier=_text(inputs["verifier"], f"{where}.verifier", 256),
        trust_roots=lists["trust-roots"],
    )


def _take(records: dict[str, Record], label: str, kind: str, indicator: Indicator | None) -> bytes:
    record = records.pop(label, None)
    if record is None or (record.type, record.indicator) != (kind, indicator):
        found = "none" if record is None else f"{record.type}, {record.indicator!r}"
        raise _bad(f"{_WHAT}: {label}", f"a record of type {kind}", found)
    return record.value


def _map(
    data: bytes, where: str, members: set[str], optional: frozenset[str] = frozenset()
) -> dict[str, Any]:
    value = decode(data, what=where, error=EvidenceError, limit=_MAX_INPUTS_BYTES, items=_MAX_ITEMS)
    return _members(value, where, members, optional)


def _members(
    value: Any, where: str, members: set[str], optional: frozenset[str] = frozenset()
) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) - optional != members:
        found = ", ".join(map(str, value)) if isinstance(value, dict) else type(value).__name__
        raise _bad(where, ", ".join(sorted(members)), found)
    return value


def _parse_request(data: bytes) -> Request:
    where = f"{_WHAT}: request"
    required = {"nonce", "report_data", "channel", "at"}
    members = _map(data, where, required, frozenset({"epoch"}))
    nonce, report_data = members["nonce"], members["report_data"]
    if nonce is not None and not (isinstance(nonce, bytes) and 16 <= len(nonce) <= 64):
        raise _bad(f"{where}.nonce", "16 to 64 bytes, or null", nonce)
    if report_data is not None and not (isinstance(report_data, bytes) and len(report_data) == 64):
        raise _bad(f"{where}.report_data", "64 bytes, or null", report_data)
    channel, at = members["channel"], members["at"]
    if not isinstance(channel, dict) or len(channel) > _MAX_CHANNEL:
        raise _bad(f"{where}.channel", "a map of text to text", channel)
    for name, value in channel.items():
        _text(name, f"{where}.channel", 64)
        _text(value, f"{where}.channel", _MAX_NAME)
    if type(at) is not int or not 0 <= at <= _LATEST:
        raise _bad(f"{where}.at", "seconds since 1970", at)
    epoch = None
    if "epoch" in members:
        epoch = members["epoch"]
        if not isinstance(epoch, bytes) or len(epoch) != _EPOCH_BYTES:
            raise _bad(f"{where}.epoch", f"{_EPOCH_BYTES} bytes, or no such member", epoch)
    return Request(nonce, report_data, channel, _EPOCH + timedelta(seconds=at), epoch)


def _parse_trust(value: Any) -> tuple[TrustKind, str]:
    where = f"{_WHAT}: inputs.trust"
    members = _members(value, where, {"kind", "sha384"})
    kinds = {kind.value: kind for kind in TrustKind}
    kind, digest = members["kind"], members["sha384"]
    if not isinstance(kind, str) or kind not in kinds:
        raise _bad(f"{where}.kind", ", ".join(kinds), kind)
    return kinds[kind], _digest(digest, f"{where}.sha384").hex()


def _parse_files(value: Any, name: str, records: dict[str, Record]) -> tuple[StoredFile, ...]:
    where = f"{_WHAT}: inputs.{name}"
    if not isinstance(value, list) or len(value) > _MAX_FILES:
        raise _bad(where, f"a list of at most {_MAX_FILES} files", type(value).__name__)
    roles = {role.value: role for role in FILE_LISTS[name]}
    files = []
    for number, entry in enumerate(value):
        at = f"{where}[{number}]"
        members = _members(entry, at, {"role", "name", "sha384", "size", "in_folder", "record"})
        role, size, label = members["role"], members["size"], members["record"]
        if not isinstance(role, str) or role not in roles:
            raise _bad(f"{at}.role", ", ".join(sorted(roles)), role)
        if type(size) is not int or size < 0:
            raise _bad(f"{at}.size", "a length", size)
        if not isinstance(members["in_folder"], bool):
            raise _bad(f"{at}.in_folder", "true or false", members["in_folder"])
        if label not in (None, f"{name}-{number}"):
            raise _bad(f"{at}.record", f"{name}-{number}, or null", label)
        files.append(
            StoredFile(
                roles[role],
                _text(members["name"], f"{at}.name", _MAX_NAME),
                _digest(members["sha384"], f"{at}.sha384"),
                size,
                None if label is None else _take(records, label, _BYTES, _INDICATORS[name]),
                members["in_folder"],
            )
        )
    return tuple(files)


def _text(value: Any, where: str, limit: int) -> str:
    if not isinstance(value, str) or len(value) > limit:
        raise _bad(where, f"text of at most {limit} characters", value)
    return value


def _digest(value: Any, where: str) -> bytes:
    if not isinstance(value, bytes) or len(value) != _DIGEST_BYTES:
        raise _bad(where, f"{_DIGEST_BYTES} bytes", value)
    return value


def _bad(where: str, expected: str, found: object) -> EvidenceError:
    shown = found if isinstance(found, str) else repr(found)
    return EvidenceError(f"{_WHAT} is malformed", expected=expected, found=shown[:200], where=where)
