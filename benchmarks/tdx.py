"""How fast a TDX quote is judged, side by side with dcap-qvl and with bare signature checks.

    python benchmarks/tdx.py [--rounds N] [--json]

Every contender is run once in each round, in turn, so that a busy machine slows all of them
alike; medians and ratios are reported.  With ``../shared/vectors`` present a real quote with
Intel's collateral is used, otherwise one of `ccverify.sim`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dcap_qvl

import ccverify
from ccverify.sim import SimPlatform
from ccverify.tdx import pck
from ccverify.tdx.verify import verify_quote
from ccverify.trust import x509
from ccverify.trust.signatures import EcPublicKey

ROOT = Path(__file__).resolve().parent.parent
VECTORS = ROOT.parent / "shared" / "vectors" / "tdx"
POLICY = b"""
schema: ccverify.policy/v1
name: benchmark
tdx:
  measurements: {mrtd: any, rtmr0: any, rtmr1: any, rtmr2: any, rtmr3: any}
  report_data: any
"""


@dataclass(frozen=True)
class Input:
    name: str
    quote: bytes
    collateral: bytes
    now: datetime
    root_der: bytes | None

    def trust(self) -> ccverify.TrustStore:
        if self.root_der is None:
            return ccverify.TrustStore.production()
        return ccverify.TrustStore(
            ccverify.TrustKind.SIMULATED, ccverify.TrustAnchor.load(self.root_der)
        )


def real_input() -> Input | None:
    quote = VECTORS / "quotes" / "phala_b0c06f_v4.bin"
    pack = VECTORS / "collateral" / "phala_b0c06f_2025-06.json"
    if not quote.exists() or not pack.exists():
        return None
    now = datetime(2025, 7, 4, 10, 16, 31, tzinfo=UTC)
    return Input("real quote, Intel collateral", quote.read_bytes(), pack.read_bytes(), now, None)


def simulated_input() -> Input:
    evidence = SimPlatform().evidence()
    return Input(
        "simulated quote and collateral",
        evidence.quote_bytes,
        evidence.collateral.to_json().encode(),
        evidence.at,
        evidence.root_der,
    )


def forget() -> None:
    """Drop everything a process remembers between verifications."""
    for memory in (
        x509._parse_certificate,
        x509._parse_crl,
        x509._parse_pem_chain,
        pck._parse_extension,
    ):
        memory.cache_clear()


def contenders(given: Input) -> dict[str, Callable[[], object]]:
    seconds = int(given.now.timestamp())
    text = given.collateral.decode()
    peer_collateral = dcap_qvl.QuoteCollateralV3.from_json(text)
    pack, trust = ccverify.parse_collateral(given.collateral), given.trust()
    policy = ccverify.load_policy(POLICY)
    quote = ccverify.parse_quote(given.quote)
    key = EcPublicKey("P-256", quote.attestation_key)

    def peer(collateral: dcap_qvl.QuoteCollateralV3) -> object:
        if given.root_der is None:
            return dcap_qvl.verify(given.quote, collateral, seconds)
        return dcap_qvl.verify_with_root_ca(given.quote, collateral, given.root_der, seconds)

    def judge(collateral: ccverify.CollateralPack, store: ccverify.TrustStore) -> object:
        verdict = ccverify.check(
            given.quote,
            policy=policy,
            now=given.now,
            nonce=None,
            collateral=collateral,
            trust=store,
        )
        assert verdict.trusted
        return verdict

    def cold_verify() -> object:
        forget()
        fresh = ccverify.parse_collateral(given.collateral)
        return verify_quote(ccverify.parse_quote(given.quote), fresh, given.trust(), given.now)

    def cold_check() -> object:
        forget()
        return judge(ccverify.parse_collateral(given.collateral), given.trust())

    return {
        "one P-256 signature": lambda: key.verify_raw(quote.signature, quote.signed_range),
        "dcap-qvl verify, collateral parsed": lambda: peer(peer_collateral),
        "dcap-qvl verify, collateral as text": lambda: peer(
            dcap_qvl.QuoteCollateralV3.from_json(text)
        ),
        "ccverify verify, warm": lambda: verify_quote(
            ccverify.parse_quote(given.quote), pack, trust, given.now
        ),
        "ccverify check with verdict, warm": lambda: judge(pack, trust),
        "ccverify verify, cold": cold_verify,
        "ccverify check with verdict, cold": cold_check,
    }


def measure(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            if "cold" not in name:
                run()  # untimed: the cold contenders of the last round made everybody forget
            start = time.perf_counter()
            run()
            samples[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) * 1e6 for name, values in samples.items()}


def peak_memory(run: Callable[[], object]) -> int:
    """Bytes of Python memory at the peak of one run."""
    run()
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def cold_start(given: Input, rounds: int) -> dict[str, float]:
    """Milliseconds of whole processes, and the peak resident memory of `ccverify check`."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder)
        (files / "quote").write_bytes(given.quote)
        (files / "pack").write_bytes(given.collateral)
        (files / "policy").write_bytes(POLICY)
        check = [
            sys.executable, "-m", "ccverify", "check", str(files / "quote"),
            "--policy", str(files / "policy"), "--collateral", str(files / "pack"),
            "--at", given.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        ]  # fmt: skip
        if given.root_der is not None:
            (files / "root").write_bytes(given.root_der)
            check += ["--insecure-trust-root", str(files / "root")]
        commands = {"python -c pass": [sys.executable, "-c", "pass"], "ccverify check": check}
        times: dict[str, list[float]] = {name: [] for name in commands}
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        for _ in range(rounds):
            for name, command in commands.items():
                start = time.perf_counter()
                subprocess.run(command, env=environment, capture_output=True, check=False)
                times[name].append(time.perf_counter() - start)
    result = {name: statistics.median(values) * 1e3 for name, values in times.items()}
    result["peak resident MiB"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--json", action="store_true", help="print numbers for machines")
    arguments = parser.parse_args()
    given = real_input() or simulated_input()
    runs = contenders(given)
    medians = measure(runs, arguments.rounds)
    warm_peer = medians["dcap-qvl verify, collateral parsed"]
    cold_peer = medians["dcap-qvl verify, collateral as text"]
    peers = {name: cold_peer if "cold" in name else warm_peer for name in medians}
    ratios = {name: value / peers[name] for name, value in medians.items() if "ccverify" in name}
    memory = {name: peak_memory(run) for name, run in runs.items() if "ccverify" in name}
    starts = cold_start(given, max(3, arguments.rounds // 30))
    if arguments.json:
        numbers = {
            "input": given.name,
            "median_us": medians,
            "ratio_to_dcap_qvl": ratios,
            "peak_python_bytes": memory,
            "process_ms": starts,
        }
        print(json.dumps(numbers, indent=2))
        return
    print(f"{given.name}; {arguments.rounds} rounds, medians")
    for name, value in medians.items():
        ratio = f"{ratios[name]:6.2f} × dcap-qvl" if name in ratios else ""
        peak = f"{memory[name] / 1024:7.0f} KiB peak" if name in memory else ""
        print(f"  {name:38} {value:9.1f} µs  {ratio:18} {peak}")
    for name, value in starts.items():
        print(f"  {name:38} {value:9.1f}{' ms' if 'MiB' not in name else ''}")


if __name__ == "__main__":
    main()
