"""What must hold of an opened verdict bundle, and what a replay is compared by.  All pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ccverify.clock_text import utc_text
from ccverify.errors import CcverifyError, EvidenceError
from ccverify.policy.document import load_policy
from ccverify.results.emitted_model import Role, VerdictBundle
from ccverify.results.verdict import VERDICT_SCHEMA
from ccverify.results.verdict_set import SET_SCHEMA
from ccverify.strict_json import parse_json

__all__ = [
    "Change",
    "changes",
    "first_difference",
    "member_problems",
    "nodes_of",
    "parse_verdict",
    "with_verifier",
]

_MAX_VERDICT_BYTES: Final = 32 * 1024 * 1024

Json = dict[str, Any]


def parse_verdict(data: bytes) -> Json:
    """Parse the verdict of a bundle as far as other code relies on it.

    Raises:
        EvidenceError: not JSON, of another schema, or without the members every verdict has.
    """
    document = parse_json(data, what="verdict", error=EvidenceError, limit=_MAX_VERDICT_BYTES)
    nodes = nodes_of(document)
    if not isinstance(document, dict) or nodes is None:
        raise _malformed(f"{VERDICT_SCHEMA} or {SET_SCHEMA}", "another document")
    for place in (document, *nodes):
        well = isinstance(place, dict) and isinstance(place.get("verdict"), str)
        if not well or type(place.get("exit_code")) is not int or not _findings_are_well(place):
            raise _malformed("verdict, exit_code and findings", "others")
    for node in nodes:
        for member in ("policy", "inputs"):
            if not isinstance(node.get(member), dict):
                raise _malformed("policy and inputs", "others")
        if not isinstance(node["inputs"].get("trust_store"), dict):
            raise _malformed("a trust store", "none")
    return document


def _findings_are_well(place: Json) -> bool:
    findings = place.get("findings")
    return isinstance(findings, list) and all(
        isinstance(f, dict)
        and isinstance(f.get("code"), str)
        and isinstance(f.get("state"), str)
        and isinstance(f.get("subject"), str | None)
        for f in findings
    )


def _malformed(expected: str, found: str) -> EvidenceError:
    return EvidenceError(
        "verdict in the bundle is malformed", expected=expected, found=found, where="verdict"
    )


def nodes_of(document: Any) -> list[Json] | None:
    """The verdict of each node; None if this is no verdict."""
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema == VERDICT_SCHEMA:
        return [document]
    nodes = document.get("nodes") if schema == SET_SCHEMA else None
    return nodes if isinstance(nodes, list) else None


def member_problems(bundle: VerdictBundle, verdict: Json) -> tuple[str, ...]:
    """Where the members of a bundle contradict the verdict in it.

    The signature covers both, so this finds a verifier that lies or is broken, and needs
    nothing embedded: the verdict has the digests.
    """
    problems: list[str] = []
    try:
        policy: str | None = load_policy(bundle.policy.data or b"").digest
    except CcverifyError as problem:
        policy = None
        problems.append(f"policy: {problem.message}")
    request = bundle.request
    stated: Mapping[str, Any] = {
        "evaluated_at": utc_text(request.at),
        "policy.sha384": policy,
        "inputs.verifier": bundle.verifier,
        "inputs.nonce": None if request.nonce is None else request.nonce.hex(),
        "inputs.report_data": None if request.report_data is None else request.report_data.hex(),
        "inputs.channel": dict(sorted(request.channel.items())) or None,
        "inputs.epoch": None if request.epoch is None else request.epoch.hex(),
        "inputs.fabric_statements": _statements(bundle) or None,
        "inputs.trust_store.kind": bundle.trust_kind.value,
        "inputs.trust_store.sha384": bundle.trust_sha384,
    }
    for node in nodes_of(verdict) or ():
        for path, value in stated.items():
            found: Any = node
            for step in path.split("."):
                found = found.get(step) if isinstance(found, dict) else None
            if found != value and not (path == "policy.sha384" and policy is None):
                problems.append(f"{path}: the verdict says {found!r}, the bundle {value!r}"[:300])
    return tuple(dict.fromkeys(problems))


def _statements(bundle: VerdictBundle) -> list[Json]:
    """What a verdict says of the statements that it was given."""
    return [
        {"sha384": file.sha384.hex(), "bytes": file.size}
        for file in bundle.evidence
        if file.role is Role.FABRIC_STATEMENT
    ]


def with_verifier(verdict: str, verifier: str) -> str:
    """A verdict as it would be if a verifier of this name had made it, byte for byte."""
    document = json.loads(verdict)
    for node in nodes_of(document) or ():
        node["inputs"]["verifier"] = verifier
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def first_difference(recorded: bytes, replayed: str) -> str | None:
    """Path of the first member in which two verdicts differ; None if they are the same bytes."""
    if recorded == replayed.encode("utf-8"):
        return None
    try:
        old = json.loads(recorded)
    except (ValueError, RecursionError):
        return "the text as a whole"
    return next(_differences(old, json.loads(replayed), ""), "the form of the text")


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in (*old, *(key for key in new if key not in old)):
            here = f"{path}.{key}" if path else str(key)
            if key not in old or key not in new:
                yield here
            else:
                yield from _differences(old[key], new[key], here)
    elif isinstance(old, list) and isinstance(new, list):
        for index, (one, other) in enumerate(zip(old, new, strict=False)):
            yield from _differences(one, other, f"{path}[{index}]")
        if len(old) != len(new):
            yield f"{path}[{min(len(old), len(new))}]"
    elif type(old) is not type(new) or old != new:
        yield path


@dataclass(frozen=True, slots=True)
class Change:
    """A check that ends otherwise at another time or with other collateral.

    Attributes:
        node: label of the node, or its number; empty where there is but one.
        code: of the check.
        subject: the device, or None.
        then: state in the signed verdict, or None where it has no such finding.
        now: state in the new verdict, or None.
        found: what the new verdict says.
    """

    node: str
    code: str
    subject: str | None
    then: str | None
    now: str | None
    found: str | None


def changes(then: Json, now: Json) -> tuple[Change, ...]:
    """Every check that ends otherwise in one verdict than in another of the same evidence."""
    old, new = _states(then), _states(now)
    missing = (None, None)
    changed = []
    for node, code, subject in dict.fromkeys((*old, *new)):
        was, _ = old.get((node, code, subject), missing)
        state, found = new.get((node, code, subject), missing)
        if was != state:
            changed.append(Change(node, code, subject, was, state, found))
    return tuple(changed)


Key = tuple[str, str, str | None]


def _states(document: Json) -> dict[Key, tuple[str, str | None]]:
    nodes = nodes_of(document) or []
    single = len(nodes) == 1 and nodes[0] is document
    states: dict[Key, tuple[str, str | None]] = {}
    places = [("", document)] if single else [("", document), *_labelled(nodes)]
    for label, place in places:
        for finding in place["findings"]:
            key = (label, finding["code"], finding["subject"])
            states[key] = (finding["state"], finding.get("found"))
    return states


def _labelled(nodes: list[Json]) -> Iterator[tuple[str, Json]]:
    for number, node in enumerate(nodes):
        yield str(node.get("node") or f"node {number}"), node
