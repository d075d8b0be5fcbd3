"""Collateral named on the command line: files, and folders of files.

A folder is a store: a folder of manifests as NVIDIA publishes them, the cache that
``ccverify collateral fetch`` keeps, packs of several platforms.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import replace

from ccverify.cli.inputs import COLLATERAL, STDIN, Inputs, Source, in_file
from ccverify.collateral import (
    KNOWN_FILES,
    CollateralFile,
    looks_like_crl,
    looks_like_ocsp,
    looks_like_rim,
    parse_collateral_file,
)
from ccverify.errors import CollateralError, UsageError
from ccverify.nvidia.collateral import NvidiaCollateral
from ccverify.nvidia.rim_service import is_rim_response
from ccverify.nvidia.rim_set import RimSet
from ccverify.pack_format import MAX_PACK_BYTES, is_pack
from ccverify.strict_json import parse_json
from ccverify.tdx.collateral import serialize_collateral

__all__ = [
    "COLLATERAL_FILE",
    "MAX_FOLDER_BYTES",
    "MAX_FOLDER_FILES",
    "assemble_files",
    "expand_folders",
    "read_collateral",
    "read_collateral_files",
]

MAX_FOLDER_FILES = 2048
MAX_FOLDER_BYTES = 128 * 1024 * 1024
"""Of all the files that one command reads from folders."""

_RAW = Source(
    "collateral",
    COLLATERAL.limit,
    CollateralError,
    f"{KNOWN_FILES}, or a saved response of Intel's service, its issuer chain or headers",
)
COLLATERAL_FILE = Source("collateral", COLLATERAL.limit, CollateralError, KNOWN_FILES)


def read_collateral(inputs: Inputs, paths: Iterable[str]) -> CollateralFile:
    """Read files and folders of collateral into one value.

    In a folder a manifest that cannot be read is left out and listed in
    ``nvidia.rims.unreadable`` (path → why): NVIDIA edits manifests by hand, and one of them
    must not take the others with it.  Anything else that cannot be read is an error, and so is
    a manifest that is named itself.

    Raises:
        UsageError: a path cannot be read, or a folder holds no files or too many.
        CollateralError: a file is no collateral or malformed; the error names it.
    """
    return read_collateral_files(inputs, expand_folders(paths))


def read_collateral_files(inputs: Inputs, files: Iterable[tuple[str, bool]]) -> CollateralFile:
    """Read what `expand_folders` yields into one value; raises as `read_collateral`."""
    read: list[CollateralFile] = []
    unreadable: dict[str, str] = {}
    for path, in_folder in files:
        data = inputs.read(path, COLLATERAL_FILE)
        try:
            with in_file(path):
                read.append(parse_collateral_file(data, name=_name(path)))
        except CollateralError as problem:
            if not in_folder or not looks_like_rim(data):
                raise
            unreadable[path] = problem.message
    return _with_unreadable(CollateralFile.union(read), unreadable)


def _name(path: str) -> str | None:
    return None if path == STDIN else os.path.basename(path)


def _with_unreadable(file: CollateralFile, unreadable: dict[str, str]) -> CollateralFile:
    nvidia = file.nvidia
    rims = RimSet(nvidia.rims.rims, {**nvidia.rims.unreadable, **unreadable})
    return replace(file, nvidia=NvidiaCollateral(rims, nvidia.revocation))


def assemble_files(inputs: Inputs, paths: Iterable[str]) -> tuple[CollateralFile, tuple[str, ...]]:
    """Read files and folders as `read_collateral` does, and raw responses of Intel's service too.

    Returns:
        Everything, and the names of the files that nothing in it came from.

    Raises:
        UsageError: as `read_collateral`.
        CollateralError: as `read_collateral`, or the issuer of an artefact of Intel's is not
            among the files.
    """
    from ccverify.tdx.assemble import assemble_collateral

    loose: list[tuple[str, bytes]] = []
    read: list[CollateralFile] = []
    unreadable: dict[str, str] = {}
    for path, in_folder in expand_folders(paths):
        data = inputs.read(path, _RAW)
        try:
            with in_file(path):
                file = _own_file(path, data)
        except CollateralError as problem:
            if not in_folder or not looks_like_rim(data):
                raise
            unreadable[path] = problem.message
            continue
        if file is None:
            loose.append((path, data))
            continue
        read.append(file)
        if file.intel.artefacts or file.intel.pck_chains:
            # Its issuer chains may be those of loose artefacts.
            loose.append((path, serialize_collateral(file.intel)))
    assembly = assemble_collateral(loose)
    whole = CollateralFile.union([CollateralFile(assembly.pack), *read])
    return _with_unreadable(whole, unreadable), assembly.unused


def _own_file(path: str, data: bytes) -> CollateralFile | None:
    """Parse a file that stands by itself; None for one that `assemble_collateral` must see."""
    if looks_like_rim(data) or looks_like_ocsp(data):
        return parse_collateral_file(data, name=_name(path))
    if data[:4096].lstrip().startswith(b"{"):
        document = parse_json(data, what="JSON file", error=CollateralError, limit=MAX_PACK_BYTES)
        if is_pack(document) or is_rim_response(document):
            return parse_collateral_file(data, name=_name(path))
    if looks_like_crl(data):
        with contextlib.suppress(CollateralError):  # a certificate, or worse
            file = parse_collateral_file(data)
            return None if file.nvidia.is_empty else file
    return None


def expand_folders(paths: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Yield each file, and whether it was found in a folder.

    Of a folder these are the regular files right inside it, by name; names that begin with a
    dot are left out, and so are folders in it.  A link counts as what it leads to if that is
    in the same folder, such as a mounted Kubernetes volume has them.

    Raises:
        UsageError: a folder cannot be listed, holds nothing, too much, or a link out of it.
    """
    count = size = 0
    for path in paths:
        if path == STDIN or not os.path.isdir(path):
            yield path, False
            continue
        files = list(_files_of(path))
        count += len(files)
        size += sum(length for _, length in files)
        if count > MAX_FOLDER_FILES or size > MAX_FOLDER_BYTES:
            raise UsageError(
                "collateral folder holds too much",
                expected=f"at most {MAX_FOLDER_FILES} files and {MAX_FOLDER_BYTES} bytes",
                found=f"{count} files, {size} bytes",
                where=path,
                hint="check that this is the folder you mean",
            )
        if not files:
            raise UsageError("collateral folder holds no files", expected=KNOWN_FILES, where=path)
        for file, _ in files:
            yield file, True


def _files_of(folder: str) -> Iterator[tuple[str, int]]:
    """The path and size of each regular file right inside a folder, sorted by name."""
    try:
        real = os.path.realpath(folder)
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
        for name in names:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                target = os.path.realpath(path)
                if os.path.commonpath((real, target)) != real:
                    raise UsageError(
                        "collateral folder has a link that leads out of it",
                        found=target,
                        where=path,
                        hint="name that file or folder itself",
                    )
            state = os.stat(path)
            if stat.S_ISREG(state.st_mode):
                yield path, state.st_size
    except (OSError, ValueError) as problem:
        raise UsageError(
            "collateral folder cannot be read",
            found=getattr(problem, "strerror", None) or str(problem),
            where=folder,
        ) from None
