"""What a verdict bundle holds: a verdict, and every file and value it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from hashlib import sha384
from typing import Final

from ccverify.trust.store import TrustKind

__all__ = ["FILE_LISTS", "Request", "Role", "StoredFile", "VerdictBundle"]


class Role(str, Enum):
    """What a file is to the judgement."""

    DOCUMENT = "document"
    """A quote, a response, or a bundle, as named on its own."""
    EVENT_LOG = "event-log"
    GPU_REPORT = "gpu-report"
    GPU_CHAIN = "gpu-chain"
    NVSWITCH_REPORT = "nvswitch-report"
    NVSWITCH_CHAIN = "nvswitch-chain"
    INSTANCES = "instances"
    FABRIC_STATEMENT = "fabric-statement"
    """What the manager of the GPUs' fabric states, beside the evidence of the node."""
    COLLATERAL = "collateral"
    WHAT_IF = "what-if"
    """Collateral of another day, beside which the verdict stays as it is."""
    POLICY = "policy"
    INTEL_ROOT = "intel-root"
    NVIDIA_DEVICE_ROOT = "nvidia-device-root"
    NVIDIA_RIM_ROOT = "nvidia-rim-root"


FILE_LISTS: Final[Mapping[str, frozenset[Role]]] = {
    "policy": frozenset({Role.POLICY}),
    "evidence": frozenset(
        {
            Role.DOCUMENT,
            Role.EVENT_LOG,
            Role.GPU_REPORT,
            Role.GPU_CHAIN,
            Role.NVSWITCH_REPORT,
            Role.NVSWITCH_CHAIN,
            Role.INSTANCES,
            Role.FABRIC_STATEMENT,
        }
    ),
    "collateral": frozenset({Role.COLLATERAL, Role.WHAT_IF}),
    "trust-roots": frozenset({Role.INTEL_ROOT, Role.NVIDIA_DEVICE_ROOT, Role.NVIDIA_RIM_ROOT}),
}
"""Member of ``inputs`` → the roles of the files it lists, in this order."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that entered the judgement.

    Attributes:
        role: what it is.
        name: path as the verifier was given it; verdicts repeat it.
        sha384: digest of the content, 48 bytes.
        size: length of the content.
        data: the content; None where the bundle has only the digest.
        in_folder: whether a folder was named, and this file found in it.
    """

    role: Role
    name: str
    sha384: bytes
    size: int
    data: bytes | None = field(default=None, repr=False)
    in_folder: bool = False

    @classmethod
    def of(cls, role: Role, name: str, data: bytes, *, embed: bool = True,
           in_folder: bool = False) -> StoredFile:  # fmt: skip
        """Record a file, whole or by its digest."""
        digest = sha384(data).digest()
        return cls(role, name, digest, len(data), data if embed else None, in_folder)

    @property
    def problem(self) -> str | None:
        """Why the content is not what digest and size say; None if it is, or is not here."""
        if self.data is None:
            return None
        if len(self.data) != self.size:
            return f"{len(self.data)} bytes instead of {self.size}"
        return None if sha384(self.data).digest() == self.sha384 else "another SHA-384"


@dataclass(frozen=True, slots=True)
class Request:
    """What the relying party asked for.

    Attributes:
        nonce: its nonce, if it had one.
        report_data: all 64 bytes of REPORTDATA that it expected instead.
        channel: what it saw of the connection.
        at: evaluation time, UTC, whole seconds.
        epoch: 32 bytes that statements of a fabric's manager may answer in place of the nonce.
    """

    nonce: bytes | None
    report_data: bytes | None
    channel: Mapping[str, str]
    at: datetime
    epoch: bytes | None = None


@dataclass(frozen=True, slots=True)
class VerdictBundle:
    """A verdict and what it was made from.

    Attributes:
        verdict: the verdict, byte for byte as `Verdict.dumps` or `VerdictSet.dumps` gave it.
        request: what was asked.
        policy: the policy document; always whole.
        evidence: in the order in which the verifier was given it.
        collateral: likewise.
        trust_kind: of the trust store.
        trust_sha384: digest of the trust store, hex.
        trust_roots: roots that are not pinned in ccverify; always whole.
        verifier: name and version of the program that judged.
    """

    verdict: bytes
    request: Request
    policy: StoredFile
    evidence: tuple[StoredFile, ...]
    collateral: tuple[StoredFile, ...]
    trust_kind: TrustKind
    trust_sha384: str
    verifier: str
    trust_roots: tuple[StoredFile, ...] = ()

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """Every file, the policy first."""
        return (self.policy, *self.evidence, *self.collateral, *self.trust_roots)

    @property
    def is_whole(self) -> bool:
        """Whether everything is here that judging again needs."""
        return all(file.data is not None for file in self.files)

    def digest_problems(self) -> tuple[str, ...]:
        """Files whose content is not what the bundle says of it, each with the reason."""
        return tuple(
            f"{file.role.value} {file.name}: {file.problem}"
            for file in self.files
            if file.problem is not None
        )
