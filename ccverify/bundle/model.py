"""What a bundle is made of: items, and absences with a reason.

A part that is not there is data too: an `Absence` says why and what to do, so that a bundle can
never silently lack a part.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Absence", "AbsenceReason", "Item", "ItemType", "Outcome"]


class ItemType(str, Enum):
    """Media types of the items of a bundle (docs/spec/bundle.md)."""

    TDX_QUOTE = "application/vnd.ccverify.tdx-quote"
    """A TDX quote, raw."""
    CCEL = "application/vnd.ccverify.ccel"
    """The log area of the ACPI table CCEL, raw."""
    CCEL_TABLE = "application/vnd.ccverify.ccel-table"
    """The ACPI table CCEL itself, raw."""
    DSTACK_LOG = "application/vnd.ccverify.dstack-log+json"
    """The event log as the dstack guest agent returns it."""
    DSTACK_INFO = "application/vnd.ccverify.dstack-info+json"
    """What the dstack guest agent says of the application: asserted."""
    TD_MEASUREMENTS = "application/vnd.ccverify.td-measurements+json"
    """Registers as the guest kernel shows them in sysfs: name → hex."""
    TDREPORT = "application/vnd.ccverify.tdreport"
    """A TDREPORT, raw: for diagnosis alone, no remote party can verify it."""
    NVIDIA_GPU = "application/vnd.ccverify.nvidia-gpu+cbor"
    """Report and certificate chain of a GPU (`ccverify.bundle.items`)."""
    NVIDIA_SWITCH = "application/vnd.ccverify.nvidia-nvswitch+cbor"
    """The same of an NVSwitch."""
    FABRIC_OBSERVATION = "application/vnd.ccverify.fabric-observation+json"
    """What NVML says of GPUs, links and fabric (`ccverify.fabric.observation`)."""
    FABRIC_PROBE = "application/vnd.ccverify.fabric-probe+json"
    """What the guest measured over NVLink (`ccverify.fabric.probe`)."""
    FABRIC_STATEMENT = "application/vnd.ccverify.fabric-statement+cose"
    """A statement of the fabric's manager: a bundle by itself (docs/spec/fabric-statement.md)."""
    FABRIC_MANAGER = "application/vnd.ccverify.fabric-manager+json"
    """What a host says of its Fabric Manager (`ccverify.fabric.manager`)."""
    FABRIC_DUMP = "application/vnd.ccverify.fabric-dump"
    """A file or table of the manager, raw; its label says which (`ccverify.fabric.statement`)."""
    TPM_QUOTE = "application/vnd.ccverify.tpm-quote+cbor"
    """A TPM 2.0 quote with its key and PCRs (`ccverify.tpm`)."""
    OPERATOR_SIGNATURE = "application/vnd.ccverify.operator-signature+cose"
    """The signature of an operator's X.509 key (`ccverify.bundle.endorsement`)."""


class AbsenceReason(str, Enum):
    """Why a part is not there."""

    NOT_PRESENT = "not-present"
    """The machine has no such thing."""
    NOT_SUPPORTED = "not-supported"
    """It is there, and this driver or kernel cannot do it."""
    CC_OFF = "cc-off"
    """The GPU is there, and confidential computing is off."""
    NO_PERMISSION = "no-permission"
    NO_DRIVER = "no-driver"
    NO_LIBRARY = "no-library"
    """A package or shared library is missing."""
    TIMEOUT = "timeout"
    FAILED = "failed"
    """It was tried and went wrong; the text says how."""
    NOT_ASKED = "not-asked"
    """The user left it out (``--only``)."""


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of evidence.

    Attributes:
        label: unique in the bundle: ``tdx-quote``, ``gpu-0``, ``nvswitch-3``, ``ccel`` ...
        type: what `data` is.
        data: the bytes.
        source: where it came from, for people: ``configfs-tsm``, ``NVML 580.95.05`` ...
    """

    label: str
    type: ItemType
    data: bytes
    source: str


@dataclass(frozen=True, slots=True)
class Absence:
    """A part that is not there.

    Attributes:
        label: what it would have been called.
        reason: why, by type.
        text: why, in words: what was expected and what was found.
        remedy: what to do about it.
        source: who looked.
    """

    label: str
    reason: AbsenceReason
    text: str
    remedy: str
    source: str


Outcome = Item | Absence
