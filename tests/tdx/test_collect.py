"""Fetching collateral, from services that behave and from services that do not."""

from __future__ import annotations

import asyncio
import builtins
import gzip
import json
import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pcs_server import (
    PCK_CRL,
    QE,
    ROOT_CRL,
    TCB,
    Behaviour,
    Pcs,
    Reply,
    drip,
    drip_headers,
    flood,
    hang,
    hang_up,
    replies,
    sequence,
    serve,
    truncated,
)

from ccverify import (
    CollateralError,
    CollateralPack,
    EvidenceError,
    TrustStore,
    UsageError,
    http_get,
    parse_collateral,
    parse_quote,
)
from ccverify.sim import SimPlatform
from ccverify.tdx import collect
from ccverify.tdx.collateral_report import appraise_pack
from ccverify.tdx.collect import fetch_collateral, platform_of_quote

PLATFORM = SimPlatform()
EVIDENCE = PLATFORM.evidence()
FMSPC = PLATFORM.fmspc
EXPECTED = parse_collateral(EVIDENCE.collateral.to_json().encode())
RESPONSES = EVIDENCE.collateral.pcs_responses()


@pytest.fixture(autouse=True)
def no_proxy_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def pcs() -> Iterator[Pcs]:
    with serve(replies(EVIDENCE.collateral)) as service:
        yield service


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which are recorded instead of waited for."""
    waited: list[float] = []

    async def pause(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(http_get, "_pause", pause)
    return waited


def fetch(pcs: Pcs, **options: Any) -> CollateralPack:
    given: dict[str, Any] = {"base_url": pcs.url, "timeout": 10.0, "retries": 0} | options
    return fetch_collateral([FMSPC], **given)


# Services that behave ------------------------------------------------------------------


def test_simulated_service(pcs: Pcs) -> None:
    assert fetch(pcs) == EXPECTED
    assert sorted(pcs.requests) == [
        f"{PCK_CRL}?ca=platform&encoding=der",
        ROOT_CRL,
        f"{QE}",
        f"{TCB}?fmspc=53494D000000",
    ]
    assert all(headers["accept-encoding"] == "identity" for headers in pcs.headers)
    assert all(headers["user-agent"].startswith("ccverify/") for headers in pcs.headers)


@pytest.mark.parametrize(
    ("capture", "assembled"),
    [
        ("chutes_20260610", "cap_chutes_20260610_90c06f.json"),
        ("neardirect_20260610", "cap_neardirect_20260610_90c06f.json"),
        ("phalacloud_20260610", "cap_phalacloud_20260610_90c06f.json"),
    ],
)
def test_recorded_service(vectors: Path, capture: str, assembled: str) -> None:
    folder = vectors / "tdx" / "captures" / capture
    routes: dict[str, Behaviour | list[Behaviour]] = {}
    for name, path in (("_tcb", TCB), ("_qe_identity", QE), ("_pckcrl", PCK_CRL)):
        (body,) = folder.glob(f"*certification_v4{name}.body")
        recorded = json.loads(body.with_suffix(".json").read_text())["headers"]
        headers = [(key, value) for key, values in recorded.items() for value in values]
        routes[path] = Reply(body.read_bytes(), headers=tuple(headers))
    (root,) = folder.glob("*intelsgxrootca.der.body")
    routes["/root.der"] = Reply(root.read_bytes())
    with serve(routes) as pcs:
        pack = fetch_collateral(
            [bytes.fromhex("90c06f000000")],
            base_url=pcs.url,
            root_crl_url=f"{pcs.url}/root.der",
            retries=0,
        )
    assert appraise_pack(pack, TrustStore.production(), datetime(2026, 6, 15, tzinfo=UTC)) == ()
    expected = vectors / "tdx" / "collateral" / "assembled" / assembled
    assert pack == parse_collateral(expected.read_bytes())


def test_pccs_serves_crls_in_hex_under_older_header_names(pcs: Pcs) -> None:
    chain = dict(RESPONSES["tcb_info"].headers)["TCB-Info-Issuer-Chain"]
    pcs.routes[TCB] = Reply(
        RESPONSES["tcb_info"].body, headers=(("SGX-TCB-Info-Issuer-Chain", chain),)
    )
    pcs.routes[ROOT_CRL] = Reply(RESPONSES["root_ca_crl"].body.hex().encode())
    pck_crl = RESPONSES["pck_crl"]
    pcs.routes[PCK_CRL] = Reply(pck_crl.body.hex().encode(), headers=pck_crl.headers)
    assert fetch(pcs) == EXPECTED


@pytest.mark.parametrize(
    "suffix", ["", "/", "/sgx/certification/v4/", "/sgx/certification/v4", "/tdx/certification/v4"]
)
def test_base_url_with_or_without_service_path(pcs: Pcs, suffix: str) -> None:
    assert fetch(pcs, base_url=pcs.url + suffix) == EXPECTED


def test_several_platforms_and_both_cas() -> None:
    other = replace(PLATFORM, fmspc=b"SIM\0\0\1", ca="processor").evidence()
    processor = other.collateral.pcs_responses()
    both: dict[bytes, Reply] = {
        FMSPC: Reply(RESPONSES["tcb_info"].body, headers=RESPONSES["tcb_info"].headers),
        b"SIM\0\0\1": Reply(processor["tcb_info"].body, headers=processor["tcb_info"].headers),
    }
    crls = {
        "platform": Reply(RESPONSES["pck_crl"].body, headers=RESPONSES["pck_crl"].headers),
        "processor": Reply(processor["pck_crl"].body, headers=processor["pck_crl"].headers),
    }
    routes = replies(EVIDENCE.collateral)
    routes[TCB] = lambda h: both[bytes.fromhex(h.path.split("fmspc=")[1][:12])](h)
    routes[PCK_CRL] = lambda h: crls[h.path.split("ca=")[1].split("&")[0]](h)
    seen: list[tuple[int, int, str]] = []
    with serve(routes) as pcs:
        pack = fetch_collateral(
            [FMSPC, b"SIM\0\0\1", FMSPC],
            base_url=pcs.url,
            ca=("platform", "processor"),
            progress=lambda *step: seen.append(step),
        )
        assert len(pcs.requests) == 6
    assert {info.value.fmspc for info in pack.tcb_infos} == set(both)
    assert len(pack.pck_crls) == 2
    assert [step[0] for step in seen] == [1, 2, 3, 4, 5, 6]
    assert {step[1] for step in seen} == {6}
    assert {step[2] for step in seen} >= {"QE identity", "root CA CRL", "PCK CRL (processor CA)"}


def intel(request: httpx.Request) -> httpx.Response:
    """Intel's two hosts, played without any network."""
    paths = {TCB: "tcb_info", QE: "qe_identity", PCK_CRL: "pck_crl"}
    name = paths.get(request.url.path, "root_ca_crl")
    response = RESPONSES[name]
    # As a stream: a body given as `content` counts as read already.
    return httpx.Response(
        200, headers=list(response.headers), stream=httpx.ByteStream(response.body)
    )


@pytest.mark.parametrize(
    ("options", "query"),
    [
        ({}, ""),
        ({"update": "early"}, "update=early"),
        ({"tcb_evaluation_data_number": 20}, "tcbEvaluationDataNumber=20"),
    ],
)
def test_what_intel_is_asked(options: dict[str, Any], query: str) -> None:
    urls: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        urls.append(str(request.url))
        return intel(request)

    client = httpx.AsyncClient(transport=httpx.MockTransport(handler))
    assert fetch_collateral([FMSPC], client=client, **options) == EXPECTED
    assert not client.is_closed
    host = "https://api.trustedservices.intel.com"
    assert sorted(urls) == sorted(
        [
            f"{host}/tdx/certification/v4/tcb?fmspc=53494D000000" + (query and f"&{query}"),
            f"{host}/tdx/certification/v4/qe/identity" + (query and f"?{query}"),
            f"{host}/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
            "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der",
        ]
    )


# Services that answer something else ---------------------------------------------------


def test_another_tcb_set_than_asked_for_is_refused(pcs: Pcs) -> None:
    with pytest.raises(CollateralError, match="another TCB evaluation data number") as caught:
        fetch(pcs, tcb_evaluation_data_number=21)
    assert (caught.value.expected, caught.value.found) == ("21", "20")


def test_tcb_info_of_another_platform_is_refused(pcs: Pcs) -> None:
    other = replace(PLATFORM, fmspc=b"SIM\0\0\1").evidence().collateral.pcs_responses()["tcb_info"]
    pcs.routes[TCB] = Reply(other.body, headers=other.headers)
    with pytest.raises(CollateralError, match="another FMSPC") as caught:
        fetch(pcs)
    assert caught.value.found == "53494D000001"
    assert caught.value.where is not None
    assert TCB in caught.value.where


def test_crl_of_another_ca_is_refused(pcs: Pcs) -> None:
    with pytest.raises(CollateralError, match="another PCK CA") as caught:
        fetch(pcs, ca=["processor"])
    assert (caught.value.expected, caught.value.found) == ("processor", "platform")
    pcs.routes[PCK_CRL] = Reply(RESPONSES["root_ca_crl"].body, headers=RESPONSES["pck_crl"].headers)
    with pytest.raises(CollateralError, match="another PCK CA"):
        fetch(pcs)


BAD_ANSWERS: dict[str, tuple[str, Behaviour, str]] = {
    "error page": (TCB, Reply(b"<html>proxy login</html>"), "not an object"),
    "empty body": (TCB, Reply(b"", headers=RESPONSES["tcb_info"].headers), "not an object"),
    "other object": (
        TCB,
        Reply(RESPONSES["qe_identity"].body, headers=RESPONSES["tcb_info"].headers),
        "not what was asked for",
    ),
    "no issuer chain": (TCB, Reply(RESPONSES["tcb_info"].body), "no issuer chain"),
    "garbage issuer chain": (
        QE,
        Reply(
            RESPONSES["qe_identity"].body,
            headers=(("SGX-Enclave-Identity-Issuer-Chain", "%2D%ff%zz"),),
        ),
        "PEM",
    ),
    "two issuer chains": (
        TCB,
        Reply(
            RESPONSES["tcb_info"].body,
            headers=(
                *RESPONSES["tcb_info"].headers,
                (
                    "TCB-Info-Issuer-Chain",
                    dict(RESPONSES["pck_crl"].headers)["SGX-PCK-CRL-Issuer-Chain"],
                ),
            ),
        ),
        "several issuer chains",
    ),
    "CRL that is text": (ROOT_CRL, Reply(b"gone fishing"), "not a CRL"),
    "CRL that is cut off": (ROOT_CRL, Reply(RESPONSES["root_ca_crl"].body[:-1]), "CRL"),
    "PCK CRL without chain": (PCK_CRL, Reply(RESPONSES["pck_crl"].body), "no issuer chain"),
    "truncated body": (
        TCB,
        truncated(RESPONSES["tcb_info"].body, RESPONSES["tcb_info"].headers),
        "broke the connection",
    ),
    "closed connection": (TCB, hang_up, "broke the connection"),
    "gzip bomb": (
        TCB,
        Reply(gzip.compress(b"[" * 50_000_000, 1), headers=(("Content-Encoding", "gzip"),)),
        "compressed",
    ),
    "headers without end": (
        TCB,
        Reply(headers=tuple((f"X-{n}", "x" * 1000) for n in range(200))),
        "broke the connection",
    ),
}


@pytest.mark.parametrize("case", BAD_ANSWERS)
def test_bad_answer_is_refused_at_once(pcs: Pcs, pauses: list[float], case: str) -> None:
    path, behaviour, message = BAD_ANSWERS[case]
    pcs.routes[path] = behaviour
    with pytest.raises(CollateralError, match=message) as caught:
        fetch(pcs, retries=3)
    assert caught.value.where is not None
    assert pcs.url in caught.value.where
    assert pcs.count(path) == 1
    assert pauses == []


def test_oversize_answers_are_cut_off(pcs: Pcs, monkeypatch: pytest.MonkeyPatch) -> None:
    pcs.routes[TCB] = flood
    with pytest.raises(CollateralError, match="too large"):
        fetch(pcs)
    # One byte above and exactly at the limit.
    size = len(RESPONSES["tcb_info"].body)
    pcs.routes.update(replies(EVIDENCE.collateral))
    monkeypatch.setattr(collect, "MAX_JSON_BYTES", size - 1)
    with pytest.raises(CollateralError, match="too large"):
        fetch(pcs)
    monkeypatch.setattr(collect, "MAX_JSON_BYTES", size)
    assert fetch(pcs) == EXPECTED


# Redirects -----------------------------------------------------------------------------


def redirect(location: str, status: int = 302) -> Reply:
    return Reply(status=status, headers=(("Location", location),))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_on_the_same_host_is_followed(pcs: Pcs, status: int) -> None:
    pcs.routes["/moved"] = pcs.routes[TCB]
    pcs.routes[TCB] = redirect("/moved?x=1", status)
    assert fetch(pcs) == EXPECTED
    assert "/moved?x=1" in pcs.requests


def test_redirect_to_another_place_is_refused(pcs: Pcs) -> None:
    with serve(replies(EVIDENCE.collateral)) as other:
        for location in (
            f"{other.url}{TCB}",
            f"//127.0.0.2{TCB}",
            "http://localhost/",
            "ftp://127.0.0.1/",
            "file:///etc/passwd",
            f"http://user@127.0.0.1{TCB}",
            "http://[bad/",
        ):
            pcs.routes[TCB] = redirect(location)
            with pytest.raises(CollateralError, match="redirects to another place"):
                fetch(pcs)
        assert other.requests == []


def test_redirects_in_circles_end(pcs: Pcs) -> None:
    pcs.routes[TCB] = redirect(TCB)
    with pytest.raises(CollateralError, match="circles"):
        fetch(pcs)
    assert pcs.count(TCB) == http_get.MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    ("url", "location", "target"),
    [
        ("http://a/x", "https://a/x", "https://a/x"),
        ("http://a:8081/x", "https://a:8443/y", "https://a:8443/y"),
        ("https://A/x", "https://a/y", "https://a/y"),
        ("https://a/x", "http://a/x", None),
        ("http://a/x", "https://b/x", None),
        ("http://a/x", "https://u@a/x", None),
        ("https://a/x", "https://a:444/x", None),
    ],
)
def test_which_redirects_are_followed(url: str, location: str, target: str | None) -> None:
    if target is not None:
        assert http_get._redirected(url, location) == target
    else:
        with pytest.raises(CollateralError):
            http_get._redirected(url, location)


# Trying again --------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_passing_trouble_is_tried_again(pcs: Pcs, pauses: list[float], status: int) -> None:
    good = pcs.routes[TCB]
    assert callable(good)
    pcs.routes[TCB] = sequence(Reply(b"busy", status), Reply(b"busy", status), good)
    assert fetch(pcs, retries=2) == EXPECTED
    assert pcs.count(TCB) == 3
    assert pauses == [0.5, 1.0]


def test_retry_after_is_honoured(pcs: Pcs, pauses: list[float]) -> None:
    good = pcs.routes[TCB]
    assert callable(good)
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=50), usegmt=True)
    past = ("Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 -0000")
    waits = ("7", "0", *past, "soon", date)
    busy = [Reply(b"", 429, (("Retry-After", wait),)) for wait in waits]
    pcs.routes[TCB] = sequence(*busy, good)
    assert fetch(pcs, retries=6) == EXPECTED
    # "soon" says nothing, so the fifth pause is our own.
    assert pauses[:5] == [7.0, 0.1, 0.1, 0.1, 8.0]
    assert 0 < pauses[5] <= 50


def test_too_long_a_pause_is_not_waited_for(pcs: Pcs, pauses: list[float]) -> None:
    pcs.routes[TCB] = Reply(b"", 503, (("Retry-After", "61"),))
    with pytest.raises(CollateralError, match="refuses") as caught:
        fetch(pcs, retries=3)
    assert caught.value.found == "status 503 Service Unavailable, and asks to wait 61 s"
    assert pauses == []


def test_trouble_that_stays_is_an_error(pcs: Pcs, pauses: list[float]) -> None:
    pcs.routes[TCB] = Reply(b"", 500)
    with pytest.raises(CollateralError, match="status 500") as caught:
        fetch(pcs, retries=6)
    assert caught.value.found == "7 attempts failed"
    assert caught.value.exit_code == 5
    assert pcs.count(TCB) == 7
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 407, 410, 204, 206])
def test_refusals_are_not_tried_again(pcs: Pcs, pauses: list[float], status: int) -> None:
    pcs.routes[TCB] = Reply(b"", status)
    with pytest.raises(CollateralError, match="refuses") as caught:
        fetch(pcs, retries=3)
    assert f"status {status}" in (caught.value.found or "")
    assert (caught.value.hint is not None) == (status >= 400)
    assert pcs.count(TCB) == 1
    assert pauses == []


@pytest.mark.parametrize("behaviour", [hang, drip, drip_headers])
def test_no_answer_in_time(pcs: Pcs, pauses: list[float], behaviour: Behaviour) -> None:
    pcs.routes[TCB] = behaviour
    with pytest.raises(CollateralError, match=r"no complete answer within 0\.3 s") as caught:
        fetch(pcs, timeout=0.3, retries=1)
    assert "--timeout" in (caught.value.hint or "")
    assert pcs.count(TCB) == 2
    assert pauses == [0.5]


def test_time_spent_in_the_queue_does_not_count(pcs: Pcs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "_AT_ONCE", 1)
    pcs.routes[TCB] = sequence(hang, hang, Reply(b"", 404))
    with pytest.raises(CollateralError, match="no complete answer"):
        fetch_collateral(
            [FMSPC, b"SIM\0\0\1", b"SIM\0\0\2"], base_url=pcs.url, timeout=0.2, retries=0
        )
    assert pcs.count(TCB) == 3
    assert pcs.count(ROOT_CRL) == 1


def test_nobody_listens() -> None:
    with serve() as pcs:
        gone = pcs.url
    with pytest.raises(CollateralError, match="cannot be reached") as caught:
        fetch_collateral([FMSPC], base_url=gone, retries=0, timeout=5)
    assert "ConnectError" in (caught.value.found or "")


# Proxies and TLS -----------------------------------------------------------------------


def test_explicit_proxy_is_used() -> None:
    with serve(replies(EVIDENCE.collateral)) as proxy:
        pack = fetch_collateral([FMSPC], base_url="http://pccs.invalid", proxy=proxy.url, retries=0)
        assert sorted(proxy.requests)[0].startswith(f"http://pccs.invalid{PCK_CRL}")
        assert len(proxy.requests) == 4
    assert pack == EXPECTED


def test_proxy_from_the_environment(pcs: Pcs, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(replies(EVIDENCE.collateral)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert fetch(pcs, base_url="http://pccs.invalid") == EXPECTED
        assert len(proxy.requests) == 4
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert fetch(pcs) == EXPECTED
        assert len(proxy.requests) == 4
        assert len(pcs.requests) == 4


def test_https_goes_through_a_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(CollateralError, match="cannot be reached") as caught:
            fetch_collateral([FMSPC], base_url="https://pccs.invalid", retries=0)
        assert set(proxy.requests) == {"CONNECT pccs.invalid:443"}
    assert "403" in (caught.value.found or "")


@pytest.mark.parametrize("proxy", ["gopher://127.0.0.1", "http://127.0.0.1:x"])
def test_unusable_proxy(pcs: Pcs, proxy: str) -> None:
    with pytest.raises(UsageError, match="cannot be used"):
        fetch(pcs, proxy=proxy)
    assert pcs.requests == []


def tls_identity(folder: Path) -> Path:
    """Make a certificate for 127.0.0.1 that only itself vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "service.pem"
    file.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return file


def test_tls_certificates_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = tls_identity(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity)
    with serve(replies(EVIDENCE.collateral), context) as pcs:
        with pytest.raises(CollateralError, match="cannot be reached") as caught:
            fetch(pcs)
        assert "CERTIFICATE_VERIFY_FAILED" in (caught.value.found or "")
        assert pcs.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(identity))
        assert fetch(pcs) == EXPECTED


# Wrong use -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": "ftp://127.0.0.1"},
        {"base_url": "127.0.0.1:8081"},
        {"base_url": "https://"},
        {"base_url": "https://[bad"},
        {"base_url": "https://h:99999"},
        {"base_url": "https://h/?x=1"},
        {"base_url": "https://user:secret@h"},
        {"base_url": "https://h/ x"},
        {"base_url": "https://h\u00e9"},
        {"root_crl_url": "file:///etc/passwd"},
        {"update": "late"},
        {"update": "early", "tcb_evaluation_data_number": 20},
        {"tcb_evaluation_data_number": 0},
        {"tcb_evaluation_data_number": 1 << 32},
        {"ca": ["root"]},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"retries": -1},
    ],
)
def test_impossible_arguments(pcs: Pcs, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        fetch(pcs, **options)
    assert "secret" not in caught.value.diagnostics()
    assert pcs.requests == []


@pytest.mark.parametrize("fmspcs", [[], [b"short"], [b"too long"]])
def test_impossible_fmspcs(pcs: Pcs, fmspcs: list[bytes]) -> None:
    with pytest.raises(UsageError):
        fetch_collateral(fmspcs, base_url=pcs.url)
    with pytest.raises(UsageError):
        fetch_collateral((n.to_bytes(6, "big") for n in range(257)), base_url=pcs.url)
    assert pcs.requests == []


def test_inside_an_event_loop(pcs: Pcs) -> None:
    async def wrong() -> None:
        fetch(pcs)

    async def right() -> CollateralPack:
        return await asyncio.to_thread(fetch, pcs)

    with pytest.raises(UsageError, match="inside an event loop"):
        asyncio.run(wrong())
    assert asyncio.run(right()) == EXPECTED


@pytest.mark.parametrize("missing", ["httpx", "tenacity"])
def test_without_the_online_extra(pcs: Pcs, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CollateralError, match="not installed") as caught:
        fetch(pcs)
    assert caught.value.found == f"no {missing}"
    assert 'pip install "ccverify[online]"' in (caught.value.hint or "")
    assert pcs.requests == []


# Platforms of quotes -------------------------------------------------------------------


def test_platform_of_quote() -> None:
    quote = parse_quote(EVIDENCE.quote_bytes)
    assert platform_of_quote(quote) == collect.PlatformName(FMSPC, "platform")
    other = replace(PLATFORM, ca="processor", fmspc=b"SIM\0\0\2")
    assert platform_of_quote(parse_quote(other.evidence().quote_bytes)) == collect.PlatformName(
        b"SIM\0\0\2", "processor"
    )
    leaf_only = PLATFORM.case(inner_type=4).build()
    assert platform_of_quote(parse_quote(leaf_only.quote_bytes)).fmspc == FMSPC


def test_platform_of_real_quotes(vectors: Path) -> None:
    folder = vectors / "tdx" / "quotes"
    for name, fmspc in (
        ("captured/nearcloud_20260629_c19965ef.bin", "90c06f000000"),
        ("captured/near_quote.bin", "b0c06f000000"),
        ("edgeless_00806f_v4.bin", "00806f050000"),
    ):
        platform = platform_of_quote(parse_quote((folder / name).read_bytes()))
        assert platform == collect.PlatformName(bytes.fromhex(fmspc), "platform"), name


@pytest.mark.parametrize("inner_type", [1, 2, 3])
def test_quote_without_certificate_names_no_platform(inner_type: int) -> None:
    quote = parse_quote(PLATFORM.case(inner_type=inner_type).build().quote_bytes)
    with pytest.raises(EvidenceError, match="no PCK certificate") as caught:
        platform_of_quote(quote)
    assert "--fmspc" in (caught.value.hint or "")
