"""Statements of simulated fabric managers, made by the real collector, the same bytes every time.

    sim_statement("b300-board-4+4", nonce)
    sim_statement(manager, nonce, binder="none", at=manager.at + timedelta(hours=1))

Nothing makes anybody trust them: see `ccverify.cli.sim_trust`.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, Literal

from cryptography.hazmat.primitives.asymmetric import ec

from ccverify.bundle.cose import KeySigner
from ccverify.cli.sim_sources import manager_sources
from ccverify.collect.binders import Binder
from ccverify.collect.collected import Collected
from ccverify.collect.operator_key import OperatorKey
from ccverify.collect.session import World, collect_bundle
from ccverify.collect.tpm import DEFAULT_PCRS, TpmBinder, parse_pcr_selection
from ccverify.collect.tpm_channel import DEFAULT_DEVICE
from ccverify.errors import UsageError
from ccverify.sim.board import SimBoard
from ccverify.sim.board_names import manager_named
from ccverify.sim.certs import to_pem
from ccverify.sim.manager import SimManager
from ccverify.sim.tpm_device import SimTpmDevice
from ccverify.trust.pkix import parse_pkix_certificate

__all__ = [
    "BINDERS",
    "BinderName",
    "collect_sim_statement",
    "matching_managers",
    "sim_statement",
]

BinderName = Literal["tdx", "tpm", "x509", "none"]
"""What binds the session key: the service VM's quote, the host's TPM, an operator, or nothing."""


def sim_statement(
    of: SimManager | SimBoard | str,
    nonce: bytes,
    *,
    binder: BinderName = "tdx",
    at: datetime | None = None,
) -> bytes:
    """Return a statement.

    Args:
        of: a manager with any faults; or a board, or the name of one (`ccverify.sim.board_names`),
            whose manager has none of its own.
        nonce: the relying party's, or an epoch, 32 bytes.
        binder: what binds the session key.
        at: when it is made; None: at the manager's own time.

    Raises:
        UsageError: no such board, tenant, fault or binder.
    """
    bundle = collect_sim_statement(of, nonce, binder=binder, at=at).bundle
    assert bundle is not None  # noqa: S101  # nothing was required
    return bundle


def collect_sim_statement(
    of: SimManager | SimBoard | str,
    nonce: bytes,
    *,
    binder: BinderName = "tdx",
    at: datetime | None = None,
) -> Collected:
    """Return the statement with the account of the collection; arguments as of `sim_statement`."""
    manager = _manager(of)
    if at is not None:
        manager = copy.copy(manager)
        manager.at = at
    if binder not in BINDERS:
        raise UsageError("nothing simulated binds a key so", found=repr(binder)[:80],
                         expected=", ".join(BINDERS))  # fmt: skip
    label = f"{manager.board.label} {int(manager.at.timestamp())} {binder}"
    seed = hashlib.sha384(b"ccverify simulation: statement " + label.encode() + nonce).digest()
    world = World(
        new_key=lambda: ec.derive_private_key(int.from_bytes(seed[1:], "big"), ec.SECP384R1()),
        now=manager.at.timestamp,
        deterministic=True,
    )
    make = BINDERS[binder]
    return collect_bundle(
        nonce,
        manager_sources(manager, quoted=binder == "tdx"),
        binders=[] if make is None else [make(manager)],
        world=world,
    )


def _manager(of: SimManager | SimBoard | str) -> SimManager:
    if isinstance(of, SimManager):
        return of
    return SimManager(of) if isinstance(of, SimBoard) else manager_named(of)


def matching_managers(of: SimManager | SimBoard | str) -> dict[str, Any]:
    """Return the section ``fabric.managers`` of a policy that accepts this manager alone.

    By its service VM's quote, by the TPM of its host, and by its operator's signature.
    """
    manager = _manager(of)
    machine, tpm, operator = manager.service_vm(), manager.tpm(), manager.operator()
    pcrs = {str(index): [tpm.pcr(index).hex()] for index in range(15)}
    return {
        "tdx": [
            {
                "measurements": {k: [v.hex()] for k, v in machine.registers().items()},
                "platform": {"ppid": [machine.platform.identifier("ppid").hex()]},
            }
        ],
        "tpm": [{"names": [tpm.name.hex()], "pcrs": {"sha256": pcrs}}],
        "x509": [{"roots": [to_pem(operator.root().der(), "CERTIFICATE")]}],
    }


def _tpm(manager: SimManager) -> Binder:
    tpm = manager.tpm()
    return TpmBinder(
        DEFAULT_DEVICE,
        parse_pcr_selection(DEFAULT_PCRS),
        chain=tpm.chain().encode("ascii"),
        opened=lambda address, remaining: SimTpmDevice(tpm),
    )


def _operator(manager: SimManager) -> Binder:
    operator = manager.operator()
    chain = [parse_pkix_certificate(one.der()) for one in operator.chain()]
    return OperatorKey(KeySigner(operator.key.private_key, deterministic=True), chain)


BINDERS: Final[Mapping[str, Callable[[SimManager], Binder] | None]] = {
    "tdx": None,
    "tpm": _tpm,
    "x509": _operator,
    "none": None,
}
"""Name → maker of what binds the session key beside a quote."""
