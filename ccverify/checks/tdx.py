"""Checks of the Intel TDX virtual machine: quote, collateral, TCB, measurements, event log."""

from __future__ import annotations

from dataclasses import replace

from ccverify.checks.model import Category, Check, Need, Scope
from ccverify.tdx.attributes import TD_ATTRIBUTES, TdAttribute

__all__ = ["TDX_CHECKS"]

_E, _A, _P, _C = Category.EVIDENCE, Category.AUTHENTICITY, Category.POLICY, Category.COLLATERAL
_ALWAYS, _WAIVABLE, _ASKED, _ADVICE = (
    Need.ALWAYS,
    Need.UNLESS_WAIVED,
    Need.IF_ASKED,
    Need.ADVICE,
)
_FETCH = "Fetch fresh collateral with `ccverify collateral fetch`, or check the --at time."
_GENUINE = "Ask the attester for a new quote; if it fails again, treat the evidence as forged."

_FORMAT = (
    Check(
        "TDX-QUOTE-FORMAT",
        "Quote is well-formed",
        _E,
        _ALWAYS,
        "The bytes are one TDX quote, version 4 or 5, with exact lengths and no foreign tail.",
        "Truncated, padded or type-confused quotes that two parsers read differently.",
        "Give the quote exactly as the quoting service returned it: raw, hex or base64.",
    ),
    Check(
        "TDX-QE-VENDOR",
        "Quoting enclave vendor is Intel",
        _A,
        _ALWAYS,
        "The header names Intel's quoting enclave, and the header is signed.",
        "A quote made by another vendor's quoting enclave under other rules.",
        _GENUINE,
    ),
)

_PCK = (
    Check(
        "TDX-PCK-CHAIN",
        "PCK certificate chain leads to the Intel SGX Root CA",
        _A,
        _ALWAYS,
        "Intel certified the platform's provisioning certification key.",
        "A self-made root, a CA used as a leaf, or a chain by name only.",
        _GENUINE,
    ),
    Check(
        "TDX-PCK-VALIDITY",
        "PCK certificates are valid at the evaluation time",
        _C,
        _ALWAYS,
        "Every certificate of the chain is inside its validity period.",
        "Use of a retired certificate, or a wrong clock.",
        "Check the --at time; otherwise the platform must be provisioned again.",
    ),
    Check(
        "TDX-PCK-EXTENSION",
        "PCK certificate describes the platform",
        _A,
        _ALWAYS,
        "FMSPC, PCEID, PPID and the 16 TCB component SVNs are present and well-formed.",
        "A certificate of another kind in the leaf's place; SVN lists cut short.",
        _GENUINE,
    ),
)

_CRL = (
    Check(
        "TDX-ROOT-CRL-SIGNATURE",
        "Root CA CRL is genuine",
        _A,
        _ALWAYS,
        "The list of revoked CAs was signed by the Intel SGX Root CA.",
        "An empty or edited revocation list.",
        _FETCH,
    ),
    Check(
        "TDX-ROOT-CRL-FRESH",
        "Root CA CRL is current",
        _C,
        _ALWAYS,
        "The evaluation time lies between thisUpdate and nextUpdate.",
        "Replay of an old list from before a revocation.",
        _FETCH,
    ),
    Check(
        "TDX-CA-REVOCATION",
        "PCK CA and TCB signers are not revoked",
        _A,
        _ALWAYS,
        "Neither the PCK CA nor a TCB signing certificate is on the root's list.",
        "Use of a CA or signer that Intel withdrew.",
        "Do not trust this platform or this collateral; fetch collateral from Intel.",
    ),
    Check(
        "TDX-PCK-CRL-SIGNATURE",
        "PCK CRL is genuine",
        _A,
        _ALWAYS,
        "The list of revoked platforms was signed by the CA that issued this PCK certificate.",
        "An empty, edited or foreign revocation list.",
        _FETCH,
    ),
    Check(
        "TDX-PCK-CRL-FRESH",
        "PCK CRL is current",
        _C,
        _ALWAYS,
        "The evaluation time lies between thisUpdate and nextUpdate.",
        "Replay of an old list from before a revocation.",
        _FETCH,
    ),
    Check(
        "TDX-PCK-REVOCATION",
        "PCK certificate is not revoked",
        _A,
        _ALWAYS,
        "The platform's certificate is not on the list.",
        "A platform whose keys are known to have leaked.",
        "Do not trust this platform.",
    ),
)

_COLLATERAL = (
    Check(
        "TDX-TCB-INFO-SIGNATURE",
        "TCB info is genuine",
        _A,
        _ALWAYS,
        "Intel signed exactly these bytes of TCB info.",
        "Edited TCB levels that make an old platform look new.",
        _FETCH,
    ),
    Check(
        "TDX-TCB-INFO-FRESH",
        "TCB info is current",
        _C,
        _ALWAYS,
        "The evaluation time lies between issueDate and nextUpdate, and the signer is valid.",
        "Replay of TCB info from before a security update, or dated in the future.",
        _FETCH,
    ),
    Check(
        "TDX-TCB-INFO-MATCH",
        "TCB info is of this platform",
        _C,
        _ALWAYS,
        "FMSPC and PCEID equal those of the PCK certificate.",
        "TCB info of another, kinder platform family.",
        "Fetch TCB info for the FMSPC named here.",
    ),
    Check(
        "TDX-QE-IDENTITY-SIGNATURE",
        "QE identity is genuine",
        _A,
        _ALWAYS,
        "Intel signed exactly these bytes of the TD quoting enclave's identity.",
        "A forged identity that lets any enclave pass for the quoting enclave.",
        _FETCH,
    ),
    Check(
        "TDX-QE-IDENTITY-FRESH",
        "QE identity is current",
        _C,
        _ALWAYS,
        "The evaluation time lies between issueDate and nextUpdate, and the signer is valid.",
        "Replay of an identity that still admits a broken quoting enclave.",
        _FETCH,
    ),
    Check(
        "TDX-COLLATERAL-FIELDS",
        "Collateral is understood in full",
        _C,
        _WAIVABLE,
        "TCB info and QE identity have no member that this version does not know.",
        "A new restriction by Intel that an old verifier would silently ignore.",
        "Update ccverify; or set tdx.collateral.allow_unknown_fields after reading the member.",
        "unless the policy allows unknown members",
    ),
    Check(
        "TDX-COLLATERAL-ROLLBACK",
        "No newer collateral is known",
        _C,
        _ALWAYS,
        "The pack holds no genuine, later edition of what was used.",
        "Going back to an edition under which the platform still looked good.",
        "Remove the stale edition, or fetch the current one.",
    ),
    Check(
        "TDX-COLLATERAL-AGE",
        "Collateral is young enough",
        _C,
        _ASKED,
        "TCB info, QE identity and PCK CRL were issued within tdx.collateral.max_age_days.",
        "Collateral that is still in its window, but from before a disclosure.",
        _FETCH,
        "if the policy sets a maximum age",
    ),
    Check(
        "TDX-EVALUATION-NUMBER",
        "TCB evaluation data number is high enough",
        _C,
        _ASKED,
        "TCB info and QE identity belong to the TCB recovery the policy asks for, or a later one.",
        "The grace of the standard update channel, used to hide an out-of-date platform.",
        "Fetch with `--update early`, or lower tdx.tcb.min_evaluation_number knowingly.",
        "if the policy sets a minimum",
    ),
)

_QUOTE = (
    Check(
        "TDX-QE-REPORT-SIGNATURE",
        "QE report is signed by the platform",
        _A,
        _ALWAYS,
        "The platform's PCK key signed the quoting enclave's report.",
        "A quoting enclave that runs elsewhere, or nowhere.",
        _GENUINE,
    ),
    Check(
        "TDX-QE-KEY-BINDING",
        "Attestation key belongs to the quoting enclave",
        _A,
        _ALWAYS,
        "The QE report carries SHA-256 of the attestation key and authentication data.",
        "A swapped attestation key.",
        _GENUINE,
    ),
    Check(
        "TDX-QE-IDENTITY-MATCH",
        "Quoting enclave is Intel's TD quoting enclave",
        _A,
        _ALWAYS,
        "MRSIGNER, ISVPRODID, MISCSELECT and ATTRIBUTES are those Intel publishes.",
        "Another enclave of the same platform that signs whatever it is given.",
        _GENUINE,
    ),
    Check(
        "TDX-QUOTE-SIGNATURE",
        "Quote is signed by the attestation key",
        _A,
        _ALWAYS,
        "Header and TD report are exactly what the quoting enclave signed.",
        "Any change to a measurement, an attribute or REPORTDATA.",
        _GENUINE,
    ),
    Check(
        "TDX-SEAM-ATTRIBUTES",
        "TDX module is a production module",
        _A,
        _ALWAYS,
        "SEAMATTRIBUTES is zero.",
        "A debuggable TDX module, which protects nothing.",
        "The host must load a production TDX module.",
    ),
    Check(
        "TDX-MODULE-IDENTITY",
        "TDX module is Intel's",
        _A,
        _ALWAYS,
        "Signer and attributes equal the module identity Intel publishes for this version.",
        "A TDX module of another signer, or of a version Intel does not vouch for.",
        "The host must load a TDX module from Intel; newer ones may need newer collateral.",
    ),
)

_TCB = (
    Check(
        "TDX-TCB-LEVEL",
        "Platform reaches a published TCB level",
        _P,
        _ALWAYS,
        "CPU, microcode, SEAM loader and PCE are at least at the lowest level Intel publishes.",
        "A platform older than anything Intel still speaks of.",
        "The operator must update BIOS and microcode; see the shortfalls.",
    ),
    Check(
        "TDX-MODULE-TCB",
        "TDX module reaches a TCB level",
        _P,
        _ALWAYS,
        "The module's minor SVN is at a published level that is not revoked.",
        "A TDX module with known holes.",
        "The operator must update the TDX module.",
        "TDX module major version 1 or higher",
    ),
    Check(
        "TDX-QE-TCB",
        "Quoting enclave reaches a TCB level",
        _P,
        _ALWAYS,
        "The quoting enclave's ISVSVN is at a published level that is not revoked.",
        "A quoting enclave with known holes.",
        "The operator must update the DCAP quote generation service.",
    ),
    Check(
        "TDX-TCB-RELAUNCH",
        "TD was launched on the TDX module that runs now",
        _P,
        _ADVICE,
        "The launch and the current module have the same TCB status.",
        "A TD that keeps weaknesses from the older module it was launched on.",
        "Relaunch the TD; the status TDRelaunchAdvised is judged by TDX-TCB-STATUS.",
        "TDX 1.5 reports",
    ),
    Check(
        "TDX-TCB-STATUS",
        "TCB status is accepted",
        _P,
        _ALWAYS,
        "Intel's status of platform, TDX module and quoting enclave is one the policy accepts.",
        "Known vulnerabilities of an unpatched platform.",
        "The operator must patch, or accept the status in tdx.tcb with the advisories in view.",
    ),
    Check(
        "TDX-TCB-ADVISORIES",
        "No rejected advisory applies",
        _P,
        _ASKED,
        "None of the advisories the policy rejects applies to the matched levels.",
        "A vulnerability the tenant cannot live with, whatever the status says.",
        "The operator must patch; see the advisory.",
        "if the policy rejects advisories",
    ),
    Check(
        "TDX-TEE-TCB-SVN",
        "TEE_TCB_SVN reaches the policy's minimum",
        _P,
        _ASKED,
        "Every byte of TEE_TCB_SVN is at least the policy's.",
        "A TDX module or SEAM loader older than the tenant allows.",
        "The operator must update the TDX module.",
        "if the policy sets a minimum",
    ),
)


def _attribute(attribute: TdAttribute) -> Check:
    name = attribute.key.upper()
    return Check(
        f"TDX-ATTR-{name.replace('_', '-')}",
        f"TD attribute {name} is as the policy asks",
        _P,
        _ALWAYS,
        f"Bit {attribute.bit} ({attribute.meaning}) obeys the policy; without a word from the "
        f"policy the rule is `{attribute.default.value}`.",
        "A TD launched with weaker isolation than the tenant asked for.",
        f"Launch the TD with the bit changed, or set tdx.attributes.{attribute.key} knowingly.",
    )


_BITS = (
    *map(_attribute, TD_ATTRIBUTES),
    Check(
        "TDX-ATTR-RESERVED",
        "No unknown TD attribute is set",
        _P,
        _ALWAYS,
        "Every TDATTRIBUTES bit that is set is one this version knows.",
        "A new, unknown way for the host to reach into the TD.",
        "Update ccverify; do not trust the TD until the bit is understood.",
    ),
    Check(
        "TDX-XFAM",
        "Extended features are as the policy asks",
        _P,
        _ALWAYS,
        "XFAM has its fixed bits, no unknown bit, and the features the policy requires or forbids.",
        "A TD with CPU features that weaken or observe it.",
        "Launch the TD with another XFAM, or change tdx.xfam knowingly.",
    ),
    Check(
        "TDX-SERVICE-TD",
        "No unexpected service TD is bound",
        _P,
        _ALWAYS,
        "MRSERVICETD and the service TD hashes are zero or on the policy's list.",
        "A migration TD that may export the TD's memory and secrets.",
        "Launch without service TD, or list its hash in tdx.service_td.",
        "TDX 1.5 reports",
    ),
)


def _register(code: str, name: str, meaning: str, need: Need) -> Check:
    waivable = need is _WAIVABLE
    return Check(
        f"TDX-{code}",
        f"{name} is on the policy's list",
        _P,
        need,
        f"{meaning} is one the tenant expects.",
        f"A TD whose {meaning[0].lower() + meaning[1:]} is something else.",
        f"List the expected values in tdx.measurements.{code.lower()}"
        + (", or say `any` to accept every value knowingly." if waivable else "."),
        "unless the policy says `any`" if waivable else "if the policy lists values",
    )


_MEASUREMENTS = (
    _register("MRTD", "MRTD", "Initial memory (virtual firmware)", _WAIVABLE),
    _register("RTMR0", "RTMR0", "Firmware configuration", _WAIVABLE),
    _register("RTMR1", "RTMR1", "Boot loader and kernel", _WAIVABLE),
    _register("RTMR2", "RTMR2", "Kernel command line and initrd", _WAIVABLE),
    _register("RTMR3", "RTMR3", "Run-time measurement", _WAIVABLE),
    _register("MRSEAM", "MRSEAM", "TDX module binary", _ASKED),
    _register("MRCONFIGID", "MRCONFIGID", "Configuration id", _ASKED),
    _register("MROWNER", "MROWNER", "Owner id", _ASKED),
    _register("MROWNERCONFIG", "MROWNERCONFIG", "Owner configuration", _ASKED),
)

_BINDING = (
    Check(
        "TDX-REPORT-DATA",
        "REPORTDATA answers this request",
        _A,
        _WAIVABLE,
        "The 64 bytes chosen by the TD are the nonce (zero padded), or the value expected.",
        "Replay of an old quote, or a quote made for somebody else.",
        "Give --nonce or --report-data; or set tdx.report_data to `any`, giving up freshness.",
        "unless the policy says `any`",
    ),
    Check(
        "TDX-PLATFORM",
        "Platform is on the policy's list",
        _P,
        _ASKED,
        "FMSPC, PPID, platform instance and settings are those the policy names.",
        "Relay to a genuine platform in the wrong hands.",
        "List the platform in tdx.platform, or refuse the machine.",
        "if the policy names platforms",
    ),
)

_EVENT_LOG = (
    Check(
        "TDX-EVENTLOG-FORMAT",
        "Event log is well-formed",
        _E,
        _ASKED,
        "The bytes are one CCEL or dstack event log.",
        "Logs that two parsers read differently.",
        "Give the log that belongs to this quote, unchanged.",
        "if a log is given or the policy asks for one",
    ),
    *(
        Check(
            f"TDX-EVENTLOG-RTMR{n}",
            f"Event log replays to RTMR{n}",
            _A,
            _ASKED,
            f"Extending the log's digests in order gives RTMR{n} of the quote.",
            "A log that was edited, reordered or cut, or that belongs to another boot.",
            "Take log and quote from the same boot, the quote last.",
            "if a log is given and the policy wants this register replayed",
        )
        for n in range(4)
    ),
    Check(
        "TDX-EVENTLOG-DIGESTS",
        "Run-time events hash to their digests",
        _A,
        _ASKED,
        "The digest of every run-time event is recomputed from its own name and payload.",
        "A payload changed behind a digest that was left as it was.",
        "Take the log unchanged from the guest agent.",
        "if the log has run-time events",
    ),
    Check(
        "TDX-EVENTLOG-IDENTITY",
        "Identity events are unique and precede system-ready",
        _A,
        _ASKED,
        "Identity claims come from the boot phase and none is stated twice.",
        "An application that extends a second app id or compose hash after boot.",
        "Refuse the log; the guest image is not to be trusted with identity.",
        "if the log has run-time events",
    ),
    Check(
        "TDX-EVENTLOG-CLAIMS",
        "Event-log claims are as the policy asks",
        _P,
        _ASKED,
        "Every claim named in tdx.event_log.claims has an expected value.",
        "Another application, image or key provider than the tenant expects.",
        "List the expected values in tdx.event_log.claims.",
        "if the policy names claims",
    ),
)

TDX_CHECKS = tuple(
    replace(check, scope=Scope.TDX)
    for group in (
        _FORMAT,
        _PCK,
        _CRL,
        _COLLATERAL,
        _QUOTE,
        _TCB,
        _BITS,
        _MEASUREMENTS,
        _BINDING,
        _EVENT_LOG,
    )
    for check in group
)
