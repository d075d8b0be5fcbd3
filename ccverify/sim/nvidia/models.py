"""Fictitious products: what all devices of one kind, firmware and driver have in common.

Which indices a driver or firmware manifest speaks of, how many alternatives it allows, and
which measurements are zero is as in genuine manifests and reports; for Blackwell drivers, of
which no manifest is public, it is made up.  The values themselves are digests of labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from ccverify.sim.nvidia.chips import GB20X, GB100, GH100, LS10, Chip
from ccverify.sim.nvidia.opaque import FEATURE_FLAGS, GpuFields
from ccverify.sim.nvidia.pki import SimNvidiaIssuer
from ccverify.sim.nvidia.rim import GoldenValue, RimSpec

__all__ = [
    "B200",
    "B300",
    "H100",
    "H200",
    "NVSWITCH3",
    "RTX_PRO_6000",
    "GpuModel",
    "SwitchModel",
]

_GPU_BLOCKS = 64
_SWITCH_BLOCKS = 31
_RIM_RESOURCES = 64
_NVDEC0 = 35  # RIM index that means nothing where NVDEC0 is disabled

_Alternatives = Mapping[int, int]
"""RIM index → number of golden values."""


def _span(*spans: tuple[int, int], **more: int) -> dict[int, int]:
    """Indices first to last with one alternative; ``i23=2`` states another number."""
    one = {index: 1 for first, last in spans for index in range(first, last + 1)}
    return one | {int(name[1:]): count for name, count in more.items()}


def _zeros(*spans: tuple[int, int]) -> frozenset[int]:
    return frozenset(_span(*spans))


@dataclass(frozen=True, slots=True)
class _Layout:
    """What a chip family measures, by RIM index."""

    driver: _Alternatives
    firmware: _Alternatives
    zero: frozenset[int]


_BLACKWELL_FIRMWARE = _span((0, 13), (15, 20), i6=2, i19=2, i20=2)
_LAYOUTS = {
    GH100.name: _Layout(
        _span((7, 7), (21, 40), i23=2, i24=2, i32=2, i33=2, i34=2, i35=4, i36=3),
        _span((0, 6), (8, 12), i12=4),
        _zeros((0, 0), (8, 8), (10, 10), (13, 20), (23, 24), (28, 28), (42, 63)),
    ),
    GB100.name: _Layout(
        _span((21, 22), (25, 27), (29, 33), (35, 41), i35=4, i36=3),
        _BLACKWELL_FIRMWARE,
        _zeros((0, 1), (5, 5), (7, 7), (9, 10), (16, 16), (23, 24), (28, 28), (34, 34), (42, 63)),
    ),
    GB20X.name: _Layout(
        _span((35, 35), (40, 42), (45, 50), (52, 61), (63, 63), i41=2),
        _BLACKWELL_FIRMWARE,
        _zeros((0, 0), (5, 5), (7, 7), (9, 10), (15, 16), (19, 39), (43, 44), (51, 51), (62, 62)),
    ),
    LS10.name: _Layout(
        {},
        _span((0, 8), (26, 30)) | dict.fromkeys(range(9, 26), 4),
        _zeros((7, 7), (9, 9), (12, 13), (15, 17), (27, 30)),
    ),
}


def _digest(*parts: object) -> bytes:
    text = " ".join(("ccverify simulation:", *map(str, parts)))
    return hashlib.sha384(text.encode("utf-8")).digest()


def _golden(
    scope: str, alternatives: _Alternatives, zero: frozenset[int]
) -> dict[int, GoldenValue]:
    """Return the active golden values; the last alternative is the one that is measured."""
    golden = {}
    for index, count in alternatives.items():
        values = [_digest(scope, index, number) for number in range(count)]
        if index in zero:
            values[-1] = bytes(48)
        golden[index] = GoldenValue(index, tuple(values))
    return golden


def _resources(golden: Mapping[int, GoldenValue]) -> tuple[GoldenValue, ...]:
    """Return a full list of Resources: an index without a golden value is an inactive zero."""
    return tuple(
        golden.get(index, GoldenValue(index, active=False)) for index in range(_RIM_RESOURCES)
    )


def _measured(
    name: str, blocks: int, golden: Mapping[int, GoldenValue], zero: frozenset[int]
) -> tuple[bytes, ...]:
    """Return what is measured: a golden value, zero, or state of which no manifest speaks."""
    values = []
    for index in range(blocks):
        if index in golden:
            values.append(golden[index].values[-1])
        else:
            values.append(bytes(48) if index in zero else _digest(name, "state", index))
    return tuple(values)


def _counts(values: tuple[bytes, ...], size: int) -> tuple[int, ...]:
    """Return a count for each measurement: none where nothing was measured."""
    counts = [1 + index % 3 if any(value) else 0 for index, value in enumerate(values)]
    return tuple(counts[:size])


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuModel:
    """All GPUs of one board, VBIOS and driver.

    Attributes:
        chip: its family.
        driver: driver version.
        vbios: VBIOS version, upper-case hexadecimal.
        project, project_sku, chip_sku: the board.
        board_id, cpr_info, sys_enable_status: undocumented opaque fields.
        project_sku_mod: of the board.
        nvdec0_enabled: where it is not, what index 35 measures has no golden value.
    """

    chip: Chip
    driver: str
    vbios: str
    project: str
    project_sku: str
    chip_sku: str
    board_id: bytes
    cpr_info: bytes
    sys_enable_status: bytes | None = None
    project_sku_mod: str = ""
    nvdec0_enabled: bool = False

    @property
    def board(self) -> str:
        """Project, project SKU and chip SKU, as in the id of a VBIOS manifest."""
        return f"{self.project}_{self.project_sku}_{self.chip_sku}"

    @property
    def fwid(self) -> bytes:
        """The firmware id, 48 bytes."""
        return _digest(self.chip.name, "FMC", self.vbios)

    def driver_golden(self) -> dict[int, GoldenValue]:
        """Return the driver's golden values by RIM index."""
        layout = _LAYOUTS[self.chip.name]
        return _golden(f"{self.chip.name} driver {self.driver}", layout.driver, layout.zero)

    def vbios_golden(self) -> dict[int, GoldenValue]:
        """Return the VBIOS's golden values by RIM index."""
        layout = _LAYOUTS[self.chip.name]
        return _golden(f"{self.board} VBIOS {self.vbios}", layout.firmware, layout.zero)

    def measurements(self) -> tuple[bytes, ...]:
        """Return the 64 values an honest GPU reports."""
        golden = self.driver_golden() | self.vbios_golden()
        if not self.nvdec0_enabled:
            golden.pop(_NVDEC0, None)
        zero = _LAYOUTS[self.chip.name].zero
        return _measured(f"{self.board} {self.vbios}", _GPU_BLOCKS, golden, zero)

    def fields(self, mode: str | None, switch_pdis: tuple[bytes, ...] | None) -> GpuFields:
        """Return the opaque fields of a GPU of this model in a mode; None: it does not say."""
        hopper = self.chip is GH100
        return GpuFields(
            vbios_version=self.vbios,
            board_id=self.board_id,
            chip_sku=self.chip_sku,
            project=self.project,
            project_sku=self.project_sku,
            project_sku_mod=self.project_sku_mod,
            driver_version=self.driver,
            gpu_info=self.chip.gpu_info,
            measurement_counts=_counts(self.measurements(), _GPU_BLOCKS),
            cpr_info=self.cpr_info,
            nvdec0_enabled=self.nvdec0_enabled,
            fwid=self.fwid,
            protected_pcie=mode == "PPCIE" if hopper else None,
            switch_pdis=switch_pdis,
            sys_enable_status=self.sys_enable_status,
            chip_info=None if hopper else self.chip.rim_model,
            opaque_data_version=None if mode is None else 1,
            feature_flag=None if mode is None else FEATURE_FLAGS[mode],
        )

    def driver_rim(self, issuer: SimNvidiaIssuer) -> RimSpec:
        """Return the driver's manifest."""
        model = self.chip.rim_model
        prefix = "NV_GPU_DRIVER" if self.chip is GH100 else "NV_GPU_CC_DRIVER"
        return RimSpec(
            file_name=f"{prefix}_{model}_{self.driver}.xml",
            edition="GPU",
            version=self.driver,
            model=model,
            resources=_resources(self.driver_golden()),
            chain=issuer.rim_chain(self.chip),
        )

    def vbios_rim(self, issuer: SimNvidiaIssuer) -> RimSpec:
        """Return the VBIOS's manifest."""
        return RimSpec(
            file_name=f"NV_GPU_VBIOS_{self.board}_{self.vbios.replace('.', '')}.xml",
            edition="GPU",
            version=self.vbios,
            model=self.chip.rim_model,
            resources=_resources(self.vbios_golden()),
            chain=issuer.rim_chain(self.chip),
        )

    def rims(self, issuer: SimNvidiaIssuer) -> tuple[RimSpec, ...]:
        """Return both manifests."""
        return (self.driver_rim(issuer), self.vbios_rim(issuer))


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchModel:
    """All LS10 NVSwitches with one BIOS."""

    bios: str
    chip: Chip = LS10

    @property
    def fwid(self) -> bytes:
        """The firmware id, 48 bytes; certified, but in no report."""
        return _digest(self.chip.name, "FMC", self.bios)

    @property
    def measurement_counts(self) -> tuple[int, ...]:
        """Return 27 counts, fewer than there are measurements."""
        return _counts(self.measurements(), 27)

    def golden(self) -> dict[int, GoldenValue]:
        """Return the golden values by RIM index."""
        layout = _LAYOUTS[self.chip.name]
        return _golden(f"{self.chip.name} BIOS {self.bios}", layout.firmware, layout.zero)

    def measurements(self) -> tuple[bytes, ...]:
        """Return the 31 values an honest switch reports."""
        zero = _LAYOUTS[self.chip.name].zero
        return _measured(self.chip.name, _SWITCH_BLOCKS, self.golden(), zero)

    def bios_rim(self, issuer: SimNvidiaIssuer) -> RimSpec:
        """Return the BIOS's manifest."""
        return RimSpec(
            file_name=f"NV_SWITCH_BIOS_5612_0002_890_{self.bios.replace('.', '')}.xml",
            edition="SWITCH",
            version=self.bios,
            model=self.chip.rim_model,
            resources=_resources(self.golden()),
            chain=issuer.rim_chain(self.chip),
        )

    def rims(self, issuer: SimNvidiaIssuer) -> tuple[RimSpec, ...]:
        """Return its one manifest."""
        return (self.bios_rim(issuer),)


H100 = GpuModel(
    chip=GH100,
    driver="590.12",
    vbios="96.00.F0.00.01",
    project="G520",
    project_sku="0200",
    chip_sku="885",
    board_id=bytes.fromhex("37040000"),
    cpr_info=bytes.fromhex("00c00100"),
)
"""A Hopper GPU of an HGX board."""

H200 = GpuModel(
    chip=GH100,
    driver="590.12",
    vbios="96.00.F1.00.01",
    project="G520",
    project_sku="0220",
    chip_sku="887",
    board_id=bytes.fromhex("38040000"),
    cpr_info=bytes.fromhex("00c00100"),
)
"""A Hopper GPU with more memory, of an HGX board."""

B200 = GpuModel(
    chip=GB100,
    driver="590.48.01",
    vbios="97.00.F0.00.01",
    project="G525",
    project_sku="0220",
    chip_sku="886",
    board_id=bytes.fromhex("6f060000"),
    cpr_info=bytes.fromhex("00000400"),
    sys_enable_status=bytes.fromhex("0707"),
    project_sku_mod="0",
)
"""A Blackwell GPU of an HGX board."""

B300 = GpuModel(
    chip=GB100,
    driver="595.58.03",
    vbios="97.10.F0.00.01",
    project="G548",
    project_sku="0230",
    chip_sku="889",
    board_id=bytes.fromhex("70060000"),
    cpr_info=bytes.fromhex("00000400"),
    sys_enable_status=bytes.fromhex("0707"),
    project_sku_mod="0",
)
"""A Blackwell Ultra GPU of an HGX board.

No report of one is public: that it has the certificates and measurements of the family GB100 is
an assumption.
"""

RTX_PRO_6000 = GpuModel(
    chip=GB20X,
    driver="595.58.03",
    vbios="98.02.F0.00.01",
    project="G153",
    project_sku="0210",
    chip_sku="895",
    board_id=bytes.fromhex("52060000"),
    cpr_info=bytes(4),
    sys_enable_status=bytes.fromhex("0700"),
    project_sku_mod="0",
    nvdec0_enabled=True,
)
"""A Blackwell GPU of a PCIe card."""

NVSWITCH3 = SwitchModel(bios="96.10.F0.00.01")
"""The NVSwitch of an HGX Hopper board."""
