"""Simulated boards as files: what their managers state, and the bundles of their tenants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cli_files import NONCE
from cryptography.hazmat.primitives.asymmetric import ec

from ccverify.bundle.endorsement import operator_payload, tpm_qualifying_data
from ccverify.bundle.package import parse_bundle
from ccverify.bundle.tpm_item import encode_tpm_item
from ccverify.cli.sim_sources import machine_sources, manager_sources
from ccverify.collect.binders import BindAsk, Binder
from ccverify.collect.manager_statement import StatementFile
from ccverify.collect.model import Absence, Item, ItemType, Outcome, Source
from ccverify.collect.session import World, collect_bundle
from ccverify.sim.board_names import manager_named, tenant_named
from ccverify.sim.defaults import DEFAULT_TIME
from ccverify.sim.operator import SimOperator
from ccverify.sim.tpm import SimTpm

BOARD = "b300-board-4+4"


@dataclass(frozen=True)
class _Bound:
    """A binder of a simulated key."""

    label: str
    kind: ItemType
    make: Callable[[bytes, bytes, bytes], bytes]
    name: str = "test"

    def bind(self, ask: BindAsk) -> Outcome:
        data = self.make(ask.nonce, ask.thumbprint, ask.manifest_sha384)
        return Item(self.label, self.kind, data, self.name)

    def diagnose(self) -> Sequence[Absence]:
        return ()


def _tpm_item(nonce: bytes, thumbprint: bytes, manifest: bytes) -> bytes:
    quote = SimTpm().quote(tpm_qualifying_data(nonce, thumbprint, manifest))
    pcrs = {str(bank): values for bank, values in quote.pcrs.items()}
    return encode_tpm_item(quote.attest, quote.signature, quote.public, None, pcrs)


def _operator_item(nonce: bytes, thumbprint: bytes, manifest: bytes) -> bytes:
    return SimOperator().sign(operator_payload(nonce, thumbprint, manifest))


BINDERS = (
    _Bound("tpm-quote", ItemType.TPM_QUOTE, _tpm_item),
    _Bound("operator-signature", ItemType.OPERATOR_SIGNATURE, _operator_item),
)


def _bundle(
    nonce: bytes, sources: list[Source], after: int, binders: Sequence[Binder] = ()
) -> bytes:
    key = ec.derive_private_key(int.from_bytes(nonce, "big") + after + 1, ec.SECP384R1())
    world = World(new_key=lambda: key, now=lambda: DEFAULT_TIME.timestamp() + after,
                  deterministic=True)  # fmt: skip
    bundle = collect_bundle(nonce, sources, world=world, binders=binders).bundle
    assert bundle is not None
    return bundle


def statement(name: str = BOARD, *, nonce: bytes = NONCE, after: int = 0) -> bytes:
    """What the manager of a board states, some seconds after the usual time."""
    return _bundle(nonce, manager_sources(manager_named(name)), after)


def host_statement(name: str = BOARD, *, bound: bool = True) -> bytes:
    """What a manager on a host without TDX states, bound by TPM and operator, or by nothing."""
    sources = manager_sources(manager_named(name), quoted=False)
    return _bundle(NONCE, sources, 0, BINDERS if bound else ())


def tenant(name: str, *, stated: bytes | None = None, probe: bool = False) -> bytes:
    """The bundle of a tenant's guest, with a statement in it or not."""
    sources = machine_sources(tenant_named(name), probe=probe)
    if stated is not None:
        sources.append(StatementFile(stated, "test.ccb"))
    return _bundle(NONCE, sources, 1)


def dumps(folder: Path, bundle: bytes, *names: str) -> Path:
    """Put the dumps of a statement into a folder, each under its label."""
    folder.mkdir()
    for label, data in parse_bundle(bundle).of_type(ItemType.FABRIC_DUMP).items():
        if not names or label in names:
            (folder / label).write_bytes(data)
    return folder
