"""The chip families whose devices are simulated, as one table.

Names, dates and forms are those of genuine certificate chains; NVIDIA publishes no profile.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

__all__ = ["CHIPS", "GB20X", "GB100", "GH100", "LS10", "Chip", "FwidForm"]

FwidForm = Literal["composite-device-id", "dice-tcb-info"]
"""How the attestation-key certificate states the firmware id."""


def _day(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One chip family.

    Attributes:
        name: in common names: ``GH100``, ``LS_10``.
        architecture: what evidence formats call it: ``HOPPER``, ``BLACKWELL``, ``LS10``.
        engine: of the chip, which holds the keys: ``GSP`` or ``FSP``.
        type_byte: first byte of the identity certificate's serial number, before the PDI.
        identity_ca, provisioner: common names of certificates [3] and [2].
        crl: name of the identity CA's revocation list.
        fwid_form: see `FwidForm`.
        identity_ocsp: whether certificate [1] names an OCSP responder.
        tcb_version, tcb_svn: of DiceTcbInfo.
        since: certificates [0] to [2] are valid from then; ca_since: certificate [3].
        rim_model: the chip in reference manifests, ``GB202`` for the family GB20X.
        rim_names: common names below the RIM root, signer first.
        gpu_info: opaque field GPU_INFO, 8 bytes; empty for a switch.
    """

    name: str
    architecture: str
    engine: str
    type_byte: int
    identity_ca: str
    provisioner: str
    crl: str
    fwid_form: FwidForm
    identity_ocsp: bool
    tcb_version: str = ""
    tcb_svn: int = 0
    since: datetime
    provisioner_since: datetime
    ca_since: datetime
    rim_model: str
    rim_names: tuple[str, str, str]
    gpu_info: bytes = b""

    @property
    def prefix(self) -> str:
        """Chip, stepping and engine, as in ``GH100 A01 GSP``."""
        return f"{self.name} A01 {self.engine}"

    @property
    def is_switch(self) -> bool:
        """Whether it is an NVSwitch."""
        return not self.gpu_info


GH100 = Chip(
    name="GH100",
    architecture="HOPPER",
    engine="GSP",
    type_byte=0x41,
    identity_ca="NVIDIA GH100 Identity",
    provisioner="NVIDIA GH100 Provisioner ICA 1",
    crl="l2-gh100",
    fwid_form="composite-device-id",
    identity_ocsp=False,
    since=_day(2020, 10, 17),
    provisioner_since=_day(2022, 3, 1),
    ca_since=_day(2022, 1, 12),
    rim_model="GH100",
    rim_names=(
        "HCC RIM L4 Signer",
        "NVIDIA Reference Value L3 GH100 002",
        "NVIDIA Reference Value GH100 CA",
    ),
    gpu_info=bytes.fromhex("8001000000000000"),
)
LS10 = Chip(
    name="LS_10",
    architecture="LS10",
    engine="FSP",
    type_byte=0x50,
    identity_ca=GH100.identity_ca,
    provisioner="NVIDIA LS_10 Provisioner ICA 1",
    crl=GH100.crl,
    fwid_form="composite-device-id",
    identity_ocsp=False,
    since=GH100.since,
    provisioner_since=GH100.provisioner_since,
    ca_since=GH100.ca_since,
    rim_model="LS10",
    rim_names=(
        "NVIDIA Reference Value L4 LS10",
        "NVIDIA Reference Value L3 LS10 001",
        "NVIDIA Reference Value LS10 CA",
    ),
)
GB100 = Chip(
    name="GB100",
    architecture="BLACKWELL",
    engine="GSP",
    type_byte=0x41,
    identity_ca="NVIDIA GB100 Identity",
    provisioner="NVIDIA GB100 Provisioner ICA 00000",
    crl="l2-gb100",
    fwid_form="dice-tcb-info",
    identity_ocsp=True,
    tcb_version="01",
    tcb_svn=1,
    since=_day(2023, 6, 20),
    provisioner_since=_day(2023, 6, 20),
    ca_since=_day(2023, 1, 1),
    rim_model="GB100",
    rim_names=(
        "RIM L4 Signer",
        "NVIDIA Reference Value L3 GB100-CC 001",
        "NVIDIA Reference Value GB1XX CA 001",
    ),
    gpu_info=bytes.fromhex("a001000000000000"),
)
GB20X = Chip(
    name="GB20X",
    architecture="BLACKWELL",
    engine="GSP",
    type_byte=0x41,
    identity_ca="NVIDIA GB20X Identity",
    provisioner="NVIDIA GB202 Provisioner ICA 00000",
    crl="l2-gb20x",
    fwid_form="dice-tcb-info",
    identity_ocsp=True,
    tcb_version="02",
    tcb_svn=2,
    since=GB100.since,
    provisioner_since=GB100.provisioner_since,
    ca_since=GB100.ca_since,
    rim_model="GB202",
    rim_names=(
        "RIM L4 Signer",
        "NVIDIA Reference Value L3 GB202-CC 001",
        "NVIDIA Reference Value GB2XX CA 001",
    ),
    gpu_info=bytes.fromhex("b001000002000000"),
)

CHIPS: dict[str, Chip] = {chip.name: chip for chip in (GH100, LS10, GB100, GB20X)}
"""Name in certificates → chip."""
