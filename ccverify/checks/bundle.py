"""Checks of a bundle as `ccverify collect` seals it (docs/spec/bundle.md)."""

from __future__ import annotations

from dataclasses import replace

from ccverify.checks.model import Category, Check, Need, Scope

__all__ = ["BUNDLE_CHECKS"]

_A, _ALWAYS = Category.AUTHENTICITY, Need.ALWAYS
_AGAIN = "Have the machine collect again, and pass the bundle on unchanged."

_BUNDLE = (
    Check(
        "BUNDLE-FORMAT",
        "The bundle is well-formed",
        Category.EVIDENCE,
        _ALWAYS,
        "The file is one bundle of version 1, in the only encoding its contents have, and every "
        "device in it can be read.",
        "A file that two readers understand differently; parts hidden from one of them.",
        "Give the file exactly as `ccverify collect` wrote it.",
    ),
    Check(
        "BUNDLE-SIGNATURE",
        "The session key signed the bundle",
        _A,
        _ALWAYS,
        "Nothing in the bundle was changed since the holder of its session key sealed it. Whose "
        "key that is, TDX-REPORT-DATA shows and this check does not.",
        "A bundle that was edited on its way.",
        _AGAIN,
    ),
    Check(
        "BUNDLE-KEY",
        "Manifest and header name the session key",
        _A,
        _ALWAYS,
        "The key that signs is the one for which the manifest, and with it the quote, was made.",
        "Genuine evidence that somebody else signed again with a key of his own.",
        _AGAIN,
    ),
    Check(
        "BUNDLE-MANIFEST",
        "The bundle holds exactly what its manifest lists",
        _A,
        _ALWAYS,
        "Every item has the type, size and SHA-384 that the manifest lists, none is missing, none "
        "was added, and what is absent is listed with a reason.",
        "An item exchanged, taken out or added, from another session for instance.",
        _AGAIN,
    ),
    Check(
        "BUNDLE-NONCE",
        "The bundle was made for this request",
        _A,
        Need.UNLESS_WAIVED,
        "The nonce in the manifest is the one that the relying party chose.",
        "Replay of a bundle that was made for somebody else, or long ago.",
        "Give the --nonce that the machine was asked with; or set binding.freshness to `waived`, "
        "giving up freshness.",
        "unless the policy waives freshness",
    ),
)
BUNDLE_CHECKS = tuple(replace(check, scope=Scope.BUNDLE) for check in _BUNDLE)
