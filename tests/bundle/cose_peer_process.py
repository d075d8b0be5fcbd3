"""Verifies COSE_Sign1 with python-cwt, in an environment of its own: one JSON line each.

python-cwt pins cbor2 below 6, so it cannot be installed beside ccverify.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from cwt import COSE, COSEKey


def answer(question: dict[str, Any]) -> dict[str, str]:
    members = {
        int(label): bytes.fromhex(value) if isinstance(value, str) else value
        for label, value in question["key"].items()
    }
    try:
        payload = COSE.new().decode(bytes.fromhex(question["sign1"]), COSEKey.new(members))
    except Exception as problem:
        return {"error": repr(problem)}
    return {"payload": payload.hex()}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
