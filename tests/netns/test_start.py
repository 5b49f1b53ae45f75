"""A host that never comes, or cannot be reached from the first moment: an error on each side that says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.apart import apart_run, ranks_apart
from tests.helpers.hosts import two_hosts
from tests.helpers.own_ranks import await_none_that_mention
from tests.helpers.small_run import train_on_rank

pytestmark = [pytest.mark.multirank, pytest.mark.netns]

TIMEOUT = 5.0


@pytest.mark.parametrize("absent", [0, 1, None])
def test_the_other_host_does_not_come(tmp_path: Path, corpus_folder: Path, absent: int | None) -> None:
    file = apart_run(tmp_path, corpus_folder, 4, stall_timeout=TIMEOUT)
    with two_hosts() as hosts:
        if absent is None:
            hosts[1].cut_off()
        ranks = ranks_apart(train_on_rank, hosts, tmp_path / "out", str(file), [], absent=absent)
        endings = ranks.wait(60)
    came = [rank for rank in range(4) if absent is None or rank // 2 != absent]
    told = ["ranks 0, 1 did not come", "ranks 2, 3 did not come"]
    for rank in came:
        assert endings[rank].code not in (0, None), endings
    await_none_that_mention(str(tmp_path))
    said = "\n".join(ranks.output(rank) for rank in came)
    # It is the rank that says so, or, where its connection does not give up in time, its watcher.
    assert f"could not meet the others at {hosts[0].address}:" in said or "waiting for the other ranks for" in said
    if absent is None:
        both = [f"{host.namespace}: ranks {ranks}" for host, ranks in zip(hosts, ("0, 1", "2, 3"), strict=True)]
        assert f"all were started ({'; '.join(both)}), so these hosts do not reach each other" in said
    else:
        assert told[absent] in said and told[1 - absent] not in said
    assert not list((tmp_path / "run").glob("alive-*"))
