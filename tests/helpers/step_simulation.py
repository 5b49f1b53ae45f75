"""A naive twin of the closed form of a step's time: every rank has a clock, and whoever meets waits for the last.

Written from the layer's algorithm and from DeepSpeed's order of work, expert by expert and message by message; shares
nothing with :mod:`smoe_ds.analysis` but the constants.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from smoe_ds.config.run import RunConfig
from smoe_ds.scaling.constants import Constants


@dataclass
class Simulation:
    """One step of a run without chunks, checkpointing, overlap and offload, on hosts with as many ranks each.

    Args:
        run: its settings.
        constants: what work costs.
        nodes: hosts.
        per_node: ranks of a host.
        dense_flops: of a micro-batch's forward pass outside the experts, as the work of the run counts them.
        sublayers: outside the experts.
        parameters: dense ones, and those of all experts.
    """

    run: RunConfig
    constants: Constants
    nodes: int
    per_node: int
    dense_flops: float
    sublayers: int
    parameters: Mapping[str, int]
    clocks: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.ranks = range(self.nodes * self.per_node)
        self.clocks = [0.0 for _ in self.ranks]
        moe = self.run.smoe.moe
        self.groups = [list(self.ranks)[i : i + moe.ep_size] for i in range(0, len(self.ranks), moe.ep_size)]
        self.itemsize = 4 if self.run.precision == "fp32" else 2
        self.row_bytes = self.itemsize * self.run.smoe.model.d_model

    def seconds(self) -> float:
        """Runs the step; when the last rank is done."""
        accumulation = self.run.train_batch_size // len(self.ranks)
        for micro_batch in range(accumulation):
            self._micro_batch()
            if self.run.zero_stage == 2 or micro_batch == accumulation - 1:
                self._reduce()
        self._update()
        for _ in range(4 + (self.run.smoe.moe.ep_size > 1)):
            self._sum(self.ranks, 0.0)
        return max(self.clocks)

    def _micro_batch(self) -> None:
        model, moe = self.run.smoe.model, self.run.smoe.moe
        blocks = model.encoder_layers // moe.every + model.decoder_layers // moe.every
        for forward in (True, False):
            part = 1 / 3 if forward else 2 / 3
            for rank in self.ranks:
                line = self.constants.lines["dense"].line
                self.clocks[rank] += part * (self.sublayers * line.fixed + 3 * self.dense_flops / line.per_second)
            for _ in range(blocks):
                for stratum, tokens in enumerate(self._tokens_by_stratum()):
                    self._pass(stratum, tokens, part, counts=forward)
        self._sum(self.ranks, 0.0)  # the balance loss over all ranks

    def _tokens_by_stratum(self) -> list[float]:
        """A token in stratum i goes on after the stratum of its first choice, which is any visible expert."""
        strata = self.run.smoe.moe.strata
        tokens = [self.run.smoe.data.max_tokens / 2] + [0.0] * (len(strata) - 1)
        for i in range(len(strata)):
            visible = [s for s in range(i, len(strata)) for _ in range(strata[s])]
            for chosen in visible:
                if chosen + 1 < len(strata):
                    tokens[chosen + 1] += tokens[i] / len(visible)
        return tokens

    def _pass(self, stratum: int, tokens: float, part: float, *, counts: bool) -> None:
        moe = self.run.smoe.moe
        visible = range(sum(moe.strata[:stratum]), sum(moe.strata))
        rows_per_expert = tokens * moe.top_k / len(visible)  # of each source rank
        for group in self.groups:
            local = [[e for e in visible if e % moe.ep_size == place] for place in range(len(group))]
            sent = [
                [0.0 if i == j else rows_per_expert * len(local[j]) for j in range(len(group))]
                for i in range(len(group))
            ]
            busiest = max(
                max(sum(sent[i]), sum(row[i] for row in sent)) for i in range(len(group))
            )  # of all ranks, in one direction
            for rank in group:
                self._route(rank, tokens * moe.top_k, busiest, part)
            if counts:
                self._exchange(group, [[0.0] * len(group)] * len(group))
            self._exchange(group, sent)
            for place, rank in enumerate(group):
                self._experts(rank, len(local[place]), rows_per_expert * len(group), part)
            self._exchange(group, [list(column) for column in zip(*sent, strict=True)])

    def _route(self, rank: int, rows: float, travelling: float, part: float) -> None:
        line, memory = self.constants.lines["routing"].line, self.constants.lines["memory"].line
        seconds = line.fixed + 20 * rows * self.row_bytes / line.per_second
        if travelling:
            seconds += memory.fixed + 16 * travelling * self.row_bytes / memory.per_second
        self.clocks[rank] += part * seconds

    def _experts(self, rank: int, number: int, rows: float, part: float) -> None:
        model, line = self.run.smoe.model, self.constants.lines["expert"].line
        for _ in range(number):
            flops = 3 * rows * 2 * 2 * model.d_model * model.d_ffn
            self.clocks[rank] += part * (line.fixed + flops / line.per_second)

    def _exchange(self, group: list[int], rows: list[list[float]]) -> None:
        """Everybody sends to everybody; a host's messages to others share its link, those within do not."""
        if len(group) == 1:
            return
        hosts = [rank // self.per_node for rank in group]
        took = 0.0
        for i, rank in enumerate(group):
            near = [j for j in range(len(group)) if j != i and hosts[j] == hosts[i]]
            far = [j for j in range(len(group)) if hosts[j] != hosts[i]]
            fixed = sum(self._line("all_to_all_within").fixed for _ in near)
            fixed += sum(self._line("all_to_all_between").fixed for _ in far)
            moved = max(sum(rows[i][j] for j in near), sum(rows[j][i] for j in near)) * self.row_bytes
            inside = moved / self._line("all_to_all_within").per_second if near else 0.0
            outside = 0.0
            if far:
                leaving = sum(rows[k][j] for k in range(len(group)) for j in range(len(group))
                              if hosts[k] == hosts[i] != hosts[j])  # fmt: skip
                groups_here = self.per_node / hosts.count(hosts[i])
                outside = groups_here * leaving * self.row_bytes / self._line("all_to_all_between").per_second
            took = max(took, fixed + max(inside, outside))
            assert rank in self.ranks
        self._meet(group, took)

    def _reduce(self) -> None:
        """Gradients: dense ones over all ranks, each expert's over its holders, bucket by bucket."""
        bucket = self.run.deepspeed["zero_optimization"]["reduce_bucket_size"]
        memory = self.constants.lines["memory"].line
        for elements, groups in self._held():
            for rank in self.ranks:
                if elements:
                    self.clocks[rank] += memory.fixed + 3 * self.itemsize * elements / memory.per_second
            left = elements
            while left > 0:
                for group in groups:
                    self._sum(group, self.itemsize * min(bucket, left), len(groups))
                left -= bucket

    def _held(self) -> list[tuple[float, list[list[int]]]]:
        """Elements a rank holds, with the groups of ranks that hold the same ones: dense, then experts."""
        ep_size = self.run.smoe.moe.ep_size
        holders = [[rank for rank in self.ranks if rank % ep_size == place] for place in range(ep_size)]
        return [(self.parameters["dense"], [list(self.ranks)]), (self.parameters["experts"] / ep_size, holders)]

    def _update(self) -> None:
        line = self.constants.lines["update"].line
        share = sum(elements / (len(groups[0]) if self.run.zero_stage else 1) for elements, groups in self._held())
        for rank in self.ranks:
            self.clocks[rank] += line.fixed + share / line.per_second
        for elements, groups in self._held():
            for group in groups if self.run.zero_stage else []:
                self._ring(group, self.itemsize * elements, len(groups), rounds=1)

    def _sum(self, group: Iterable[int], size: float, groups: int = 1) -> None:
        self._ring(list(group), size, groups, rounds=2)

    def _ring(self, group: list[int], size: float, groups: int, rounds: int) -> None:
        """Each rank passes a part on, and on; between hosts in a tree, whose link all groups of a host share."""
        hosts = sorted({rank // self.per_node for rank in group})
        most = max(sum(rank // self.per_node == host for rank in group) for host in hosts)
        fixed = inside = outside = 0.0
        for _ in range(rounds):
            for _ in range(most - 1):
                fixed += self._line("all_reduce_within").fixed
            if most > 1:
                for _ in range(len(group) - 1):
                    inside += size / len(group) / self._line("all_reduce_within").per_second
            reached = 1
            while reached < len(hosts):
                fixed += self._line("all_reduce_between").fixed
                reached *= 2
            for _ in range(len(hosts) - 1):
                here = min(groups, self.per_node)
                outside += here * size / len(hosts) / self._line("all_reduce_between").per_second
        self._meet(group, fixed + max(inside, outside))

    def _meet(self, group: Iterable[int], took: float) -> None:
        ranks = list(group)
        end = max(self.clocks[rank] for rank in ranks) + took
        for rank in ranks:
            self.clocks[rank] = end

    def _line(self, kind: str):  # type: ignore[no-untyped-def]
        return self.constants.lines[kind].line
