"""Attacks on statements of a fabric's manager: each ends in findings, and none is believed.

An attack is tried by ever stronger attackers:

- a *courier* carries statements about, and has no key;
- a *scribe* signs everything anew with a key of his own, and takes from honest statements what
  bound their keys: he is everybody whom the policy does not name;
- a *manager* is one whom the policy names, and states what he likes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha384
from typing import Any

import cbor2
import pytest
from bundle.sealing import ORDER, Parts, signer
from test_verifier_statement import (
    EPOCH,
    LATER,
    NONCE,
    STATED,
    against,
    clean,
    expectations,
    finding,
    judged,
    levels,
    manager,
    node,
    stated,
)

from ccverify import State, Verdict, policy_from_document
from ccverify.appraisal.inputs import Inputs
from ccverify.appraisal.statement import open_statement
from ccverify.bundle.endorsement import operator_payload, tpm_qualifying_data
from ccverify.bundle.manifest import MAX_ENTRIES, MAX_ITEM_BYTES, Gathered
from ccverify.bundle.package import Closed, close_manifest, open_session, parse_bundle, seal
from ccverify.bundle.statement_items import statement_items
from ccverify.cli.sim_sources import machine_sources, manager_sources
from ccverify.cli.sim_statement import BinderName, matching_managers, sim_statement
from ccverify.cli.sim_trust import simulated_trust
from ccverify.collect.model import Absence, AbsenceReason, Ask, Item, ItemType, Outcome, Stage
from ccverify.collect.session import collect_bundle
from ccverify.fabric.manager import parse_manager, serialize_manager
from ccverify.findings import Assurance
from ccverify.policy.model import FabricPolicy
from ccverify.policy.stated import Stated
from ccverify.sim.certs import CertificateSpec
from ccverify.sim.fabric_faults import FAULTS
from ccverify.sim.machine import SimMachine
from ccverify.sim.manager import SimManager
from ccverify.sim.operator import SimOperator, extended_key_usage
from ccverify.sim.pki import SimIssuer
from ccverify.sim.tpm import SimTpm
from fuzz.effort import grows_linearly

Json = dict[str, Any]
STRANGER, OWN = signer("a stranger"), signer("a session of the manager")
LABELS: dict[BinderName, tuple[str, ItemType]] = {
    "tdx": ("tdx-quote", ItemType.TDX_QUOTE),
    "tpm": ("tpm-quote", ItemType.TPM_QUOTE),
    "x509": ("operator-signature", ItemType.OPERATOR_SIGNATURE),
}
EVERY_BINDER = pytest.mark.parametrize("binder", LABELS)
NO_WORD = {"none", "asserted"}


# --- who states what -----------------------------------------------------------------------------


def parts(binder: BinderName = "tdx", nonce: bytes = NONCE) -> Parts:
    return Parts.of(stated("B300", binder, nonce), STRANGER)


def scribe(made: Parts) -> bytes:
    """Sign by a key of the scribe's own, and list every item as it is."""
    for label in made.manifest["items"]:
        if label in made.records and "sha384" in made.manifest["items"][label]:
            made = made.listing(label)
    return made.with_key(STRANGER).bytes()


def courier(made: Parts, original: bytes) -> bytes:
    """Leave the signature that was there."""
    return made.bytes(signature=cbor2.loads(original).value[3])


@cache
def files(model: str = "B300") -> Mapping[str, bytes]:
    found = statement_items(parse_bundle(stated(model, "none")))
    assert found is not None
    return found


def agreeing(given: Mapping[str, bytes], **modified: int) -> dict[str, bytes]:
    """Let the facts say of every file what it is."""
    facts = parse_manager(given["fabric-manager"])
    sources = tuple(
        replace(
            one,
            sha384=sha384(given[one.label]).hexdigest(),
            size=len(given[one.label]),
            modified=modified.get(one.label.replace("-", "_"), one.modified),
        )
        for one in facts.sources
        if one.label in given
    )
    return {**given, "fabric-manager": serialize_manager(replace(facts, sources=sources))}


def closed(given: Mapping[str, bytes], *, quoted: bool, after: int = 0) -> Closed:
    made = [
        Item(
            label,
            ItemType.FABRIC_MANAGER if label == "fabric-manager" else ItemType.FABRIC_DUMP,
            data,
            "test",
        )
        for label, data in given.items()
    ]
    absent = Absence("tdx-quote", AbsenceReason.NOT_PRESENT, "no TDX", "use a TD", "test")
    gathered = [Gathered(one, 0) for one in (*made, *(() if quoted else (absent,)))]
    created = int(manager("B300").at.timestamp()) + after
    return close_manifest(open_session(NONCE, OWN.key), gathered, collector="test", created=created)


def states(given: Mapping[str, bytes], model: str = "B300", after: int = 0) -> bytes:
    """A manager whom the policy names states these files."""
    made = closed(given, quoted=True, after=after)
    quote = manager(model).service_vm().quote(made.report_data)
    return seal(made, Item("tdx-quote", ItemType.TDX_QUOTE, quote, "test"), OWN)


def binding(binder: BinderName, made: Closed) -> Item:
    """What the manager whom the policy names binds this key by."""
    honest, covered = manager("B300"), (NONCE, OWN.key.thumbprint, made.manifest.sha384)
    data = {
        "tdx": lambda: honest.service_vm().quote(made.report_data),
        "tpm": lambda: honest.tpm().quote(tpm_qualifying_data(*covered)).item(),
        "x509": lambda: honest.operator().sign(operator_payload(*covered)),
    }[binder]()
    return Item(*LABELS[binder], data, "test")


def changed(model: str = "B300", **changes: bytes | None) -> dict[str, bytes]:
    """The files of an honest statement with some replaced, or None: taken out; `_` for `-`."""
    named = {label.replace("_", "-"): data for label, data in changes.items()}
    return {k: v for k, v in {**files(model), **named}.items() if v is not None}


def bound_by(made: Closed, *binders: Item) -> bytes:
    return seal(made, None, OWN, binders=binders)


def no_word(verdict: Verdict) -> None:
    """It is not trusted, and nothing stated is anybody's word."""
    assert not verdict.trusted
    assert {levels(verdict)[name] for name in STATED} <= NO_WORD


def unbound(verdict: Verdict) -> None:
    """Its key is not bound as it says, so that it says nothing at all."""
    no_word(verdict)
    assert "FABRIC-STATEMENT-KEY" in against(verdict, State.FAIL)
    assert "FABRIC-MANAGER" in against(verdict, State.NOT_CHECKED)
    assert {levels(verdict)[n] for n in ("manager", "routing", "isolation", "liveness")} == {"none"}


# --- what binds a key, carried over --------------------------------------------------------------


@EVERY_BINDER
def test_what_bound_one_statement_binds_no_other(binder: BinderName) -> None:
    label, _ = LABELS[binder]
    mine, other = parts(binder), parts(binder, EPOCH)
    swapped = mine.with_records(**{label: other.records[label]})
    unbound(judged(statements=[scribe(swapped)]))
    unbound(judged(statements=[courier(swapped, stated("B300", binder))]))
    # The scribe's own statement under what bound the manager's, for the very same nonce.
    unbound(judged(statements=[scribe(mine)]))


@EVERY_BINDER
def test_what_bound_one_statement_binds_no_files_of_the_scribe(binder: BinderName) -> None:
    label, kind = LABELS[binder]
    taken = Item(label, kind, parts(binder).records[label][1], "test")
    made = closed(files(), quoted=binder == "tdx")
    data = seal(made, taken, OWN) if binder == "tdx" else bound_by(made, taken)
    unbound(judged(statements=[data]))


@pytest.mark.parametrize(
    ("genuine", "forged"), [("tdx", "tpm"), ("tdx", "x509"), ("tpm", "x509"), ("x509", "tpm")]
)
def test_one_forged_binding_spoils_a_genuine_one(genuine: BinderName, forged: BinderName) -> None:
    """A manager whom the policy names adds what bound another statement."""
    made = closed(files(), quoted=genuine == "tdx")
    label, kind = LABELS[forged]
    added = Item(label, kind, parts(forged, EPOCH).records[label][1], "test")
    own = binding(genuine, made)
    quote, binders = (own, [added]) if genuine == "tdx" else (None, [own, added])
    assert judged(statements=[seal(made, quote, OWN, binders=binders[:-1])]).trusted
    unbound(judged(statements=[seal(made, quote, OWN, binders=binders)]))


@EVERY_BINDER
def test_a_binding_cannot_be_taken_off(binder: BinderName) -> None:
    """Without it the statement would be anybody's, which some policies accept."""
    label, _ = LABELS[binder]
    honest, machine, _ = clean("B300")
    document = expectations(
        machine, honest, managers={**matching_managers(honest), "unsigned": "accept"}
    )
    made = parts(binder).with_records(**{label: None})
    unbound(judged(statements=[courier(made, stated("B300", binder))], document=document))


@EVERY_BINDER
def test_manifests_of_two_statements_cannot_be_exchanged(binder: BinderName) -> None:
    mine, other = parts(binder), parts(binder, EPOCH)
    made = replace(mine, manifest=other.manifest)
    for data in (courier(made, stated("B300", binder)), made.bytes(), made.with_key(OWN).bytes()):
        unbound(judged(statements=[data]))


@pytest.mark.parametrize(
    "label", ["fm-partitions", "nvlsm-pkeys", "nvlsm-mcfdbs", "fabric-manager"]
)
@EVERY_BINDER
def test_items_of_two_statements_cannot_be_exchanged(binder: BinderName, label: str) -> None:
    mine = parts(binder)
    other = Parts.of(sim_statement(manager("B300", [1]), NONCE, binder=binder), STRANGER)
    made = mine.with_records(**{label: other.records[label]})
    assert made.records != mine.records
    for data in (courier(made, stated("B300", binder)), made.bytes(), scribe(made)):
        unbound(judged(statements=[data]))


def test_two_types_cannot_be_exchanged() -> None:
    """A dump listed as the facts, and the facts as a dump."""
    made = parts("none")
    facts, dump = made.records["fabric-manager"], made.records["fm-state"]
    twisted = made.with_records(
        fabric_manager=[dump[0], facts[1], 4], fm_state=[facts[0], dump[1], 4]
    )
    verdict = judged(statements=[twisted.with_key(STRANGER).bytes()])
    assert "FABRIC-STATEMENT" in against(verdict, State.FAIL)
    no_word(verdict)


def test_the_facts_that_are_judged_are_those_that_are_shown() -> None:
    """A dump under the label of the facts stands in nobody's place."""
    honest = files()["fabric-manager"]
    facts = parse_manager(honest)
    other = serialize_manager(replace(facts, boot_id="00000000-0000-0000-0000-000000000000"))
    plain = Parts.of(seal(closed(changed(fm_state=other), quoted=False), None, OWN), OWN)
    # The facts go by another label, and a dump by theirs.
    entries, records = plain.manifest["items"], plain.records
    entries = {
        **entries,
        "a-facts": entries["fabric-manager"],
        "fabric-manager": entries["fm-state"],
    }
    records = {
        **records,
        "a-facts": records["fabric-manager"],
        "fabric-manager": records["fm-state"],
    }
    del entries["fm-state"], records["fm-state"]
    data = replace(plain, records=records).with_manifest(items=entries).bytes()
    shown = statement_items(parse_bundle(data))
    assert shown is not None
    opened = opening(data, FabricPolicy())
    assert opened.statement is not None, opened.problem
    assert opened.statement.facts == parse_manager(shown["fabric-manager"])


# --- keys of one's own ---------------------------------------------------------------------------


def opening(data: bytes, policy: FabricPolicy, now: datetime | None = None) -> Stated:
    trust = simulated_trust(clean("B300")[1])
    inputs = Inputs(trust.collateral.intel, trust.collateral.nvidia, trust.store, now or trust.at)
    return open_statement(data, policy, inputs)


@pytest.mark.parametrize("listed", [True, False])
def test_a_tpm_in_software_is_nobody(listed: bool) -> None:
    """It quotes the PCRs that the policy lists; its key is not on the list, nor under a root."""
    machine = SimTpm(label="of the attacker")
    genuine = manager("B300").tpm()
    made = closed(files(), quoted=False)
    data = tpm_qualifying_data(NONCE, OWN.key.thumbprint, made.manifest.sha384)
    fake = replace(machine, measured=genuine.measured)
    quote = fake.quote(data)
    chain = fake.chain() if listed else genuine.chain()
    item = Item("tpm-quote", ItemType.TPM_QUOTE, quote.item(chain), "test")
    verdict = judged(statements=[bound_by(made, item)])
    no_word(verdict)
    assert against(verdict, State.FAIL) & {"FABRIC-MANAGER", "FABRIC-STATEMENT-KEY"}


def test_the_name_of_a_listed_key_is_not_the_key() -> None:
    """The public area of the listed TPM, and a signature by another key."""
    genuine, fake = manager("B300").tpm(), SimTpm(label="of the attacker")
    made = closed(files(), quoted=False)
    data = tpm_qualifying_data(NONCE, OWN.key.thumbprint, made.manifest.sha384)
    honest = genuine.quote(data)
    forged = replace(honest, signature=fake.sign(honest.attest))
    item = Item("tpm-quote", ItemType.TPM_QUOTE, forged.item(genuine.chain()), "test")
    unbound(judged(statements=[bound_by(made, item)]))


def test_a_tpm_key_that_signs_anything_is_nobody() -> None:
    """Its owner can have it sign a quote that no TPM made."""
    loose = replace(manager("B300").tpm(), attributes=0x00040472)
    made = closed(files(), quoted=False)
    data = tpm_qualifying_data(NONCE, OWN.key.thumbprint, made.manifest.sha384)
    item = Item("tpm-quote", ItemType.TPM_QUOTE, loose.quote(data).item(loose.chain()), "test")
    honest, machine, _ = clean("B300")
    managers = matching_managers(honest)
    managers["tpm"][0]["names"].append(loose.name.hex())
    document = expectations(machine, honest, managers=managers)
    unbound(judged(statements=[bound_by(made, item)], document=document))


def signed_by(operator: SimOperator, chain: Sequence[CertificateSpec]) -> bytes:
    made = closed(files(), quoted=False)
    payload = operator_payload(NONCE, OWN.key.thumbprint, made.manifest.sha384)
    data = operator.sign(payload, tuple(chain))
    return bound_by(made, Item("operator-signature", ItemType.OPERATOR_SIGNATURE, data, "test"))


_LONG_AGO = datetime(2025, 5, 7, tzinfo=UTC)


def _chains() -> dict[str, tuple[SimOperator, tuple[CertificateSpec, ...]]]:
    own, other = SimOperator(), SimOperator("Another Cloud")
    leaf, issuer = own.chain()
    without = tuple(one for one in leaf.extensions if one.oid != "2.5.29.37")
    server = replace(leaf, extensions=(*without, extended_key_usage("1.3.6.1.5.5.7.3.1")))
    return {
        "unknown root": (other, other.chain()),
        "another's leaf under the listed CA": (other, (other.certificate(), issuer)),
        "expired": (own, (replace(leaf, not_after=_LONG_AGO), issuer)),
        "expired CA": (own, (leaf, replace(issuer, not_after=_LONG_AGO))),
        "a server's certificate": (own, (server, issuer)),
        "no chain": (own, (leaf,)),
        "the root's own key is no leaf": (own, (leaf, own.root())),
    }


@pytest.mark.parametrize("name", _chains())
def test_operators_whom_the_policy_does_not_name_are_refused(name: str) -> None:
    verdict = judged(statements=[signed_by(*_chains()[name])])
    no_word(verdict)
    assert "FABRIC-MANAGER" in against(verdict, State.FAIL), verdict.failures()


def test_the_operator_whom_the_policy_names_is_heard() -> None:
    own = SimOperator()
    assert judged(statements=[signed_by(own, own.chain())]).trusted


def test_an_operators_certificate_signs_nothing_for_another_key() -> None:
    own, other = SimOperator(), SimOperator("Another Cloud")
    unbound(judged(statements=[signed_by(other, own.chain())]))


class Impostor(SimManager):
    """A manager on the tenant's board that says it runs in another machine."""

    def __init__(self, given: SimManager, machine: SimMachine) -> None:
        super().__init__(given.board)
        self.machine = machine

    def service_vm(self) -> SimMachine:
        return self.machine


def impostor(machine: SimMachine) -> bytes:
    made = collect_bundle(NONCE, manager_sources(Impostor(manager("B300"), machine))).bundle
    assert made is not None
    return made


def test_anybodys_word_is_called_anybodys() -> None:
    honest, machine, _ = clean("B300")
    document = expectations(machine, honest, managers={"unsigned": "accept"})
    verdict = judged(statements=[stated("B300", "none")], document=document)
    assert verdict.trusted, verdict.failures()
    assert finding(verdict, "FABRIC-MANAGER").assurance is Assurance.ASSERTED
    key = finding(verdict, "FABRIC-STATEMENT-KEY")
    assert key.found == "signed by a key that nothing binds to anybody"
    assert finding(judged(), "FABRIC-STATEMENT-KEY").found == "bound by tdx"


def test_claims_say_which_programs_run() -> None:
    for fault, running in ((None, True), ("manager-stopped", False)):
        changed_ = manager("B300")
        if fault:
            FAULTS[fault].apply(changed_, "a")
        fabric = judged(statements=[sim_statement(changed_, NONCE)]).fabric
        assert fabric is not None
        told = {one["name"]: one for one in fabric["manager"]["value"]["programs"]}
        assert told["fabric-manager"]["running"] is running
        assert (told["fabric-manager"]["started"] is not None) is running
        assert told["nvlsm"]["running"] is True


@pytest.mark.parametrize("tenant", ["a", "b"])
def test_a_tenants_own_image_is_no_manager(tenant: str) -> None:
    """His TD is on the same platform, and its quote genuine: only the list of managers tells."""
    verdict = judged(statements=[impostor(manager("B300").board.machine(tenant))])
    no_word(verdict)
    assert "FABRIC-MANAGER" in against(verdict, State.FAIL)
    assert finding(verdict, "FABRIC-STATEMENT-KEY").state is State.PASS
    assert finding(verdict, "FABRIC-STATEMENT-KEY").assurance is Assurance.ASSERTED


def test_a_quote_under_roots_of_ones_own_is_no_quote() -> None:
    machine = manager("B300").service_vm()
    forged = replace(
        machine, platform=replace(machine.platform, issuer=SimIssuer(seed=b"attacker"))
    )
    verdict = judged(statements=[impostor(forged)])
    unbound(verdict)


def test_guids_do_not_speak_against_a_quote_of_another_platform() -> None:
    """The tables know the tenant's GPUs; the machine that states them is none of this host."""
    honest, machine, _ = clean("B300")
    other = manager("B300", instance="2")
    document = expectations(machine, honest)
    for kind, rules in matching_managers(other).items():
        document["fabric"]["managers"][kind] += rules
    verdict = judged(statements=[impostor(other.service_vm())], document=document)
    assert against(verdict) == {"FABRIC-SAME-HOST"}
    assert levels(verdict)["isolation"] == levels(verdict)["partition"] == "none"


# --- bundles of two roles ------------------------------------------------------------------------


class Own:
    """A source of a manager's items in a tenant's own session."""

    name = "own"
    stage = Stage.LOGS

    def __init__(self) -> None:
        self.gives: tuple[str, ...] = tuple(files())

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        return [
            Item(
                label,
                ItemType.FABRIC_MANAGER if label == "fabric-manager" else ItemType.FABRIC_DUMP,
                data,
                self.name,
            )
            for label, data in files().items()
        ]

    def diagnose(self) -> Sequence[Absence]:
        return ()


@cache
def of_both_roles() -> bytes:
    made = collect_bundle(NONCE, [*machine_sources(clean("B300")[1]), Own()]).bundle
    assert made is not None
    return made


def test_a_node_that_states_too_is_no_manager_of_itself() -> None:
    verdict = judged(data=of_both_roles(), statements=[])
    assert verdict.exit_code == 6
    assert finding(verdict, "FABRIC-STATEMENT").state is State.NOT_CHECKED
    no_word(verdict)
    assert levels(verdict)["manager"] == "none"


def test_a_node_that_gives_itself_as_a_statement_is_refused_by_its_image() -> None:
    verdict = judged(data=of_both_roles(), statements=[of_both_roles()])
    no_word(verdict)
    assert against(verdict, State.FAIL) == {"FABRIC-MANAGER"}


def test_a_statement_is_no_evidence_of_a_node() -> None:
    verdict = judged(data=stated("B300"))
    assert not verdict.trusted


def test_a_statement_inside_a_statement_is_not_read() -> None:
    """An unsigned one around the manager's does not get the manager's word."""
    inner = Item("fabric-statement", ItemType.FABRIC_STATEMENT, stated("B300"), "test")
    absent = Absence("tdx-quote", AbsenceReason.NOT_PRESENT, "no TDX", "use a TD", "test")
    facts = Item("fabric-manager", ItemType.FABRIC_MANAGER, files()["fabric-manager"], "test")
    session = open_session(NONCE, STRANGER.key)
    made = close_manifest(
        session, [Gathered(one, 0) for one in (inner, absent, facts)], collector="x", created=0
    )
    no_word(judged(statements=[seal(made, None, STRANGER)]))


# --- several statements --------------------------------------------------------------------------


def continuous() -> Json:
    honest, machine, _ = clean("B300")
    return expectations(machine, honest, continuity="required")


def test_one_statement_given_twice_shows_no_time_between() -> None:
    verdict = judged(statements=[stated("B300")] * 2, document=continuous())
    assert against(verdict) == {"FABRIC-CONTINUITY"}
    inside = node(clean("B300")[1], stated("B300"))
    verdict = judged(data=inside, statements=[stated("B300")], document=continuous())
    assert against(verdict) == {"FABRIC-CONTINUITY"}


def other_signature(data: bytes) -> bytes:
    """The same statement with the other of the two ECDSA signatures, which anybody can work out."""
    protected, loose, payload, signature = cbor2.loads(data).value
    r, s = signature[:48], int.from_bytes(signature[48:], "big")
    other: bytes = cbor2.dumps(
        cbor2.CBORTag(18, [protected, loose, payload, r + (ORDER - s).to_bytes(48, "big")])
    )
    assert other != data
    return other


def test_one_statement_under_two_signatures_shows_no_time_between() -> None:
    again = other_signature(stated("B300"))
    assert judged(statements=[again]).trusted  # it is a genuine signature
    verdict = judged(statements=[stated("B300"), again], document=continuous())
    assert against(verdict) == {"FABRIC-CONTINUITY"}


def test_two_statements_of_one_moment_show_no_time_between() -> None:
    first, second = states(files()), states(changed(fm_state=None))
    verdict = judged(statements=[first, second], document=continuous())
    assert "FABRIC-CONTINUITY" in against(verdict)


def test_four_statements_are_heard_together() -> None:
    honest, machine, _ = clean("B300")
    made = [sim_statement(honest, NONCE, at=honest.at + n * LATER / 4) for n in range(4)]
    verdict = judged(statements=made, document=continuous())
    assert verdict.trusted, verdict.failures()
    assert verdict.fabric is not None
    assert verdict.fabric["liveness"]["value"]["statements"] == 4
    # One stranger among them, and nothing is above his word where it rests on all of them.
    made[1] = impostor(machine)
    verdict = judged(statements=made, document=continuous())
    assert not verdict.trusted
    assert levels(verdict)["liveness"] == "asserted"


@pytest.mark.parametrize("spoiled", range(4))
def test_one_forged_statement_spoils_the_others(spoiled: int) -> None:
    honest, _, _ = clean("B300")
    made = [sim_statement(honest, NONCE, at=honest.at + n * LATER / 4) for n in range(4)]
    made[spoiled] = courier(parts().with_manifest(created=3), stated("B300"))
    unbound(judged(statements=made))


def test_managers_that_contradict_each_other_break_continuity() -> None:
    """Both are the policy's: the host's TPM, and the service VM with another table."""
    honest, _, _ = clean("B300")
    first = sim_statement(honest, NONCE, binder="tpm")
    second = sim_statement(manager("B300", [1]), NONCE, at=honest.at + LATER)
    verdict = judged(statements=[first, second], document=continuous())
    assert "FABRIC-CONTINUITY" in against(verdict, State.FAIL)
    assert not verdict.trusted
    assert levels(verdict)["manager_configuration"] == levels(verdict)["isolation"] == "none"


def test_a_change_that_was_changed_back_shows_in_a_statement_between() -> None:
    honest, _, _ = clean("B300")
    between = manager("B300")
    FAULTS["leaked-route"].apply(between, "a")
    made = [
        sim_statement(one, NONCE, at=honest.at + n * LATER / 3)
        for n, one in enumerate((honest, between, honest))
    ]
    verdict = judged(statements=made, document=continuous())
    assert against(verdict) == {"FABRIC-CONTINUITY"}


# --- managers that state nonsense ----------------------------------------------------------------


def table(entries: Sequence[Mapping[str, Any]]) -> bytes:
    listed = [
        {
            "partitionId": entry["id"],
            "isActive": int(entry.get("active", True)),
            "numGpus": len(entry["modules"]),
            "gpuInfo": [
                {
                    "physicalId": module,
                    "uuid": "",
                    "pciBusId": "",
                    "numNvLinksAvailable": 18,
                    "maxNumNvLinks": 18,
                    "nvlinkLineRateMBps": 53125,
                }
                for module in entry["modules"]
            ],
        }
        for entry in entries
    ]
    return json.dumps(
        {"version": 1, "numPartitions": len(listed), "maxNumPartitions": 64,
         "partitionInfo": listed}
    ).encode()  # fmt: skip


def test_sixty_four_partitions_that_overlap() -> None:
    entries = [{"id": n, "modules": [1 + (n + k) % 8 for k in range(4)]} for n in range(64)]
    verdict = judged(statements=[states(agreeing(changed(fm_partitions=table(entries))))])
    assert against(verdict, State.FAIL) >= {
        "FABRIC-PARTITION-TABLE", "FABRIC-MODULES", "ROUTE-OVERLAP",
    }  # fmt: skip
    assert levels(verdict)["isolation"] == levels(verdict)["partition"] == "none"
    one_more = [*entries, {"id": 64, "modules": [1]}]
    verdict = judged(statements=[states(agreeing(changed(fm_partitions=table(one_more))))])
    assert "FABRIC-STATEMENT" in against(verdict, State.FAIL)


@pytest.mark.parametrize("module", [0, 9, 255])
def test_modules_that_the_board_does_not_have(module: int) -> None:
    entries = [{"id": 2, "modules": [1, 2, 3, 4]}, {"id": 3, "modules": [5, 6, 7, module]}]
    verdict = judged(statements=[states(agreeing(changed(fm_partitions=table(entries))))])
    assert "FABRIC-PARTITION-TABLE" in against(verdict, State.FAIL)
    assert levels(verdict)["isolation"] == "none"


def test_a_partition_of_one_gpu_needs_no_links() -> None:
    """The Fabric Manager says that none of its links can be used, and means no harm."""
    live = json.loads(files()["fm-partitions"])
    for entry in live["partitionInfo"]:
        if entry["numGpus"] == 1:
            entry["isActive"] = int(entry["gpuInfo"][0]["physicalId"] in (5, 6, 7, 8))
            entry["gpuInfo"][0] |= {"numNvLinksAvailable": 0, "maxNumNvLinks": 18}
        elif 5 in (gpu["physicalId"] for gpu in entry["gpuInfo"]):
            entry["isActive"] = 0
    given = agreeing(changed(fm_partitions=json.dumps(live).encode()))
    assert "FABRIC-PARTITION-TABLE" not in against(judged(statements=[states(given)]))


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [{"id": 2, "modules": []}],
        [{"id": 2, "modules": [1, 2, 3]}, {"id": 5, "modules": [4]}],
        [{"id": 2, "modules": [1, 2, 3, 4, 5]}],
        [{"id": 2, "modules": [1, 2, 3, 4], "active": False}],
    ],
)
def test_tables_in_which_the_tenant_has_no_partition(entries: list[Json]) -> None:
    verdict = judged(statements=[states(agreeing(changed(fm_partitions=table(entries))))])
    assert against(verdict, State.FAIL) & {"FABRIC-MODULES", "FABRIC-PARTITION-ACTIVE"}
    assert not verdict.trusted
    assert verdict.fabric is not None
    closed_ = verdict.fabric["isolation"]["value"]
    assert closed_ is None or not closed_["closed"]


def test_a_gpu_that_waits_is_not_registered() -> None:
    waiting = manager("B300")
    FAULTS["gpu-in-progress"].apply(waiting, "a")
    for data, registered in ((node(waiting.board.machine("a")), False), (None, True)):
        fabric = judged(data=data).fabric
        assert fabric is not None
        assert fabric["registration"]["value"]["registered"] is registered


def test_a_tenant_of_whom_no_module_is_known() -> None:
    honest, machine, _ = clean("B300")
    sources = [one for one in machine_sources(machine) if "fabric" not in one.gives]
    own = collect_bundle(NONCE, sources).bundle
    assert own is not None
    document = expectations(machine, honest, observation="if-given")
    verdict = judged(data=own, document=document)
    assert verdict.exit_code == 6
    assert against(verdict) >= {"FABRIC-MODULES", "FABRIC-PARTITION-ACTIVE"}
    assert levels(verdict)["partition"] == levels(verdict)["isolation"] == "none"


@pytest.mark.parametrize("label", ["nvlsm-subnet", "nvlsm-fdbs", "nvlsm-lfts", "nvlsm-mcfdbs"])
def test_tables_of_an_earlier_run_prove_nothing(label: str) -> None:
    given = agreeing(files(), **{label.replace("-", "_"): 1_000_000_000})
    verdict = judged(statements=[states(given)])
    assert against(verdict, State.FAIL) == {"FABRIC-ROUTING"}
    assert levels(verdict)["routing"] == levels(verdict)["isolation"] == "none"


@pytest.mark.parametrize("routing", ["any", "if-given", None])
def test_a_policy_that_asks_for_no_routing_does_not_make_old_tables_proof(
    routing: str | None,
) -> None:
    """Whoever does not ask is not refused; but nothing is claimed that nobody looked at."""
    honest, machine, _ = clean("B300")
    given = agreeing(files(), nvlsm_lfts=1_000_000_000)
    document = expectations(machine, honest, routing=routing)
    verdict = judged(statements=[states(given)], document=document)
    assert levels(verdict)["isolation"] == "none"
    assert levels(verdict)["routing"] == "none"


@pytest.mark.parametrize(
    ("taken", "codes"),
    [
        (("nvlsm-pkeys",), {"FABRIC-ROUTING"}),
        (("nvlsm-pkeys", "nvlsm-partitions-conf"), {"FABRIC-ROUTING", "ROUTE-LEAK", "ROUTE-PKEY"}),
        (("nvlsm-lfts",), {"FABRIC-ROUTING", "ROUTE-LEAK"}),
        (("nvlsm-lfts", "nvlsm-fdbs"), {"FABRIC-ROUTING", "ROUTE-LEAK"}),
        (("nvlsm-mcfdbs",), {"FABRIC-ROUTING", "ROUTE-MULTICAST"}),
        (("nvlsm-subnet",), {"FABRIC-ROUTING", "ROUTE-LEAK", "ROUTE-LINK"}),
        (("fm-partitions",), {"FABRIC-ROUTING", "FABRIC-MODULES", "FABRIC-PARTITION-TABLE"}),
    ],
)
def test_what_is_left_out_proves_nothing(taken: tuple[str, ...], codes: set[str]) -> None:
    given = {label: data for label, data in files().items() if label not in taken}
    verdict = judged(statements=[states(agreeing(given))])
    assert codes <= against(verdict)
    assert not verdict.trusted
    assert verdict.fabric is not None
    isolation = verdict.fabric["isolation"]["value"]
    assert isolation is None or not isolation["closed"], isolation


def test_links_of_a_board_that_nobody_knows_name_no_gpu() -> None:
    """One switch of two: which device is which is not known, and no GUID is another's."""
    lines = files()["nvlsm-subnet"].splitlines(keepends=True)
    one = b"".join(line for line in lines if b"NVSwitch2}" not in line)
    assert 0 < len(one) < len(files()["nvlsm-subnet"])
    verdict = judged(statements=[states(agreeing(changed(nvlsm_subnet=one)))])
    assert against(verdict, State.FAIL) == {"FABRIC-ROUTING"}
    assert levels(verdict)["isolation"] == "none"


# --- size and depth ------------------------------------------------------------------------------

ROWS = {
    "nvlsm-subnet": b"{ CA Ports:12 }\n",
    "nvlsm-fdbs": b"0x0001 : 001  : 01   : yes\n",
    "nvlsm-lfts": b"0x0001 001 # x\n",
    "nvlsm-mcfdbs": b"0xC000 : 0x001 \n",
    "nvlsm-guid2lid": b"0x0000000000000001 0x0001 0x0001\n",
    "nvlsm-pkeys": b"0x0001, 0x0002\n",
    "nvlsm-partitions-conf": b"a=0x1 : 0x1=full ;\n",
    "nvlsm-config": b"guid 0x1\n",
    "fm-config": b"FABRIC_MODE=1\n",
    "fm-partitions": b"[[[[[[[[[[",
    "fm-partition-definitions": b'{"a":',
}


@pytest.mark.parametrize("label", ROWS)
def test_a_dump_of_the_largest_size_ends_in_findings(label: str) -> None:
    data = ROWS[label] * (MAX_ITEM_BYTES // len(ROWS[label]))
    given = agreeing({**files(), label: data})
    verdict = judged(statements=[states(given)])
    if label != "fm-config":  # which is the same line again and again
        assert against(verdict, State.FAIL) & {"FABRIC-STATEMENT", "FABRIC-ROUTING"}
    assert not verdict.trusted


def test_a_state_file_of_the_largest_size_is_digested() -> None:
    given = agreeing(changed(fm_state=bytes(MAX_ITEM_BYTES)))
    assert judged(statements=[states(given)]).trusted


@pytest.mark.parametrize("label", ["fabric-manager", "fm-partitions", "fm-partition-definitions"])
@pytest.mark.parametrize(
    "data", [b"[" * 500_000, b'{"a":' * 200_000, b"[" * 60 + b"]" * 60, b'"' + b"x" * 500_000]
)
def test_deep_and_endless_json_ends_in_findings(label: str, data: bytes) -> None:
    verdict = judged(statements=[states({**files(), label: data})])
    assert "FABRIC-STATEMENT" in against(verdict, State.FAIL)
    assert not verdict.trusted


def test_as_many_entries_as_a_manifest_holds() -> None:
    room = MAX_ENTRIES - len(files())
    more = {f"more-{number}": b"x" for number in range(room)}
    assert judged(statements=[states({**files(), **more})]).trusted
    plain = Parts.of(states({**files(), **more}), OWN)
    entry = {**plain.manifest["items"]["more-0"]}
    crowded = plain.with_entry("more-x", entry).with_records(more_x=plain.records["more-0"])
    verdict = judged(statements=[crowded.bytes()])
    assert verdict.exit_code == 2
    assert "FABRIC-STATEMENT" in against(verdict, State.FAIL)
    no_word(verdict)


@pytest.mark.parametrize("label", ["nvlsm-lfts", "nvlsm-subnet", "nvlsm-pkeys", "fm-config"])
def test_the_work_grows_with_the_size_alone(label: str) -> None:
    honest = {name: data for name, data in files().items() if name != "nvlsm-subnet"}
    lines = files()[label].splitlines(keepends=True)

    def opened(size: int) -> Any:
        comment = b"# a comment that says nothing\n"
        row = comment if label == "fm-config" else lines[len(lines) // 2]
        data = states({**honest, label: files()[label] + row * size})
        return lambda: judged(statements=[data])

    assert grows_linearly(opened, 4_000)


def test_dates_at_the_ends_of_time_are_ages_like_others() -> None:
    for created in (0, 253_402_300_799):
        made = parts("none").with_manifest(created=created)
        verdict = judged(statements=[made.with_key(STRANGER).bytes()], epoch=EPOCH, nonce=NONCE)
        no_word(verdict)
    honest, machine, _ = clean("B300")
    statement = sim_statement(honest, EPOCH)
    now = simulated_trust(machine).at + timedelta(days=365)
    assert not judged(statements=[statement], epoch=EPOCH, now=now).trusted


@pytest.mark.parametrize("binder", [*LABELS, "none"])
def test_opening_never_raises_and_never_believes_noise(binder: BinderName) -> None:
    whole = stated("B300", binder)
    policy = policy_from_document(expectations(clean("B300")[1], clean("B300")[0])).fabric
    assert isinstance(policy, FabricPolicy)
    for at in range(0, len(whole), max(1, len(whole) // 60)):
        broken = whole[:at] + bytes((whole[at] ^ 0x11,)) + whole[at + 1 :]
        opened = opening(broken, policy)
        assert opened.problem is not None or opened.level is Assurance.NONE
    assert opening(whole, policy).problem is None
