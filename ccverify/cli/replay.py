"""Judge again what a verdict bundle holds: from its files alone, at its own time or another."""

from __future__ import annotations

from datetime import datetime

from ccverify.cli.collateral_files import read_collateral_files
from ccverify.cli.evidence_files import read_evidence
from ccverify.cli.judging import Circumstances, judge
from ccverify.cli.recorded import ReplayedInputs, named_evidence
from ccverify.collateral import CollateralFile
from ccverify.errors import TrustError
from ccverify.policy.document import load_policy
from ccverify.results.emitted_model import Role, VerdictBundle
from ccverify.results.verdict import Verdict
from ccverify.results.verdict_set import VerdictSet
from ccverify.trust.anchors import TrustAnchor
from ccverify.trust.store import TrustKind, TrustStore

__all__ = ["replay"]


def replay(
    bundle: VerdictBundle,
    *,
    at: datetime | None = None,
    collateral: CollateralFile | None = None,
) -> Verdict | VerdictSet:
    """Judge again.  Reads no clock and no file.

    Args:
        bundle: one for which `is_whole` holds.
        at: another evaluation time.
        collateral: other collateral, in the place of what the bundle holds.

    Raises:
        CcverifyError: this version of ccverify cannot read something in the bundle.
    """
    inputs = ReplayedInputs((*bundle.evidence, *bundle.collateral))
    by_role: dict[Role, list[tuple[str, bool]]] = {Role.COLLATERAL: [], Role.WHAT_IF: []}
    for file in bundle.collateral:
        by_role[file.role].append((file.name, file.in_folder))
    own = read_collateral_files(inputs, by_role[Role.COLLATERAL])
    other = by_role[Role.WHAT_IF]
    request = bundle.request
    return judge(
        read_evidence(inputs, named_evidence(bundle.evidence)),
        Circumstances(
            policy=load_policy(bundle.policy.data or b""),
            now=request.at if at is None else at,
            nonce=request.nonce,
            report_data=request.report_data,
            channel=request.channel,
            collateral=own if collateral is None else collateral,
            trust=_trust(bundle),
            what_if=read_collateral_files(inputs, other).intel if other else None,
            epoch=request.epoch,
        ),
    )


def _trust(bundle: VerdictBundle) -> TrustStore:
    """The trust store of the bundle: the pinned one, or one of the roots that it carries."""
    store = TrustStore.production()
    if store.digest != bundle.trust_sha384 and bundle.trust_kind is not TrustKind.PRODUCTION:
        own = {file.role: TrustAnchor.load(file.data or b"") for file in bundle.trust_roots}
        store = TrustStore(
            bundle.trust_kind,
            own.get(Role.INTEL_ROOT, store.intel_root),
            own.get(Role.NVIDIA_DEVICE_ROOT, store.nvidia_device_root),
            own.get(Role.NVIDIA_RIM_ROOT, store.nvidia_rim_root),
        )
    if (store.kind, store.digest) != (bundle.trust_kind, bundle.trust_sha384):
        raise TrustError(
            "the trust store of the bundle is not known here",
            expected=bundle.trust_sha384,
            found=store.digest,
            hint="verify the bundle with the version of ccverify that made it",
        )
    return store
