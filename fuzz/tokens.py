"""Dictionaries: tokens that libFuzzer inserts, by kind of format.

Member names are taken from the simulator's own output, so they follow the formats.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping

from fuzz import device_seeds, fabric, fabric_seeds, foreign_seeds, seeds

__all__ = ["DICTIONARIES", "dictionary_text"]


def _strings(texts: Iterable[bytes]) -> set[bytes]:
    """Member names and short strings of JSON texts, with their quotes."""
    found = {piece for text in texts for piece in re.findall(rb'"[^"\\]{1,60}"', text)}
    return {piece for piece in found if not re.fullmatch(rb'"[0-9a-fA-F]{17,}"', piece)}


def _json() -> set[bytes]:
    values = {b"null", b"true", b"false", b"1e400", b"-1", b"NaN", b'"\\ud800"', b"[[", b"{}"}
    made = (*seeds.dstack_seeds(), *seeds.collateral_seeds()[:1], *seeds.tcb_info_seeds()[:1])
    packs, identities = seeds.collateral_seeds()[-1:], seeds.qe_identity_seeds()[:1]
    return values | _strings((*made, *packs, *identities))


def _yaml() -> set[bytes]:
    schema = json.dumps(_schema()).encode()
    names = {piece.strip(b'"') for piece in _strings([schema])}
    tags = {b"!!" + t for t in (b"int", b"float", b"bool", b"set", b"omap", b"timestamp", b"map")}
    return (
        names | tags | {b"!!binary", b"&a", b"*a", b"<<:", b"? ", b"- ", b"|\n", b"---", b"...\n"}
    )


def _schema() -> object:
    from ccverify.policy.document import policy_schema

    return policy_schema()


def _der() -> set[bytes]:
    oids = {b"\x06\x03\x55\x04" + bytes((n,)) for n in (3, 6, 7, 8, 10)} | {
        b"\x06\x03\x55\x1d" + bytes((n,)) for n in (14, 15, 17, 19, 20, 27, 31, 35, 37)
    }
    sgx = b"\x06\x0a\x2a\x86\x48\x86\xf8\x4d\x01\x0d\x01"
    return oids | {sgx + bytes((n,)) for n in range(1, 8)} | {b"\x30\x82", b"\x04\x81", b"\x05\x00"}


def _pem() -> set[bytes]:
    kinds = (b"CERTIFICATE", b"X509 CRL")
    marks = {b"-----%s %s-----" % (word, kind) for kind in kinds for word in (b"BEGIN", b"END")}
    return marks | {b"%0A", b"%2B", b"\r\n", b"\0"}


def _binary() -> set[bytes]:
    numbers = (0, 1, 2, 3, 4, 5, 6, 0x81, 48, 384, 584, 648, 0x08000001, 0xFFFFFFFF)
    words = {n.to_bytes(4, "little") for n in numbers} | {
        n.to_bytes(2, "little") for n in numbers[:9]
    }
    return words | {b"Spec ID Event03\0", b"CCEL", b"grub_cmd: ", b"\x0c\0", b"\xff" * 8}


def _spdm() -> set[bytes]:
    sizes = (0, 1, 2, 8, 48, 51, 55, 64, 128, 144, 256, 1024, 0xFFFF)
    kinds = (3, 4, 6, 11, 12, 20, 21, 22, 25, 26, 34, 35, 36)
    headers = {
        kind.to_bytes(2, "little") + size.to_bytes(2, "little") for kind in kinds for size in sizes
    }
    blocks = {bytes((index,)) + b"\x01\x33\0\x01\x30\0" for index in (0, 1, 2, 64, 255)}
    return headers | blocks | {b"\x11\xe0\x01\xff", b"\x11\x60\0\0", b"\x11\x7f", b"\xaa", b"\x55"}


def _xml() -> set[bytes]:
    text = b"".join(device_seeds.rim_seeds())
    tags = {f"<{name}>".encode() for name in ("a", "/a", "a/", "!-- --", "?p ?", "![CDATA[x]]")}
    words = set(re.findall(rb"[A-Za-z0-9:]{2,40}(?==)|(?<=</)[A-Za-z0-9:]{2,40}", text))
    values = {value for value in re.findall(rb'"[^"]{1,62}"', text) if len(value) < 64}
    more = {
        b"<!DOCTYPE a [",
        b"<!ENTITY a 'b'>]>",
        b"&a;",
        b"&#65;",
        b"xml:id=",
        b'xmlns:a="',
        b"%a;",
    }
    return tags | words | {v for v in values if not re.fullmatch(rb'"[0-9a-f]{17,}"', v)} | more


def _foreign() -> set[bytes]:
    algorithms = (b"ES384", b"HS256", b"none", b"SHA-256", b"DIGEST", b"JWT", b"LS10", b"tdx")
    made = {b'"%s"' % name for name in algorithms} | {
        b"eyJhbGciOiJub25lIn0.",
        b"..",
        b"null",
        b"[]",
    }
    return made | _strings(foreign_seeds.all_documents())


def _fabric() -> set[bytes]:
    texts = [*fabric_seeds.facts_seeds(), *fabric_seeds.table_seeds(), *fabric_seeds.probe_seeds()]
    texts += fabric_seeds.observation_seeds()[:1]
    keys = {
        key for text in fabric_seeds.config_seeds() for key in re.findall(rb"[A-Z_]{4,40}=", text)
    }
    files = b"\n".join(fabric.dump_seeds())
    words = set(re.findall(rb"[A-Za-z][A-Za-z_ ]{1,24}:?", files))
    numbers = {b"0x%04X" % n for n in (0, 1, 0x7FFF, 0x8000, 0xBFFF, 0xC000, 0xFFFF)}
    return _strings(texts) | keys | words | numbers | {b"UNREACHABLE", b"::1", b"0.0.0.0", b"#"}


DICTIONARIES: Mapping[str, Callable[[], set[bytes]]] = {
    "json": _json,
    "yaml": _yaml,
    "der": _der,
    "pem": _pem,
    "binary": _binary,
    "spdm": _spdm,
    "xml": _xml,
    "foreign": _foreign,
    "fabric": _fabric,
}


def dictionary_text(name: str) -> str:
    """Return one dictionary in libFuzzer's format: a quoted token a line."""
    lines = ("".join(f"\\x{byte:02x}" for byte in token) for token in sorted(DICTIONARIES[name]()))
    return "".join(f'"{line}"\n' for line in lines)
