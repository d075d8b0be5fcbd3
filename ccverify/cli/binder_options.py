"""What binds a fabric statement beside a TDX quote: a TPM, or an operator's key; by options."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from ccverify.cli.inputs import Inputs, Source
from ccverify.cli.sources import MANAGER
from ccverify.errors import UsageError

if TYPE_CHECKING:
    from ccverify.collect.binders import Binder

__all__ = ["OPERATOR_PASSWORD_VARIABLE", "binder_options", "take_binders"]

OPERATOR_PASSWORD_VARIABLE: Final = "CCVERIFY_OPERATOR_KEY_PASSWORD"
"""Where the password of an encrypted operator's key is looked for."""

_TPM_DEVICE: Final = "/dev/tpmrm0"
_CERTIFICATE: Final = Source(
    "TPM key certificate", 256 * 1024, UsageError, "PEM certificates, the key's own first"
)
_NAMES: Final = (
    "tpm",
    "tpm_ak_handle",
    "tpm_ak_certificate",
    "tpm_hierarchy",
    "tpm_pcrs",
    "operator_key",
    "operator_certificate",
)

_F = TypeVar("_F", bound=Callable[..., object])


def binder_options(command: _F) -> _F:
    """Add the options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS: Final = (
    click.option(
        "--tpm",
        is_flag=False,
        flag_value=_TPM_DEVICE,
        metavar="[DEVICE]",
        help=f"With --role {MANAGER}: bind the statement by a quote of this TPM 2.0 too, a device "
        f"or socket by its full path, or host:port.  [{_TPM_DEVICE} if none is named]",
    ),
    click.option(
        "--tpm-ak-handle",
        metavar="HANDLE",
        help="Persistent signing key of the TPM, such as 0x81010001.  [default: a key is made]",
    ),
    click.option(
        "--tpm-ak-certificate", metavar="FILE", help="PEM certificates of that key, its own first."
    ),
    click.option(
        "--tpm-hierarchy",
        type=click.Choice(["endorsement", "owner"]),
        help="Hierarchy of the key that is made.  [default: endorsement]",
    ),
    click.option("--tpm-pcrs", metavar="PCRS", help="PCRs to quote.  [default: sha256:0-14]"),
    click.option(
        "--operator-key",
        metavar="FILE",
        help=f"With --role {MANAGER}: sign the statement with this PEM key too; its password, if "
        f"any, is in the variable {OPERATOR_PASSWORD_VARIABLE}.",
    ),
    click.option(
        "--operator-certificate",
        metavar="FILE",
        help="PEM certificates of the operator's key, its own first.",
    ),
)


def take_binders(wishes: dict[str, Any]) -> list[Binder]:
    """Take the options of `binder_options` out of `wishes` and return the binders they name.

    Raises:
        UsageError: options that do not fit each other or the role, or a key or certificate that
            cannot be used.
    """
    given = {name: wishes.pop(name, None) for name in _NAMES}
    if wishes.get("role") != MANAGER and any(given.values()):
        option = next(name for name, value in given.items() if value)
        raise UsageError(
            "a guest's bundle is bound by its TDX quote",
            expected=f"--role {MANAGER}",
            where=_option(option),
        )
    _must_come_with(given, "tpm", _NAMES[1:5])
    _must_come_with(given, "operator_key", ("operator_certificate",))
    _must_come_with(given, "operator_certificate", ("operator_key",))
    binders: list[Binder] = []
    if given["tpm"]:
        binders.append(_tpm(given))
    if given["operator_key"]:
        binders.append(_operator(given["operator_key"], given["operator_certificate"]))
    return binders


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _must_come_with(given: dict[str, Any], needed: str, others: tuple[str, ...]) -> None:
    for name in others:
        if given[name] and not given[needed]:
            raise UsageError(f"{_option(name)} says nothing alone", where=_option(name),
                             expected=f"{_option(needed)} too")  # fmt: skip


def _tpm(given: dict[str, Any]) -> Binder:
    from ccverify.collect.tpm import tpm_binder

    path = given["tpm_ak_certificate"]
    more = {
        "handle": given["tpm_ak_handle"],
        "hierarchy": given["tpm_hierarchy"],
        "pcrs": given["tpm_pcrs"],
        "chain": Inputs().read(path, _CERTIFICATE) if path else None,
    }
    return tpm_binder(given["tpm"], **{k: v for k, v in more.items() if v is not None})


def _operator(key: str, certificates: str) -> Binder:
    from ccverify.collect.operator_key import load_operator_key

    password = os.environ.get(OPERATOR_PASSWORD_VARIABLE)
    secret = password.encode() if password else None
    return load_operator_key(Path(key), Path(certificates), password=secret)
