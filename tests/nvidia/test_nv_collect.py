"""Fetching manifests and OCSP responses, from services that behave and that do not."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.x509 import ocsp
from nv_collateral import (
    NODE,
    OCSP_PATH,
    RIM_PATH,
    SIM,
    TRUST,
    answer_ocsp,
    needs,
    rim_id,
    rim_response,
    serials,
    service,
)
from pcs_server import (
    Behaviour,
    Pcs,
    Reply,
    drip,
    flood,
    hang,
    hang_up,
    sequence,
    serve,
    truncated,
)

from ccverify import http_get
from ccverify.errors import CollateralError, EvidenceError, UsageError
from ccverify.evidence import DeviceEvidence
from ccverify.nvidia import collect
from ccverify.nvidia.collateral_report import appraise_nvidia
from ccverify.nvidia.collect import NvidiaFetch, fetch_nvidia_collateral
from ccverify.nvidia.needs import device_needs
from ccverify.trust.anchors import NVIDIA_DEVICE_IDENTITY_CA
from ccverify.trust.signatures import SignatureMemory

NEEDS = needs()
RIMS = dict(NODE.rims)
NAMES = sorted(RIMS)
FIRST = RIM_PATH + rim_id(NAMES[0])


@pytest.fixture(autouse=True)
def no_proxy_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []

    async def pause(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(http_get, "_pause", pause)
    return waited


@pytest.fixture
def nvidia() -> Iterator[Pcs]:
    with serve(service()) as running:
        yield running


class _Local(httpx.AsyncHTTPTransport):
    """Leads both of NVIDIA's hosts, and no other, to a server on this machine."""

    def __init__(self, server: Pcs) -> None:
        super().__init__()
        self.server = server
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert request.url.scheme == "https"
        assert request.url.host in ("rim.attestation.nvidia.com", "ocsp.ndis.nvidia.com")
        self.asked.append(f"{request.method} {request.url}")
        request.url = httpx.URL(self.server.url + request.url.raw_path.decode())
        return await super().handle_async_request(request)


def fetch(server: Pcs, **options: Any) -> NvidiaFetch:
    given: dict[str, Any] = {
        "device_root": TRUST.nvidia_device_root,
        "rim_root": TRUST.nvidia_rim_root,
        "now": NODE.at,
        "timeout": 10.0,
        "retries": 0,
        "client": httpx.AsyncClient(transport=_Local(server)),
    } | options
    return fetch_nvidia_collateral(given.pop("needs", NEEDS), **given)


# Services that behave ------------------------------------------------------------------


def test_everything_a_node_needs(nvidia: Pcs) -> None:
    transport = _Local(nvidia)
    client = httpx.AsyncClient(transport=transport)
    seen: list[tuple[int, int, str]] = []
    fetched = fetch(nvidia, client=client, progress=lambda *step: seen.append(step))
    assert fetched.problems == ()
    stored = fetched.collateral.rims.rims
    assert {(each.name, each.xml) for each in stored} == {
        (rim_id(name), xml) for name, xml in NODE.rims
    }
    expected = {spec.answers[0].certificate.serial for spec in SIM.ocsp_responses()}
    assert serials(fetched.collateral) == expected
    assert appraise_nvidia(fetched.collateral, TRUST, NODE.at) == ()
    # One GPU's manifests serve them all, and each certificate is asked about once.
    assert len(transport.asked) == len(NODE.rims) + len(expected) == 24
    assert not client.is_closed
    assert [step[0] for step in seen] == [1, 2, 3, *range(1, 22)]
    for headers in nvidia.headers:
        assert headers["accept-encoding"] == "identity"
    requests = [ocsp.load_der_ocsp_request(body) for body in nvidia.bodies]
    nonces = [request.extensions[0].value.nonce for request in requests]
    assert len(set(nonces)) == len(nonces) == 21
    assert {len(nonce) for nonce in nonces} == {32}
    assert {h["content-type"] for h in nvidia.headers if "content-type" in h} == {
        "application/ocsp-request"
    }


def test_manifests_alone(nvidia: Pcs) -> None:
    fetched = fetch(nvidia, with_ocsp=False)
    assert fetched.collateral.count == 3
    assert nvidia.bodies == []


def test_without_nonce(nvidia: Pcs) -> None:
    fetched = fetch(nvidia, with_nonce=False)
    assert fetched.problems == ()
    assert all(each.nonce is None for each in fetched.collateral.revocation.responses)
    assert all(not ocsp.load_der_ocsp_request(body).extensions for body in nvidia.bodies)


def test_the_request_names_certificates_as_cryptography_does() -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    chain = NEEDS[0].chain
    subject, issuer = (x509.load_der_x509_certificate(each.der) for each in chain[1:3])
    builder = ocsp.OCSPRequestBuilder().add_certificate(subject, issuer, hashes.SHA1())
    expected = builder.build().public_bytes(Encoding.DER)
    cert_id = collect._by_sha1((chain[1], chain[2]))
    assert collect.ocsp_request(cert_id, None) == expected
    with_nonce = ocsp.load_der_ocsp_request(collect.ocsp_request(cert_id, bytes(32)))
    assert with_nonce.extensions[0].value == x509.OCSPNonce(bytes(32))


# What is not to be had -----------------------------------------------------------------


def test_a_manifest_that_is_not_published(nvidia: Pcs) -> None:
    del nvidia.routes[FIRST]
    fetched = fetch(nvidia)
    (problem,) = fetched.problems
    assert "status 404" in (problem.found or "")
    assert "publishes no manifest" in (problem.hint or "")
    assert {each.name for each in fetched.collateral.rims.rims} == set(map(rim_id, NAMES[1:]))


def test_nothing_at_all(nvidia: Pcs) -> None:
    nvidia.routes.clear()
    with pytest.raises(CollateralError, match="refuses the request") as caught:
        fetch(nvidia)
    assert caught.value.where is not None
    assert caught.value.where.startswith(collect.RIM_SERVICE)
    with serve() as gone:
        pass
    with pytest.raises(CollateralError, match="cannot be reached"):
        fetch(gone, timeout=5)


def test_a_certificate_the_responder_does_not_know(nvidia: Pcs) -> None:
    nvidia.routes[OCSP_PATH] = Reply(bytes.fromhex("30030a0106"))
    fetched = fetch(nvidia)
    assert fetched.collateral.count == 3
    assert len(fetched.problems) == 21
    assert all("unauthorized" in (problem.found or "") for problem in fetched.problems)


OTHER = next(name for name in NAMES if name != NAMES[0])
GOOD = rim_response(NAMES[0], RIMS[NAMES[0]])
BAD_RIMS: dict[str, tuple[Behaviour, str]] = {
    "another manifest under the right id": (
        Reply(rim_response(NAMES[0], RIMS[OTHER])),
        "another manifest",
    ),
    "another id": (Reply(rim_response(OTHER, RIMS[NAMES[0]])), "another manifest"),
    "wrong digest": (Reply(rim_response(NAMES[0], RIMS[NAMES[0]], sha256="0" * 64)), "SHA-256"),
    "no digest": (Reply(rim_response(NAMES[0], RIMS[NAMES[0]], sha256=None)), "sha256"),
    "not base64": (Reply(rim_response(NAMES[0], b"", rim="<xml>")), ": rim"),
    "no string": (Reply(rim_response(NAMES[0], b"", rim=1)), ": rim"),
    "CoRIM": (Reply(rim_response(NAMES[0], b"\xd9\x01\xf4", rim_format="CORIM")), "rim_format"),
    "not a manifest": (Reply(rim_response(NAMES[0], b"<a/>")), "XML"),
    "no members": (Reply(b"{}"), "members"),
    "not JSON": (Reply(b"<html>"), "JSON"),
    "twice the same member": (Reply(GOOD[:-1] + b',"id":"x"}'), "twice"),
    "compressed": (Reply(GOOD, headers=(("Content-Encoding", "gzip"),)), "compressed"),
    "truncated": (truncated(GOOD), "broke the connection"),
    "no answer": (hang_up, "broke the connection"),
    "endless": (flood, "too large"),
    "redirect elsewhere": (
        Reply(status=302, headers=(("Location", "https://evil.example/"),)),
        "another place",
    ),
    "redirect to http": (
        Reply(status=302, headers=(("Location", f"http://rim.attestation.nvidia.com{FIRST}"),)),
        "another place",
    ),
    "redirect in circles": (Reply(status=302, headers=(("Location", FIRST),)), "circles"),
}


@pytest.mark.parametrize("case", BAD_RIMS)
def test_bad_answers_of_the_rim_service(nvidia: Pcs, pauses: list[float], case: str) -> None:
    nvidia.routes[FIRST], message = BAD_RIMS[case]
    fetched = fetch(nvidia, with_ocsp=False, retries=2)
    (problem,) = fetched.problems
    assert message in problem.diagnostics()
    assert rim_id(NAMES[0]) in problem.diagnostics()
    assert len(fetched.collateral.rims.rims) == 2
    assert pauses == []


def _of_another(handler: Any) -> None:
    spec = SIM.ocsp_responses()[0]
    Reply(spec.der())(handler)


BAD_OCSP: dict[str, tuple[Behaviour, str]] = {
    "about another certificate": (_of_another, "another certificate"),
    "not an OCSP response": (Reply(b"<html>"), "OCSP"),
    "empty": (Reply(b""), ""),
    "endless": (flood, "too large"),
    "redirect on the same host": (
        Reply(status=307, headers=(("Location", "/"),)),
        "refuses the request",
    ),
    "try later": (Reply(bytes.fromhex("30030a0103")), "tryLater"),
}


@pytest.mark.parametrize("case", BAD_OCSP)
def test_bad_answers_of_the_responder(nvidia: Pcs, case: str) -> None:
    nvidia.routes[OCSP_PATH], message = BAD_OCSP[case]
    fetched = fetch(nvidia, needs=NEEDS[1:2])
    # Three of the device, and three of the signer that both manifests share.
    assert len(fetched.problems) == 6
    assert len({problem.message for problem in fetched.problems}) == 6
    assert all(message in problem.diagnostics() for problem in fetched.problems)
    assert all(collect.OCSP_SERVICE in problem.diagnostics() for problem in fetched.problems)


def test_an_answer_to_another_nonce_is_refused(nvidia: Pcs) -> None:
    def old_answer(handler: Any) -> None:
        wanted = ocsp.load_der_ocsp_request(handler.posted).serial_number
        for spec in SIM.ocsp_responses():
            if spec.answers[0].certificate.serial == wanted:
                Reply(replace(spec, nonce=bytes(32)).der())(handler)

    nvidia.routes[OCSP_PATH] = old_answer
    fetched = fetch(nvidia, needs=NEEDS[:1])
    assert fetched.collateral.revocation.responses == ()
    assert {problem.found for problem in fetched.problems} == {bytes(32).hex()}
    assert fetch(nvidia, needs=NEEDS[:1], with_nonce=False).problems == ()


def test_passing_trouble_is_tried_again(nvidia: Pcs, pauses: list[float]) -> None:
    good = nvidia.routes[FIRST]
    assert callable(good)
    nvidia.routes[FIRST] = sequence(Reply(b"", 503), good)
    nvidia.routes[OCSP_PATH] = sequence(Reply(b"", 429), answer_ocsp)
    assert fetch(nvidia, retries=1).problems == ()
    assert pauses == [0.5, 0.5]


@pytest.mark.parametrize("behaviour", [hang, drip])
def test_no_answer_in_time(nvidia: Pcs, behaviour: Behaviour) -> None:
    nvidia.routes[FIRST] = behaviour
    (problem,) = fetch(nvidia, with_ocsp=False, timeout=0.3).problems
    assert "no complete answer within 0.3 s" in problem.message


# The cache -----------------------------------------------------------------------------


def test_cache_serves_the_second_time(nvidia: Pcs, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    # Answers made just now: those of the simulator are a day old.
    now = SIM.ocsp_responses()[0].produced_at + timedelta(minutes=30)
    first = fetch(nvidia, cache=str(cache), now=now)
    assert len(os.listdir(cache)) == 24
    nvidia.routes.clear()
    again = fetch(nvidia, cache=str(cache), now=now)
    assert again.problems == ()
    assert again.collateral == first.collateral
    late = fetch(nvidia, cache=str(cache), now=now + timedelta(hours=1))
    assert len(late.collateral.rims.rims) == 3
    assert len(late.problems) == 21  # too old, and nobody answers


def test_expired_manifest_is_renewed_or_else_kept(nvidia: Pcs, tmp_path: Path) -> None:
    fetch(nvidia, cache=str(tmp_path), with_ocsp=False)
    nvidia.requests.clear()
    late = NODE.at + timedelta(days=3650)
    assert fetch(nvidia, cache=str(tmp_path), with_ocsp=False, now=late).problems == ()
    assert len(nvidia.requests) == 3
    nvidia.routes.clear()
    kept = fetch(nvidia, cache=str(tmp_path), with_ocsp=False, now=late)
    assert (kept.problems, kept.collateral.count) == ((), 3)


def test_cache_is_not_believed(nvidia: Pcs, tmp_path: Path) -> None:
    now = SIM.ocsp_responses()[0].produced_at + timedelta(minutes=30)
    good = fetch(nvidia, cache=str(tmp_path), now=now).collateral
    names = sorted(os.listdir(tmp_path))
    contents = [(tmp_path / name).read_bytes() for name in names]
    for number, name in enumerate(names):  # every file holds another's content
        (tmp_path / name).write_bytes(contents[(number + 1) % len(names)])
    nvidia.requests.clear()
    assert serials(fetch(nvidia, cache=str(tmp_path), now=now).collateral) == serials(good)
    assert len(nvidia.requests) == 24
    assert all((tmp_path / n).read_bytes()[:1] in (b"<", b"0") for n in names)


@pytest.mark.skipif(os.name == "nt", reason="needs links and pipes")
def test_cache_reads_files_alone(nvidia: Pcs, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_bytes(RIMS[NAMES[0]])
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / NAMES[0]).symlink_to(target)
    os.mkfifo(cache / NAMES[1])
    (cache / NAMES[2]).write_bytes(b"<" * (1 << 20))
    assert fetch(nvidia, cache=str(cache), with_ocsp=False).collateral.count == 3
    assert len(nvidia.requests) == 3
    assert (cache / NAMES[0]).read_bytes() == RIMS[NAMES[0]]
    assert not (cache / NAMES[0]).is_symlink()


def test_cache_that_cannot_be_used(nvidia: Pcs, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", "\0"):
        with pytest.raises(UsageError, match="cache folder") as caught:
            fetch(nvidia, cache=str(folder))
        assert caught.value.where is not None
    assert nvidia.requests == []


# Wrong use, and hostile evidence -------------------------------------------------------


def test_wrong_use(nvidia: Pcs) -> None:
    for options in ({"needs": ()}, {"timeout": 0}, {"retries": -1}, {"needs": NEEDS * 100}):
        with pytest.raises(UsageError):
            fetch(nvidia, **options)

    async def inside() -> None:
        fetch(nvidia)

    with pytest.raises(UsageError, match="inside an event loop"):
        asyncio.run(inside())
    assert nvidia.requests == []


def _evidence(number: int) -> DeviceEvidence:
    items = json.loads(NODE.nvattest_json())
    item = items[number]
    return DeviceEvidence(
        report=base64.b64decode(item["evidence"]),
        certificate_chain=base64.b64decode(item["certificate"]),
        claimed_architecture=None,
        claimed_nonce=None,
        source=f"$[{number}]",
    )


def test_nothing_is_asked_about_devices_that_are_not_nvidias() -> None:
    with pytest.raises(EvidenceError, match="no collateral") as caught:
        device_needs([_evidence(0)], [], NVIDIA_DEVICE_IDENTITY_CA, SignatureMemory())
    assert caught.value.where == "$[0]"
    root, memory = TRUST.nvidia_device_root, TRUST.memory
    with pytest.raises(EvidenceError, match="listed as GPU"):
        device_needs([_evidence(8)], [], root, memory)
    with pytest.raises(EvidenceError, match="listed as NVSwitch"):
        device_needs([], [_evidence(0)], root, memory)
    broken = replace(_evidence(0), report=_evidence(0).report[:100])
    with pytest.raises(EvidenceError) as caught:
        device_needs([broken], [], root, memory)
    assert (caught.value.where or "").startswith("$[0]")


def test_needs_of_real_devices(vectors: Path) -> None:
    from ccverify.interop.detect import parse_foreign_evidence

    found = {}
    for path in sorted((vectors / "nvidia").rglob("*.json")):
        try:
            evidence = parse_foreign_evidence(path.read_bytes())
        except EvidenceError:
            continue
        for node in evidence.nodes:
            try:
                wanted = device_needs(
                    node.gpus, node.switches, NVIDIA_DEVICE_IDENTITY_CA, SignatureMemory()
                )
            except EvidenceError:
                continue
            found.update({rim.text: need for need in wanted for rim in need.rims})
    assert "NV_SWITCH_BIOS_5612_0002_890_9610730001" in found
    assert "NV_GPU_DRIVER_GH100_590.12" in found
    assert all(len(need.chain) == 4 for need in found.values())
