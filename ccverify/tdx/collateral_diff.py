"""What Intel changed between two collateral packs, in the terms a fleet operator decides in.

Of each platform family, QE identity and CRL the newest edition on both sides is compared.  A
level of a TCB info has no name, so it is told by its requirements: the same requirements with
another status are one changed level.  What matters most, which SVNs a platform now needs for a
status, is reported per status and component.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from ccverify.clock_text import utc_text
from ccverify.tdx.collateral import (
    Artefact,
    CollateralPack,
    CrlArtefact,
    SignedQeIdentity,
    SignedTcbInfo,
)
from ccverify.tdx.collateral_report import describe_isv_level, describe_level, issuer_name
from ccverify.tdx.tcb_info import IsvTcbLevel, TcbInfo, TcbLevel

__all__ = ["DIFF_SCHEMA", "compare_packs"]

DIFF_SCHEMA = "ccverify.collateral-diff/v1"

Json = dict[str, Any]
_A = TypeVar("_A", bound=Artefact)
_L = TypeVar("_L", TcbLevel, IsvTcbLevel)


def compare_packs(a: CollateralPack, b: CollateralPack) -> Json:
    """Compare two packs; return JSON values, in which only what differs is named.

    ``identical`` says whether the packs hold the same artefacts.  Packs that are not identical
    may still show no difference: the same statements under other signatures, or other older
    editions.
    """
    return {
        "schema": DIFF_SCHEMA,
        "sha384": [a.digest, b.digest],
        "identical": a.digest == b.digest,
        "tcb_infos": _compare_groups(
            a.tcb_infos, b.tcb_infos, lambda i: i.value.fmspc.hex().upper(), _compare_tcb_infos
        ),
        "qe_identity": _compare_groups(
            a.qe_identities, b.qe_identities, lambda i: i.value.id, _compare_qe_identities
        ),
        "crls": _compare_groups(
            (*a.pck_crls, *a.root_ca_crls),
            (*b.pck_crls, *b.root_ca_crls),
            issuer_name,
            _compare_crls,
        ),
        "pck_chains": _compare_chains(a, b),
    }


def _compare_chains(a: CollateralPack, b: CollateralPack) -> Json:
    old, new = set(a.pck_chains), set(b.pck_chains)
    return _filled({"added": len(new - old), "removed": len(old - new)})


def _compare_groups(
    a: Iterable[_A], b: Iterable[_A], key: Callable[[_A], str], compare: Callable[[_A, _A], Json]
) -> Json:
    old, new = _newest_of_each(a, key), _newest_of_each(b, key)
    groups: Json = {}
    for name in sorted({*old, *new}):
        if name not in new:
            groups[name] = {"removed": True}
        elif name not in old:
            groups[name] = {"added": True}
        elif change := _window_change(old[name], new[name]) | compare(old[name], new[name]):
            groups[name] = change
    return groups


def _newest_of_each(artefacts: Iterable[_A], key: Callable[[_A], str]) -> dict[str, _A]:
    ordered = sorted(artefacts, key=lambda artefact: (artefact.edition, artefact.issued))
    return {key(artefact): artefact for artefact in ordered}


def _window_change(a: Artefact, b: Artefact) -> Json:
    return _changes(
        {
            "edition": (a.edition, b.edition),
            "issued": (utc_text(a.issued), utc_text(b.issued)),
            "next_update": (
                utc_text(a.next_update) if a.next_update else None,
                utc_text(b.next_update) if b.next_update else None,
            ),
        }
    )


def _changes(pairs: Mapping[str, tuple[object, object]]) -> Json:
    return {name: [old, new] for name, (old, new) in pairs.items() if old != new}


def _compare_tcb_infos(a: SignedTcbInfo, b: SignedTcbInfo) -> Json:
    old, new = a.value, b.value
    return _changes({"pceid": (old.pceid.hex(), new.pceid.hex())}) | _filled(
        {
            "requirements": _compare_requirements(old, new),
            "tcb_levels": _compare_levels(
                old.tcb_levels, new.tcb_levels, _requirements, describe_level
            ),
            "advisories": _compare_sets(_advisories(old), _advisories(new)),
            "tdx_modules": _compare_modules(old, new),
            "unknown_fields": _compare_sets(old.unknown_fields, new.unknown_fields),
        }
    )


def _filled(members: Json) -> Json:
    return {name: value for name, value in members.items() if value}


def _requirements(level: TcbLevel) -> Hashable:
    return level.sgx_components, level.pcesvn, level.tdx_components


def _compare_requirements(a: TcbInfo, b: TcbInfo) -> Json:
    """Per status, which SVNs of its highest level changed."""
    old, new = _highest(a.tcb_levels), _highest(b.tcb_levels)
    answer: Json = {}
    for status in [status for status in new if status in old]:
        before, after = _svns(old[status]), _svns(new[status])
        labels = {**_labels(old[status]), **_labels(new[status])}
        changed = [
            {"component": name, "label": labels.get(name, ""), "svn": [before[name], after[name]]}
            for name in before
            if before[name] != after[name]
        ]
        if changed:
            answer[status] = changed
    return answer


def _highest(levels: Sequence[TcbLevel]) -> dict[str, TcbLevel]:
    # Levels come highest first; the first of each status is what a platform should aim at.
    highest: dict[str, TcbLevel] = {}
    for level in levels:
        highest.setdefault(level.status.value, level)
    return highest


def _svns(level: TcbLevel) -> dict[str, int]:
    svns = {f"sgx[{index}]": svn for index, svn in enumerate(level.sgx_components)}
    svns |= {f"tdx[{index}]": svn for index, svn in enumerate(level.tdx_components)}
    return svns | {"pcesvn": level.pcesvn}


def _labels(level: TcbLevel) -> dict[str, str]:
    labels = {f"sgx[{index}]": label for index, label in enumerate(level.sgx_labels)}
    labels |= {f"tdx[{index}]": label for index, label in enumerate(level.tdx_labels)}
    return {name: label for name, label in labels.items() if label}


def _compare_levels(
    a: Sequence[_L],
    b: Sequence[_L],
    key: Callable[[_L], Hashable],
    describe: Callable[[_L], Json],
) -> Json:
    old, new = {key(level): level for level in a}, {key(level): level for level in b}
    changed = []
    for name in old:
        if name not in new:
            continue
        before, after = old[name], new[name]
        change = _changes(
            {
                "status": (before.status.value, after.status.value),
                "tcb_date": (utc_text(before.tcb_date), utc_text(after.tcb_date)),
            }
        ) | _filled({"advisories": _compare_sets(before.advisory_ids, after.advisory_ids)})
        if change:
            changed.append({"level": describe(after), "changes": change})
    return _filled(
        {
            "added": [describe(level) for name, level in new.items() if name not in old],
            "removed": [describe(level) for name, level in old.items() if name not in new],
            "changed": changed,
        }
    )


def _compare_sets(a: Iterable[str], b: Iterable[str]) -> Json:
    old, new = set(a), set(b)
    return _filled({"added": sorted(new - old), "removed": sorted(old - new)})


def _advisories(info: TcbInfo) -> set[str]:
    lists = [level.advisory_ids for level in info.tcb_levels]
    lists += [
        level.advisory_ids for module in info.tdx_module_identities for level in module.tcb_levels
    ]
    return {advisory for advisories in lists for advisory in advisories}


def _compare_modules(a: TcbInfo, b: TcbInfo) -> Json:
    old = {"tdxModule": a.tdx_module} | {m.id.upper(): m for m in a.tdx_module_identities}
    new = {"tdxModule": b.tdx_module} | {m.id.upper(): m for m in b.tdx_module_identities}
    answer: Json = {}
    for name in sorted({*old, *new}):
        if name not in new:
            answer[name] = {"removed": True}
            continue
        levels = old[name].tcb_levels if name in old else ()
        change = _filled({"tcb_levels": _compare_isv_levels(levels, new[name].tcb_levels)})
        if name not in old:
            answer[name] = {"added": True} | change
            continue
        before, after = old[name], new[name]
        change |= _changes(
            {
                "mrsigner": (before.mrsigner.hex(), after.mrsigner.hex()),
                "attributes": (before.attributes.hex(), after.attributes.hex()),
                "attributes_mask": (before.attributes_mask.hex(), after.attributes_mask.hex()),
            }
        )
        if change:
            answer[name] = change
    return answer


def _compare_isv_levels(a: Sequence[IsvTcbLevel], b: Sequence[IsvTcbLevel]) -> Json:
    return _compare_levels(a, b, lambda level: level.isvsvn, describe_isv_level)


def _compare_qe_identities(a: SignedQeIdentity, b: SignedQeIdentity) -> Json:
    old, new = a.value, b.value
    return _changes(
        {
            "version": (old.version, new.version),
            "mrsigner": (old.mrsigner.hex(), new.mrsigner.hex()),
            "isvprodid": (old.isvprodid, new.isvprodid),
            "miscselect": (old.miscselect, new.miscselect),
            "miscselect_mask": (old.miscselect_mask, new.miscselect_mask),
            "attributes": (old.attributes.hex(), new.attributes.hex()),
            "attributes_mask": (old.attributes_mask.hex(), new.attributes_mask.hex()),
        }
    ) | _filled(
        {
            "tcb_levels": _compare_isv_levels(old.tcb_levels, new.tcb_levels),
            "unknown_fields": _compare_sets(old.unknown_fields, new.unknown_fields),
        }
    )


def _compare_crls(a: CrlArtefact, b: CrlArtefact) -> Json:
    return _changes({"entries": (a.crl.entries, b.crl.entries)})
