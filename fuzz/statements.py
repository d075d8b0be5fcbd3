"""Whole statements of a fabric's manager: edited file by file, read, judged, compared, believed.

As for `ccverify.check` (`fuzz.evidence`), the input is a small program, so that a few bytes reach
any of a dozen files:

    u8 base, u8 flags, then edits: u8 file, u8 operation, u16 place, u8 n, n bytes

(little endian); the place is a fraction of the file.  `flags` (`Bind`) say what binds the session
key of the statement that the files are put into: nothing, what an honest statement was bound by,
or the manager itself.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import IntFlag
from functools import cache
from itertools import chain
from random import Random
from typing import Any

import ccverify
from ccverify.bundle.cose import KeySigner
from ccverify.bundle.manifest import Gathered
from ccverify.bundle.model import Absence, AbsenceReason, Item, ItemType
from ccverify.bundle.package import Bundle, close_manifest, open_session, parse_bundle, seal
from ccverify.cli.sim_statement import BINDERS, BinderName, matching_managers, sim_statement
from ccverify.cli.sim_trust import matching_policy, simulated_trust
from ccverify.errors import EvidenceError
from ccverify.fabric.observation import parse_observation
from ccverify.fabric.routing_findings import FabricPartition
from ccverify.fabric.statement import evaluate_statement, partition_name, read_statement
from ccverify.fabric.statement_diff import continuity_gaps, continuity_problems, diff_statements
from ccverify.fabric.statement_join import join_partition
from ccverify.fabric.statement_model import (
    Circumstances,
    FabricStatement,
    Generation,
    Judged,
    StatementProblem,
)
from ccverify.fabric.statement_place import match_guids
from ccverify.fabric.statement_rules import appraise_statement
from ccverify.results.render.table import render_verdict
from ccverify.sim import SimKey
from fuzz import fabric_seeds
from fuzz.fabric import nothing_crosses
from fuzz.invariants import declared, holds, printable, strict_json_text
from fuzz.mutate import edit_at
from fuzz.mutate_fabric import mutate_item

__all__ = ["Bind", "check_statement", "statement", "statement_program", "statement_seeds"]


class Bind(IntFlag):
    """What binds the session key of an edited statement."""

    QUOTE = 1
    """The quote of an honest statement."""
    TPM = 2
    """The TPM's quote of another."""
    OPERATOR = 4
    """The operator's signature over a third."""
    MANAGER = 8
    """The manager itself states what was edited."""
    BYTES = 16
    """The edits of the first file are made to the honest statement's own bytes."""


_BASES = (
    "B300", "H100", "custom", "stale-partition", "leaked-route", "overlapping-partitions",
    "manager-stopped", "open-api", "rail-policy",
)  # fmt: skip
_SLIM = 16
"""A base of this number more has no list of links: it is read in a tenth of the time."""
_LABELS = (
    "fabric-manager", "fm-partitions", "fm-config", "fm-partition-definitions", "fm-state",
    "nvlsm-config", "nvlsm-subnet", "nvlsm-fdbs", "nvlsm-lfts", "nvlsm-mcfdbs", "nvlsm-guid2lid",
    "nvlsm-pkeys", "nvlsm-partitions-conf",
)  # fmt: skip
_MAX_EDITS = 8
_MAX_FILE = 256 * 1024
_BOUND: tuple[tuple[BinderName, Bind], ...] = (
    ("tdx", Bind.QUOTE),
    ("tpm", Bind.TPM),
    ("x509", Bind.OPERATOR),
)
_KEY = KeySigner(SimKey("fuzz-statement", curve="P-384").private_key, deterministic=True)
_STATED = ("manager", "manager_configuration", "routing", "liveness", "partition", "isolation")
_PROVEN = frozenset({"hardware", "measured", "manager", "host", "operator"})


# --- reading and judging -------------------------------------------------------------------------


def statement(program: bytes) -> bool:
    """What is read of edited files can be judged, joined, evaluated and compared."""
    kind, files, _ = _edited(program)
    if not files:
        return False
    found = declared(EvidenceError, lambda: read_statement(files))
    if found is None:
        return False
    holds(read_statement(files) == found, "one statement is read in two ways")
    honest = _read(kind)
    for given in _CIRCUMSTANCES:
        _texts(appraise_statement(found, given))
        match = join_partition(found, given.modules)
        _texts(match.judged)
        own = None if match.entry is None else match.entry.modules
        holds(own is None or own == given.modules, "a partition of other GPUs is the tenant's")
        for pair in ((honest, found), (found, honest)):
            _texts(continuity_problems(*pair, own))
    _texts(match_guids(found, _gpus()).problems)
    for pair in ((honest, found), (found, honest)):
        changes = diff_statements(*pair)
        _texts(continuity_gaps(*pair))
        holds(pair[0] != pair[1] or not changes, "nothing changed, and a change is told")
        "".join(f"{one.where}{one.before}{one.after}" for one in changes).encode("utf-8")
    holds(not diff_statements(found, found), "a statement differs from itself")
    _evaluated(found)
    return True


def _texts(judged: Sequence[Judged]) -> None:
    for one in judged:
        more = (one.expected, one.found) if isinstance(one, StatementProblem) else (one.reason,)
        for text in (one.where, *more):
            text.encode("utf-8")
            holds(len(text) <= 2048, "a text without end")


def _evaluated(found: FabricStatement) -> None:
    evaluation = evaluate_statement(found)
    if evaluation is None or found.partitions is None:
        return
    partitions = [
        FabricPartition(partition_name(entry), frozenset(f"GPU{n}" for n in entry.modules))
        for entry in found.partitions.active
    ]
    nothing_crosses(evaluation, partitions, found.managers)


_CIRCUMSTANCES = (
    Circumstances(),
    Circumstances(
        drivers=frozenset({"580.95.05", "x"}),
        multi_gpu=True,
        generation=Generation.BLACKWELL,
        modules=frozenset({1, 2, 3, 4}),
        modes=frozenset({1}),
        programs={"fabric-manager": frozenset({bytes(48)}), "nvlsm": frozenset()},
        settings={"FABRIC_MODE": frozenset({"1"}), "X": frozenset()},
    ),
    Circumstances(multi_gpu=False, generation=Generation.HOPPER, modules=frozenset({0, 255})),
)


# --- believing -----------------------------------------------------------------------------------


def check_statement(program: bytes) -> bool:
    """`ccverify.check` answers, and no more rests on a manager's word than a manager stated."""
    kind, files, flags = _edited(program)
    if Bind.BYTES in flags:
        given = _bytes_edited(program)
    elif "fabric-manager" in files:
        given = _sealed(files, flags)
    else:
        return False
    verdict = _judged(kind, given)
    text = verdict.dumps()
    strict_json_text(text)
    printable(render_verdict(verdict, width=100, verbose=True))
    holds(verdict.trusted == (verdict.exit_code == 0), "exit code and verdict disagree")
    if Bind.MANAGER not in flags:
        _only_stated(verdict, given)
    return verdict.fabric is not None and verdict.fabric["manager"]["value"] is not None


def _only_stated(verdict: ccverify.Verdict, given: bytes) -> None:
    """Unless these are an honest statement's own bytes, nothing proves anything."""
    if len(given) % 4 == 0 or given in (_stated(name) for name in BINDERS):
        return  # an honest statement is among them
    assert verdict.fabric is not None
    levels = {name: verdict.fabric[name]["assurance"] for name in _STATED}
    for name in ("manager", "manager_configuration", "routing", "liveness", "isolation"):
        holds(levels[name] not in _PROVEN, f"{name} rests on a statement that nobody made")


def _judged(kind: str, given: bytes) -> ccverify.Verdict:
    machine = fabric_seeds.tenant()
    trust = simulated_trust(machine)
    # Every other kind of manager has the same tenant here: nothing fits, and all is judged.
    return ccverify.check(
        fabric_seeds.node(machine),
        policy=_policy(unsigned=kind != "custom"),
        now=trust.at + timedelta(seconds=30),
        nonce=fabric_seeds.NONCE,
        collateral=trust.collateral.intel,
        nvidia=trust.collateral.nvidia,
        trust=trust.store,
        statements=[given, _stated("tdx")] if len(given) % 4 == 0 else [given],
    )


@cache
def _policy(*, unsigned: bool) -> ccverify.Policy:
    document: dict[str, Any] = matching_policy(fabric_seeds.tenant())
    managers = matching_managers(fabric_seeds.manager())
    document["fabric"] |= {
        "statement": "required",
        "routing": "required",
        "managers": managers | ({"unsigned": "accept"} if unsigned else {}),
        "apart_from": {"modules": [5, 6, 7, 8]},
        "manager": {"modes": ["shared-nvswitch"], "settings": {"LOG_LEVEL": ["4"]}},
    }
    return ccverify.policy_from_document(document)


def _bytes_edited(program: bytes) -> bytes:
    whole = _stated("tdx")
    for _, operation, place, payload in _edits(program):
        whole = _edit(whole, operation, place, payload)[: 2 * _MAX_FILE]
    return whole


def _sealed(files: Mapping[str, bytes], flags: Bind) -> bytes:
    """Put files into a statement of our own, or the manager's."""
    absent = Absence("tdx-quote", AbsenceReason.NOT_PRESENT, "no TDX", "use a TD", "fuzz")
    parts = [Item(label, _type(label), data, "fuzz") for label, data in files.items()]
    quoted = flags & (Bind.QUOTE | Bind.MANAGER)
    gathered = [Gathered(part, 0) for part in (*parts, *(() if quoted else (absent,)))]
    session = open_session(fabric_seeds.NONCE, _KEY.key)
    created = int(fabric_seeds.manager().at.timestamp())
    closed = close_manifest(session, gathered, collector="fuzz", created=created)
    quote, binders = None, []
    if Bind.MANAGER in flags:
        data = fabric_seeds.manager().service_vm().quote(closed.report_data)
        quote = Item("tdx-quote", ItemType.TDX_QUOTE, data, "fuzz")
    elif Bind.QUOTE in flags:
        quote = _foreign("tdx", "tdx-quote", ItemType.TDX_QUOTE)
    if Bind.TPM in flags:
        binders.append(_foreign("tpm", "tpm-quote", ItemType.TPM_QUOTE))
    if Bind.OPERATOR in flags:
        binders.append(_foreign("x509", "operator-signature", ItemType.OPERATOR_SIGNATURE))
    return seal(closed, quote, _KEY, binders=binders)


def _type(label: str) -> ItemType:
    return ItemType.FABRIC_MANAGER if label == "fabric-manager" else ItemType.FABRIC_DUMP


def _foreign(name: BinderName, label: str, kind: ItemType) -> Item:
    return Item(label, kind, _parsed(name).items[label].value, "fuzz")


# --- honest ones ---------------------------------------------------------------------------------


@cache
def _stated(name: BinderName) -> bytes:
    return sim_statement(fabric_seeds.manager(), fabric_seeds.NONCE, binder=name)


@cache
def _parsed(name: BinderName) -> Bundle:
    return parse_bundle(_stated(name))


@cache
def _read(kind: str) -> FabricStatement:
    return read_statement(fabric_seeds.honest(kind))


@cache
def _gpus() -> Any:
    return parse_observation(fabric_seeds.observation_seeds()[0]).gpus


# --- programs ------------------------------------------------------------------------------------

_Edit = tuple[int, int, int, bytes]


def statement_program(*edits: tuple[str, int, int, bytes], base: int = 0, flags: int = 0) -> bytes:
    """Return the program of these edits: file, operation, place, at most 255 bytes."""
    body = (
        struct.pack("<BBHB", _LABELS.index(label), operation, place, len(payload)) + payload
        for label, operation, place, payload in edits
    )
    return bytes((base, flags)) + b"".join(body)


def _edits(program: bytes) -> list[_Edit]:
    found: list[_Edit] = []
    at = 2
    while at + 5 <= len(program) and len(found) < _MAX_EDITS:
        number, operation, place, size = struct.unpack_from("<BBHB", program, at)
        found.append((number, operation, place, program[at + 5 : at + 5 + size]))
        at += 5 + size
    return found


def _edited(program: bytes) -> tuple[str, dict[str, bytes], Bind]:
    """Run a program: the kind of its base, the files, and the flags."""
    base, flags = program[:1] or b"\0", program[1:2] or b"\0"
    kind = _BASES[base[0] % _SLIM % len(_BASES)]
    files = dict(fabric_seeds.honest(kind))
    if base[0] & _SLIM:
        files.pop("nvlsm-subnet", None)
    for number, operation, place, payload in _edits(program):
        label = _LABELS[number % len(_LABELS)]
        if operation % 16 == 8:
            files.pop(label, None)
        elif operation % 16 == 9:
            other = _LABELS[place % len(_LABELS)]
            files[label] = files.get(other, b"")
        elif operation % 16 == 10:
            other = _BASES[place % len(_BASES)]
            files[label] = fabric_seeds.honest(other).get(label, b"")
        else:
            files[label] = _edit(files.get(label, b""), operation, place, payload)[:_MAX_FILE]
    return kind, files, Bind(flags[0] & 31)


def _edit(data: bytes, operation: int, place: int, payload: bytes) -> bytes:
    edited = edit_at(data, operation % 16, place * (len(data) + 1) >> 16, payload)
    if edited is not None:
        return edited
    return mutate_item(data, Random(f"{place}/{payload.hex()}"))


def statement_seeds() -> Sequence[bytes]:
    """Every base untouched and without its links, every file changed, and every way to bind."""
    bases = [bytes((number + slim, 0)) for slim in (0, _SLIM) for number in range(len(_BASES))]
    changed = (
        (statement_program((label, operation, 0x5000, b"\x01\x02"), base=number % 3 + _SLIM)
         for operation in (1, 8, 11))
        for number, label in enumerate(_LABELS)
    )  # fmt: skip
    bound = [bytes((0, flags)) for flags in (1, 2, 4, 7, 8, 9)]
    bytewise = [
        statement_program(("fm-config", operation, place, b"\x01"), flags=Bind.BYTES)
        for operation in (0, 4)
        for place in (0x0010, 0x4000, 0xFFFF)
    ]
    return [*bases, *chain.from_iterable(changed), *bound, *bytewise]
