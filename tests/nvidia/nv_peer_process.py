"""NVIDIA's own Python verifiers, asked by line: one JSON question in, one JSON answer out.

Run by the interpreter that has nv-local-gpu-verifier (GPUs) and, optionally, nv-attestation-sdk
(switches), whose pinned dependencies cannot live beside ours.  Only the offline pieces are
called, in the order in which those packages call them; OCSP and the RIM service are left out.
They judge time by the clock alone, so a question may set the time of certificate checks.

They print to stdout and log into the working directory: answers go to the stdout this process
was started with, everything else to nowhere.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import time
from datetime import datetime
from typing import Any

ANSWERS = os.fdopen(os.dup(1), "w")
sys.stdout = open(os.devnull, "w")  # noqa: SIM115
logging.disable(logging.CRITICAL)  # they log every step to a file, which is not their work

from OpenSSL import SSL, crypto  # noqa: E402

LOG = logging.getLogger("nothing")
WHEN: list[datetime | None] = [None]


# --- the time of certificate checks ---------------------------------------------------------------


def _timed(store: Any) -> Any:
    if WHEN[0] is not None:
        store.set_time(WHEN[0])
    return store


class _TimedStore(crypto.X509Store):
    def __init__(self) -> None:
        super().__init__()
        _timed(self)


_get_cert_store = SSL.Context.get_cert_store
crypto.X509Store = _TimedStore
SSL.Context.get_cert_store = lambda context: _timed(_get_cert_store(context))


def set_time(text: str | None) -> None:
    WHEN[0] = datetime.fromisoformat(text) if text else None


# --- GPUs and switches ----------------------------------------------------------------------------


class Gpus:
    """nv-local-gpu-verifier."""

    def __init__(self) -> None:
        load = importlib.import_module
        self.attestation = load("verifier.attestation").AttestationReport
        self.config = load("verifier.config")
        self.utils = load("verifier.cc_admin_utils").CcAdminUtils
        self.extract = load("verifier.nvml.gpu_cert_chains").GpuCertificateChains.extract_cert_chain
        self.rim = load("verifier.rim").RIM
        self.verifier = load("verifier.verifier").Verifier
        self.base = self.config.BaseSettings
        self.device_mode = self.base.Certificate_Chain_Verification_Mode.GPU_ATTESTATION
        self.rim_mode = self.base.Certificate_Chain_Verification_Mode.VBIOS_RIM_CERT

    def settings(self, arch: str) -> Any:
        names = {"HOPPER": "HopperSettings", "BLACKWELL": "BlackwellSettings"}
        return getattr(self.config, names[arch])()

    def report(self, data: bytes, settings: Any) -> Any:
        return self.attestation(data, settings)

    def chain_result(self, chain: list[Any], settings: Any, fwid: str) -> Any:
        return self.utils.verify_gpu_certificate_chain(chain, settings, fwid)

    def read_rim(self, name: str, settings: Any, content: str) -> Any:
        return self.rim(rim_name=name, settings=settings, content=content)

    def schema(self, rim: Any) -> bool:
        return bool(rim.validate_schema())

    def comparison(self, report: Any, rims: list[Any], settings: Any) -> Any:
        return self.verifier(report, *rims, settings)


class Switches(Gpus):
    """The switch verifier inside of nv-attestation-sdk."""

    def __init__(self) -> None:
        def load(name: str) -> Any:
            return importlib.import_module("nv_attestation_sdk.verifiers.nv_switch_verifier" + name)

        self.attestation = load(".attestation").AttestationReport
        self.config = load(".config")
        self.utils = load(".nvswitch_admin_utils").NVSwitchAdminUtils
        self.extract = load(".utils.cert_chain_utils").extract_cert_chain
        self.rim = load(".rim").RIM
        self.verifier = load(".nvswitch_verifier").SwitchVerifier
        self.base = self.config.BaseSettings
        self.device_mode = self.base.Certificate_Chain_Verification_Mode.SWITCH_ATTESTATION
        self.rim_mode = self.base.Certificate_Chain_Verification_Mode.VBIOS_RIM_CERT
        self.schema_path = os.path.join(
            os.path.dirname(load(".rim").__file__), "swidSchema2015.xsd"
        )

    def settings(self, arch: str) -> Any:
        return self.config.LS10Settings()

    def report(self, data: bytes, settings: Any) -> Any:
        return self.attestation(data, LOG, LOG)

    def chain_result(self, chain: list[Any], settings: Any, fwid: str) -> Any:
        return self.utils.verify_switch_certificate_chain(chain, settings, fwid)

    def read_rim(self, name: str, settings: Any, content: str) -> Any:
        return self.rim(
            rim_name=name, settings=settings, info_logger=LOG, debug_logger=LOG, content=content
        )

    def schema(self, rim: Any) -> bool:
        return bool(rim.validate_schema(schema_path=self.schema_path))


KINDS: dict[str, Any] = {}


def kind_of(question: dict[str, Any]) -> Any:
    name = "switch" if question["arch"] == "LS10" else "gpu"
    if name not in KINDS:
        KINDS[name] = Switches() if name == "switch" else Gpus()
    return KINDS[name]


def root(kind: Any, file: str) -> Any:
    with open(file) as opened:
        return crypto.load_certificate(crypto.FILETYPE_PEM, opened.read())


def plain(value: Any) -> Any:
    """Bytes as hex, lists item by item, numbers and texts as they are."""
    if isinstance(value, bytes):
        return value.hex()
    return [plain(one) for one in value] if isinstance(value, list) else value


# --- questions ------------------------------------------------------------------------------------


def parse(question: dict[str, Any]) -> dict[str, Any]:
    """Every field of a report."""
    kind = kind_of(question)
    report = kind.report(bytes.fromhex(question["report"]), kind.settings(question["arch"]))
    request, response = report.get_request_message(), report.get_response_message()
    blocks = response.get_measurement_record().MeasurementBlocks
    return {
        "request": {
            "SPDMVersion": plain(request.get_spdm_version()),
            "RequestResponseCode": plain(request.get_request_response_code()),
            "Param1": plain(request.get_param1()),
            "Param2": plain(request.get_param2()),
            "Nonce": plain(request.get_nonce()),
            "SlotIDParam": plain(request.get_slot_id_param()),
        },
        "response": {
            "SPDMVersion": plain(response.get_spdm_version()),
            "RequestResponseCode": plain(response.get_request_response_code()),
            "Param1": plain(response.get_param1()),
            "Param2": plain(response.get_param2()),
            "NumberOfBlocks": response.get_number_of_blocks(),
            "MeasurementRecordLength": response.get_measurement_record_length(),
            "Nonce": plain(response.get_nonce()),
            "OpaqueLength": response.get_opaque_data_length(),
            "Signature": plain(response.get_signature()),
        },
        "blocks": {
            str(index): [
                block.get_measurement_value_type(),
                block.get_measurement_value_size(),
                plain(block.get_measurement_value()),
            ]
            for index, block in blocks.items()
        },
        "opaque": {
            name.removeprefix("OPAQUE_FIELD_ID_"): plain(value)
            for name, value in response.get_opaque_data().OpaqueDataField.items()
        },
    }


def device(question: dict[str, Any]) -> dict[str, Any]:
    """Signature and chain of one device: FWID, chain to their root, signature of the report."""
    kind = kind_of(question)
    settings = kind.settings(question["arch"])
    chain = kind.extract(bytes.fromhex(question["chain"]))[:-1]
    chain.append(root(kind, kind.base.DEVICE_ROOT_CERT))
    report = kind.report(bytes.fromhex(question["report"]), settings)
    opaque = report.get_response_message().get_opaque_data()
    result = kind.chain_result(chain, settings, opaque.get_data("OPAQUE_FIELD_ID_FWID").hex())
    valid = result is not False and result[0]
    signed = report.verify_signature(
        chain[0].to_cryptography(), settings.signature_length, settings.HashFunction
    )
    return {"fwid": result is not False, "chain": bool(valid), "signature": bool(signed)}


def rim(question: dict[str, Any]) -> dict[str, Any]:
    """Schema, signer chain and signature of a manifest, each asked whatever the others say."""
    kind = kind_of(question)
    settings = kind.settings(question["arch"])
    read = kind.read_rim(question["name"], settings, question["content"])
    certificates = [*read.extract_certificates(), root(kind, kind.base.RIM_ROOT_CERT)]
    chain, expired, _ = kind.utils.verify_certificate_chain(certificates, settings, kind.rim_mode)
    answer = {
        "version": read.colloquialVersion,
        "golden": {
            str(index): [golden.is_active(), golden.values]
            for index, golden in read.get_measurements().items()
        },
        "schema": kind.schema(read),
        "chain": bool(chain),
        "expired": bool(expired),
    }
    return {**answer, "signature": bool(tried(lambda: read.verify_signature(settings)))}


def compare(question: dict[str, Any]) -> dict[str, Any]:
    """Measurements against manifests that nobody verifies here."""
    kind = kind_of(question)
    settings = kind.settings(question["arch"])
    report = kind.report(bytes.fromhex(question["report"]), settings)
    rims = [kind.read_rim(one["name"], settings, one["content"]) for one in question["rims"]]
    comparison = kind.comparison(report, rims, settings)
    matches = bool(comparison.verify(settings))
    wrong = []
    # They only log which ones differ, so each is asked about alone.
    for index, golden in sorted(comparison.golden_measurements.items()):
        comparison.golden_measurements = {index: golden}
        if not comparison.verify(settings):
            wrong.append(index)
    return {"matches": matches, "mismatched": wrong}


def tried(call: Any) -> Any:
    try:
        return call()
    except Exception:
        return False


# --- the benchmark --------------------------------------------------------------------------------


def judge(question: dict[str, Any]) -> bool:
    """Everything that can be done offline for some devices; True if all of it is well."""
    manifests = question["rims"]
    for one in question["devices"]:
        kind = kind_of(one)
        settings = kind.settings(one["arch"])
        chain = kind.extract(bytes.fromhex(one["chain"]))[:-1]
        chain.append(root(kind, kind.base.DEVICE_ROOT_CERT))
        report = kind.report(bytes.fromhex(one["report"]), settings)
        opaque = report.get_response_message().get_opaque_data()
        fwid = opaque.get_data("OPAQUE_FIELD_ID_FWID").hex()
        assert kind.chain_result(chain, settings, fwid)[0]
        assert report.verify_signature(
            chain[0].to_cryptography(), settings.signature_length, settings.HashFunction
        )
        rims = []
        for name in one["rims"]:
            set_time(manifests[name]["at"])
            read = kind.read_rim(name.split("-")[0], settings, manifests[name]["content"])
            assert kind.schema(read)
            signers = [*read.extract_certificates(), root(kind, kind.base.RIM_ROOT_CERT)]
            assert kind.utils.verify_certificate_chain(signers, settings, kind.rim_mode)[0]
            assert read.verify_signature(settings)
            rims.append(read)
        if rims:
            kind.comparison(report, rims, settings).verify(settings)
    return True


KEPT: dict[str, Any] = {}


def keep(question: dict[str, Any]) -> dict[str, Any]:
    """Remember the devices that `timed` is asked about, so that no JSON is read in its time."""
    KEPT.update(question)
    return {}


def timed(question: dict[str, Any]) -> dict[str, Any]:
    """Seconds of one `judge` of what was kept."""
    start = time.process_time()
    judge(KEPT)
    return {"seconds": time.process_time() - start}


def main() -> None:
    questions = {one.__name__: one for one in (parse, device, rim, compare, keep, timed)}
    for line in sys.stdin:
        question = json.loads(line)
        if "at" in question:
            set_time(question["at"])
        try:
            answer = questions[question["ask"]](question)
        except Exception as problem:
            answer = {"error": f"{type(problem).__name__}: {problem}"}
        print(json.dumps(answer), file=ANSWERS, flush=True)


if __name__ == "__main__":
    main()
