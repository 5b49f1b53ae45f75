"""The queue: every sentence comes once, batches are of one kind, and a long text delays nobody for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoe_ds.serve.queue import FairQueue, Job, Ticket
from smoe_ds.serve.work import Follow, Translate


def in_loop(check: Callable[[], None]) -> None:
    """Tickets hold futures, which need a running loop."""

    async def run() -> None:
        check()

    asyncio.run(run())


def named(jobs: list[Job]) -> list[str]:
    return [job.text for job in jobs]


def test_requests_take_turns() -> None:
    def check() -> None:
        queue = FairQueue()
        queue.add(Ticket([f"long {n}" for n in range(6)], Translate("nso", 1)))
        queue.add(Ticket(["short"], Translate("nso", 1)))
        assert named(queue.take(4)[0]) == ["long 0", "short", "long 1", "long 2"]
        queue.add(Ticket(["other language"], Translate("cat", 1)))
        queue.add(Ticket(["late"], Translate("nso", 1)))
        assert named(queue.take(1)[0]) == ["long 3"]
        assert named(queue.take(4)[0]) == ["other language"], "who had a turn goes to the end"
        assert named(queue.take(4)[0]) == ["late", "long 4", "long 5"]
        assert queue.take(4) == ([], False) and len(queue) == 0

    in_loop(check)


def test_what_failed_comes_back_alone_and_first() -> None:
    def check() -> None:
        queue = FairQueue()
        one, two = Ticket(["a", "b"], Translate("nso", 1)), Ticket(["c"], Translate("nso", 1))
        queue.add(one)
        queue.add(two)
        batch, again = queue.take(3)
        assert named(batch) == ["a", "c", "b"] and not again
        queue.add(Ticket(["new"], Translate("nso", 1)))
        two.fail(RuntimeError("gone meanwhile"))
        queue.retry(batch)
        assert [(named(jobs), again) for jobs, again in (queue.take(9) for _ in range(3))] == [
            (["a"], True),
            (["b"], True),
            (["new"], False),
        ]
        assert isinstance(two.done.exception(), RuntimeError)

    in_loop(check)


def test_a_request_ends_with_its_last_answer() -> None:
    def check() -> None:
        ticket = Ticket(["a", "b"], Translate("nso", 1))
        ticket.answer(1, {"n": 1})
        ticket.answer(1, {"n": 1})
        assert not ticket.done.done()
        ticket.answer(0, {"n": 0})
        assert ticket.done.result() == [{"n": 0}, {"n": 1}]

    in_loop(check)


def test_tokens_are_followed_one_sentence_at_a_time() -> None:
    def check() -> None:
        queue = FairQueue()
        for ticket in (
            Ticket(["a"], Follow("eng-nso", None)),
            Ticket(["b"], Translate("nso", 1)),
            Ticket(["c"], Follow("eng-nso", None)),
            Ticket(["d"], Translate("nso", 1)),
        ):
            queue.add(ticket)
        assert [named(queue.take(9)[0]) for _ in range(4)] == [["a"], ["b", "d"], ["c"], []]

    in_loop(check)


@pytest.mark.parametrize("most", [1, 3, 64])
@given(
    st.lists(st.tuples(st.integers(1, 9), st.sampled_from(["nso", "cat"]), st.integers(1, 2)), max_size=8), st.data()
)
def test_every_sentence_comes_once(most: int, requests: list[tuple[int, str, int]], data: st.DataObject) -> None:
    def check() -> None:
        queue = FairQueue()
        tickets = [Ticket([str(n) for n in range(number)], Translate(to, n_best)) for number, to, n_best in requests]
        for ticket in tickets:
            queue.add(ticket)
        dropped = {ticket for ticket in tickets if data.draw(st.booleans())}
        for ticket in dropped:
            queue.drop(ticket)
        taken: list[Job] = []
        while batch := queue.take(most)[0]:
            assert len(batch) <= most and len({job.ticket.work for job in batch}) == 1
            taken += batch
        expected = [job for ticket in tickets if ticket not in dropped for job in ticket.jobs]
        assert sorted(map(id, taken)) == sorted(map(id, expected))

    in_loop(check)
