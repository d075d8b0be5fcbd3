"""Fuzz one target, guided by coverage of ccverify.

    python -m fuzz.run TARGET [--seconds N] [--corpus DIR] [libFuzzer options]
    python -m fuzz.run TARGET --repeat FILE
    python -m fuzz.run --list

Needs atheris (the extra ``[fuzz]``).  The corpus is made on first use (`fuzz.make_corpus`) and
grows; a crash is written beside it, under ``crashes/``.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from random import Random

import atheris  # type: ignore[import-untyped, unused-ignore]

ROOT = Path(__file__).resolve().parent.parent
# The simulator makes the inputs; where it goes is of no interest.
_SIMULATOR = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "ccverify" / "sim").rglob("*.py")
]

with atheris.instrument_imports(include=["ccverify"], exclude=_SIMULATOR):
    from fuzz.make_corpus import CORPUS, dictionary_path, write_seeds
    from fuzz.targets import TARGETS, Target

UNIT_SECONDS = 5
"""A single input that takes longer is reported: every parser is linear and its input small."""
RSS_LIMIT_MIB = 1024


def fuzz(target: Target, options: list[str]) -> None:
    def run(data: bytes) -> None:
        target.run(data)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        if random.randrange(2):
            data = target.mutate(data, random)[:max_size]
        else:
            data = atheris.Mutate(data, max_size)
        return data if random.randrange(4) else target.mutate(data, random)[:max_size]

    atheris.Setup([sys.argv[0], *options], run, custom_mutator=mutate)
    atheris.Fuzz()


def options(target: Target, arguments: argparse.Namespace) -> list[str]:
    """Return libFuzzer's options for what was asked."""
    corpus: Path = arguments.corpus
    crashes = corpus / "crashes"
    crashes.mkdir(parents=True, exist_ok=True)
    limits = [
        f"-timeout={UNIT_SECONDS}",
        f"-rss_limit_mb={RSS_LIMIT_MIB}",
        f"-max_len={target.max_len}",
        f"-artifact_prefix={crashes}/{target.name}-",
    ]
    if arguments.repeat:
        return [*limits, str(arguments.repeat)]
    if not (corpus / target.name).is_dir():
        write_seeds(corpus, target)
    return [
        *limits,
        f"-max_total_time={arguments.seconds}",
        f"-dict={dictionary_path(corpus, target)}",
        "-print_final_stats=1",
        str(corpus / target.name),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", nargs="?", choices=sorted(TARGETS), metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=120, help="0: until stopped")
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument("--repeat", type=Path, metavar="FILE", help="run this one input")
    parser.add_argument("--list", action="store_true", help="name the targets and stop")
    arguments, more = parser.parse_known_args()
    if arguments.list or not arguments.target:
        print("\n".join(TARGETS))
        return
    # cryptography warns of odd but well-formed certificates: that is no finding.
    warnings.simplefilter("ignore")
    target = TARGETS[arguments.target]
    fuzz(target, [*more, *options(target, arguments)])


if __name__ == "__main__":
    main()
