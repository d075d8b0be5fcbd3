"""ECDSA verification and the memory of valid signatures."""

from __future__ import annotations

import threading

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from ccverify.errors import EvidenceError
from ccverify.sim import SimKey
from ccverify.trust.signatures import EcPublicKey, SignatureMemory

ORDERS = {
    "P-256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "P-384": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,  # noqa: E501
}
CURVES = pytest.mark.parametrize("curve", ["P-256", "P-384"])
MESSAGE = b"a TD report"


def _key(curve: str, label: str = "signer") -> tuple[SimKey, EcPublicKey]:
    key = SimKey(label, curve=curve)  # type: ignore[arg-type]
    return key, EcPublicKey(curve, key.public_xy)


@CURVES
def test_raw_and_der_signatures_verify(curve: str) -> None:
    key, public = _key(curve)
    assert public.verify_raw(key.sign_raw(MESSAGE), MESSAGE)
    assert public.verify_der(key.sign_der(MESSAGE), MESSAGE)


@CURVES
def test_other_message_key_or_signature_does_not_verify(curve: str) -> None:
    key, public = _key(curve)
    other, other_public = _key(curve, "other")
    assert not public.verify_raw(key.sign_raw(MESSAGE), MESSAGE + b"!")
    assert not public.verify_raw(other.sign_raw(MESSAGE), MESSAGE)
    assert not other_public.verify_raw(key.sign_raw(MESSAGE), MESSAGE)
    assert not public.verify_der(key.sign_der(MESSAGE), MESSAGE + b"!")
    assert not public.verify_der(other.sign_der(MESSAGE), MESSAGE)


@CURVES
def test_the_digest_goes_with_the_curve(curve: str) -> None:
    key, public = _key(curve)
    foreign = "sha384" if curve == "P-256" else "sha256"
    assert not public.verify_raw(key.sign_raw(MESSAGE, foreign), MESSAGE)  # type: ignore[arg-type]


@CURVES
@pytest.mark.parametrize("value", ["zero", "order", "above", "maximum"])
@pytest.mark.parametrize("half", [0, 1])
def test_r_and_s_out_of_range_do_not_verify(curve: str, value: str, half: int) -> None:
    key, public = _key(curve)
    size, order = len(key.public_xy) // 2, ORDERS[curve]
    number = {"zero": 0, "order": order, "above": order + 1, "maximum": (1 << 8 * size) - 1}[value]
    signature = key.sign_raw(MESSAGE)
    halves = [signature[:size], signature[size:]]
    halves[half] = number.to_bytes(size, "big")
    assert not public.verify_raw(b"".join(halves), MESSAGE)


@CURVES
@pytest.mark.parametrize("change", [-1, 1, -64])
def test_raw_signature_of_another_length_does_not_verify(curve: str, change: int) -> None:
    key, public = _key(curve)
    signature = key.sign_raw(MESSAGE)
    resized = signature[:change] if change < 0 else signature + bytes(change)
    assert not public.verify_raw(resized, MESSAGE)
    assert not public.verify_raw(b"", MESSAGE)


@CURVES
def test_der_signature_with_a_tail_does_not_verify(curve: str) -> None:
    key, public = _key(curve)
    assert not public.verify_der(key.sign_der(MESSAGE) + b"\0", MESSAGE)
    assert not public.verify_der(key.sign_raw(MESSAGE), MESSAGE)


@CURVES
def test_ecdsa_is_malleable(curve: str) -> None:
    """(r, n - s) verifies too: nothing may be identified by its signature bytes."""
    key, public = _key(curve)
    r, s = decode_dss_signature(key.sign_der(MESSAGE))
    assert public.verify_der(encode_dss_signature(r, ORDERS[curve] - s), MESSAGE)


@pytest.mark.parametrize(
    ("curve", "point"),
    [
        ("P-256", bytes(64)),
        ("P-256", b"\1" * 64),
        ("P-256", SimKey("k").public_xy[:-1]),
        ("P-256", SimKey("k").public_xy + b"\0"),
        ("P-256", SimKey("k", curve="P-384").public_xy),
        ("P-384", SimKey("k").public_xy),
        ("P-521", SimKey("k").public_xy),
        ("P-256", b""),
    ],
)
def test_what_is_no_key_is_refused(curve: str, point: bytes) -> None:
    with pytest.raises(EvidenceError, match="public key"):
        _ = EcPublicKey(curve, point).handle


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=300)
def test_garbage_signatures_never_verify_and_never_raise(signature: bytes) -> None:
    _, public = _key("P-256")
    assert not public.verify_raw(signature, MESSAGE)
    assert not public.verify_der(signature, MESSAGE)


# --- memory -------------------------------------------------------------------------------


class Counting(EcPublicKey):
    """Counts how often a signature is really verified."""

    verified = 0

    def verify_der(self, signature: bytes, message: bytes) -> bool:
        Counting.verified += 1
        return super().verify_der(signature, message)


@pytest.fixture
def counting() -> Counting:
    Counting.verified = 0
    return Counting("P-256", SimKey("signer").public_xy)


def test_a_valid_signature_is_verified_once(counting: Counting) -> None:
    memory, signature = SignatureMemory(), SimKey("signer").sign_raw(MESSAGE)
    assert [memory.verify_raw(counting, signature, MESSAGE) for _ in range(3)] == [True] * 3
    assert Counting.verified == 1


def test_an_invalid_signature_is_never_remembered(counting: Counting) -> None:
    memory, signature = SignatureMemory(), SimKey("other").sign_raw(MESSAGE)
    assert [memory.verify_raw(counting, signature, MESSAGE) for _ in range(3)] == [False] * 3
    assert Counting.verified == 3
    assert not memory._facts


def test_every_part_of_a_fact_counts() -> None:
    memory = SignatureMemory()
    key, public = _key("P-256")
    signature = key.sign_raw(MESSAGE)
    assert memory.verify_raw(public, signature, MESSAGE)
    assert not memory.verify_raw(public, signature, MESSAGE + b"!")
    assert not memory.verify_raw(public, signature[:-1] + b"\0", MESSAGE)
    assert not memory.verify_raw(_key("P-256", "other")[1], signature, MESSAGE)


def test_raw_and_der_facts_do_not_collide() -> None:
    """The same bytes in the other form are another statement, which was not verified."""
    memory = SignatureMemory()
    key, public = _key("P-256")
    raw, der = key.sign_raw(MESSAGE), key.sign_der(MESSAGE)
    assert memory.verify_raw(public, raw, MESSAGE)
    assert not memory.verify_der(public, raw, MESSAGE)
    assert memory.verify_der(public, der, MESSAGE)
    assert not memory.verify_raw(public, der, MESSAGE)


def test_memory_is_bounded_and_forgets_the_oldest(counting: Counting) -> None:
    memory, key = SignatureMemory(max_bytes=1000), SimKey("signer")
    messages = [bytes([number]) * 200 for number in range(10)]
    signatures = [key.sign_raw(message) for message in messages]
    for message, signature in zip(messages, signatures, strict=True):
        assert memory.verify_raw(counting, signature, message)
    assert memory._held == sum(len(f[3]) + len(f[4]) for f in memory._facts) <= 1000
    assert Counting.verified == 10
    assert memory.verify_raw(counting, signatures[-1], messages[-1])
    assert Counting.verified == 10  # still known
    assert memory.verify_raw(counting, signatures[0], messages[0])
    assert Counting.verified == 11  # forgotten, verified again


def test_what_is_larger_than_the_memory_is_verified_and_not_kept(counting: Counting) -> None:
    memory, message = SignatureMemory(max_bytes=100), bytes(200)
    signature = SimKey("signer").sign_raw(message)
    assert memory.verify_raw(counting, signature, message)
    assert memory.verify_raw(counting, signature, message)
    assert (Counting.verified, memory._held) == (2, 0)


def test_clear_forgets_everything(counting: Counting) -> None:
    memory, signature = SignatureMemory(), SimKey("signer").sign_raw(MESSAGE)
    memory.verify_raw(counting, signature, MESSAGE)
    memory.clear()
    assert (memory._facts, memory._held) == ({}, 0)
    assert memory.verify_raw(counting, signature, MESSAGE)
    assert Counting.verified == 2


def test_threads_share_one_memory() -> None:
    """Eviction and insertion by many threads: answers stay right and the books balance."""
    memory = SignatureMemory(max_bytes=2000)
    key, public = _key("P-256")
    genuine = [(key.sign_raw(bytes([n]) * 100), bytes([n]) * 100) for n in range(24)]
    forged = [(signature, message + b"!") for signature, message in genuine]
    wrong: list[bytes] = []

    def work(offset: int) -> None:
        for turn in range(120):
            signature, message = genuine[(offset + turn) % 24]
            if not memory.verify_raw(public, signature, message):
                wrong.append(message)
            signature, message = forged[(offset * turn) % 24]
            if memory.verify_raw(public, signature, message):
                wrong.append(message)
            if turn % 50 == 49:
                memory.clear()

    threads = [threading.Thread(target=work, args=(n * 5,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert memory._held == sum(len(f[3]) + len(f[4]) for f in memory._facts) <= 2000
