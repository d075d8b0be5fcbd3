"""What the commands of ``ccverify fabric`` read: statements, bundles of nodes, folders of dumps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ccverify.bundle.manifest import MAX_ITEM_BYTES, OPERATOR_LABEL, QUOTE_LABEL, TPM_QUOTE_LABEL
from ccverify.bundle.model import ItemType
from ccverify.bundle.package import MAX_BUNDLE_BYTES, Bundle, is_bundle, parse_bundle
from ccverify.bundle.statement_items import FACTS_LABEL, statement_items
from ccverify.bundle.verify_bundle import BundleAppraisal, verify_bundle
from ccverify.cli.inputs import STDIN, Inputs, Source, in_file
from ccverify.clock_text import unix_text
from ccverify.errors import EvidenceError, UsageError
from ccverify.evidence import Evidence
from ccverify.fabric.manager import ManagerFacts, serialize_manager
from ccverify.fabric.observation import Absent, FabricObservation, parse_observation
from ccverify.fabric.statement import FabricStatement, read_statement
from ccverify.fabric.statement_model import DUMP_LABELS, Dump
from ccverify.findings import State

__all__ = [
    "BUNDLE",
    "FABRIC_FILE",
    "UNVERIFIED",
    "FabricFile",
    "Stated",
    "read_fabric_file",
    "read_stated",
]

UNVERIFIED: Final = (
    "UNVERIFIED: nobody looked at who made this, and no policy was asked; `ccverify check` does."
)
FABRIC_FILE = Source(
    "fabric input",
    MAX_BUNDLE_BYTES,
    EvidenceError,
    "a statement of a fabric's manager, the bundle of a node, or a folder of dumps",
)
BUNDLE = Source(
    "bundle", MAX_BUNDLE_BYTES, EvidenceError, "what `ccverify collect` wrote in a tenant's guest"
)
_DUMP = Source("dump", MAX_ITEM_BYTES, EvidenceError, "one file of the manager's", True)

_FILE_NAMES: Final[Mapping[str, str]] = {
    **{label: label for label in (FACTS_LABEL, *DUMP_LABELS)},
    "fabric-manager.json": FACTS_LABEL,
    "fm-partitions.json": Dump.PARTITIONS.value,
    "fabricmanager.cfg": Dump.CONFIG.value,
    "fabricmanager.state": Dump.STATE.value,
    "nvlsm.conf": Dump.NVLSM_CONFIG.value,
    "guid2lid": Dump.GUID2LID.value,
    "partitions.conf": Dump.PARTITIONS_CONF.value,
    **{
        f"{program}{name}": dump.value
        for program in ("nvlsm", "opensm")
        for name, dump in (
            ("-subnet.lst", Dump.SUBNET),
            (".fdbs", Dump.FDBS),
            ("-lfts.dump", Dump.LFTS),
            (".mcfdbs", Dump.MCFDBS),
            ("-pkeys.dump", Dump.PKEYS),
        )
    },
}
"""Name of a file in a folder → label of the item that it is: the label itself, or the file's name
on the manager's host, or what OpenSM calls it."""
_BINDERS: Final = ((QUOTE_LABEL, "tdx"), (TPM_QUOTE_LABEL, "tpm"), (OPERATOR_LABEL, "x509"))
_SIMULATED: Final = "SIMULATED"
_NOTHING: Final = Absent("NOT_STATED")


@dataclass(frozen=True, slots=True)
class Stated:
    """A statement, and what is around it.

    Attributes:
        statement: what it says.
        created: when it was made, Unix seconds by its host's clock; None for a folder.
        nonce: that it answers; None for a folder.
        bound_by: ``tdx``, ``tpm``, ``x509``: what is there to bind its key, unverified.
        broken: where it contradicts its own signature or manifest.
        simulated: whether the host it is of is a simulated one.
        facts: whether anything is said of the host and its programs; a folder may lack that.
    """

    statement: FabricStatement
    created: int | None = None
    nonce: bytes | None = None
    bound_by: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    simulated: bool = False
    facts: bool = True

    def to_json(self, path: str) -> dict[str, Any]:
        """What is known of it, beside what it states."""
        return {
            "file": path,
            "created": None if self.created is None else unix_text(self.created),
            "nonce": None if self.nonce is None else self.nonce.hex(),
            "bound_by": list(self.bound_by),
            "broken": list(self.broken),
            "simulated": self.simulated,
        }

    @property
    def made(self) -> str:
        """When, for a person."""
        return "time unknown" if self.created is None else unix_text(self.created)

    @property
    def bound_text(self) -> str:
        """What is there to bind its key, for a person."""
        names = {"tdx": "a TDX quote", "tpm": "a TPM's quote", "x509": "an operator's signature"}
        if self.created is None:
            return "nothing: these are files"
        return " and ".join(names[kind] for kind in self.bound_by) or "nothing: it is unsigned"


@dataclass(frozen=True, slots=True)
class FabricFile:
    """One file or folder.

    Attributes:
        path: as named.
        stated: the statement in it; None for the bundle of a node that holds none.
        evidence: of the node; None where it is not the bundle of a node.
        observation: what the node's guest sees; None where nothing says.
        broken: where the node's bundle contradicts its own signature or manifest.
    """

    path: str
    stated: Stated | None
    evidence: Evidence | None = None
    observation: FabricObservation | None = None
    broken: tuple[str, ...] = ()

    @property
    def modules(self) -> frozenset[int] | None:
        """Module ids of all GPUs that the guest sees; None unless its driver names each one's."""
        return self.observation.modules if self.observation else None


def read_fabric_file(inputs: Inputs, path: str, source: Source = FABRIC_FILE) -> FabricFile:
    """Read a statement, the bundle of a node, or a folder of dumps.

    Raises:
        UsageError: it cannot be read, or two files of a folder are one and the same dump.
        EvidenceError: it is none of these, or malformed.
    """
    if path != STDIN and os.path.isdir(path):
        return FabricFile(path, _folder(inputs, path))
    data = inputs.read(path, source)
    with in_file(path):
        if not is_bundle(data):
            raise EvidenceError(
                f"this is no {source.name}",
                expected=source.expected,
                found=f"{len(data)} bytes, beginning {data[:16].hex()}",
                hint="put dumps of their own into a folder, and name that",
            )
        bundle = parse_bundle(data)
        stated = _stated(bundle)
        if stated is not None:
            return FabricFile(path, stated)
        itself = verify_bundle(bundle, None, freshness_waived=True)
        observation = itself.observation
        return FabricFile(
            path,
            _within(bundle),
            itself.evidence,
            parse_observation(observation) if observation is not None else None,
            _broken(itself),
        )


def read_stated(inputs: Inputs, path: str, source: Source = FABRIC_FILE) -> Stated:
    """Read a statement, wherever it is; raises as `read_fabric_file`, and if there is none."""
    found = read_fabric_file(inputs, path, source).stated
    if found is None:
        raise EvidenceError(
            "there is no statement of a fabric's manager",
            expected="a statement, or a bundle of a node that holds one",
            found="a bundle of a node without one",
            where=path,
            hint="make one with `ccverify collect --role fabric-manager` on the manager's host",
        )
    return found


def _stated(bundle: Bundle) -> Stated | None:
    items = statement_items(bundle)
    if items is None:
        return None
    manifest = bundle.manifest
    return Stated(
        read_statement(items),
        manifest.created,
        manifest.nonce,
        tuple(kind for label, kind in _BINDERS if label in bundle.items),
        _broken(verify_bundle(bundle, None, freshness_waived=True)),
        any(entry.source.startswith(_SIMULATED) for entry in manifest.items.values()),
    )


def _within(bundle: Bundle) -> Stated | None:
    """The statement that a tenant's bundle holds."""
    for label, data in bundle.of_type(ItemType.FABRIC_STATEMENT).items():
        with in_file(label):
            stated = _stated(parse_bundle(data))
            if stated is None:
                raise EvidenceError("the item is no statement of a fabric's manager",
                                    expected="an item with what a host says of its Fabric Manager",
                                    found="a bundle of something else")  # fmt: skip
            return stated
    return None


def _broken(itself: BundleAppraisal) -> tuple[str, ...]:
    return tuple(f"{f.code}: {f.found}" for f in itself.findings if f.state is State.FAIL)


def _folder(inputs: Inputs, path: str) -> Stated:
    try:
        names = sorted(os.listdir(path))
    except OSError as problem:
        raise UsageError("the folder cannot be read", found=problem.strerror, where=path) from None
    chosen: dict[str, str] = {}
    for name in names:
        label = _FILE_NAMES.get(name)
        if label is None or not os.path.isfile(os.path.join(path, name)):
            continue
        if label in chosen:
            raise UsageError("two files of the folder are one and the same dump",
                             expected=f"one {label}", found=f"{chosen[label]}, {name}",
                             where=path)  # fmt: skip
        chosen[label] = name
    if not chosen:
        raise EvidenceError(
            "the folder has no dump of a fabric's manager",
            expected="files named " + ", ".join(DUMP_LABELS) + ", or as on the manager's host",
            found=", ".join(names[:8]) or "nothing",
            where=path,
        )
    files = {label: os.path.join(path, name) for label, name in chosen.items()}
    items = {label: inputs.read(file, _DUMP) for label, file in files.items()}
    known = FACTS_LABEL in items
    if not known:
        unknown = ManagerFacts(_NOTHING, _NOTHING, _NOTHING, _NOTHING, (), _NOTHING)
        items[FACTS_LABEL] = serialize_manager(unknown)
    with in_file(path):
        return Stated(read_statement(items), facts=known)
