"""Policy documents: JSON or YAML text → `Policy`.

The JSON Schema beside this module (`schema/policy-v1.json`) is the one definition of what a
document may say; this module turns its complaints into errors a person can act on.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from itertools import islice
from typing import Any as Json

from ccverify.errors import PolicyError
from ccverify.policy.contradictions import contradictions
from ccverify.policy.document_devices import (
    binding_policy,
    gpu_policy,
    switch_policy,
    topology_policy,
)
from ccverify.policy.document_fabric import fabric_policy
from ccverify.policy.model import (
    ANY,
    MEASUREMENTS,
    Accepted,
    Any,
    CollateralPolicy,
    EventLogPolicy,
    GatewayPolicy,
    PlatformPolicy,
    Policy,
    TcbPolicy,
    TdxPolicy,
    XfamPolicy,
)
from ccverify.strict_json import parse_json
from ccverify.tdx.attributes import Rule
from ccverify.tdx.tcb_info import TcbStatus

__all__ = [
    "MAX_POLICY_BYTES",
    "load_policy",
    "policy_from_document",
    "policy_problems",
    "policy_schema",
]

MAX_POLICY_BYTES = 1024 * 1024
_MAX_NAME = 100  # of a wrong word that is compared with the valid ones; that work is quadratic


def load_policy(text: bytes) -> Policy:
    """Read a policy from JSON or YAML text (UTF-8).

    Raises:
        PolicyError: unreadable text, a key or value the schema does not allow.  The error
            names the place and, for an unknown key, the nearest valid one.
    """
    return policy_from_document(_parse(text))


def policy_problems(text: bytes) -> tuple[PolicyError, ...]:
    """Return what keeps the text from being a policy, the deepest place first; at most 50 things.

    Raises:
        PolicyError: the text is not JSON or YAML at all.
    """
    document = _parse(text)
    problems = tuple(islice(_problems(document), 50))
    if problems:
        return problems
    # A contradiction can be seen only in a document that says what it may say.
    try:
        return tuple(contradictions(_policy(document)))
    except PolicyError as problem:
        return (problem,)


def policy_from_document(document: Json) -> Policy:
    """Build a policy from parsed JSON or YAML.  Raises PolicyError as `load_policy` does."""
    for problem in _problems(document):
        raise problem
    import rfc8785

    try:
        digest = hashlib.sha384(rfc8785.dumps(document)).hexdigest()
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        raise PolicyError("policy holds text that is not Unicode") from None
    policy = _policy(document, digest)
    for problem in contradictions(policy):
        raise problem
    return policy


@cache
def policy_schema() -> Mapping[str, Json]:
    """The published JSON Schema (2020-12) of a policy document."""
    file = resources.files("ccverify.policy").joinpath("schema", "policy-v1.json")
    schema: Mapping[str, Json] = json.loads(file.read_text("utf-8"))
    return schema


# --- text ---


def _parse(text: bytes) -> Json:
    if text.lstrip()[:1] == b"{":
        return parse_json(text, what="policy", error=PolicyError, limit=MAX_POLICY_BYTES)
    return _parse_yaml(text)


def _parse_yaml(text: bytes) -> Json:
    import yaml

    class Loader(yaml.SafeLoader):
        """Safe YAML without aliases, tags, duplicate keys or any type JSON does not have."""

        def compose_node(self, parent: Json, index: Json) -> Json:
            event: Json = self.peek_event()  # type: ignore[no-untyped-call]
            if event.anchor is not None or getattr(event, "tag", None) is not None:
                problem = "anchors, aliases and tags are refused"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
            return super().compose_node(parent, index)

    # Numbers in JSON's decimal form only: YAML 1.1 would read 00806F050000 or 1e5 as numbers.
    Loader.yaml_implicit_resolvers = {}
    for tag, pattern, first in _YAML_SCALARS:
        Loader.add_implicit_resolver(tag, pattern(), first)
    Loader.add_constructor("tag:yaml.org,2002:map", _unique_mapping)

    if len(text) > MAX_POLICY_BYTES:
        raise PolicyError("policy is too large", found=f"{len(text)} bytes")
    try:
        return yaml.load(text.decode("utf-8"), Loader)  # noqa: S506 (a subclass of SafeLoader)
    except UnicodeDecodeError as problem:
        raise PolicyError("policy is not UTF-8", where=f"byte {problem.start}") from None
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        raise PolicyError(
            f"policy is not valid YAML: {getattr(problem, 'problem', None) or problem}",
            where=f"line {mark.line + 1}, column {mark.column + 1}" if mark else None,
            hint="quote hex values that start with a digit",
        ) from None
    except (RecursionError, ValueError, OverflowError) as problem:
        raise PolicyError(f"policy is not valid YAML: {type(problem).__name__}") from None


def _pattern(expression: str) -> Json:
    import re

    return lambda: re.compile(expression)


_YAML_SCALARS = (
    ("tag:yaml.org,2002:bool", _pattern(r"^(?:true|false)$"), list("tf")),
    ("tag:yaml.org,2002:null", _pattern(r"^(?:null|~|)$"), ["n", "~", ""]),
    ("tag:yaml.org,2002:int", _pattern(r"^-?(?:0|[1-9][0-9]{0,17})$"), list("-0123456789")),
)


def _unique_mapping(loader: Json, node: Json) -> dict[str, Json]:
    import yaml

    members: dict[str, Json] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str) or key in members:
            problem = "key appears twice" if isinstance(key, str) else "key is not text"
            raise yaml.MarkedYAMLError(
                problem=f"{problem}: {key!r}", problem_mark=key_node.start_mark
            )
        members[key] = loader.construct_object(value_node, deep=True)
    return members


# --- schema ---


def _problems(document: Json) -> Iterator[PolicyError]:
    from jsonschema import Draft202012Validator

    try:
        # The deepest complaint is the most precise one.  A hostile document has a million.
        errors = sorted(
            islice(Draft202012Validator(policy_schema()).iter_errors(document), 500),
            key=lambda error: (-len(error.path), str(error.path)),
        )
    except RecursionError:
        raise PolicyError("policy is nested too deeply") from None
    yield from map(_explain, errors)


def _explain(error: Json) -> PolicyError:
    if error.validator == "oneOf":
        # A list with a wrong member is told by that member, not as "neither a list nor any".
        error = next((part for part in error.context if part.relative_path), error)
    where = "policy" + "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path
    )
    if error.validator == "additionalProperties" and isinstance(error.schema, dict):
        known = list(error.schema.get("properties", ()))
        forms = list(error.schema.get("patternProperties", ()))
        unknown = next(
            str(key)
            for key in error.instance
            if key not in known and not any(re.search(form, str(key)) for form in forms)
        )[:_MAX_NAME]
        near = difflib.get_close_matches(unknown, known, 1, 0.5)
        return PolicyError(
            f"unknown key {unknown!r}",
            expected=", ".join((*known, *(f"a key that matches {form}" for form in forms))),
            found=unknown,
            where=where,
            hint=f"did you mean {near[0]!r}?" if near else "see docs/policy.md for every key",
        )
    expected = _expected(error)
    return PolicyError(
        "value is not what a policy may say here",
        expected=expected,
        # What is missing is known by the keys that are there; their values only hide them.
        found=_short(_found(error)),
        where=where,
        hint=_nearest(error),
    )


def _found(error: Json) -> Json:
    if error.validator in ("required", "anyOf") and isinstance(error.instance, dict):
        return sorted(map(str, error.instance))
    return error.instance


def _expected(error: Json) -> str:
    if error.validator == "required":
        return f"a key {error.message.split(' ')[0]}"
    if error.validator == "enum":
        return "one of " + ", ".join(map(str, error.validator_value))
    if error.validator in ("oneOf", "anyOf") and error.context:
        return "; or ".join(dict.fromkeys(_expected(part) for part in error.context))[:300]
    if error.validator in ("pattern", "const"):
        description = isinstance(error.schema, dict) and error.schema.get("description")
        if error.validator == "const":
            return str(description or error.validator_value)
        return str(description or f"text that matches {error.validator_value}")
    if error.validator == "type":
        return _type_name(error.validator_value)
    return str(error.message)[:300]


_TYPE_NAMES = {
    "object": "a mapping of keys",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "boolean": "true or false",
}


def _type_name(types: str | list[str]) -> str:
    if isinstance(types, str):
        return _TYPE_NAMES.get(types, types)
    # Where text is one of several types, it is the word `any`.
    return ", or ".join("any" if one == "string" else _TYPE_NAMES[one] for one in types)


def _nearest(error: Json) -> str | None:
    """Advice on a wrong value: `error` is a jsonschema ValidationError."""
    if error.validator_value == "string" and type(error.instance) is int:
        return "quote hex values that look like numbers"
    if error.validator != "enum" or not isinstance(error.instance, str):
        return None
    valid = {str(value).casefold(): str(value) for value in error.validator_value}
    near = difflib.get_close_matches(error.instance[:_MAX_NAME].casefold(), valid, 1, 0.5)
    return f"did you mean {valid[near[0]]!r}?" if near else None


def _short(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)[:120]


# --- model ---


def _policy(document: Mapping[str, Json], digest: str = "") -> Policy:
    gateway = document.get("gateway")
    return Policy(
        tdx=_tdx(document.get("tdx")),
        name=document.get("name", ""),
        digest=digest,
        gpus=gpu_policy(document.get("gpus")),
        nvswitches=switch_policy(document.get("nvswitches")),
        topology=topology_policy(document.get("topology")),
        fabric=fabric_policy(document.get("fabric"), _tdx),
        binding=binding_policy(document.get("binding", {})),
        gateway=None
        if gateway is None
        else GatewayPolicy(_tdx(gateway["tdx"]), binding_policy(gateway.get("binding", {}))),
    )


def _tdx(section: Mapping[str, Json] | str | None) -> TdxPolicy | Any | None:
    if section is None or isinstance(section, str):
        return None if section is None else ANY
    measurements = section.get("measurements", {})
    report_data = section.get("report_data", "nonce")
    event_log = section.get("event_log")
    return TdxPolicy(
        tcb=_tcb(section.get("tcb", {})),
        collateral=CollateralPolicy(**section.get("collateral", {})),
        measurements={name: _accepted(measurements.get(name)) for name in MEASUREMENTS},
        attributes={key: Rule(rule) for key, rule in section.get("attributes", {}).items()},
        xfam=XfamPolicy(**{key: frozenset(v) for key, v in section.get("xfam", {}).items()}),
        service_td=frozenset(map(bytes.fromhex, section.get("service_td", ()))),
        platform=_platform(section.get("platform", {})),
        report_data=None if report_data == "nonce" else _accepted(report_data),
        event_log=None if event_log is None else _event_log(event_log),
    )


def _accepted(value: Json) -> Accepted:
    if value is None:
        return None
    return ANY if value == "any" else frozenset(map(bytes.fromhex, value))


def _tcb(section: Mapping[str, Json]) -> TcbPolicy:
    default = TcbPolicy()
    statuses = section.get("accepted_statuses")
    svn = section.get("min_tee_tcb_svn")
    return TcbPolicy(
        accepted_statuses=default.accepted_statuses
        if statuses is None
        else frozenset(map(TcbStatus, statuses)),
        grace_days={TcbStatus(k): days for k, days in section.get("grace_days", {}).items()},
        min_evaluation_number=section.get("min_evaluation_number"),
        min_qe_evaluation_number=section.get("min_qe_evaluation_number"),
        rejected_advisories=frozenset(section.get("rejected_advisories", ())),
        min_tee_tcb_svn=None if svn is None else bytes.fromhex(svn),
    )


def _platform(section: Mapping[str, Json]) -> PlatformPolicy:
    lists: dict[str, Json] = {
        key: frozenset(map(bytes.fromhex, section[key]))
        for key in ("fmspc", "ppid", "platform_instance_id")
        if key in section
    }
    switches = {
        f"allow_{key}": section[key] == "allow"
        for key in ("smt", "dynamic_platform", "cached_keys")
        if key in section
    }
    return PlatformPolicy(**lists, **switches)


def _event_log(section: Mapping[str, Json]) -> EventLogPolicy:
    default = EventLogPolicy()
    replay = section.get("replay")
    return EventLogPolicy(
        required=section.get("required", default.required),
        replay=default.replay if replay is None else frozenset(int(name[4]) for name in replay),
        rtmr3=section.get("rtmr3"),
        claims={name: frozenset(values) for name, values in section.get("claims", {}).items()},
    )
