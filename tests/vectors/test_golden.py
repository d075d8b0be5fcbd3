"""Every real quote of the corpus, judged with every collateral set stated for it.

The rows are those of golden.json and of PROVENANCE.md sections 2 and 3.  What a row states in
the words of dcap-qvl or of Intel's TCB rule is turned into our own words by the tables below;
each entry of a table that is not a plain translation says why we answer otherwise.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from vectors.judging import (
    ABSENT,
    TDX_VECTORS,
    failed,
    finding_of,
    judge_real,
    policy,
    real_pack,
)

from ccverify import CollateralError, EvidenceError, State, parse_quote
from ccverify.findings import Assurance
from ccverify.tdx.attributes import attribute_names

UNSUPPORTED = frozenset({"TDX-TCB-LEVEL", "TDX-TCB-STATUS"})
FORMAT = frozenset({"TDX-QUOTE-FORMAT"})
NO_COLLATERAL_TIME = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Row:
    """One statement: this quote, this collateral, this time → status, advisories, failures."""

    name: str
    quote: str
    collateral: str | None
    at: datetime
    status: str | None
    advisories: frozenset[str]
    failed: frozenset[str]


@dataclass(frozen=True)
class Translation:
    """How a refusal of dcap-qvl appears here: the TCB status is computed all the same."""

    message: str
    failed: frozenset[str]
    reason: str


TRANSLATIONS = (
    Translation(
        "No matching TCB level found",
        UNSUPPORTED,
        "the same answer; the status is NotSupported and the shortfalls are named",
    ),
    Translation(
        "CertNotValidYet",
        frozenset({"TDX-PCK-VALIDITY"}),
        "the same answer: the PCK certificate is younger than the collateral's window",
    ),
    Translation(
        "Signature is invalid for qe_report",
        frozenset(),
        "the bundle near_b0c06f_2026-08.json carries the PCK chain of one machine; dcap-qvl "
        "puts it in the place of the quote's own chain, here the quote's own chain wins",
    ),
    Translation(
        "Debug mode is enabled",
        frozenset({"TDX-ATTR-DEBUG"}),
        "DEBUG is a matter of policy: refused unless the policy allows it by name",
    ),
    Translation(
        "SEPT_VE_DISABLE is not enabled",
        frozenset({"TDX-ATTR-SEPT-VE-DISABLE"}),
        "a matter of policy, so that Azure's TDs, which never set it, can be judged at all",
    ),
    Translation(
        "Invalid MR service TD",
        frozenset({"TDX-SERVICE-TD"}),
        "a matter of policy: service TDs can be listed in tdx.service_td",
    ),
)

# What the default policy refuses besides, in quotes that dcap-qvl refuses for another reason
# first, or accepts.
ALSO_FAILED: dict[str, frozenset[str]] = {
    "quotes/entropy_v4_quote.bin": frozenset({"TDX-ATTR-PERFMON"}),
    "quotes/oe_00806f_v5_migtd.bin": frozenset({"TDX-ATTR-MIGRATABLE"}),
    "quotes/trustee_quote_5.bin": frozenset({"TDX-SERVICE-TD"}),
}

# Refused before anything is verified.
MALFORMED: dict[str, str] = {
    "quotes/google_50806f_v4_spr_e4.bin": "a non-zero tail, which nobody signs, is refused",
    "quotes/sgx_v3_00a067.bin": "an SGX quote: refused by name, it is another TEE",
    "quotes/trustee_occlum_sgx_v3.bin": "an SGX quote: refused by name, it is another TEE",
}

# Quotes for whose platform the corpus has no collateral.
WITHOUT_COLLATERAL: dict[str, frozenset[str]] = {
    # Intel's sample has no readable chain and an all-zero body.
    "intel_sample/quote.dat": frozenset({"TDX-PCK-CHAIN", "TDX-ATTR-SEPT-VE-DISABLE", "TDX-XFAM"}),
    # A pre-production platform: another root certificate.
    "quotes/ccapi_10806f_v4.bin": frozenset({"TDX-PCK-CHAIN"}),
    # Nothing is wrong with it; what needs collateral is not checked.
    "quotes/trustee_quote_6.bin": frozenset(),
}

B0C06F_17 = ("collateral/phala_b0c06f_2025-06.json", datetime.fromtimestamp(1751624191, UTC))
F90C06F_18 = ("collateral/phala_90c06f_2026-02.json", datetime.fromtimestamp(1772707803, UTC))
B0C06F_20 = (
    "collateral/assembled/near_b0c06f_2026-08_nopck.json",
    datetime.fromtimestamp(1787894484, UTC),
)
SET_20_ADVISORIES = frozenset(
    {"INTEL-SA-01192", "INTEL-SA-01245", "INTEL-SA-01312", "INTEL-SA-01313"}
)

# PROVENANCE section 2, last paragraph: one quote, two sets, two statuses.
SET_20: dict[str, str] = {
    "quotes/phala_b0c06f_v4.bin": "OutOfDate",
    "quotes/lunal_b0c06f_v4_live.bin": "OutOfDate",
    "quotes/captured/nearcloud_20260629_dbd3b82f.bin": "OutOfDate",
    "quotes/captured/chutes_20260610_55585ea6.bin": "UpToDate",
    "quotes/captured/chutes_20260629_5787b99f.bin": "UpToDate",
    "quotes/captured/near_quote.bin": "UpToDate",
}

# PROVENANCE section 3, derived negatives: the first check that fails.
DERIVED: dict[str, frozenset[str]] = {
    "v4_flip_reportdata": frozenset({"TDX-QUOTE-SIGNATURE"}),
    "v4_flip_rtmr3": frozenset({"TDX-QUOTE-SIGNATURE"}),
    "v4_set_debug": frozenset({"TDX-QUOTE-SIGNATURE", "TDX-ATTR-DEBUG"}),
    "v4_flip_attkey": frozenset({"TDX-QE-KEY-BINDING", "TDX-QUOTE-SIGNATURE"}),
    "v4_flip_qe_report": frozenset({"TDX-QE-REPORT-SIGNATURE"}),
    "v4_flip_qe_sig": frozenset({"TDX-QE-REPORT-SIGNATURE"}),
    "v4_version3": FORMAT,
    "v4_akt3": FORMAT,
    "v4_tee_sgx": FORMAT,
    "v4_cert_type_5_outer": FORMAT,  # dcap-qvl accepts it
    "v4_siglen_huge": FORMAT,
    "v4_authlen_huge": FORMAT,
    "v4_truncated_sig": FORMAT,
    "v4_trailing_garbage": FORMAT,  # dcap-qvl accepts it
    "v5_bodytype2": FORMAT,
    "v5_bodytype9": FORMAT,
    "v5_size_584": FORMAT,
    "v5_flip_svn2": frozenset({"TDX-QUOTE-SIGNATURE"}),
}

# Rows of section 3 that are no TDX quotes; other test modules read them, or nobody does.
ELSEWHERE = {
    "sev-snp/trustee_test-vcek-invalid-{legacy,new}.der": "AMD SEV-SNP is not judged here",
    "eventlogs/goeventlog_cos113_dupe_separator_unpadded.bin": "see tests/tdx/test_ccel.py",
}


def _advisories(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"INTEL-[A-Z]+-\d+", text))


def _golden(row: dict[str, Any]) -> Row:
    quote, collateral, stated = row["quote"], row["collateral"], row["dcap_qvl_0_7_0"]
    at = datetime.fromisoformat(row["at"]) if row["at"] else NO_COLLATERAL_TIME
    name = f"{quote}+{collateral or 'nothing'}"
    if quote in MALFORMED:
        return Row(name, quote, collateral, at, None, frozenset(), FORMAT)
    if collateral is None:
        return Row(name, quote, None, at, None, frozenset(), WITHOUT_COLLATERAL[quote])
    rule = next((t for t in TRANSLATIONS if t.message in stated), None)
    if rule is None:
        assert not stated.startswith("ERR"), stated
        status, advisories = stated.split(" ")[0], _advisories(stated)
        failures: frozenset[str] = frozenset()
    else:
        # Intel's rule as recomputed by the corpus: signatures and attributes play no part.
        status, failures = row["intel_rule"].split(" ")[0], rule.failed
        advisories = _advisories(row["intel_rule"])
    if status.startswith("NOT_SUPPORTED"):
        status, advisories, failures = "NotSupported", frozenset(), failures | UNSUPPORTED
    if status != "UpToDate":
        failures |= {"TDX-TCB-STATUS"}
    failures |= ALSO_FAILED.get(quote, frozenset())
    return Row(name, quote, collateral, at, status, advisories, failures)


def _rows() -> list[Row]:
    if not TDX_VECTORS.is_dir():
        return []
    rows = [_golden(row) for row in json.loads((TDX_VECTORS / "golden.json").read_text())]
    for quote, status in SET_20.items():
        advisories = SET_20_ADVISORIES if status == "OutOfDate" else frozenset()
        fails = frozenset({"TDX-TCB-STATUS"}) if status == "OutOfDate" else frozenset()
        rows.append(Row(f"{quote}+set 20", quote, *B0C06F_20, status, advisories, fails))
    for name, codes in DERIVED.items():
        collateral, at = B0C06F_17 if name.startswith("v4") else F90C06F_18
        status = None if codes == FORMAT else "UpToDate"
        quote = f"quotes/derived/{name}.bin"
        rows.append(Row(name, quote, collateral, at, status, frozenset(), codes))
    return rows


ROWS = _rows()


@pytest.mark.skipif(not ROWS, reason=ABSENT)
@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_row(row: Row) -> None:
    if not (TDX_VECTORS / row.quote).exists():
        pytest.skip(f"{row.quote} is not in the corpus")
    data = (TDX_VECTORS / row.quote).read_bytes()
    collateral = row.collateral
    if collateral is not None and "_sgx_" in collateral:
        with pytest.raises(CollateralError, match="not for TDX"):
            real_pack(collateral)
        collateral = None
    verdict = judge_real(data, collateral, row.at)
    assert failed(verdict) == row.failed
    assert verdict.trusted == (not row.failed and row.collateral is not None)
    if row.failed == FORMAT:
        assert (verdict.exit_code, verdict.tdx) == (2, None)
        with pytest.raises(EvidenceError):
            parse_quote(data)
        return
    assert verdict.tdx is not None
    values = verdict.tdx.values
    assert (values["tcb_status"], frozenset(values["advisory_ids"])) == (row.status, row.advisories)
    assert len(values["advisory_ids"]) == len(row.advisories)
    forged = any(finding_of(verdict, code).state is State.FAIL for code in _AUTHENTICITY)
    if row.collateral is not None:
        level = Assurance.NONE if forged else Assurance.HARDWARE
        assert set(verdict.tdx.assurance.values()) == {level}


_AUTHENTICITY = (
    "TDX-PCK-CHAIN",
    "TDX-QE-REPORT-SIGNATURE",
    "TDX-QE-KEY-BINDING",
    "TDX-QUOTE-SIGNATURE",
)

# PROVENANCE section 3: TD attributes and measurements these quotes are listed for.
STATED = {
    "trustee_quote_4": ("0x10000001", ("debug", "sept_ve_disable")),
    "trustee_az_tdx_quote": ("0x0", ()),
    "oe_50806f_v4": ("0x0", ()),
    "google_50806f_v4_spr_e4": ("0x40000000", ("pks",)),
    "oe_00806f_v5_migtd": ("0x30000000", ("sept_ve_disable", "migratable")),
    "entropy_v4_quote": ("0x8000000010000000", ("sept_ve_disable", "perfmon")),
}


@pytest.mark.parametrize("name", STATED)
def test_stated_attributes(name: str, vectors: Any) -> None:
    value, names = STATED[name]
    data = (vectors / "tdx" / "quotes" / f"{name}.bin").read_bytes()
    attributes = int.from_bytes(parse_quote(_without_tail(data)).report.tdattributes, "little")
    assert hex(attributes) == value
    assert attribute_names(attributes) == names


def _without_tail(data: bytes) -> bytes:
    """Cut off what Google's test quote carries behind its end."""
    return data.partition(b"\nextra b")[0]


def test_google_quote_without_its_tail_is_genuine_and_unsupported(vectors: Any) -> None:
    data = (vectors / "tdx" / "quotes" / "google_50806f_v4_spr_e4.bin").read_bytes()
    at = datetime(2026, 3, 31, tzinfo=UTC)
    verdict = judge_real(_without_tail(data), "collateral/assembled/lunal_50806f_2026-03.json", at)
    assert failed(verdict) == UNSUPPORTED | {"TDX-ATTR-SEPT-VE-DISABLE"}
    assert verdict.tdx is not None
    assert verdict.tdx.values["tcb_status"] == "NotSupported"


def test_debug_quote_passes_when_the_policy_allows_debug(vectors: Any) -> None:
    """PROVENANCE: UpToDate under the 2023-06 set; must fail on policy only."""
    data = (vectors / "tdx" / "quotes" / "trustee_quote_4.bin").read_bytes()
    pack, at = "collateral/assembled/google_50806f_2023-06.json", datetime(2023, 7, 1, tzinfo=UTC)
    assert failed(judge_real(data, pack, at)) == {"TDX-ATTR-DEBUG"}
    assert judge_real(data, pack, at, policy(attributes={"debug": "allow"})).trusted


def test_azure_quote_passes_when_the_policy_allows_it(vectors: Any) -> None:
    data = (vectors / "tdx" / "quotes" / "oe_50806f_v4.bin").read_bytes()
    pack, at = "collateral/assembled/google_50806f_2023-06.json", datetime(2023, 7, 1, tzinfo=UTC)
    assert not judge_real(data, pack, at).trusted
    assert judge_real(data, pack, at, policy(attributes={"sept_ve_disable": "allow"})).trusted


def test_service_td_passes_when_listed(vectors: Any) -> None:
    data = (vectors / "tdx" / "quotes" / "oe_00806f_v5_migtd.bin").read_bytes()
    service_td = parse_quote(data).report.mrservicetd
    assert service_td is not None
    pack = "collateral/assembled/automata_00806f_2025-02.json"
    rules = policy(
        service_td=[service_td.hex()],
        attributes={"migratable": "allow"},
        tcb={"accepted_statuses": ["OutOfDate"]},
    )
    assert judge_real(data, pack, datetime(2025, 2, 28, tzinfo=UTC), rules).trusted


def test_near_bundle_never_replaces_the_chain_in_the_quote(vectors: Any) -> None:
    """The pack holds another machine's chain; the quote's own chain is the one reported."""
    data = (vectors / "tdx" / "quotes" / "phala_b0c06f_v4.bin").read_bytes()
    pack = "collateral/near_b0c06f_2026-08.json"
    assert real_pack(pack).pck_chains
    verdict = judge_real(data, pack, B0C06F_20[1])
    assert finding_of(verdict, "TDX-PCK-CHAIN").found == "chain in the quote"
    assert failed(verdict) == {"TDX-TCB-STATUS"}


def test_one_quote_two_sets_two_statuses(vectors: Any) -> None:
    data = (vectors / "tdx" / "quotes" / "phala_b0c06f_v4.bin").read_bytes()
    assert judge_real(data, *B0C06F_17).trusted
    verdict = judge_real(data, *B0C06F_20)
    assert failed(verdict) == {"TDX-TCB-STATUS"}
    assert verdict.tdx is not None
    assert verdict.tdx.values["tcb_shortfalls"]


def test_every_row_of_the_provenance_is_covered(vectors: Any) -> None:
    text = (vectors / "tdx" / "PROVENANCE.md").read_text()
    golden, negatives = text.split("\n## 2. ")[1].split("\n## 4. ")[0].split("\n## 3. ")
    covered = {(row.quote, row.collateral) for row in ROWS}
    by_set = {quote: {c for q, c in covered if q == quote} for quote, _ in covered}
    for quote, name in re.findall(r"^\| `([^`]+)` \| ([^|]+?) \|", golden, re.M):
        sets = {str(c).rpartition("/")[2].removesuffix(".json") for c in by_set[quote]}
        assert name.replace("-", "", 1) == "" or name in sets, (quote, name)
    derived = set(re.findall(r"^\| quotes/derived/(\w+)\.bin \|", negatives, re.M))
    assert derived == set(DERIVED)
    first_cells = r"^\| ((?:quotes|intel_sample|sev-snp|eventlogs)/[^|]+) \|"
    listed = re.findall(first_cells, negatives, re.M)
    known = {quote.rpartition("/")[2] for quote, _ in covered}
    for cell in listed:
        if cell.strip() in ELSEWHERE or cell.startswith("quotes/derived/"):
            continue
        for name in re.findall(r"[\w./-]+\.(?:bin|dat)", cell):
            assert name.rpartition("/")[2] in known, cell
