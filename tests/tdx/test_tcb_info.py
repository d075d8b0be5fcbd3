"""TCB info and TD QE identity: every member read, checked, and none overlooked."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccverify.errors import CollateralError
from ccverify.sim import SimPlatform
from ccverify.tdx.tcb_info import TcbStatus, parse_qe_identity, parse_tcb_info

CASE = SimPlatform().case()
INFO = CASE.tcb_info.members()
IDENTITY = CASE.qe_identity.members()
INFO_TEXT = CASE.collateral().tcb_info.text.encode()
IDENTITY_TEXT = CASE.collateral().qe_identity.text.encode()

Json = dict[str, Any]
Path_ = tuple[str | int, ...]


def _encoded(document: Json) -> bytes:
    return json.dumps(document).encode()


def _with(document: Json, path: Path_, value: Any) -> Json:
    changed = deepcopy(document)
    target: Any = changed
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    return changed


def _without(document: Json, path: Path_) -> Json:
    changed = deepcopy(document)
    target: Any = changed
    for step in path[:-1]:
        target = target[step]
    del target[path[-1]]
    return changed


def test_tcb_info_is_read() -> None:
    info = parse_tcb_info(INFO_TEXT)
    assert (info.id, info.version, info.tcb_type) == ("TDX", 3, 0)
    assert (info.fmspc, info.pceid) == (CASE.tcb_info.fmspc, CASE.tcb_info.pce_id)
    assert info.issue_date == CASE.tcb_info.issue_date
    assert info.next_update == CASE.tcb_info.next_update
    assert info.evaluation_number == CASE.tcb_info.tcb_evaluation_data_number
    assert info.unknown_fields == ()
    assert (info.tdx_module.id, info.tdx_module.tcb_levels) == ("", ())
    assert [module.id for module in info.tdx_module_identities] == ["TDX_03", "TDX_01"]
    assert [level.isvsvn for level in info.tdx_module_identities[1].tcb_levels] == [6, 4, 2]
    best = info.tcb_levels[0]
    assert best.status is TcbStatus.UP_TO_DATE
    assert best.sgx_components == (9, 9, 2, 2, 4, 1, 0, 5) + (0,) * 8
    assert best.tdx_components == (5, 0, 9) + (0,) * 13
    assert (best.pcesvn, best.tcb_date) == (13, datetime(2025, 11, 12, tzinfo=UTC))
    assert best.sgx_labels[:4] == (
        "BIOS: Early Microcode Update",
        "OS/VMM: SGX Late Microcode Update",
        "OS/VMM: TXT SINIT",
        "BIOS",
    )
    assert best.sgx_labels[6] == ""
    assert info.tcb_levels[1].advisory_ids == ("INTEL-SA-99008",)


def test_qe_identity_is_read() -> None:
    identity = parse_qe_identity(IDENTITY_TEXT)
    assert (identity.id, identity.version, identity.isvprodid) == ("TD_QE", 2, 2)
    assert (identity.miscselect, identity.miscselect_mask) == (0, 0xFFFFFFFF)
    assert identity.attributes == CASE.qe_identity.attributes
    assert identity.attributes_mask == CASE.qe_identity.attributes_mask
    assert identity.mrsigner == CASE.qe_identity.mrsigner
    assert [level.isvsvn for level in identity.tcb_levels] == [6, 4]
    assert identity.unknown_fields == ()


def test_version_3_of_the_qe_identity_is_read() -> None:
    assert parse_qe_identity(_encoded({**IDENTITY, "version": 3})).version == 3


def test_real_documents_are_understood_in_full(vectors: Path) -> None:
    read = 0
    for path in sorted((vectors / "tdx" / "collateral").glob("**/*.json")):
        document = json.loads(path.read_text())
        if not isinstance(document, dict) or "_sgx_" in path.name:
            continue
        if "qe_identity" in document:
            assert parse_tcb_info(document["tcb_info"].encode()).unknown_fields == ()
            assert parse_qe_identity(document["qe_identity"].encode()).unknown_fields == ()
            read += 1
        elif document.get("tcbInfo", {}).get("id") == "TDX":
            assert parse_tcb_info(_encoded(document["tcbInfo"])).unknown_fields == ()
            read += 1
        elif document.get("enclaveIdentity", {}).get("id") == "TD_QE":
            assert parse_qe_identity(_encoded(document["enclaveIdentity"])).unknown_fields == ()
            read += 1
    assert read >= 20


# --- order ----------------------------------------------------------------------------------


def test_levels_are_walked_from_the_highest_down_whatever_was_served() -> None:
    upside_down = deepcopy(INFO)
    upside_down["tcbLevels"].reverse()
    for module in upside_down["tdxModuleIdentities"]:
        module["tcbLevels"].reverse()
    served, sorted_ = parse_tcb_info(_encoded(upside_down)), parse_tcb_info(INFO_TEXT)
    assert served == sorted_
    identity = {**IDENTITY, "tcbLevels": IDENTITY["tcbLevels"][::-1]}
    assert parse_qe_identity(_encoded(identity)) == parse_qe_identity(IDENTITY_TEXT)


def test_order_is_by_components_then_pcesvn_then_tdx_components() -> None:
    """Intel's library: `TcbLevel::operator>`."""
    level = INFO["tcbLevels"][0]
    lower_pce = _with(level, ("tcb", "pcesvn"), 12)
    lower_tdx = _with(level, ("tcb", "tdxtcbcomponents", 2, "svn"), 8)
    lower_sgx = _with(level, ("tcb", "sgxtcbcomponents", 15, "svn"), 0)
    higher_sgx = _with(level, ("tcb", "sgxtcbcomponents", 15, "svn"), 1)
    served = [lower_pce, lower_tdx, lower_sgx, higher_sgx]
    info = parse_tcb_info(_encoded({**INFO, "tcbLevels": served}))
    keys = [(lv.sgx_components[15], lv.pcesvn, lv.tdx_components[2]) for lv in info.tcb_levels]
    assert keys == [(1, 13, 9), (0, 13, 9), (0, 13, 8), (0, 12, 9)]


# --- members ----------------------------------------------------------------------------------

_LEVEL: Path_ = ("tcbLevels", 0)
_MODULE: Path_ = ("tdxModuleIdentities", 1)
REQUIRED_OF_INFO: tuple[Path_, ...] = (
    *((name,) for name in INFO if name != "tdxModuleIdentities"),
    (*_LEVEL, "tcb"),
    (*_LEVEL, "tcbDate"),
    (*_LEVEL, "tcbStatus"),
    (*_LEVEL, "tcb", "pcesvn"),
    (*_LEVEL, "tcb", "sgxtcbcomponents"),
    (*_LEVEL, "tcb", "tdxtcbcomponents"),
    (*_LEVEL, "tcb", "sgxtcbcomponents", 3, "svn"),
    (*_MODULE, "id"),
    (*_MODULE, "mrsigner"),
    (*_MODULE, "attributes"),
    (*_MODULE, "attributesMask"),
    (*_MODULE, "tcbLevels"),
    (*_MODULE, "tcbLevels", 0, "tcb"),
    (*_MODULE, "tcbLevels", 0, "tcb", "isvsvn"),
    (*_MODULE, "tcbLevels", 0, "tcbStatus"),
    ("tdxModule", "mrsigner"),
    ("tdxModule", "attributes"),
    ("tdxModule", "attributesMask"),
)
REQUIRED_OF_IDENTITY: tuple[Path_, ...] = (
    *((name,) for name in IDENTITY),
    (*_LEVEL, "tcb"),
    (*_LEVEL, "tcb", "isvsvn"),
    (*_LEVEL, "tcbDate"),
    (*_LEVEL, "tcbStatus"),
)


def _name(path: object) -> str:
    return ".".join(map(str, path)) if isinstance(path, tuple) else repr(path)


@pytest.mark.parametrize("path", REQUIRED_OF_INFO, ids=_name)
def test_tcb_info_needs(path: Path_) -> None:
    with pytest.raises(CollateralError):
        parse_tcb_info(_encoded(_without(INFO, path)))


@pytest.mark.parametrize("path", REQUIRED_OF_IDENTITY, ids=_name)
def test_qe_identity_needs(path: Path_) -> None:
    with pytest.raises(CollateralError):
        parse_qe_identity(_encoded(_without(IDENTITY, path)))


def test_what_intel_leaves_out_may_be_absent() -> None:
    """Module identities before TDX 1.5; advisories where there are none; names of components."""
    info = parse_tcb_info(_encoded(_without(INFO, ("tdxModuleIdentities",))))
    assert info.tdx_module_identities == ()
    assert parse_tcb_info(INFO_TEXT).tcb_levels[0].advisory_ids == ()
    assert parse_tcb_info(INFO_TEXT).tcb_levels[0].sgx_labels[15] == ""


OBJECTS: tuple[Path_, ...] = (
    (),
    _LEVEL,
    (*_LEVEL, "tcb"),
    (*_LEVEL, "tcb", "sgxtcbcomponents", 0),
    (*_LEVEL, "tcb", "tdxtcbcomponents", 15),
    ("tdxModule",),
    _MODULE,
    (*_MODULE, "tcbLevels", 0),
    (*_MODULE, "tcbLevels", 0, "tcb"),
)


@pytest.mark.parametrize("path", OBJECTS, ids=_name)
def test_an_unknown_member_is_named_wherever_it_stands(path: Path_) -> None:
    (name,) = parse_tcb_info(_encoded(_with(INFO, (*path, "novel"), {}))).unknown_fields
    assert name.startswith("tcbInfo")
    assert name.endswith(".novel")
    # Which of the 16 components it is, is not said.
    steps = path[:-1] if "components" in str(path[-2:-1]) else path
    assert all(str(step) in name for step in steps)


def test_an_unknown_member_of_the_qe_identity_is_named() -> None:
    for path in ((), _LEVEL, (*_LEVEL, "tcb")):
        (name,) = parse_qe_identity(_encoded(_with(IDENTITY, (*path, "novel"), 1))).unknown_fields
        assert name.endswith(".novel")


WRONG_VALUES: tuple[tuple[Path_, tuple[Any, ...]], ...] = (
    (("id",), ("SGX", "QE", "tdx", "", 1, None)),
    (("version",), (2, 4, "3", 3.0, True, None, -1, 1 << 70)),
    (("issueDate",), ("", "2026-06-15", "2026-06-15T12:00:00", "2026-06-15T12:00:00+00:00",
                      "2026-06-15T12:00:00.000Z", "2026-02-30T00:00:00Z", "2026-06-15t12:00:00z",
                      "2026-06-15T24:00:00Z", "２０２６-06-15T12:00:00Z", 0, None)),
    (("fmspc",), ("", "53494D0000", "53494D00000000", "53494D00000Z", "53 494D000000", 5, None)),
    (("pceId",), ("00", "000000", [0, 0])),
    (("tcbType",), (1, -1, 256, "0", None)),
    (("tcbEvaluationDataNumber",), (-1, 1 << 32, "20", 20.0, False, None)),
    (("tdxModule",), (None, [], "x")),
    (("tdxModule", "mrsigner"), ("00" * 47, "00" * 49)),
    (("tdxModuleIdentities",), (None, {}, [None], [1], [{}] * 257)),
    ((*_MODULE, "id"), (1, None, "x" * 513)),
    ((*_MODULE, "tcbLevels", 0, "tcb", "isvsvn"), (-1, 65536, "6", 6.0)),
    ((*_MODULE, "tcbLevels", 0, "tcbStatus"), ("SWHardeningNeeded", "ConfigurationNeeded", "x")),
    (("tcbLevels",), (None, {}, [None], [{}])),
    ((*_LEVEL, "tcbStatus"), ("TDRelaunchAdvised", "NotSupported", "uptodate", "", None, 1, [])),
    ((*_LEVEL, "tcbDate"), ("yesterday", None)),
    ((*_LEVEL, "advisoryIDs"), ("INTEL-SA-00001", [1], [None], {}, ["x" * 513], ["x"] * 257, None)),
    ((*_LEVEL, "tcb", "pcesvn"), (-1, 65536, None)),
    ((*_LEVEL, "tcb", "sgxtcbcomponents"), (None, [], [{"svn": 1}] * 15, [{"svn": 1}] * 17, {})),
    ((*_LEVEL, "tcb", "tdxtcbcomponents"), (None, [], [{"svn": 1}] * 15, [{"svn": 1}] * 17)),
    ((*_LEVEL, "tcb", "sgxtcbcomponents", 0), (None, 1, [], {})),
    ((*_LEVEL, "tcb", "sgxtcbcomponents", 0, "svn"), (-1, 256, "1", 1.0, True, None)),
    ((*_LEVEL, "tcb", "sgxtcbcomponents", 0, "category"), (1, None, [])),
    ((*_LEVEL, "tcb", "sgxtcbcomponents", 0, "type"), (1, {})),
)  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value"),
    [(path, value) for path, values in WRONG_VALUES for value in values],
    ids=lambda item: _name(item)[:60],
)
def test_wrong_values_are_refused(path: Path_, value: Any) -> None:
    with pytest.raises(CollateralError):
        parse_tcb_info(_encoded(_with(INFO, path, value)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("id",), "QE"),
        (("id",), "TD_QE "),
        (("version",), 1),
        (("version",), 4),
        (("miscselect",), "000000"),
        (("miscselectMask",), "0000000000"),
        (("attributes",), "00" * 15),
        (("attributesMask",), "00" * 17),
        (("mrsigner",), "00" * 48),
        (("isvprodid",), 65536),
        ((*_LEVEL, "tcbStatus"), "ConfigurationNeeded"),
    ],
    ids=_name,
)
def test_wrong_values_of_the_qe_identity_are_refused(path: Path_, value: Any) -> None:
    with pytest.raises(CollateralError):
        parse_qe_identity(_encoded(_with(IDENTITY, path, value)))


def test_a_module_identity_may_not_appear_twice() -> None:
    modules = INFO["tdxModuleIdentities"]
    twice = [*modules, {**modules[0], "id": modules[0]["id"].lower()}]
    with pytest.raises(CollateralError, match="appears twice"):
        parse_tcb_info(_encoded({**INFO, "tdxModuleIdentities": twice}))


@pytest.mark.parametrize("parse", [parse_tcb_info, parse_qe_identity])
@pytest.mark.parametrize("text", [b"", b"null", b"[]", b"1", b'"x"', b"{}", b"{", b"\xff"])
def test_what_is_no_object_is_refused(parse: Callable[[bytes], object], text: bytes) -> None:
    with pytest.raises(CollateralError):
        parse(text)


def test_miscselect_is_written_most_significant_byte_first() -> None:
    case = replace(CASE, qe_identity=replace(CASE.qe_identity, miscselect=b"\1\2\3\4"))
    text = case.collateral().qe_identity.text.encode()
    assert parse_qe_identity(text).miscselect == 0x01020304


# --- hostile text -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parse", "text", "step"),
    [(parse_tcb_info, INFO_TEXT, 5), (parse_qe_identity, IDENTITY_TEXT, 1)],
)
def test_no_prefix_is_read(parse: Callable[[bytes], object], text: bytes, step: int) -> None:
    for size in range(0, len(text), step):
        with pytest.raises(CollateralError):
            parse(text[:size])


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=8,
)


@st.composite
def _mutated(draw: st.DrawFn, document: Json) -> Json:
    """Replace, remove or add something anywhere in the document."""
    changed = deepcopy(document)
    target: Any = changed
    for _ in range(draw(st.integers(0, 4))):
        steps = list(target) if isinstance(target, dict) else range(len(target))
        inner = [step for step in steps if isinstance(target[step], dict | list) and target[step]]
        if not inner:
            break
        target = target[draw(st.sampled_from(inner))]
    step = draw(st.sampled_from(list(target) if isinstance(target, dict) else range(len(target))))
    if draw(st.booleans()):
        target[step] = draw(_JSON)
    elif isinstance(target, dict) and draw(st.booleans()):
        target[draw(st.text(max_size=10))] = draw(_JSON)
    else:
        del target[step]
    return changed


@given(_mutated(INFO), _mutated(IDENTITY))
@settings(deadline=None, max_examples=200)
def test_mutations_end_in_a_document_or_the_declared_error(info: Json, identity: Json) -> None:
    for parse, document in ((parse_tcb_info, info), (parse_qe_identity, identity)):
        try:
            parse(json.dumps(document).encode("utf-8", "replace"))  # type: ignore[operator]
        except CollateralError:
            continue


@given(st.integers(0, len(INFO_TEXT) - 1), st.integers(0, 7))
@settings(deadline=None, max_examples=300)
def test_a_flipped_bit_changes_what_is_read(position: int, bit: int) -> None:
    text = bytearray(INFO_TEXT)
    text[position] ^= 1 << bit
    try:
        info = parse_tcb_info(bytes(text))
    except CollateralError:
        return
    # Only the case of a hex digit does not matter.
    same = bytes(text).lower() == INFO_TEXT.lower()
    assert same or info != parse_tcb_info(INFO_TEXT)
