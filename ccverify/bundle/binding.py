"""How evidence is tied to a request and to keys: each profile recomputed, nothing taken on trust.

`derive` says what the evidence must hold, from the relying party's own nonce and the inputs that
came with it; `report_data_problem` and `device_nonce_problem` compare.  The inputs are unproven
until a part of REPORTDATA that was computed from them has matched (`bound_inputs`).

The sender chose the shape of the response and with it the profile that the shape suggests: the
relying party's policy has to name the profiles it accepts.
"""

from __future__ import annotations

import hmac
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from types import MappingProxyType
from typing import Final, NamedTuple

from ccverify.bundle.keys import address_of, spki_sha256
from ccverify.bundle.profiles import CHANNEL_INPUTS, PROFILE_TEXTS
from ccverify.bundle.recipes import (
    EXPLICIT,
    NONCE_BYTES,
    RECIPES,
    REPORT_DATA_BYTES,
    Part,
    Recipe,
    runtime_data,
)
from ccverify.errors import UsageError
from ccverify.evidence import BindingInputs, BindingProfile
from ccverify.findings import State

__all__ = [
    "CHANNEL_INPUTS",
    "Derivation",
    "Part",
    "bound_inputs",
    "derive",
    "device_nonce_problem",
    "report_data_problem",
    "stated_nonce",
]

# Statements about REPORTDATA itself or the request, and no inputs that anything could tie.
_STATEMENTS: Final = frozenset(
    {"profile", "request_nonce", "request_nonce_text", "report_data", "report_data_json"}
)
_ADDRESS_BYTES: Final = {"ecdsa": 20, "ed25519": 32}


@dataclass(frozen=True, slots=True)
class Derivation:
    """What evidence under one profile must hold.

    Attributes:
        profile: the recipe used.
        report_data: parts that cover REPORTDATA from byte 0 to 64 without a gap.
        device_nonce: the 32 bytes that every device report must carry; None: not derivable.
        device_nonce_reason: why not.
        bound: inputs which the derivable parts are computed from, by name; the value is hex or
            the text that is bound.  They are bound only if their part matches: `bound_inputs`.
        missing: fields of `BindingInputs` which the recipe needs and the response lacks.
        unbound: fields which the response has and this profile ties to nothing.
        conflicts: where the response contradicts itself or answers another nonce.
        evidence_state: whether REPORTDATA covers the device evidence itself, and not only its
            nonce: PASS the evidence hashes to what a part is computed from; FAIL it does not;
            NOT_CHECKED it cannot be told; NOT_APPLICABLE the profile covers no evidence, or
            there is none.  Counts only if that part matches.
        evidence_problem: why not PASS.
        required_report_data: all of REPORTDATA, where the relying party expects given bytes.
        proves: what holds when everything matches, as sentences.
        leaves: what stays unproven even then.
    """

    profile: BindingProfile
    report_data: tuple[Part, ...]
    device_nonce: bytes | None
    device_nonce_reason: str | None
    bound: Mapping[str, str]
    missing: tuple[str, ...]
    unbound: tuple[str, ...]
    conflicts: tuple[str, ...]
    evidence_state: State
    evidence_problem: str | None
    required_report_data: bytes | None
    proves: tuple[str, ...]
    leaves: tuple[str, ...]


def derive(
    profile: BindingProfile,
    nonce: bytes | None,
    inputs: BindingInputs,
    *,
    report_data: bytes | None = None,
) -> Derivation:
    """Derive what the evidence must hold.

    Nothing in `inputs` makes this raise: what cannot be derived is None with a reason.

    Args:
        profile: the recipe; `inputs.profile` is only the sender's suggestion and not read.
        nonce: the relying party's own, 1 to 64 bytes; most recipes need 32.  `stated_nonce`
            has the response's, for a policy that waives freshness.
        inputs: what came with the evidence.
        report_data: the 64 bytes that the relying party expects.  Takes the place of the nonce
            in the profiles whose caller chooses REPORTDATA (raw-nonce, dstack); in the others
            both it and the recipe must hold, and it alone where the recipe lacks an input.

    Raises:
        UsageError: `nonce` or `report_data` has an impossible length.
    """
    if nonce is not None and not 1 <= len(nonce) <= REPORT_DATA_BYTES:
        raise UsageError("nonce has the wrong length", expected="1 to 64 bytes",
                         found=f"{len(nonce)} bytes")  # fmt: skip
    _require_64(report_data)
    recipe = RECIPES[profile](nonce, inputs, report_data)
    aliases = tuple(_aliases(inputs, recipe))
    tied = {alias.name: alias for alias in aliases if alias.problem is None}
    parts = tuple(_filled(_with_aliases(part, tied), report_data) for part in recipe.parts)
    usable = {name for part in parts for name in part.ties}
    if recipe.device_nonce is not None:
        usable |= {i.name for i in recipe.inputs if i.name and i.value is not None}
    bound = {i.name: i.text for i in recipe.inputs if i.name in usable}
    bound |= {name: alias.text for name, alias in tied.items() if alias.anchor in bound}
    used = {i.source for i in recipe.inputs} | set(tied) | _STATEMENTS
    evidence_state, evidence_problem = _evidence(profile, inputs)
    return Derivation(
        profile=profile,
        report_data=parts,
        device_nonce=recipe.device_nonce,
        device_nonce_reason=recipe.device_nonce_reason,
        bound=MappingProxyType(bound),
        missing=tuple(i.source for i in recipe.inputs if i.missing),
        unbound=tuple(
            field.name
            for field in fields(inputs)
            if field.name not in used and getattr(inputs, field.name) is not None
        ),
        conflicts=(
            *(alias.problem for alias in aliases if alias.problem and alias.contradicts),
            *_contradictions(nonce, inputs),
        ),
        evidence_state=evidence_state,
        evidence_problem=evidence_problem,
        required_report_data=report_data,
        proves=PROFILE_TEXTS[profile].proves,
        leaves=PROFILE_TEXTS[profile].leaves,
    )


def stated_nonce(inputs: BindingInputs) -> bytes | None:
    """Return the nonce the response itself states; None if it states none of 1 to 64 bytes.

    Deriving with it shows that quote, device reports and keys belong to one request of
    somebody's.  It shows no freshness: a reseller asks with a nonce of its own, and so does
    whoever replays an old answer.
    """
    nonce = inputs.request_nonce
    stated = runtime_data(inputs) if nonce is None else None
    if stated is not None:
        nonce = _decoded(stated[0])
    return nonce if nonce is not None and 1 <= len(nonce) <= REPORT_DATA_BYTES else None


def _decoded(text: str) -> bytes | None:
    """A KBS nonce is base64; 64 hex digits are base64 too, and are taken for hex."""
    if len(text) == 2 * NONCE_BYTES:
        try:
            return bytes.fromhex(text)
        except ValueError:
            pass
    try:
        return b64decode(text, validate=True)
    except (Base64Error, ValueError):
        return None


# --- comparison ---------------------------------------------------------------------------------


def report_data_problem(derivation: Derivation, actual: bytes) -> tuple[str | None, ...]:
    """Compare a quote's REPORTDATA with each part.

    Returns:
        For each part of `derivation.report_data`: None if it was derived and matches, or the
        problem.  A part that could not be derived is never None: its text starts with
        ``not checked``.

    Raises:
        UsageError: `actual` is not 64 bytes.
    """
    _require_64(actual)
    return tuple(_part_problem(part, actual, derivation) for part in derivation.report_data)


def _part_problem(part: Part, actual: bytes, derivation: Derivation) -> str | None:
    found = actual[part.start : part.end]
    where = f"REPORTDATA[{part.start}:{part.end}]"
    required = derivation.required_report_data
    if required is not None and not hmac.compare_digest(required[part.start : part.end], found):
        wanted = required[part.start : part.end].hex()
        return f"{where} is not the {EXPLICIT}: expected {wanted}, found {found.hex()}"
    if part.expected is None:
        return f"not checked: {where} ({part.meaning}) cannot be derived: {part.reason}"
    if hmac.compare_digest(part.expected, found):
        return None
    return (
        f"{where} is not the {part.meaning} (profile {derivation.profile.value}): "
        f"expected {part.expected.hex()}, found {found.hex()}"
    )


def device_nonce_problem(derivation: Derivation, actual: bytes) -> str | None:
    """Compare the nonce of one device report (bytes 4 to 36), whatever its length.

    Returns:
        None if it was derived and matches; a text that starts with ``not checked`` if it could
        not be derived; or what was expected and found.
    """
    if derivation.device_nonce is None:
        return f"not checked: device nonce cannot be derived: {derivation.device_nonce_reason}"
    if hmac.compare_digest(derivation.device_nonce, actual):
        return None
    return (
        f"device nonce is not that of profile {derivation.profile.value}: "
        f"expected {derivation.device_nonce.hex()}, found {actual[:REPORT_DATA_BYTES].hex()}"
    )


def bound_inputs(derivation: Derivation, actual: bytes) -> Mapping[str, str]:
    """Return those of `derivation.bound` that the quote's REPORTDATA really ties to it.

    Raises:
        UsageError: `actual` is not 64 bytes.
    """
    problems = report_data_problem(derivation, actual)
    proven = {
        name
        for part, problem in zip(derivation.report_data, problems, strict=True)
        if problem is None
        for name in part.ties
    }
    return MappingProxyType({n: t for n, t in derivation.bound.items() if n in proven})


def _require_64(report_data: bytes | None) -> None:
    if report_data is not None and len(report_data) != REPORT_DATA_BYTES:
        raise UsageError("report data has the wrong length", expected=f"{REPORT_DATA_BYTES} bytes",
                         found=f"{len(report_data)} bytes")  # fmt: skip


# --- inputs that are tied through their digest --------------------------------------------------


class _Alias(NamedTuple):
    """An input that matches, or should match, another one that the recipe does tie."""

    name: str
    anchor: str
    text: str
    problem: str | None
    contradicts: bool


def _aliases(inputs: BindingInputs, recipe: Recipe) -> Iterator[_Alias]:
    anchors = {i.name: i.value for i in recipe.inputs if i.value is not None}
    for name, anchor, digest, contradicts in _ALIASES:
        value: bytes | None = getattr(inputs, name)
        expected = anchors.get(anchor)
        if value is None or expected is None or name in anchors:
            continue
        found = digest(value, len(expected))
        if found == expected:
            text = value.hex() if name == "signing_public_key" else found.hex()
            yield _Alias(name, anchor, text, None, contradicts)
        else:
            shown = f"gives {found.hex()}" if found is not None else "is not usable"
            problem = f"{name} {shown}, but {anchor} is {expected.hex()}"
            yield _Alias(name, anchor, "", problem, contradicts)


def _sha256(value: bytes, _: int) -> bytes:
    return sha256(value).digest()


def _spki(value: bytes, _: int) -> bytes | None:
    return spki_sha256(value)


# Input, the input that is its digest, how, and whether a mismatch can only be a lie.
_ALIASES: Final[tuple[tuple[str, str, Callable[[bytes, int], bytes | None], bool], ...]] = (
    ("tls_certificate", "tls_fingerprint", _spki, True),
    ("signing_public_key", "signing_address", address_of, True),
    ("gpu_evidence_json", "gpu_evidence_hash", _sha256, True),
    ("nvswitch_evidence_json", "nvswitch_evidence_hash", _sha256, False),
)


def _with_aliases(part: Part, tied: Mapping[str, _Alias]) -> Part:
    more = tuple(name for name, alias in tied.items() if alias.anchor in part.ties)
    return replace(part, ties=part.ties + more) if more else part


def _filled(part: Part, report_data: bytes | None) -> Part:
    """What no recipe gives, the relying party's own statement does; it ties no input."""
    if part.expected is not None or report_data is None:
        return part
    return Part(part.start, part.end, report_data[part.start : part.end], EXPLICIT)


def _contradictions(nonce: bytes | None, inputs: BindingInputs) -> Iterator[str]:
    stated = stated_nonce(inputs)
    if nonce is not None and stated is not None and nonce != stated:
        yield f"the response answers the nonce {stated.hex()}, not the relying party's"
    address, algorithm = inputs.signing_address, inputs.signing_algorithm
    length = _ADDRESS_BYTES.get(algorithm) if algorithm is not None else None
    if address is not None and length not in (None, len(address)):
        yield f"signing_address has {len(address)} bytes, but {algorithm} addresses have {length}"


# --- device evidence that REPORTDATA covers -----------------------------------------------------


def _evidence(profile: BindingProfile, inputs: BindingInputs) -> tuple[State, str | None]:
    if profile is BindingProfile.TINFOIL_V3:
        return _hashed_evidence(inputs)
    if profile is BindingProfile.CCVERIFY:
        return State.NOT_CHECKED, "the manifest's digest is given, the manifest itself is not"
    if profile is not BindingProfile.TRUSTEE:
        return State.NOT_APPLICABLE, f"profile {profile.value} covers no device evidence"
    if not inputs.additional_evidence_json:
        return State.NOT_APPLICABLE, "the response has no additional evidence"
    return State.PASS, None  # the evidence itself is hashed, not a digest that somebody states


def _hashed_evidence(inputs: BindingInputs) -> tuple[State, str | None]:
    """Compare both stated hashes with the texts as sent; the worst answer counts."""
    answers = [
        _hashed("GPU", inputs.gpu_evidence_hash, inputs.gpu_evidence_json),
        _hashed("NVSwitch", inputs.nvswitch_evidence_hash, inputs.nvswitch_evidence_json),
    ]
    for state in (State.FAIL, State.NOT_CHECKED):
        problems = [problem for found, problem in answers if found is state and problem]
        if problems:
            return state, "; ".join(problems)
    if all(found is State.NOT_APPLICABLE for found, _ in answers):
        return State.NOT_APPLICABLE, "the response has no device evidence"
    return State.PASS, None


def _hashed(kind: str, stated: bytes | None, text: bytes | None) -> tuple[State, str | None]:
    if stated is None and text is None:
        return State.NOT_APPLICABLE, None
    if stated is None or text is None:
        problem = (
            f"the {kind} evidence has no hash in REPORTDATA"
            if stated is None
            else f"REPORTDATA covers {kind} evidence that the response leaves out"
        )
        return State.FAIL, problem
    found = sha256(text).digest()
    if hmac.compare_digest(found, stated):
        return State.PASS, None
    problem = f"the {kind} evidence has SHA-256 {found.hex()}, and {stated.hex()} is stated"
    if kind == "NVSwitch":
        return State.NOT_CHECKED, f"{problem}: the service writes it anew after hashing it"
    return State.FAIL, problem
