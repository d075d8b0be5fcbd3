"""Sources of evidence that do as they are told, for tests of collection as a whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from ccverify.bundle.items import DeviceItem, encode_device
from ccverify.collect.model import Absence, AbsenceReason, Ask, Item, ItemType, Outcome, Stage
from ccverify.collect.session import World

NONCE = bytes(range(32))
NOW = 1_790_000_000


class Fake:
    """Gives what it is made with: outcomes, or a function of what it is asked."""

    def __init__(
        self,
        name: str,
        gives: Sequence[str],
        result: Iterable[Any] | Callable[[Ask], Iterable[Any]] = (),
        *,
        stage: Stage = Stage.DEVICES,
        ailing: Sequence[Absence] = (),
    ) -> None:
        self.name = name
        self.gives = tuple(gives)
        self.stage = stage
        self._result = result
        self._ailing = ailing
        self.asked: list[Ask] = []

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        self.asked.append(ask)
        result = self._result(ask) if callable(self._result) else self._result
        return list(result)

    def diagnose(self) -> Sequence[Absence]:
        return self._ailing


class Hanging(Fake):
    """Never comes back, until it is let go."""

    def __init__(self, name: str, gives: Sequence[str], stage: Stage = Stage.DEVICES) -> None:
        super().__init__(name, gives, stage=stage)
        self.let_go = threading.Event()
        self.gone = threading.Event()

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        self.let_go.wait()
        self.gone.set()
        return [item(label) for label in self.gives]

    def diagnose(self) -> Sequence[Absence]:
        self.let_go.wait()
        return ()


class Extending(Fake):
    """Registers that can be extended."""

    def __init__(self, result: bytes | Absence | BaseException) -> None:
        super().__init__("registers", ["td-measurements"], [item("td-measurements")],
                         stage=Stage.LOGS)  # fmt: skip
        self.extension = result
        self.extended: list[bytes] = []

    def extend(self, digest: bytes) -> bytes | Absence:
        self.extended.append(digest)
        if isinstance(self.extension, BaseException):
            raise self.extension
        return self.extension


TYPES = {
    "ccel": ItemType.CCEL,
    "dstack-log": ItemType.DSTACK_LOG,
    "td-measurements": ItemType.TD_MEASUREMENTS,
    "fabric": ItemType.FABRIC_OBSERVATION,
    "tdx-quote": ItemType.TDX_QUOTE,
}


def item(label: str, data: bytes | None = None, source: str = "fake") -> Item:
    """An item of the type its label suggests; a device's is a device's."""
    if label.startswith("gpu"):
        return Item(label, ItemType.NVIDIA_GPU, data or device(label), source)
    if label.startswith("nvswitch"):
        return Item(label, ItemType.NVIDIA_SWITCH, data or device(label), source)
    return Item(label, TYPES[label], data or b"evidence", source)


def device(name: str, *, uuid: str | None = None, chain: bytes | None = None) -> bytes:
    certificate = f"-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n"
    return encode_device(DeviceItem(b"report", chain or certificate.encode(), uuid=uuid))


def absence(
    label: str, reason: AbsenceReason = AbsenceReason.NOT_PRESENT, source: str = "fake"
) -> Absence:
    return Absence(label, reason, f"{label} is not there", f"get {label}", source)


def quotes(data: Callable[[bytes], bytes] = lambda report_data: b"quote " + report_data) -> Fake:
    """A source of quotes that hold REPORTDATA."""

    def result(ask: Ask) -> list[Item]:
        assert ask.report_data is not None
        return [item("tdx-quote", data(ask.report_data), "fake quotes")]

    return Fake("quotes", ["tdx-quote"], result, stage=Stage.QUOTE)


def node(gpus: int = 2) -> list[Fake]:
    """A machine that has everything."""
    return [
        Fake("gpus", ["gpu"], [item(f"gpu-{n}", source="gpus") for n in range(gpus)]),
        Fake("fabric", ["fabric"], [item("fabric", b"{}")]),
        Fake("logs", ["ccel"], [item("ccel")], stage=Stage.LOGS),
        quotes(),
    ]


KEY = ec.derive_private_key(7, ec.SECP384R1())
STILL = World(new_key=lambda: KEY, clock=lambda: 0.0, now=lambda: NOW, deterministic=True)
"""A world in which no time passes and nothing is random."""


def hasty(grace: float = 0.05) -> World:
    """The real world, with little patience beyond the deadline."""
    return World(grace=grace)
