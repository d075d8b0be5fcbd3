"""Checks of a machine as a whole: inputs, topology, binding, and several nodes together."""

from __future__ import annotations

from dataclasses import replace

from ccverify.checks.model import Category, Check, Need, Scope

__all__ = ["BINDING_CHECKS", "NODE_CHECKS", "SET_CHECKS", "TOPOLOGY_CHECKS"]

_A, _P = Category.AUTHENTICITY, Category.POLICY
_ALWAYS, _WAIVABLE, _ASKED = Need.ALWAYS, Need.UNLESS_WAIVED, Need.IF_ASKED

NODE_CHECKS = (
    Check(
        "TRUST-ROOTS",
        "Trust anchors are known",
        _A,
        _ALWAYS,
        "The roots in force are the vendors' pinned ones, or the simulator's, as stated.",
        "A verdict reached under somebody's home-made root certificate.",
        "Drop --insecure-trust-root; real evidence needs no other root than the pinned ones.",
    ),
    Check(
        "NODE-CLASSES",
        "Policy and evidence speak of the same parts",
        _P,
        _ALWAYS,
        "Every part the policy asks for is in the evidence, and every part of the evidence is "
        "judged by the policy or knowingly left aside.",
        "A CPU quote passed off as a whole node; a part nobody looked at that reads as trusted.",
        "Collect the missing part; or give the policy a section for it, or the word `any`.",
        "unless the policy says `any` of the part",
    ),
)

_SAME_NODE = (
    "Ask for fresh evidence of every device of the node; if it fails again, devices of another "
    "node are mixed in."
)
_LIST = "unless the policy allows it"


def _topology(name: str, title: str, proves: str, stops: str, *, waivable: bool = False) -> Check:
    return Check(
        f"TOPOLOGY-{name}",
        title,
        Category.POLICY if waivable or name in ("COUNT", "MODE", "UNLOCKED") else _A,
        _WAIVABLE if waivable else _ALWAYS,
        proves,
        stops,
        f"Bring them to one version, or say topology.{name.lower().replace('-', '_')}: allow."
        if waivable
        else _SAME_NODE,
        _LIST if waivable else "",
        Scope.TOPOLOGY,
    )


TOPOLOGY_CHECKS = (
    _topology(
        "COUNT",
        "The node has the number of devices it should",
        "As many distinct GPUs and NVSwitches attested as the policy asks for.",
        "A node with a GPU or NVSwitch hidden from attestation.",
    ),
    _topology(
        "ZERO-PDI",
        "Every device has an identity",
        "No device certifies or reports an all-zero identifier, which names nothing.",
        "A slot without a device that counts as one.",
    ),
    _topology(
        "DUPLICATE-GPU",
        "No GPU is presented twice",
        "Every attested GPU has an identity of its own.",
        "One genuine GPU that is counted eight times.",
    ),
    _topology(
        "DUPLICATE-SWITCH",
        "No NVSwitch is presented twice",
        "Every attested NVSwitch has an identity of its own.",
        "One genuine NVSwitch that is counted four times.",
    ),
    _topology(
        "SWITCH-SELF",
        "Every NVSwitch reports the identity it is certified for",
        "The PDI in a switch's report is the serial number of its certificate [1].",
        "A report that speaks of another switch.",
    ),
    _topology(
        "GPU-LIST",
        "Every NVSwitch serves exactly the attested GPUs",
        "Each switch signed a list of GPUs that is the set of GPUs that attested.",
        "A GPU on the fabric that never attested, or an attested GPU of another node.",
    ),
    _topology(
        "SWITCH-LIST",
        "Every GPU is connected to exactly the attested NVSwitches",
        "Each GPU signed a list of switches that is the set of switches that attested.",
        "Traffic through a switch that never attested.",
    ),
    _topology(
        "POSITION",
        "Every NVSwitch has a position of its own",
        "The positions that the switches signed are all stated and all different.",
        "Switches of two boards mixed into one.",
    ),
    _topology(
        "UNLOCKED",
        "Every NVSwitch is locked",
        "Each switch signed that its configuration is locked.",
        "Reconfiguration of the fabric by the host after attestation.",
    ),
    _topology(
        "MIXED-MODE",
        "All GPUs are in one mode",
        "Every GPU signed the same mode.",
        "A GPU outside the protected mode among those inside.",
    ),
    _topology(
        "MODE",
        "The GPUs are in Protected PCIe mode",
        "Every GPU signed that Protected PCIe is on.",
        "A node whose NVLinks are not protected by the mode the policy counts on.",
    ),
    _topology(
        "MIXED-FIRMWARE",
        "Devices of one kind run the same firmware",
        "All GPUs state one VBIOS version, and all NVSwitches one BIOS version.",
        "One device left behind on vulnerable firmware.",
        waivable=True,
    ),
    _topology(
        "MIXED-DRIVER",
        "All GPUs run under one driver",
        "All GPUs state one driver version.",
        "GPUs of two machines mixed into one node.",
        waivable=True,
    ),
)

_BINDING = (
    Check(
        "BIND-FRESH",
        "The evidence answers this request",
        _A,
        _WAIVABLE,
        "The nonce, or REPORTDATA, was chosen by the relying party, not read from the response.",
        "Replay of evidence made for somebody else, or long ago.",
        "Give --nonce; or set binding.freshness to `waived`, giving up freshness.",
        "unless the policy waives freshness",
    ),
    Check(
        "BIND-CONSISTENT",
        "The response does not contradict itself",
        _A,
        _ALWAYS,
        "Keys and their digests, hashes and what they hash, stated nonce and request agree.",
        "A key or certificate exchanged beside the digest that is bound.",
        "Ask the service for a new response, and pass it on unchanged.",
    ),
    Check(
        "BIND-DEVICES",
        "Devices and quote were asked with one nonce",
        _A,
        _ALWAYS,
        "The nonces that the devices signed are equal, and equal to their part of REPORTDATA in "
        "profiles that have one. It needs no nonce of the relying party.",
        "Devices of another session or machine mixed into a node.",
        "Ask for new evidence of the whole node at once.",
        "nodes whose device nonce does not follow from what the relying party knows",
    ),
    Check(
        "BIND-EVIDENCE",
        "The hash of the device evidence is the one that is bound",
        _A,
        _ASKED,
        "The hash that goes into REPORTDATA is that of the device evidence that was judged.",
        "Device evidence exchanged behind a hash that was left as it was.",
        "Ask the service for a new response, and pass it on unchanged.",
        "profiles that hash the device evidence",
    ),
    Check(
        "BIND-CHANNEL",
        "The evidence names the channel the relying party sees",
        _A,
        _ASKED,
        "The key, fingerprint or address that REPORTDATA binds is the one the relying party "
        "talks to.",
        "Genuine evidence of one machine shown on the connection to another.",
        "Compare with the TLS key of your own connection to the service; if it differs, leave.",
        "if the relying party states what it sees",
    ),
    Check(
        "BIND-RELAYABLE",
        "The devices are known to belong to this machine",
        _P,
        _WAIVABLE,
        "Every device and the CPU's platform are on the policy's lists. A shared nonce alone "
        "proves that one party asked for everything, not that the devices sit in one machine.",
        "A genuine GPU elsewhere that answers for a machine without one (relay).",
        "List gpus.device_ids (and nvswitches.device_ids) and tdx.platform.ppid or "
        "platform_instance_id; or set binding.relayable to `accept`, knowingly.",
        "nodes with CPU and devices, unless the policy accepts it",
    ),
)
BINDING_CHECKS = tuple(replace(check, scope=Scope.BINDING) for check in _BINDING)

_SET = (
    Check(
        "SET-WORKLOAD",
        "At least one node runs the workload",
        _P,
        _ALWAYS,
        "The response holds evidence of a machine that does the work, not of gateways alone.",
        "A trusted gateway in front of machines nobody looked at.",
        "Ask the service for the evidence of its workload nodes.",
    ),
    Check(
        "SET-DISTINCT",
        "No quote and no device is in two nodes",
        _A,
        _ALWAYS,
        "Every quote, GPU and NVSwitch of the response belongs to one node only.",
        "One genuine machine or GPU that stands for several.",
        "Ask for new evidence; if it fails again, the operator shows less than he says.",
    ),
)
SET_CHECKS = tuple(replace(check, scope=Scope.SET) for check in _SET)
