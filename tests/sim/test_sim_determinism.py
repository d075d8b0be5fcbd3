"""The same arguments give the same bytes, everywhere and always."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

import ccverify.sim.keys
from ccverify.errors import UsageError
from ccverify.sim import SimKey, SimPlatform

_DIGEST_PROGRAM = """
import hashlib
from ccverify.sim.defects import DEFECTS
total = hashlib.sha256()
for name in ("root-other", "tcb-info-sgx", "qe-report-unbound", "dstack-reordered"):
    evidence = DEFECTS[name].evidence()
    total.update(evidence.quote_bytes + evidence.collateral.to_json().encode())
    total.update(evidence.root_der + evidence.ccel + evidence.dstack_event_log().encode())
print(total.hexdigest())
"""


def _digest_in_new_process(hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _DIGEST_PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
        env={"PYTHONHASHSEED": hash_seed, "TZ": "Asia/Tokyo" if hash_seed == "1" else "UTC"},
    )
    return done.stdout.strip()


def test_two_processes_agree() -> None:
    assert _digest_in_new_process("1") == _digest_in_new_process("2")


def test_two_calls_agree() -> None:
    first, second = (SimPlatform().evidence(version=5, body_type=3) for _ in range(2))
    assert first.quote_bytes == second.quote_bytes
    assert first.collateral == second.collateral
    assert first.ccel == second.ccel


def test_keys_never_change() -> None:
    """Fixtures outlive releases: these two values may not change."""
    points = {curve: SimKey("root", b"seed", curve).public_xy for curve in ("P-256", "P-384")}
    assert {curve: hashlib.sha256(own).hexdigest()[:16] for curve, own in points.items()} == {
        "P-256": "b36949201a3f1b06",
        "P-384": "784d1298517bd714",
    }


def test_label_seed_and_curve_are_kept_apart() -> None:
    keys = [
        SimKey("ab", b"c"),
        SimKey("a", b"bc"),
        SimKey("ab", b"d"),
        SimKey("ab", b"c", "P-384"),
    ]
    assert len({key.public_xy for key in keys}) == len(keys)


def test_rfc6979_known_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 6979 A.2.5: P-256, SHA-256, message "sample"."""
    scalar = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
    private = ec.derive_private_key(scalar, ec.SECP256R1())
    monkeypatch.setattr(ccverify.sim.keys, "_private_key", lambda *_: private)
    assert SimKey("rfc").sign_raw(b"sample").hex().upper() == (
        "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
        "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"
    )


@pytest.mark.parametrize(("curve", "size"), [("P-256", 32), ("P-384", 48)])
def test_raw_signature_verifies(curve: ccverify.sim.keys.CurveName, size: int) -> None:
    key = SimKey("check", curve=curve)
    raw = key.sign_raw(b"message")
    assert len(raw) == 2 * size
    pair = encode_dss_signature(
        int.from_bytes(raw[:size], "big"), int.from_bytes(raw[size:], "big")
    )
    digest = hashes.SHA256() if curve == "P-256" else hashes.SHA384()
    key.private_key.public_key().verify(pair, b"message", ec.ECDSA(digest))


def test_missing_rfc6979_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from cryptography.exceptions import UnsupportedAlgorithm

    class OldBuild:
        def sign(self, *_: object) -> bytes:
            raise UnsupportedAlgorithm("no deterministic ECDSA")

    monkeypatch.setattr(ccverify.sim.keys, "_private_key", lambda *_: OldBuild())
    with pytest.raises(UsageError, match="RFC 6979"):
        SimKey("old").sign_der(b"message")
