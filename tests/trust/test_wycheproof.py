"""ECDSA against the vectors of Project Wycheproof (C2SP/wycheproof, testvectors_v1).

The vectors are not part of this repository: they are read from ``../shared/vectors/wycheproof``
or from the directory named by the environment variable ``CCVERIFY_WYCHEPROOF``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ccverify.errors import EvidenceError
from ccverify.trust.signatures import EcPublicKey, SignatureMemory

_SHARED = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "wycheproof"
FOLDER = Path(os.environ.get("CCVERIFY_WYCHEPROOF", _SHARED))
CURVES = {"secp256r1": "P-256", "secp384r1": "P-384"}
# File → whether signatures are raw, how many vectors it has at least.
FILES = {
    "ecdsa_secp256r1_sha256_p1363_test.json": (True, 250),
    "ecdsa_secp256r1_sha256_test.json": (False, 450),
    "ecdsa_secp384r1_sha384_p1363_test.json": (True, 200),
    "ecdsa_secp384r1_sha384_test.json": (False, 450),
}


@pytest.mark.parametrize("name", FILES)
def test_vectors(name: str) -> None:
    if not (FOLDER / name).exists():
        pytest.skip(f"{name} is not in {FOLDER.name}: set CCVERIFY_WYCHEPROOF to its folder")
    raw, least = FILES[name]
    memory, wrong, counted = SignatureMemory(), [], {"valid": 0, "invalid": 0, "acceptable": 0}
    for group in json.loads((FOLDER / name).read_text())["testGroups"]:
        point = bytes.fromhex(group["publicKey"]["uncompressed"])[1:]
        key = EcPublicKey(CURVES[group["publicKey"]["curve"]], point)
        verify = memory.verify_raw if raw else memory.verify_der
        for test in group["tests"]:
            signature, message = bytes.fromhex(test["sig"]), bytes.fromhex(test["msg"])
            try:
                # Twice: what is remembered must give the same answer.
                answers = {verify(key, signature, message) for _ in range(2)}
            except EvidenceError:
                answers = {False}
            counted[test["result"]] += 1
            if answers != {test["result"] == "valid"}:
                wrong.append((test["tcId"], test["comment"], test["result"], answers))
    assert wrong == []
    assert counted["acceptable"] == 0
    assert sum(counted.values()) >= least
    assert counted["valid"] > 50
    assert counted["invalid"] > 50
