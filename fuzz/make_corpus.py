"""Write the seed corpus and the dictionaries into ``fuzz/corpus`` (not kept in git).

    python -m fuzz.make_corpus [--corpus DIR] [FILE OR DIRECTORY ...]

Seeds are the simulator's evidence, and every piece of ``fixtures/``, of ``../shared/vectors``
where it is there, and of the paths given, that a target accepts: files as they are, strings
inside JSON, and what hex, base64 and PEM in them decode to.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fuzz.targets import TARGETS, Target
from fuzz.tokens import DICTIONARIES, dictionary_text

__all__ = ["CORPUS", "dictionary_path", "pieces", "write_seeds"]

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "fuzz" / "corpus"
FOUND = (
    ROOT / "fixtures",
    ROOT.parent / "shared" / "vectors" / "tdx",
    ROOT.parent / "shared" / "vectors" / "nvidia",
)
_MAX_FILE = 4 * 1024 * 1024
_MAX_DEPTH = 3
_PEM = re.compile(rb"-----BEGIN [A-Z0-9 ]+-----([A-Za-z0-9+/=\s]+)-----END [A-Z0-9 ]+-----")


def dictionary_path(corpus: Path, target: Target) -> Path:
    """Write the target's dictionary if need be; return its path."""
    path = corpus / f"{target.dictionary}.dict"
    if not path.exists():
        corpus.mkdir(parents=True, exist_ok=True)
        path.write_text(dictionary_text(target.dictionary), "ascii")
    return path


def write_seeds(corpus: Path, target: Target, more: Iterable[bytes] = ()) -> int:
    """Write the target's own seeds and those of `more` that it accepts; return their number."""
    folder = corpus / target.name
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for data in (*target.seeds(), *more):
        if len(data) <= target.max_len:
            name = hashlib.sha256(data).hexdigest()[:16]
            (folder / name).write_bytes(data)
            count += 1
    return count


def pieces(data: bytes, depth: int = 0) -> Iterator[bytes]:
    """The data, what is embedded in it, and what that decodes to."""
    yield data
    if depth == _MAX_DEPTH:
        return
    for block in _PEM.finditer(data):
        try:
            yield base64.b64decode(block[1])
        except binascii.Error:
            continue
    text = b"".join(data.split())
    if len(text) >= 64 and re.fullmatch(rb"(?:[0-9a-fA-F]{2})+", text):
        yield from pieces(bytes.fromhex(text.decode()), depth + 1)
    elif len(text) >= 64 and re.fullmatch(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2,3}=*)?", text):
        yield from pieces(base64.b64decode(text + b"=="), depth + 1)
    elif text[:1] in (b"{", b"["):
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            return
        for inner in _strings(document):
            yield from pieces(inner.encode("utf-8", "surrogatepass"), depth + 1)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        if isinstance(value, dict):
            yield json.dumps(value, separators=(",", ":"))
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def _collect(paths: Iterable[Path]) -> list[bytes]:
    found: dict[bytes, None] = {}
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and file.stat().st_size <= _MAX_FILE:
                found |= dict.fromkeys(pieces(file.read_bytes()))
    return list(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument("paths", nargs="*", type=Path, help="more files to take seeds from")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    found = _collect([*FOUND, *arguments.paths])
    for target in TARGETS.values():
        # Programs of edits are not found in files; everything accepts some program.
        fitting = [] if target.name.startswith(("check", "statement")) else found
        accepted = [d for d in fitting if len(d) <= target.max_len and target.run(d)]
        print(f"{target.name:18} {write_seeds(arguments.corpus, target, accepted):5} seeds")
        dictionary_path(arguments.corpus, target)
    print(f"dictionaries: {', '.join(sorted(DICTIONARIES))}; all in {arguments.corpus}")


if __name__ == "__main__":
    main()
