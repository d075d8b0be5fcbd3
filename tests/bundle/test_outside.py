"""Items that cover the manifest and so stand outside of it: quote, TPM quote, operator."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha384

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sealing import NONCE, SIGNER, TIME, Parts, closed, gathered, quote

from ccverify.bundle.cbor import encode
from ccverify.bundle.endorsement import operator_payload, tpm_qualifying_data
from ccverify.bundle.manifest import OPERATOR_LABEL, OUTSIDE, QUOTE_LABEL, TPM_QUOTE_LABEL, Gathered
from ccverify.bundle.model import Absence, AbsenceReason, Item, ItemType
from ccverify.bundle.package import Closed, open_session, parse_bundle, seal
from ccverify.bundle.tpm_item import encode_tpm_item, parse_tpm_item
from ccverify.bundle.verify_bundle import appraise_bundle
from ccverify.errors import EvidenceError, UsageError
from ccverify.findings import State
from ccverify.sim.operator import SimOperator
from ccverify.sim.tpm import SimTpm

TPM, OPERATOR = SimTpm(), SimOperator()
NO_QUOTE = Absence(QUOTE_LABEL, AbsenceReason.NOT_PRESENT, "no TDX", "use a TD", "test")


def covered(made: Closed) -> tuple[bytes, bytes, bytes]:
    return NONCE, made.session.key.thumbprint, made.manifest.sha384


def tpm_item(made: Closed) -> Item:
    data = TPM.quote(tpm_qualifying_data(*covered(made))).item(TPM.chain())
    return Item(TPM_QUOTE_LABEL, ItemType.TPM_QUOTE, data, "TPM")


def operator_item(made: Closed) -> Item:
    data = OPERATOR.sign(operator_payload(*covered(made)))
    return Item(OPERATOR_LABEL, ItemType.OPERATOR_SIGNATURE, data, "operator")


def without_quote(*more: Gathered) -> Closed:
    session = open_session(NONCE, SIGNER.key)
    return closed(parts=[*gathered(session), Gathered(NO_QUOTE, TIME), *more])


def failing(data: bytes) -> list[str]:
    return [f.code for f in appraise_bundle(data, NONCE).findings if f.state is not State.PASS]


def described(data: bytes) -> str:
    return "; ".join(
        f"{f.found}" for f in appraise_bundle(data, NONCE).findings if f.state is State.FAIL
    )


# --- sealing and reading ---


def test_the_table_says_what_stands_outside() -> None:
    assert dict(OUTSIDE) == {
        "tdx-quote": ItemType.TDX_QUOTE,
        "tpm-quote": ItemType.TPM_QUOTE,
        "operator-signature": ItemType.OPERATOR_SIGNATURE,
    }


@pytest.mark.parametrize("with_quote", [True, False])
@pytest.mark.parametrize("which", [(), ("tpm",), ("operator",), ("tpm", "operator")])
def test_any_of_them_may_bind_a_bundle(with_quote: bool, which: tuple[str, ...]) -> None:
    made = closed() if with_quote else without_quote()
    makers = {"tpm": tpm_item, "operator": operator_item}
    binders = [makers[name](made) for name in which]
    data = seal(made, quote(made.report_data) if with_quote else None, SIGNER, binders=binders)
    assert failing(data) == []
    read = parse_bundle(data)
    assert (read.quote is not None) == with_quote
    assert (read.tpm_quote is not None) == ("tpm" in which)
    assert (read.operator_signature is not None) == ("operator" in which)
    assert not set(read.manifest.items) & set(OUTSIDE)
    if "tpm" in which:
        assert read.tpm_quote == binders[0].data


def test_an_absence_of_one_may_be_stated_and_need_not() -> None:
    said = Absence(TPM_QUOTE_LABEL, AbsenceReason.NOT_PRESENT, "no TPM", "buy one", "test")
    made = without_quote(Gathered(said, TIME))
    assert failing(seal(made, None, SIGNER)) == []
    with pytest.raises(UsageError, match="stated to be absent"):
        seal(made, None, SIGNER, binders=[tpm_item(made)])
    honest = without_quote()
    parts = Parts.of(seal(honest, None, SIGNER, binders=[tpm_item(honest)]))
    entry = {"absent": "not-present", "text": "", "remedy": "", "source": "", "time": TIME}
    contradicted = parts.with_entry(TPM_QUOTE_LABEL, entry).bytes()
    assert failing(contradicted) == ["BUNDLE-MANIFEST"]
    assert "there and listed as absent" in described(contradicted)


def test_what_does_not_belong_outside_is_not_sealed_there() -> None:
    made = without_quote()
    tpm = tpm_item(made)
    for items in (
        [replace(tpm, label="tpm-quote-2")],
        [replace(tpm, label=OPERATOR_LABEL)],
        [replace(tpm, type=ItemType.FABRIC_DUMP)],
        [Item("ccel", ItemType.CCEL, b"log", "test")],
        [tpm, tpm],
        [quote(made.report_data)],  # the manifest says that it is absent
    ):
        with pytest.raises(UsageError):
            seal(made, None, SIGNER, binders=items)
    with_quote = closed()
    with pytest.raises(UsageError):
        seal(with_quote, tpm, SIGNER)
    again = quote(with_quote.report_data)
    with pytest.raises(UsageError):
        seal(with_quote, again, SIGNER, binders=[again])


# --- manifests ---


@pytest.mark.parametrize("label", OUTSIDE)
def test_no_manifest_lists_what_covers_it(label: str) -> None:
    item = Item(label, OUTSIDE[label], b"data", "test")
    with pytest.raises(UsageError):
        without_quote(Gathered(item, TIME))
    made = without_quote()
    parts = Parts.of(seal(made, None, SIGNER))
    entry = {"type": OUTSIDE[label].value, "sha384": sha384(b"data").digest(), "size": 4,
             "time": TIME, "source": "test"}  # fmt: skip
    for name in (label, "something-else"):
        with pytest.raises(EvidenceError):
            parse_bundle(parts.with_entry(name, entry).bytes())
    # Nor under that name something of another type.
    other = {**entry, "type": ItemType.FABRIC_DUMP.value}
    with pytest.raises(EvidenceError, match="malformed entry"):
        parse_bundle(parts.with_entry(label, other).bytes())


@pytest.mark.parametrize("label", [TPM_QUOTE_LABEL, OPERATOR_LABEL])
def test_each_label_has_its_type_and_each_type_its_label(label: str) -> None:
    made = without_quote()
    parts = Parts.of(seal(made, None, SIGNER, binders=[tpm_item(made), operator_item(made)]))
    record = parts.records[label]
    moved = {label: None, f"{label}-2": record}
    for changes in (moved, {label: [ItemType.FABRIC_DUMP.value, b"x", 4]},
                    {label: [ItemType.TDX_QUOTE.value, b"x", 4]},
                    {"tdx-quote": record}, {f"{label}-2": record}):  # fmt: skip
        with pytest.raises(EvidenceError, match="under another name"):
            parse_bundle(parts.with_records(**changes).bytes())


def test_there_may_be_many_dumps_and_one_of_each_other_type() -> None:
    dumps = [Item(f"dump-{n}", ItemType.FABRIC_DUMP, b"%d" % n, "test") for n in range(40)]
    made = without_quote(*(Gathered(dump, TIME) for dump in dumps))
    data = seal(made, None, SIGNER)
    assert failing(data) == []
    assert list(parse_bundle(data).of_type(ItemType.FABRIC_DUMP).values()) == [
        dump.data for dump in dumps
    ]
    several = {ItemType.NVIDIA_GPU, ItemType.NVIDIA_SWITCH, ItemType.FABRIC_DUMP}
    for kind in set(ItemType) - several - set(OUTSIDE.values()) - {
        ItemType.CCEL, ItemType.FABRIC_OBSERVATION,
    }:  # fmt: skip
        one = Item("first", kind, b"", "test")
        assert without_quote(Gathered(one, TIME))
        with pytest.raises(UsageError, match="two items of one type"):
            without_quote(Gathered(one, TIME), Gathered(replace(one, label="second"), TIME))


# --- form ---


@pytest.mark.parametrize("label", [TPM_QUOTE_LABEL, OPERATOR_LABEL])
def test_a_malformed_binder_is_a_malformed_bundle(label: str) -> None:
    made = without_quote()
    item = Item(label, OUTSIDE[label], b"\xa0", "test")
    assert failing(seal(made, None, SIGNER, binders=[item])) == ["BUNDLE-FORMAT"]


QUOTE = TPM.quote(bytes(32))
ITEM = QUOTE.item(TPM.chain())


def test_the_simulation_and_ccverify_encode_a_tpm_quote_alike() -> None:
    parts = (QUOTE.attest, QUOTE.signature, QUOTE.public)
    assert encode_tpm_item(*parts, TPM.chain().encode(), QUOTE.pcrs) == ITEM
    assert encode_tpm_item(*parts, None, QUOTE.pcrs) == QUOTE.item()
    read = parse_tpm_item(ITEM)
    assert read.attest.encoded == QUOTE.attest
    assert len(read.certificates) == 2
    with pytest.raises(UsageError, match="cannot be encoded"):
        encode_tpm_item(*parts, b"no chain", QUOTE.pcrs)
    with pytest.raises(UsageError, match="cannot be encoded"):
        encode_tpm_item(b"", *parts[1:], None, QUOTE.pcrs)


@pytest.mark.parametrize(
    "changes",
    [
        {"attest": None},
        {"attest": "text"},
        {"signature": 7},
        {"public": []},
        {"chain": "text"},
        {"chain": b""},
        {"pcrs": None},
        {"pcrs": []},
        {"pcrs": {"sha256": [bytes(32)]}},
        {"pcrs": {"md5": {0: bytes(16)}}},
        {"more": 1},
    ],
)
def test_a_tpm_item_of_another_form_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(EvidenceError):
        parse_tpm_item(encode({**cbor2.loads(ITEM), **changes}))


def test_a_tpm_item_lacks_nothing() -> None:
    for name in cbor2.loads(ITEM):
        with pytest.raises(EvidenceError, match="malformed"):
            parse_tpm_item(encode({k: v for k, v in cbor2.loads(ITEM).items() if k != name}))


@given(st.binary(max_size=200))
def test_whatever_comes_is_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_tpm_item(data)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=5))
def test_a_damaged_tpm_item_parses_or_is_refused(edits: list[tuple[int, int]]) -> None:
    damaged = bytearray(ITEM)
    for at, value in edits:
        damaged[at % len(damaged)] = value
    try:
        read = parse_tpm_item(bytes(damaged))
    except EvidenceError:
        return
    again = encode_tpm_item(
        read.attest.encoded, read.signature.encoded, read.public.encoded, read.chain, read.pcrs
    )
    assert again == bytes(damaged)
