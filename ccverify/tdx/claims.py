"""What a verified quote says, as plain values: the claims of the CPU part of a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ccverify.clock_text import utc_text
from ccverify.findings import Assurance
from ccverify.tdx.attributes import attribute_names, xfam_names
from ccverify.tdx.eventlog import IdentityClaims
from ccverify.tdx.quote import BODY_FIELDS, Quote
from ccverify.tdx.tcb import TcbEvaluation
from ccverify.tdx.verify import TdxVerification

__all__ = ["TdxClaims", "quote_claims"]

_RENAMED = {"tdattributes": "td_attributes"}


@dataclass(frozen=True)
class TdxClaims:
    """Claims about one TD, put into words only when somebody reads them.

    Attributes:
        verification: from `ccverify.tdx.verify.verify_quote`.
        level: HARDWARE when every authenticity check passed, NONE otherwise.
        identity: claims of the event log, where there is one.
        identity_level: what the event log's claims rest on.
        what_if: the answer under other collateral, and what that rests on.
    """

    verification: TdxVerification
    level: Assurance
    identity: IdentityClaims | None = None
    identity_level: Assurance = Assurance.NONE
    what_if: tuple[Mapping[str, Any], Assurance] | None = None

    @cached_property
    def values(self) -> Mapping[str, Any]:
        """JSON-ready values by claim name; bytes are lower-case hex."""
        values = _tdx_values(self.verification)
        if self.identity:
            values["event_log"] = {
                "claims": {name: _plain(value) for name, value in self.identity.values.items()},
                "application_events": tuple(e.name for e in self.identity.application_events),
            }
        if self.what_if:
            values["what_if"] = self.what_if[0]
        return values

    @cached_property
    def assurance(self) -> Mapping[str, Assurance]:
        """Claim name → what that claim rests on."""
        levels = dict.fromkeys(self.values, self.level)
        if self.identity:
            levels["event_log"] = self.identity_level
        if self.what_if:
            levels["what_if"] = self.what_if[1]
        return levels

    def to_json(self) -> dict[str, Any]:
        """Return values and assurances as one JSON object."""
        return {
            **self.values,
            "assurance": {name: level.value for name, level in self.assurance.items()},
        }


def quote_claims(quote: Quote) -> dict[str, Any]:
    """The values a quote states, verified or not."""
    report = quote.report
    values: dict[str, Any] = {
        "quote_version": quote.header.version,
        "body_type": report.body_type.name,
        "quote_digest": quote.digest,
    }
    for name, *_ in BODY_FIELDS[report.body_type]:
        values[_RENAMED.get(name, name)] = getattr(report, name).hex()
    values["td_attribute_names"] = attribute_names(int.from_bytes(report.tdattributes, "little"))
    values["xfam_names"] = xfam_names(int.from_bytes(report.xfam, "little"))
    return values


def _tdx_values(verification: TdxVerification) -> dict[str, Any]:
    values = quote_claims(verification.quote)
    platform, tcb = verification.platform, verification.tcb
    if platform:
        values |= {
            "fmspc": platform.fmspc.hex().upper(),
            "pceid": platform.pceid.hex().upper(),
            "ppid": platform.ppid.hex(),
            "platform_instance_id": _hex(platform.platform_instance_id),
            "sgx_type": platform.sgx_type.name,
            "dynamic_platform": platform.dynamic_platform,
            "cached_keys": platform.cached_keys,
            "smt_enabled": platform.smt_enabled,
        }
    collateral = verification.collateral
    if collateral.tcb_info:
        values["tcb_evaluation_data_number"] = collateral.tcb_info.edition
    if collateral.qe_identity:
        values["qe_evaluation_data_number"] = collateral.qe_identity.edition
    values["tcb_status"] = tcb.status.value if tcb else None
    values["tcb_date"] = utc_text(tcb.tcb_date) if tcb and tcb.tcb_date else None
    values["advisory_ids"] = tcb.advisory_ids if tcb else ()
    if tcb:
        values["tcb_shortfalls"] = tuple(map(str, tcb.shortfalls))
        values["tcb_launch"] = _evaluation(tcb.launch)
        if tcb.current:
            values["tcb_current"] = _evaluation(tcb.current)
    return values


def _evaluation(evaluation: TcbEvaluation) -> dict[str, Any]:
    return {
        "tee_tcb_svn": evaluation.tee_tcb_svn.hex(),
        "status": evaluation.status.value,
        "platform": evaluation.platform.status.value if evaluation.platform else None,
        "tdx_module": evaluation.module.status.value if evaluation.module else None,
        "qe": evaluation.qe.status.value if evaluation.qe else None,
    }


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()
