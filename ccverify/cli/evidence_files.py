"""Evidence named on the command line: quotes, responses of services, device reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ccverify.bundle.package import MAX_BUNDLE_BYTES, is_bundle
from ccverify.cli.inputs import EVENT_LOG, Inputs, Source, in_file
from ccverify.errors import EvidenceError, UsageError
from ccverify.evidence import BindingInputs, BindingProfile, DeviceEvidence, Evidence
from ccverify.interop.chutes import parse_instance_keys, with_instance_keys
from ccverify.interop.detect import parse_foreign_evidence
from ccverify.interop.elements import MAX_DOCUMENT_BYTES
from ccverify.interop.model import ForeignEvidence

__all__ = ["EVIDENCE", "FABRIC_STATEMENT", "EvidenceFiles", "Loaded", "read_evidence"]

EVIDENCE = Source(
    "evidence",
    MAX_BUNDLE_BYTES,
    EvidenceError,
    "a bundle, a TDX quote (raw, hex or base64), or the response of a service as it came",
    may_be_empty=True,
)
FABRIC_STATEMENT = Source(
    "fabric statement",
    MAX_BUNDLE_BYTES,
    EvidenceError,
    "what `ccverify collect --role fabric-manager` wrote",
)
_CHAIN = Source("certificate chain", 128 * 1024, EvidenceError, "a PEM certificate chain")
_REPORT = Source("device report", 64 * 1024, EvidenceError, "a report: raw, hex or base64")
_INSTANCES = Source("list of instances", MAX_DOCUMENT_BYTES, EvidenceError, "Chutes' list, JSON")

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SPACE_BEFORE = 4096
"""Bytes within which a JSON document must begin."""
_NO_QUOTE = (b"\0", b"\xff\xfe", b"\xfe\xff")
"""How a dstack attestation begins, and JSON that a shell wrote as UTF-16; no quote does."""

BUNDLE_FORMAT = "ccverify-bundle"
QUOTE_FORMAT = "tdx-quote"
"""What a bare quote is called where formats have names."""


@dataclass(frozen=True, slots=True)
class EvidenceFiles:
    """What the command line names.

    Attributes:
        files: quotes and responses; together they are one node, unless there is but one file.
        event_log: the log of the quote.
        gpus: report and certificate chain of each GPU.
        switches: report and certificate chain of each NVSwitch.
        instances: Chutes' list of instances, with their end-to-end keys.
        statements: of the manager of the GPUs' fabric.
    """

    files: tuple[str, ...]
    event_log: str | None = None
    gpus: tuple[tuple[str, str], ...] = ()
    switches: tuple[tuple[str, str], ...] = ()
    instances: str | None = None
    statements: tuple[str, ...] = ()

    @property
    def alone(self) -> bool:
        """Whether nothing of the node is named but files."""
        return not (self.event_log or self.gpus or self.switches or self.instances)

    def wanted(self) -> list[tuple[str | None, Source]]:
        """Every path and what it should hold, for `Inputs.plan`."""
        devices = [
            pair
            for report, chain in (*self.gpus, *self.switches)
            for pair in ((report, _REPORT), (chain, _CHAIN))
        ]
        return [
            *((path, EVIDENCE) for path in self.files),
            (self.event_log, EVENT_LOG),
            (self.instances, _INSTANCES),
            *devices,
            *((path, FABRIC_STATEMENT) for path in self.statements),
        ]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was read: a bundle; or nodes, their format, and paths of what was left aside.

    Beside either of them there may be statements of the manager of the GPUs' fabric.
    """

    nodes: tuple[Evidence, ...]
    source_format: str
    not_read: tuple[str, ...] = ()
    bundle: bytes | None = None
    statements: tuple[bytes, ...] = ()


def read_evidence(inputs: Inputs, named: EvidenceFiles) -> Loaded:
    """Read everything named.

    Raises:
        UsageError: a file cannot be read, or several files that are not parts of one node.
        EvidenceError: a response is malformed, or of no known format; a statement is empty or
            too large.  What else is wrong with a statement is a finding of the verdict.
    """
    loaded = _read_nodes(inputs, named)
    statements = tuple(inputs.read(path, FABRIC_STATEMENT) for path in named.statements)
    return replace(loaded, statements=statements) if statements else loaded


def _read_nodes(inputs: Inputs, named: EvidenceFiles) -> Loaded:
    if len(named.files) == 1 and named.alone:
        data = inputs.read(named.files[0], EVIDENCE)
        if is_bundle(data):
            return Loaded((), BUNDLE_FORMAT, bundle=data)
        documents = [_parsed(data, named.files[0])]
    else:
        documents = [_read(inputs, path) for path in named.files]
    if named.instances is not None:
        documents = _with_keys(inputs, named.instances, documents)
    devices = Evidence(
        event_log=inputs.read(named.event_log, EVENT_LOG) if named.event_log else None,
        gpus=_devices(inputs, named.gpus),
        switches=_devices(inputs, named.switches),
    )
    not_read = tuple(path for document in documents for path in document.not_read)
    name = " + ".join(dict.fromkeys(document.format for document in documents)) or "device reports"
    if len(documents) == 1 and devices == Evidence():
        return Loaded(documents[0].nodes, name, not_read)
    nodes = [node for document in documents for node in document.nodes]
    if any(len(document.nodes) != 1 for document in documents):
        raise UsageError(
            "several files are the parts of one node, and one of them holds several nodes or none",
            expected="files with one node each",
            found=", ".join(str(len(document.nodes)) for document in documents),
            hint="check a response with several nodes by itself",
        )
    return Loaded((_joined([*nodes, devices]),), name, not_read)


def _read(inputs: Inputs, path: str) -> ForeignEvidence:
    data = inputs.read(path, EVIDENCE)
    if is_bundle(data):
        raise UsageError(
            "a bundle is a node by itself",
            expected="the bundle alone",
            found=f"{path} beside other evidence",
        )
    return _parsed(data, path)


def _parsed(data: bytes, path: str) -> ForeignEvidence:
    data = data.removeprefix(_BYTE_ORDER_MARK)
    if data[:_SPACE_BEFORE].lstrip().startswith((b"{", b"[")) or data.startswith(_NO_QUOTE):
        with in_file(path):
            return parse_foreign_evidence(data)
    return ForeignEvidence(QUOTE_FORMAT, (Evidence(data),))


def _with_keys(
    inputs: Inputs, path: str, documents: Sequence[ForeignEvidence]
) -> list[ForeignEvidence]:
    """Add the keys of a list of instances.

    Raises:
        UsageError: the list and the responses have no instance in common.  The service lists
            some instances and not others, but a list without any is that of another model.
    """
    data = inputs.read(path, _INSTANCES)
    with in_file(path):
        keys = parse_instance_keys(data)
        completed = [with_instance_keys(document, keys) for document in documents]
    labels = [node.label for document in documents for node in document.nodes]
    if keys.keys().isdisjoint(labels):
        raise UsageError(
            "the list of instances is not of this response",
            expected="an instance that is in both",
            found=f"{len(keys)} in the list, {len(labels)} nodes in the response, none in both",
            where=path,
            hint="take the list of the same model, fetched together with its evidence",
        )
    return completed


def _devices(inputs: Inputs, pairs: Sequence[tuple[str, str]]) -> tuple[DeviceEvidence, ...]:
    return tuple(
        DeviceEvidence(
            inputs.read(report, _REPORT), inputs.read(chain, _CHAIN), None, None, source=report
        )
        for report, chain in pairs
    )


def _joined(parts: Sequence[Evidence]) -> Evidence:
    """One node of several parts, each of which holds what the others lack."""
    quotes = [part.quote for part in parts if part.quote]
    logs = [part.event_log for part in parts if part.event_log is not None]
    others = [part.other_cpu for part in parts if part.other_cpu is not None]
    for what, found in (("quote", quotes), ("event log", logs), ("other CPU report", others)):
        if len(found) > 1:
            raise UsageError(
                f"the files of one node hold more than one {what}",
                expected=f"one {what}",
                found=str(len(found)),
            )
    first = next((part for part in parts if part.label), parts[0])
    return replace(
        first,
        quote=quotes[0] if quotes else None,
        event_log=logs[0] if logs else None,
        gpus=tuple(device for part in parts for device in part.gpus),
        switches=tuple(device for part in parts for device in part.switches),
        other_cpu=others[0] if others else None,
        binding=_binding([part.binding for part in parts]),
    )


def _binding(parts: Sequence[BindingInputs]) -> BindingInputs:
    """The one part that says more than a nonce; or the nonce that the parts state."""
    own = [part for part in parts if part.profile is not BindingProfile.RAW_NONCE]
    if len(own) > 1:
        raise UsageError(
            "the files of one node are bound in more than one way",
            expected="one response beside device evidence",
            found=", ".join(part.profile.value for part in own),
        )
    if own:
        return own[0]
    nonces = {part.request_nonce for part in parts if part.request_nonce is not None}
    if len(nonces) > 1:
        raise UsageError(
            "the files of one node answer more than one nonce",
            expected="evidence that was asked for together",
            found=", ".join(sorted(nonce.hex() for nonce in nonces)),
        )
    return BindingInputs(BindingProfile.RAW_NONCE, request_nonce=next(iter(nonces), None))
