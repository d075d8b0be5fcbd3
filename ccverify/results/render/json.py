"""Results for programs: one JSON object, UTF-8, members in a fixed order.

Schemas: ``ccverify.verdict/v1`` (docs/spec/verdict.md) is `Verdict.dumps` itself;
``ccverify.error/v1`` says why there is no verdict.
"""

from __future__ import annotations

import json
from typing import Any

from ccverify.errors import CcverifyError

__all__ = ["ERROR_SCHEMA", "dump_json", "error_json"]

ERROR_SCHEMA = "ccverify.error/v1"


def dump_json(value: Any) -> str:
    """Return a JSON text of `value` with a line end, the same for the same value."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def error_json(problem: CcverifyError) -> str:
    """Return an error as a ``ccverify.error/v1`` object, with the exit code of the process."""
    return dump_json(
        {
            "schema": ERROR_SCHEMA,
            "code": problem.code,
            "message": problem.message,
            "expected": problem.expected,
            "found": problem.found,
            "where": problem.where,
            "hint": problem.hint,
            "exit_code": problem.exit_code,
        }
    )
