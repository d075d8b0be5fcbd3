"""Hostile documents in every foreign format: deep, huge, twofold, or of several formats at once.

Each attack is put into every place of every format, inside encoded JSON and tokens too.  Work is
counted in lines executed (`fuzz.effort`), never in seconds.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from ccverify.errors import CollateralError, EvidenceError
from ccverify.interop.chutes import parse_instance_keys
from ccverify.interop.detect import parse_foreign_evidence
from ccverify.interop.elements import MAX_DEPTH, MAX_DOCUMENT_BYTES, Element, member_texts
from ccverify.interop.jwt import MAX_JWT_CHARACTERS, parse_jwks, parse_jwt, verify_es384
from ccverify.interop.scale import parse_scale_attestation
from ccverify.sim import SimKey
from fuzz.effort import grows_linearly, lines, peak
from fuzz.foreign_seeds import (
    documents,
    instance_key_seeds,
    jwk,
    jwks_seeds,
    jwt,
    jwt_seeds,
    scale_attestation,
)

Parse = Callable[[bytes], object]

SAMPLES = {
    f"{name} {number}": seed
    for name, seeds in documents().items()
    for number, seed in enumerate(seeds)
    if (name, number) != ("dstack", 2)  # not accepted: a seed for fuzzing alone
}


def _token(data: bytes) -> object:
    return parse_jwt(Element(data.decode("latin-1"), "token"))


OTHERS: dict[str, tuple[Parse, bytes, type[Exception]]] = {
    "instance keys": (parse_instance_keys, instance_key_seeds()[0], EvidenceError),
    "key set": (parse_jwks, jwks_seeds()[1], CollateralError),
}
ENTRIES: dict[str, tuple[Parse, bytes, type[Exception]]] = {
    **{name: (parse_foreign_evidence, seed, EvidenceError) for name, seed in SAMPLES.items()},
    **OTHERS,
}
MARK = '"\\u0001 here"'
"""Stands where the attack is to be put."""


def _places(value: Any) -> Iterator[Any]:
    """The document once for each value in it, which is marked there; in encoded JSON too."""
    if isinstance(value, dict):
        for key, inner in value.items():
            for changed in _places(inner):
                yield {**value, key: changed}
    elif isinstance(value, list):
        for at, inner in enumerate(value[:2]):
            for changed in _places(inner):
                yield [*value[:at], changed, *value[at + 1 :]]
    elif isinstance(value, str) and value[:1] in ("{", "[") and len(value) > 2:
        # "{}" stands for texts that are kept as they are, such as vm_config.
        for changed in _places(json.loads(value)):
            yield _Encoded(json.dumps(changed))
    yield json.loads(MARK)


class _Encoded(str):
    """JSON text with the mark in it, to be a string in the outer text."""


def _texts(seed: bytes, attack: str) -> Iterator[bytes]:
    """The document as text, with the attack in each of its places."""
    for document in _places(json.loads(seed)):
        text = json.dumps(document)
        inner = json.dumps(MARK)[1:-1]
        if inner in text:  # inside a string: the attack has to be escaped as the mark is
            yield text.replace(inner, json.dumps(attack)[1:-1]).encode()
        else:
            yield text.replace(MARK, attack).encode()


def _accepts_or_refuses(parse: Parse, data: bytes, error: type[Exception]) -> bool:
    try:
        parse(data)
    except error as refused:
        assert type(refused) is error  # noqa: PT017
        assert len(refused.diagnostics()) < 4096  # type: ignore[attr-defined]  # noqa: PT017
        return False
    return True


ATTACKS = {
    "deep list": "[" * 100_000 + "]" * 100_000,
    "deep object": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "deep without an end": "[" * 100_000,
    "as deep as the stack": "[" * 990 + "]" * 990,
    "deeper than allowed": "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
    "long integer": "9" * 5_000,
    "negative long integer": "-" + "9" * 5_000,
    "infinity": "1e400",
    "negative infinity": "-1e400",
    "NaN": "NaN",
    "Infinity": "Infinity",
    "key twice": '{"a":1,"a":1}',
    "key twice, spelt two ways": '{"a":1,"\\u0061":1}',
    "key twice, in depth": '[[{"x":{"a":1,"b":2,"a":3}}]]',
    "lone high surrogate": '"\\ud800"',
    "lone low surrogate": '"\\udc00"',
    "surrogates the wrong way round": '"\\udc00\\ud800"',
    "lone surrogate as a key": '{"\\udfff":1}',
    "leading zero": "01",
    "comment": "/**/1",
    "comma at the end": "[1,]",
    "single quotes": "'a'",
    "control character": '"\x01"',
}
"""Refused wherever they stand: even in members nobody asks for, two readers must not differ."""


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_no_strict_json_is_refused_in_every_place(attack: str) -> None:
    for name, (parse, seed, error) in ENTRIES.items():
        texts = list(_texts(seed, ATTACKS[attack]))
        # The long ones take a millisecond each: some of the places do.
        for text in texts if len(ATTACKS[attack]) < 1_000 else texts[:: max(1, len(texts) // 4)]:
            assert not _accepts_or_refuses(parse, text, error), (name, text[:2_000])


ODD = {
    "integer at the limit": "9" * 4_300,
    "large double": "1.7976931348623157e308",
    "small double": "1e-400",
    "long fraction": "0." + "3" * 20_000,
    "long exponent": "1e-" + "9" * 4_000,
    "minus zero": "-0",
    "huge string": '"' + "x" * 100_000 + '"',
    "huge hex": '"' + "00" * 100_000 + '"',
    "huge base64": '"' + "AAAA" * 50_000 + '"',
    "escapes": '"' + "\\u0000" * 20_000 + '"',
    "NUL": '"\\u0000"',
    "terminal": '"\\u001b[2J"',
    "right to left": '"\\u202e"',
    "beyond the basic plane": '"\\ud83d\\ude00"',
    "white space": " " * 10_000 + "1" + "\n" * 10_000,
    "long list": "[" + "0," * 9_000 + "0]",
    "list of lists": "[" + "[]," * 3_000 + "[]]",
    "many members": "{" + ",".join(f'"{n}":0' for n in range(3_000)) + "}",
    "long key": '{"' + "k" * 100_000 + '":0}',
    "token": f'"{jwt({})}"',
    "dots": '"' + "." * 60_000 + '"',
    "null": "null",
    "true": "true",
}


@pytest.mark.parametrize("attack", ODD)
def test_odd_values_are_read_or_refused_in_every_place(attack: str) -> None:
    for parse, seed, error in ENTRIES.values():
        texts = list(_texts(seed, ODD[attack]))
        for text in texts[:: max(1, len(texts) // 8)]:
            _accepts_or_refuses(parse, text, error)


@pytest.mark.parametrize("name", ENTRIES)
def test_the_samples_are_accepted_and_attacked_in_many_places(name: str) -> None:
    parse, seed, error = ENTRIES[name]
    assert _accepts_or_refuses(parse, seed, error)
    assert len(list(_texts(seed, "1"))) >= 2


@pytest.mark.parametrize("name", ENTRIES)
def test_a_million_members_nobody_asks_for(name: str) -> None:
    """Past the limit nothing is read; below it, no line is executed for each of them."""
    parse, seed, error = ENTRIES[name]
    for count in (1_000_000, 20_000):
        if seed[:1] == b"[":
            data = seed[:-1] + b',"0123456"' * count + b"]"
        else:
            more = b",".join(b'"%07d":{}' % number for number in range(count))
            data = seed[:-1] + b"," + more + b"}"
        taken = _accepts_or_refuses(parse, data, error)
        assert not (taken and count == 1_000_000)
        if len(data) > MAX_DOCUMENT_BYTES:
            assert lines(partial(parse, data)) < 100
            assert peak(partial(parse, data)) < 20_000


# --- tokens --------------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", [*ATTACKS, *ODD])
@pytest.mark.parametrize("part", [0, 1])
def test_attacks_inside_tokens(attack: str, part: int) -> None:
    text = {**ATTACKS, **ODD}[attack]
    parts = jwt_seeds()[0].split(b".")
    claims = json.loads(urlsafe_b64decode(parts[part] + b"=="))
    for spot in (*claims, "other"):
        whole = json.dumps({**claims, spot: json.loads(MARK)}).replace(MARK, text)
        parts[part] = urlsafe_b64encode(whole.encode()).rstrip(b"=")
        taken = _accepts_or_refuses(_token, b".".join(parts), EvidenceError)
        assert not (taken and attack in ATTACKS)


@pytest.mark.parametrize(
    "data",
    [
        b"." * MAX_JWT_CHARACTERS,
        b"A" * MAX_JWT_CHARACTERS,
        b"A" * (1 << 24),
        b"A." * (MAX_JWT_CHARACTERS // 2),
        b"A" * 30_000 + b".." + b"A" * 30_000,
        b"\xff" * 100 + b"..",
        b"=.=.=",
        b"..",
        b"",
    ],
    ids=lambda data: f"{data[:4]!r} {len(data)}",
)
def test_tokens_of_nothing(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        _token(data)
    assert lines(lambda: _token(data)) < 200


def test_keys_in_the_token_itself_are_never_used() -> None:
    """A header may bring a key or say where one is; the key always comes from the key set."""
    known = parse_jwks(jwks_seeds()[0])["k"]
    evil = SimKey("evil", curve="P-384")
    header = {"alg": "ES384", "kid": "k", "jwk": jwk(), "jku": "http://192.0.2.1/", "x5u": "/"}
    text = jwt({"iss": "me"}, header)
    covered = text.rpartition(".")[0]
    forged = jwt({"iss": "me"}, header, evil.sign_raw(covered.encode()))
    token = parse_jwt(Element(forged))
    assert "does not verify" in (verify_es384(token, known) or "")
    assert verify_es384(parse_jwt(Element(text)), known) is None


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "none", "None", "es384", "ES256", "RS256"])
def test_no_other_algorithm_verifies(algorithm: str) -> None:
    known = parse_jwks(jwks_seeds()[0])["k"]
    for size in (0, 32, 48, 64, 96):
        text = jwt({}, {"alg": algorithm, "kid": "k"}, bytes(size))
        try:
            token = parse_jwt(Element(text))
        except EvidenceError:
            continue
        assert verify_es384(token, known)


# --- more than one format, more than one meaning -------------------------------------------------


def _of_another_machine(seed: bytes) -> bytes:
    """The same document with another quote and other reports."""
    quote = bytes((4, 0, 2, 0, 0x81, 0, 0, 0))
    other = bytes((4, 0, 2, 0, 0x81, 0, 0, 1))
    for old, new in (
        (quote.hex(), other.hex()),
        ("BAACAIEAAAAA", "BAACAIEAAAEA"),
        ("EeAB/wAB", "EeAB/wAC"),
        ("11e001ff0001", "11e001ff0002"),
    ):
        seed = seed.replace(old.encode(), new.encode())
    return seed


def _held(document: object) -> tuple[set[bytes], set[bytes]] | None:
    """Every quote and every report that is read out of a document; None if it is refused."""
    try:
        evidence = parse_foreign_evidence(json.dumps(document).encode())
    except EvidenceError:
        return None
    devices = [d.report for node in evidence.nodes for d in (*node.gpus, *node.switches)]
    return {node.quote for node in evidence.nodes if node.quote}, set(devices)


@pytest.mark.parametrize("first", SAMPLES)
def test_evidence_put_beside_other_evidence_is_not_left_aside(first: str) -> None:
    """Whoever reads the other half of such an answer would take it for verified."""
    one = json.loads(SAMPLES[first])
    for second, seed in SAMPLES.items():
        other = json.loads(_of_another_machine(seed))
        if not isinstance(one, dict) or not isinstance(other, dict) or one.keys() == other.keys():
            continue
        more = {name: value for name, value in other.items() if name not in one}
        both, own, added = _held({**one, **more}), _held(one), _held(more)
        assert own is not None
        if both is None or added is None:
            continue
        assert own[0] | added[0] <= both[0], (first, second)
        assert own[1] | added[1] <= both[1], (first, second)


def test_a_gateways_answer_is_not_hidden_behind_a_node() -> None:
    """One genuine node at the top once hid the gateway and every model node below."""
    node, gateway = (json.loads(seed) for seed in documents()["near"][:2])
    assert parse_foreign_evidence(json.dumps(node).encode())
    assert len(parse_foreign_evidence(json.dumps(gateway).encode()).nodes) == 3
    for member in ("gateway_attestation", "model_attestations"):
        mixed = {**node, member: gateway[member]}
        with pytest.raises(EvidenceError, match="beside"):
            parse_foreign_evidence(json.dumps(mixed).encode())


# --- size ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "piece", [b"[", b'{"a":', b'"', b"\\", b" ", b",", b"0", b"-", b"\xef\xbb\xbf", b"\0", b"\xff"]
)
def test_no_run_of_anything_takes_more_than_one_look(piece: bytes) -> None:
    for size in (MAX_DOCUMENT_BYTES // 32, 2 * MAX_DOCUMENT_BYTES):
        data = piece * (size // len(piece))
        with pytest.raises(EvidenceError):
            parse_foreign_evidence(data)
        assert lines(partial(parse_foreign_evidence, data)) < 3 * MAX_DOCUMENT_BYTES // 32


def _repeated(name: str, path: tuple[str, ...]) -> Callable[[int], Callable[[], object]]:
    """Make the list at that path so long, by repeating its first item under other labels."""

    def run(count: int) -> Callable[[], object]:
        document = json.loads(documents()[name][0 if name != "near" else 1])
        outer = document
        for step in path[:-1]:
            outer = outer[step]
        first = outer[path[-1]][0]
        items = [dict(first) for _ in range(count)]
        for number, item in enumerate(items):
            if "instance_id" in item:
                item["instance_id"] = str(number)
        outer[path[-1]] = items
        data = json.dumps(document).encode()
        assert parse_foreign_evidence(data)
        return lambda: parse_foreign_evidence(data)

    return run


@pytest.mark.parametrize(
    ("name", "path", "size"),
    [
        ("chutes", ("evidence",), 60),
        ("near", ("model_attestations",), 60),
        ("nras", ("evidence_list",), 30),
        ("tinfoil", ("gpu", "evidences"), 30),
    ],
)
def test_work_grows_with_the_number_of_nodes_and_devices(
    name: str, path: tuple[str, ...], size: int
) -> None:
    assert grows_linearly(_repeated(name, path), size)


def test_member_texts_take_linear_work() -> None:
    def run(count: int) -> Callable[[], object]:
        text = "{" + ",".join(f'"{n}": [{n}]' for n in range(count)) + "}"
        assert len(member_texts(text)) == count
        return lambda: member_texts(text)

    assert grows_linearly(run, 500)
    spaces = '{"a":' + " " * 300_000 + "1}"
    assert lines(lambda: member_texts(spaces)) < 1_000


# --- dstack's binary attestation -----------------------------------------------------------------


def test_binary_attestations_take_linear_work() -> None:
    def of_events(count: int) -> Callable[[], object]:
        data = scale_attestation(count)
        return lambda: parse_scale_attestation(data)

    def of_bytes(size: int) -> Callable[[], object]:
        data = scale_attestation(2, payload=bytes(size))
        return lambda: parse_scale_attestation(data)

    assert grows_linearly(of_events, 200)
    assert grows_linearly(of_bytes, 20_000)


@pytest.mark.parametrize("length", [b"\xfe\xff\xff\xff", b"\x02\0\x40\0", b"\x01\x40", b"\xfc"])
@pytest.mark.parametrize("at", [2, 40, 71, 72, 90, 140])
def test_binary_lengths_that_promise_more_than_there_is(length: bytes, at: int) -> None:
    seed = scale_attestation()
    for data in (seed[:at] + length + seed[at:], seed[:at] + length, b"\0\0" + length * 200_000):
        _accepts_or_refuses(parse_foreign_evidence, data, EvidenceError)
        assert peak(partial(parse_foreign_evidence, data)) < 8 * len(data) + 100_000
        assert lines(partial(parse_foreign_evidence, data)) < 5_000


@pytest.mark.parametrize("size", [MAX_DOCUMENT_BYTES, MAX_DOCUMENT_BYTES + 1])
def test_zeros_and_nothing_else(size: int) -> None:
    data = bytes(size)
    with pytest.raises(EvidenceError):
        parse_foreign_evidence(data)
    assert lines(lambda: parse_foreign_evidence(data)) < 100
