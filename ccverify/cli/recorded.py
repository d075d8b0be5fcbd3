"""Inputs that are kept while they are read, and inputs that are read from what was kept.

A judgement that is to be repeated must see the same bytes under the same names.  Both classes
stand in for `Inputs`, so that reading evidence and collateral is one piece of code.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable

from ccverify.cli.evidence_files import EvidenceFiles
from ccverify.cli.inputs import Inputs, Source
from ccverify.errors import UsageError
from ccverify.results.emitted_model import Role, StoredFile

__all__ = ["RecordingInputs", "ReplayedInputs", "evidence_roles", "named_evidence"]

_COLLATERAL = "collateral"
_APART = frozenset({_COLLATERAL, "policy", "nonce", "trust root"})
"""Kinds of input that are no evidence; one path may be read as several of these."""

Kept = dict[tuple[str, str], deque[bytes]]


def _kind(source: Source) -> str:
    return source.name if source.name in _APART else "evidence"


def _next(waiting: deque[bytes]) -> bytes:
    """The earliest that is waiting; the last one stays, as a file can be read again."""
    return waiting.popleft() if len(waiting) > 1 else waiting[0]


class RecordingInputs(Inputs):
    """Reads as `Inputs` does, and keeps what it read."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        super().__init__()
        self._kept: Kept = defaultdict(deque)

    def read(self, path: str, source: Source) -> bytes:
        """Read and keep; raises as `Inputs.read`."""
        data = super().read(path, source)
        self._kept[_kind(source), path].append(data)
        return data

    def take(self, path: str, source: Source) -> bytes:
        """Return what was read of this path for this purpose, the earliest first."""
        return _next(self._kept[_kind(source), path])


class ReplayedInputs(Inputs):
    """Has the files of a verdict bundle, and touches no other."""

    __slots__ = ("_files",)

    def __init__(self, files: Iterable[StoredFile]) -> None:
        super().__init__()
        self._files: Kept = defaultdict(deque)
        for file in files:
            kind = _COLLATERAL if file.role in (Role.COLLATERAL, Role.WHAT_IF) else "evidence"
            self._files[kind, file.name].append(file.data or b"")

    def read(self, path: str, source: Source) -> bytes:
        """Return the file of that name.

        Raises:
            UsageError: the bundle has no such file.
            CcverifyError: `source.error`, for a file that is larger than this kind may be.
        """
        waiting = self._files[_kind(source), path]
        if not waiting:
            raise UsageError("the verdict bundle lacks a file that is needed", where=path)
        data = _next(waiting)
        if len(data) > source.limit:
            raise source.error(f"{source.name} is too large", found=str(len(data)), where=path)
        return data


def evidence_roles(named: EvidenceFiles) -> list[tuple[Role, str, Source]]:
    """What the command line names, in the order in which a bundle lists it."""
    roles = [Role.DOCUMENT] * len(named.files) + [Role.EVENT_LOG, Role.INSTANCES]
    roles += [Role.GPU_REPORT, Role.GPU_CHAIN] * len(named.gpus)
    roles += [Role.NVSWITCH_REPORT, Role.NVSWITCH_CHAIN] * len(named.switches)
    roles += [Role.FABRIC_STATEMENT] * len(named.statements)
    return [
        (role, path, source)
        for role, (path, source) in zip(roles, named.wanted(), strict=True)
        if path is not None
    ]


def named_evidence(files: Iterable[StoredFile]) -> EvidenceFiles:
    """What the command line named, from the evidence of a bundle.

    Raises:
        UsageError: reports without chains, or more than one event log or list of instances.
    """
    by_role: dict[Role, list[str]] = defaultdict(list)
    for file in files:
        by_role[file.role].append(file.name)
    pairs = []
    for report, chain in ((Role.GPU_REPORT, Role.GPU_CHAIN),
                          (Role.NVSWITCH_REPORT, Role.NVSWITCH_CHAIN)):  # fmt: skip
        if len(by_role[report]) != len(by_role[chain]):
            raise UsageError("the verdict bundle has reports without certificate chains")
        pairs.append(tuple(zip(by_role[report], by_role[chain], strict=True)))
    single = {}
    for role in (Role.EVENT_LOG, Role.INSTANCES):
        if len(by_role[role]) > 1:
            raise UsageError(f"the verdict bundle has more than one {role.value}")
        single[role] = by_role[role][0] if by_role[role] else None
    return EvidenceFiles(
        tuple(by_role[Role.DOCUMENT]),
        single[Role.EVENT_LOG],
        pairs[0],
        pairs[1],
        single[Role.INSTANCES],
        tuple(by_role[Role.FABRIC_STATEMENT]),
    )
