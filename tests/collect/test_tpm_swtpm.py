"""A whole TPM: swtpm, asked by us, and cross-checked with tpm2-tools."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from binder_asks import NONCE, QUALIFYING, bind_ask, the_bound, the_unbound, tpm_result
from collect_fakes import node
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ccverify.bundle.endorsement import tpm_qualifying_data
from ccverify.bundle.package import parse_bundle
from ccverify.bundle.tpm_item import parse_tpm_item
from ccverify.collect.model import AbsenceReason
from ccverify.collect.session import collect_bundle
from ccverify.collect.tpm import tpm_binder
from ccverify.tpm.quote import parse_tpm_quote
from ccverify.tpm.verify import verify_tpm_quote

TOOLS = ("tpm2_createprimary", "tpm2_create", "tpm2_load", "tpm2_quote", "tpm2_checkquote",
         "tpm2_evictcontrol", "tpm2_pcrextend", "tpm2_readpublic")  # fmt: skip
needs_tools = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in TOOLS), reason="tpm2-tools is not installed"
)
STARTING_S = 20.0


class Tpm:
    """A running swtpm; tpm2-tools talk to it through `tool`."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.address = f"127.0.0.1:{port}"
        self._environment = {
            **os.environ,
            "TPM2TOOLS_TCTI": f"swtpm:host=127.0.0.1,port={port}",
            "TSS2_LOG": "all+NONE",
        }

    def tool(self, *command: str) -> str:
        try:
            return self._run(*command)
        finally:
            # Without a resource manager, what a tool has loaded stays and fills the TPM.
            self._run("tpm2_flushcontext", "-t")

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment, timeout=60,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


def free_ports() -> int:
    """Return a port that is free together with the next: swtpm's convention for control."""
    for port in range(20000 + os.getpid() % 20000, 65000, 2):
        with socket.socket() as data, socket.socket() as control:
            try:
                data.bind(("127.0.0.1", port))
                control.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise AssertionError("no free ports")


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tpm]:
    program = shutil.which("swtpm")
    if program is None:
        pytest.skip("swtpm is not installed")
    folder = tmp_path_factory.mktemp("swtpm")
    port = free_ports()
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [program, "socket", "--tpm2", "--tpmstate", f"dir={folder}",
         "--server", f"type=tcp,port={port},disconnect", "--ctrl", f"type=tcp,port={port + 1}",
         "--flags", "not-need-init,startup-clear"],
        stdout=log, stderr=log,
    )  # fmt: skip
    try:
        end = time.monotonic() + STARTING_S
        while True:
            if process.poll() is not None or time.monotonic() > end:
                pytest.skip(f"swtpm does not run here: {(folder / 'log').read_text()[:500]}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.02)
        yield Tpm(folder, port)
    finally:
        process.terminate()
        process.wait(10)
        log.close()


def test_a_genuine_tpm_quotes_for_us(tpm: Tpm) -> None:
    made = tpm_binder(tpm.address)
    assert made.diagnose() == ()
    first = tpm_result(made.bind(bind_ask()))
    assert first.hierarchy == "endorsement"
    assert list(first.pcrs["sha256"]) == list(range(15))
    again = tpm_result(made.bind(bind_ask()))
    assert again.name == first.name, "the template gives one key"
    assert again.clock.reset_count == first.clock.reset_count
    assert again.clock.clock >= first.clock.clock
    owner = tpm_result(tpm_binder(tpm.address, hierarchy="owner").bind(bind_ask()))
    assert (owner.hierarchy, owner.name == first.name) == ("owner", False)
    # Without a resource manager, three transient keys fill a TPM: ours were given up.
    for _ in range(4):
        tpm_result(made.bind(bind_ask()))


def test_all_pcrs_of_all_banks(tpm: Tpm) -> None:
    text = "sha1:0-23+sha256:0-23+sha384:0-23+sha512:0-23"
    result = tpm_result(tpm_binder(tpm.address, pcrs=text).bind(bind_ask()))
    assert {bank: len(values) for bank, values in result.pcrs.items()} == {
        "sha256": 24,
        "sha384": 24,
        "sha512": 24,
    }


def test_a_flipped_bit_anywhere_is_found(tpm: Tpm) -> None:
    item = the_bound(tpm_binder(tpm.address).bind(bind_ask()))
    read = parse_tpm_item(item.data)
    attest = read.attest.encoded
    # Behind the name of the signer every byte is a value: none makes the form wrong but one.
    at = attest.index(QUALIFYING)
    for position in range(at, at + 32 + 16):
        changed = attest[:position] + bytes((attest[position] ^ 1,)) + attest[position + 1 :]
        quote = parse_tpm_quote(changed, read.signature.encoded, read.public.encoded, None,
                                read.pcrs)  # fmt: skip
        assert "signature: it does not verify under the key" in verify_tpm_quote(
            quote, QUALIFYING
        ).problems  # fmt: skip


def test_a_session_is_bound_by_a_genuine_tpm(tpm: Tpm) -> None:
    result = collect_bundle(
        NONCE, node()[:3], binders=[tpm_binder(tpm.address)], require=["tpm-quote"]
    )
    assert result.missing == ()
    assert result.bundle is not None
    bundle = parse_bundle(result.bundle)
    assert bundle.quote is None
    assert bundle.tpm_quote is not None
    expected = tpm_qualifying_data(NONCE, bundle.session_key.thumbprint, bundle.manifest.sha384)
    assert verify_tpm_quote(parse_tpm_item(bundle.tpm_quote), expected).problems == ()
    assert verify_tpm_quote(parse_tpm_item(bundle.tpm_quote), bytes(32)).problems


@needs_tools
def test_pcrs_follow_what_is_measured(tpm: Tpm) -> None:
    made = tpm_binder(tpm.address, pcrs="sha256:8,9")
    before = tpm_result(made.bind(bind_ask())).pcrs["sha256"]
    event = sha256(b"a kernel").hexdigest()
    tpm.tool("tpm2_pcrextend", f"8:sha256={event}")
    after = tpm_result(made.bind(bind_ask())).pcrs["sha256"]
    assert after[8] == sha256(before[8] + bytes.fromhex(event)).digest()
    assert after[9] == before[9]


@needs_tools
def test_tpm2_checkquote_accepts_our_quote(tpm: Tpm) -> None:
    read = parse_tpm_item(the_bound(tpm_binder(tpm.address).bind(bind_ask())).data)
    key = read.public.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for name, data in (("ours.pem", key), ("ours.msg", read.attest.encoded),
                       ("ours.sig", read.signature.encoded)):  # fmt: skip
        (tpm.folder / name).write_bytes(data)
    check = (
        "tpm2_checkquote",
        "-u",
        "ours.pem",
        "-m",
        "ours.msg",
        "-s",
        "ours.sig",
        "-g",
        "sha256",
    )
    tpm.tool(*check, "-q", QUALIFYING.hex())
    with pytest.raises(AssertionError):
        tpm.tool(*check, "-q", bytes(32).hex())


@needs_tools
@pytest.mark.parametrize(
    ("algorithm", "scheme"),
    [("ecc256", "ecdsa-sha256"), ("ecc384", "ecdsa-sha384"), ("rsa2048", "rsassa-sha256"),
     ("rsa2048", "rsapss-sha256"), ("rsa3072", "rsassa-sha384")],
)  # fmt: skip
def test_we_accept_a_quote_of_tpm2_quote(tpm: Tpm, algorithm: str, scheme: str) -> None:
    attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign|noda"
    tpm.tool("tpm2_createprimary", "-C", "e", "-G", f"{algorithm}:{scheme}:null", "-a", attributes,
             "-c", "ak.ctx", "-Q")  # fmt: skip
    tpm.tool("tpm2_readpublic", "-c", "ak.ctx", "-o", "ak.tss", "-f", "tss", "-n", "ak.name", "-Q")
    tpm.tool("tpm2_quote", "-c", "ak.ctx", "-l", "sha256:0,1,2,8+sha384:7", "-q",
             QUALIFYING.hex(), "-m", "quote.msg", "-s", "quote.sig", "-o", "quote.pcrs",
             "-F", "values", "--scheme", scheme[:-7], "-g", scheme[-6:], "-Q")  # fmt: skip
    values = tpm.read("quote.pcrs")
    pcrs: dict[str, dict[int, bytes]] = {"sha256": {}, "sha384": {}}
    for number, index in enumerate((0, 1, 2, 8)):
        pcrs["sha256"][index] = values[32 * number : 32 * number + 32]
    pcrs["sha384"][7] = values[128:176]
    public = tpm.read("ak.tss")[2:]  # a TPM2B: the size comes first
    quote = parse_tpm_quote(tpm.read("quote.msg"), tpm.read("quote.sig"), public, None, pcrs)
    result = verify_tpm_quote(quote, QUALIFYING)
    assert (result.problems, result.hierarchy) == ((), "endorsement")
    assert result.name == tpm.read("ak.name").hex()
    changed = {**pcrs, "sha384": {7: bytes(48 - 1) + b"\1"}}
    other = parse_tpm_quote(tpm.read("quote.msg"), tpm.read("quote.sig"), public, None, changed)
    assert verify_tpm_quote(other, QUALIFYING).problems


@needs_tools
def test_a_persistent_key_of_tpm2_tools_quotes_for_us(tpm: Tpm) -> None:
    """As hosts are enrolled: a key below a storage key, made persistent."""
    tpm.tool("tpm2_createprimary", "-C", "o", "-G", "ecc", "-c", "primary.ctx", "-Q")
    attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|{}sign"
    for handle, more in (("0x81010001", "restricted|"), ("0x81010002", "")):
        scheme = "ecc:ecdsa-sha256:null" if more else "ecc:ecdsa-sha256"
        tpm.tool("tpm2_create", "-C", "primary.ctx", "-G", scheme, "-a", attributes.format(more),
                 "-u", "key.pub", "-r", "key.priv", "-Q")  # fmt: skip
        tpm.tool("tpm2_load", "-C", "primary.ctx", "-u", "key.pub", "-r", "key.priv",
                 "-c", "key.ctx", "-Q")  # fmt: skip
        tpm.tool("tpm2_evictcontrol", "-C", "o", "-c", "key.ctx", handle, "-Q")
    result = tpm_result(tpm_binder(tpm.address, handle="0x81010001").bind(bind_ask()))
    assert result.hierarchy is None
    tpm.tool("tpm2_readpublic", "-c", "0x81010001", "-n", "key.name", "-Q")
    assert result.name == tpm.read("key.name").hex()
    # A key that signs anything signs a forged quote as well.
    absence = the_unbound(tpm_binder(tpm.address, handle="0x81010002").bind(bind_ask()))
    assert absence.reason is AbsenceReason.FAILED
    assert "lacks RESTRICTED" in absence.text
    missing = the_unbound(tpm_binder(tpm.address, handle="0x81010003").bind(bind_ask()))
    assert missing.reason is AbsenceReason.NOT_PRESENT


@needs_tools
def test_a_hierarchy_with_a_password_is_said_to_have_one(tpm: Tpm) -> None:
    tpm.tool("tpm2_changeauth", "-c", "owner", "secret")
    try:
        absence = the_unbound(tpm_binder(tpm.address, hierarchy="owner").bind(bind_ask()))
        assert absence.reason is AbsenceReason.NO_PERMISSION
        assert "password" in absence.text
        tpm_result(tpm_binder(tpm.address).bind(bind_ask()))
    finally:
        tpm.tool("tpm2_changeauth", "-c", "owner", "-p", "secret")
