"""Good cases: every honest form of quote, certification data and collateral."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from ccverify.sim.cases.model import (
    NONCE,
    Expected,
    FixtureCase,
    Make,
    case,
    chain_entry,
    defect,
    full_pack,
    honest,
    pack,
    pack_entries,
    policy,
    trusted,
    with_collateral,
)
from ccverify.sim.defaults import DEFAULT_TIME, tee_tcb_svn
from ccverify.sim.platform import SimCase, SimEvidence, SimPlatform

__all__ = ["GOOD_CASES"]

_DAY = timedelta(days=1)
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_PROCESSOR = SimPlatform(ca="processor", label="single-package")


def _answering(nonce: bytes) -> SimCase:
    return honest(report_data=nonce.ljust(64, b"\0"))


def _chain_beside(inner_type: int) -> SimEvidence:
    """Serve the PCK chain in the collateral, for a quote that names only a PPID."""
    own = honest(inner_type=inner_type)
    return with_collateral(own.build(), pck_certificate_chain=own.pck_chain())


def _chain_in_pack(evidence: SimEvidence) -> str | None:
    """Put a neighbour's chain before the right one: the key that signed must be found."""
    neighbour = SimPlatform(label="machine-2").case().pck_chain()
    own = honest().pck_chain()
    return full_pack(chain_entry(neighbour), chain_entry(own))(evidence)


def _high_s() -> SimEvidence:
    """Replace s by n - s: the other valid form of the same ECDSA signature."""
    own = honest().build()
    signature = own.quote.part("signature")
    s = _P256_ORDER - int.from_bytes(signature[32:], "big")
    other = own.quote.overwrite("signature", signature[:32] + s.to_bytes(32, "big"))
    return replace(own, quote=other)


def _with_tcb_info(own: SimCase, **changes: Any) -> SimCase:
    return replace(own, tcb_info=replace(own.tcb_info, **changes))


def _lower_case_id() -> SimCase:
    svn = tee_tcb_svn(9, module_svn=5, module_major=3)
    own = honest(SimPlatform(tee_tcb_svn=svn))
    identities = own.tcb_info.module_identities or ()
    lower = tuple(replace(module, id=(module.id or "").lower()) for module in identities)
    return _with_tcb_info(own, module_identities=lower)


def _legacy_module() -> SimCase:
    svn = tee_tcb_svn(9, module_svn=5, module_major=0)
    return honest(SimPlatform(tee_tcb_svn=svn))


def _advisory_on_up_to_date() -> SimCase:
    own = honest()
    first, *others = own.tcb_info.levels
    return _with_tcb_info(own, levels=(replace(first, advisory_ids=("INTEL-SA-99009",)), *others))


def _qe_identity_version_3() -> SimCase:
    own = honest()
    return replace(own, qe_identity=replace(own.qe_identity, version=3))


def _editions(evidence: SimEvidence) -> str | None:
    """Return two editions of everything, another platform's TCB info, another CA's CRL."""
    own = honest()
    older = replace(
        own,
        tcb_info=replace(
            own.tcb_info,
            tcb_evaluation_data_number=19,
            issue_date=own.at - 20 * _DAY,
            next_update=own.at + 10 * _DAY,
        ),
        pck_crl=replace(own.pck_crl, this_update=own.at - 20 * _DAY),
    )
    newer = replace(own, pck_crl=own.pck_crl.with_number(2))
    kinder = SimPlatform(fmspc=b"OTHER\0").case().collateral()
    other_ca = _PROCESSOR.case().collateral()
    return pack(
        [
            *pack_entries(older.collateral()).values(),
            pack_entries(kinder)["tcb-info"],
            pack_entries(other_ca)["pck-crl"],
            *pack_entries(newer.collateral()).values(),
        ]
    )


def _future_edition(evidence: SimEvidence) -> str | None:
    """Add an edition that Intel will publish only after the evaluation time."""
    own = honest()
    later = _with_tcb_info(
        own,
        tcb_evaluation_data_number=21,
        issue_date=own.at + _DAY,
        next_update=own.at + 31 * _DAY,
    )
    return full_pack(pack_entries(later.collateral())["tcb-info"])(evidence)


def _good(
    name: str,
    description: str,
    make: Make,
    covers: str,
    *,
    expected: Expected | None = None,
    **options: Any,
) -> FixtureCase:
    outcome = expected or trusted()
    return case(f"good-{name}", description, make, outcome, covers=covers, **options)


GOOD_CASES: tuple[FixtureCase, ...] = (
    _good(
        "v4",
        "An ordinary version 4 quote of an up-to-date platform answers the nonce.",
        lambda: _answering(NONCE),
        "1 2 3 4 6 7 8 9 10 11 12 13 14 15 16 18 A2 A4",
        nonce=NONCE,
        expected=trusted(tcb_status="UpToDate", tcb_date="2025-11-12T00:00:00Z", advisory_ids=[]),
    ),
    _good(
        "v5-td10",
        "A version 5 quote with a TD 1.0 body, type and size of which are signed.",
        lambda: honest(version=5, body_type=2),
        "12",
    ),
    _good(
        "v5-td15",
        "A version 5 quote with a TD 1.5 body: launch and current module are the same.",
        lambda: honest(version=5, body_type=3),
        "12 17",
    ),
    _good(
        "v5-td15ex",
        "A version 5 quote with an extended TD 1.5 body of 885 bytes.",
        lambda: honest(version=5, body_type=4),
        "12 17",
    ),
    _good(
        "processor-ca",
        "A single-package platform, certified by the PCK Processor CA.",
        lambda: honest(_PROCESSOR),
        "6 7",
    ),
    *(
        _good(
            f"inner-type-{number}",
            f"The quote carries only {what}; the PCK chain comes with the collateral.",
            partial(_chain_beside, number),
            "6 9",
        )
        for number, what in (
            (1, "a plain PPID"),
            (2, "a PPID encrypted with RSA-2048"),
        )
    ),
    _good(
        "inner-type-3",
        "A PPID encrypted with RSA-3072: of two PCK chains in the pack, the right one counts.",
        lambda: honest(inner_type=3),
        "6 9",
        collateral=_chain_in_pack,
    ),
    _good(
        "inner-type-4",
        "The quote carries only the PCK leaf; the CA comes with the PCK CRL.",
        lambda: honest(inner_type=4),
        "6",
    ),
    _good(
        "zero-padding",
        "Quoting services hand out fixed-size buffers: zeros after the quote mean nothing.",
        lambda: honest().with_quote(padding=bytes(2048)),
        "12 A1",
    ),
    _good(
        "high-s",
        "s and n - s both verify: ECDSA signatures are no identity of a quote.",
        _high_s,
        "12 A20",
    ),
    _good(
        "qe-identity-version-3",
        "QE identity version 3 says the same as version 2.",
        _qe_identity_version_3,
        "2",
    ),
    _good(
        "pack-of-editions",
        "Several editions and platforms in one pack: the newest of this platform counts.",
        honest,
        "2 4 8 A13",
        collateral=_editions,
        policy=policy(tcb={"min_evaluation_number": 20}),
    ),
    _good(
        "pack-future-edition",
        "An edition issued after the evaluation time is not yet known then.",
        honest,
        "4 A13 A29",
        collateral=_future_edition,
        policy=policy(tcb={"min_evaluation_number": 20}),
    ),
    _good(
        "numbers-differ",
        "TCB info and QE identity may carry different evaluation data numbers.",
        lambda: replace(
            honest(), qe_identity=replace(honest().qe_identity, tcb_evaluation_data_number=19)
        ),
        "5",
        policy=policy(tcb={"min_evaluation_number": 20, "min_qe_evaluation_number": 19}),
    ),
    _good(
        "legacy-module",
        "A TDX module of major version 0 is judged by tdxModule and all 16 TDX components.",
        _legacy_module,
        "13 14",
    ),
    _good(
        "module-3-lower-case",
        "Major version 3 is judged by the identity TDX_03, in whatever case it is written.",
        _lower_case_id,
        "13 15",
    ),
    _good(
        "advisory-on-up-to-date",
        "An UpToDate level may carry advisories: they fail nothing by themselves.",
        _advisory_on_up_to_date,
        "18 19",
        expected=trusted(tcb_status="UpToDate", advisory_ids=["INTEL-SA-99009"]),
    ),
    _good(
        "log-text-relabelled",
        "The text of a boot event is no evidence; its digest is, and still replays.",
        defect("ccel-event-relabelled"),
        "A23",
        log=lambda evidence: evidence.ccel,
    ),
    _good(
        "last-second",
        "At the very second of its nextUpdate, the TCB info is still in force.",
        honest,
        "4 A29",
        at=DEFAULT_TIME + 27 * _DAY,
    ),
)
