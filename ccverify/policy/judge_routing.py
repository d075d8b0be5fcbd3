"""What the forwarding tables of a statement do, held against a policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ccverify.fabric.routing_evaluate import Evaluation
from ccverify.fabric.routing_findings import RouteCode, RouteFinding
from ccverify.fabric.statement_model import Dump, FabricStatement, StatementGap, StatementProblem
from ccverify.findings import Assurance, FindingList
from ccverify.policy.model import FabricPolicy, GivenRule

__all__ = ["Routed", "judge_routing", "skip_routing"]

_ROUTING: Final = "FABRIC-ROUTING"
_MAX_NAMED: Final = 4


@dataclass(frozen=True, slots=True)
class Routed:
    """What evaluating the tables of a statement came to.

    Attributes:
        evaluation: None where there is nothing to evaluate.
        partition: name of the tenant's own partition in it; None where it is not known, and
            then the whole fabric is judged.
        missing: why there is nothing to evaluate.
        gaps: what keeps an evaluation without findings from being proof.
    """

    evaluation: Evaluation | None
    partition: str | None = None
    missing: str = ""
    gaps: tuple[StatementGap, ...] = ()

    @property
    def findings(self) -> tuple[RouteFinding, ...]:
        """What concerns the tenant."""
        if self.evaluation is None:
            return ()
        if self.partition is None:
            return self.evaluation.findings
        return self.evaluation.of(self.partition)

    @property
    def closed(self) -> bool | None:
        """Whether the partition is proven complete inside and closed; None if unknown."""
        if self.evaluation is None:
            return None
        if self.findings or self.evaluation.omitted:
            return False
        return None if self.gaps else True

    def unproven(self, code: RouteCode) -> str:
        """Why the lack of findings of a code proves nothing; empty if it does."""
        return "; ".join(
            f"{one.where}: {one.reason}"
            for one in self.gaps
            if one.where != Dump.MCFDBS.value or code is RouteCode.MULTICAST
        )


def skip_routing(
    findings: FindingList, policy: FabricPolicy, reason: str, *, waived: bool, judged: bool = False
) -> None:
    """There are no tables to judge: say of every check why, or that it has no meaning.

    Args:
        findings: to add to.
        policy: the section ``fabric``.
        reason: why there are none.
        waived: whether the policy does without them.
        judged: whether FABRIC-ROUTING itself has been judged.
    """
    for code in (*(() if judged else (_ROUTING,)), *(each.value for each in RouteCode)):
        if waived:
            findings.not_applicable(code, reason)
        else:
            _left_open(findings, policy, code, reason)


def judge_routing(
    findings: FindingList,
    policy: FabricPolicy,
    statement: FabricStatement,
    routed: Routed,
    tables: Sequence[StatementProblem],
    level: Assurance,
) -> None:
    """Judge tables and what they do.

    Args:
        findings: to add to.
        policy: the section ``fabric``.
        statement: whose tables they are.
        routed: what evaluating them came to.
        tables: what is wrong with the tables themselves.
        level: of the statement.
    """
    if policy.routing is GivenRule.ANY:
        skip_routing(findings, policy, "the policy leaves routing aside", waived=True)
        return
    if tables:
        text = "; ".join(f"{one.where}: {one.found}" for one in tables[:_MAX_NAMED])
        findings.failed(_ROUTING, tables[0].expected, text, tables[0].where, level)
    evaluation, digest = routed.evaluation, statement.routing_digest
    if evaluation is None or digest is None:
        skip_routing(findings, policy, routed.missing, waived=False, judged=bool(tables))
        return
    accepted = policy.routing_digests
    gaps = "; ".join(f"{one.where}: {one.reason}" for one in routed.gaps)
    if tables:
        pass  # told above; what the tables do is told all the same
    elif accepted is not None and digest not in accepted:
        findings.failed(_ROUTING, "a digest on the list", digest.hex(), None, level)
    elif gaps:
        _left_open(findings, policy, _ROUTING, gaps)
    else:
        switches = len(statement.routing.unicast) if statement.routing else 0
        found = f"{switches} switches, digest {digest.hex()}"
        findings.passed(_ROUTING, found, None, level)
    omitted = dict(evaluation.omitted)
    for code in RouteCode:
        problems = [one for one in routed.findings if one.code is code]
        if problems or omitted.get(code):
            _failed(findings, statement, code, problems, omitted.get(code, 0), level)
        elif reason := routed.unproven(code):
            _left_open(findings, policy, code.value, reason)
        else:
            whose = routed.partition or "the whole fabric"
            findings.passed(code.value, whose, None, level)


def _left_open(findings: FindingList, policy: FabricPolicy, code: str, reason: str) -> None:
    if _asked(policy):
        findings.skipped(code, reason)
    else:
        findings.not_applicable(code, reason)


def _asked(policy: FabricPolicy) -> bool:
    return policy.routing is GivenRule.REQUIRED or policy.routing_digests is not None


def _failed(
    findings: FindingList,
    statement: FabricStatement,
    code: RouteCode,
    problems: Sequence[RouteFinding],
    omitted: int,
    level: Assurance,
) -> None:
    """One finding of a code: the places, and the way of the first packet hop by hop."""
    texts = []
    for one in problems[:_MAX_NAMED]:
        again = f" ({one.count} cases)" if one.count > 1 else ""
        path = ""
        if one.path and statement.links is not None:
            path = f": {one.path_text(statement.links)}"
        texts.append(f"{one.where}: {one.found}{again}{path}")
    more = omitted + sum(one.count for one in problems[_MAX_NAMED:])
    if more:
        texts.append(f"and {more} more cases")
    expected = problems[0].expected if problems else "none"
    where = problems[0].where if problems else None
    findings.failed(code.value, expected, "; ".join(texts), where, level)
