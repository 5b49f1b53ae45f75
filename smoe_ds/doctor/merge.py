"""What all ranks found, as few lines as say it: equal findings become one, with the hosts or ranks it holds for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from smoe_ds.doctor.finding import FAILED, NOTE, OK, SKIPPED, Finding, words

_ORDER = (FAILED, NOTE, OK, SKIPPED)
_SHOWN = 6


@dataclass(frozen=True)
class Line:
    """One line of the report.

    Attributes:
        check: name of the check.
        mark: see :class:`smoe_ds.doctor.finding.Finding`.
        where: hosts or ranks it holds for, in words; empty where it holds for the run.
        text: what was found.
        remedy: what to do.
        ranks: the ranks that found it.
    """

    check: str
    mark: str
    where: str
    text: str
    remedy: str
    ranks: tuple[int, ...]


def merge(check: str, found: Mapping[int, Sequence[Finding]], hosts: Sequence[str]) -> list[Line]:
    """The lines of one check, the worst first.

    Args:
        check: its name.
        found: findings by rank.
        hosts: name of each rank's host.
    """
    groups: dict[tuple[str, str, str, str], list[tuple[int, Finding]]] = {}
    for rank in sorted(found):
        for finding in found[rank]:
            key = (finding.mark, finding.text, finding.remedy, finding.scope)
            groups.setdefault(key, []).append((rank, finding))
    lines = []
    for (mark, text, remedy, scope), members in groups.items():
        ranks = tuple(rank for rank, _ in members)
        figures = {
            name: (min(f.figures[name] for _, f in members), max(f.figures[name] for _, f in members))
            for name in members[0][1].figures
        }
        lines.append(
            Line(check, mark, _where(scope, ranks, hosts), words(text, figures), words(remedy, figures), ranks)
        )
    return sorted(lines, key=lambda line: _ORDER.index(line.mark))


def _where(scope: str, ranks: Sequence[int], hosts: Sequence[str]) -> str:
    if scope == "run" or len(hosts) == 1:
        return ""
    theirs, everywhere = list(dict.fromkeys(hosts[rank] for rank in ranks)), list(dict.fromkeys(hosts))
    if scope == "host":
        if len(theirs) == len(everywhere):
            return _all("hosts", len(everywhere)) if len(everywhere) > 1 else ""
        return _listed("host", theirs)
    if len(ranks) == len(hosts):
        return _all("ranks", len(hosts))
    if [rank for rank, host in enumerate(hosts) if host in theirs] == list(ranks):
        return _listed("host", theirs)
    return _listed("rank", [f"{rank} ({hosts[rank]})" if len(everywhere) > 1 else str(rank) for rank in ranks])


def _all(kind: str, count: int) -> str:
    return f"both {kind}" if count == 2 else f"all {count} {kind}"


def _listed(kind: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{kind}{'s' if len(names) > 1 else ''} {', '.join(names[:_SHOWN])}{more}"
