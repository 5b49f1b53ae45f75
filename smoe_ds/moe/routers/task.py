"""Task-level routing: the tokens of a sentence share their experts."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from smoe_ds.config.block import BlockSettings
from smoe_ds.config.routers.task import Task
from smoe_ds.moe.capacity import count_values
from smoe_ds.moe.gate import choose, gate_logits
from smoe_ds.moe.routers.router import Router, without
from smoe_ds.moe.routing import GateSums, Routing, RoutingContext, Tokens
from smoe_ds.moe.seeding import uniform_


class TaskRouter(Router):
    """The K most probable experts of a gate over tasks ``G``: languages, or the sentences of the batch.

    Logits are computed in float64, so that a task's experts and weights are the same to the bit in any batch, and in a
    model without experts that the task does not use. The weights of K > 1 experts sum to 1; that of one expert is its
    probability, or the gate would learn nothing.

    Source: Kudugunta et al., arXiv 2110.03742, 3. A sentence counts in the losses with its tokens. How a task is
    embedded is not said there; here it is a row of a table, drawn with variance 1 as that of a normalised token. A pair
    of languages is the sum of two rows, so that a direction without training text still has experts.
    """

    def __init__(self, block: BlockSettings, d_model: int, visible: int) -> None:
        super().__init__(block, d_model, visible)
        self.settings: Task = block.router
        self.tasks = self._table(self.settings.by != "sentence")
        self.sources = self._table(self.settings.by == "pair")

    def _table(self, wanted: bool) -> nn.Parameter | None:
        return nn.Parameter(torch.empty(self.settings.tasks, self.d_model)) if wanted else None

    def initialize(self, *name: object) -> None:
        for kind, table in (("tasks", self.tasks), ("sources", self.sources)):
            if table is not None:
                uniform_(table, math.sqrt(3), *name, kind)

    def forward(self, h_TD: Tensor, gate_ED: Tensor | None, context: RoutingContext) -> Routing:
        assert gate_ED is not None and context.tokens is not None
        task_GD, group_T = self._tasks(h_TD, context.tokens)
        logits_GE = gate_logits(task_GD.double(), gate_ED)
        allowed_GE = without(logits_GE, context.forbidden_E)
        probs_GE = torch.softmax(allowed_GE, dim=-1)
        expert_GK = choose(allowed_GE, self.block.top_k, sample=False)
        if self.block.top_k == 1:
            weights_GK = probs_GE.gather(1, expert_GK)
        else:
            weights_GK = torch.softmax(allowed_GE.gather(1, expert_GK), dim=-1)
        dtype = torch.promote_types(h_TD.dtype, torch.float32)
        tokens_G = count_values(group_T, task_GD.shape[0]).double()
        entropy_G = torch.special.entr(probs_GE.detach()).sum(1)
        expert_TK, weights_TK = expert_GK.index_select(0, group_T), weights_GK.to(dtype).index_select(0, group_T)
        z_G = logits_GE.logsumexp(dim=-1).square()
        probs_E, entropy, z = ((tokens_G @ values).to(dtype) for values in (probs_GE, entropy_G, z_G))
        return Routing(expert_TK, weights_TK, GateSums(probs_E, entropy, z))

    def _tasks(self, h_TD: Tensor, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """What the gate reads [G, D], and the row of each token [T]; of few tokens only their own rows."""
        if self.tasks is None:
            return _sentence_means(h_TD, tokens), tokens.sentence
        if self.sources is not None:
            assert tokens.pair_B2 is not None
            self._check(tokens.pair_B2)
            source_B, target_B = tokens.pair_B2.unbind(1)
            return self.sources.index_select(0, source_B) + self.tasks.index_select(0, target_B), tokens.sentence
        id_T = tokens.language
        self._check(id_T)
        if id_T.numel() < self.settings.tasks:
            return self.tasks.index_select(0, id_T), torch.arange(id_T.numel(), device=id_T.device)
        return self.tasks, id_T

    def _check(self, ids: Tensor) -> None:
        if ids.device.type == "cpu" and ids.numel() and int(ids.max()) >= self.settings.tasks:
            raise ValueError(
                f"the router task has {self.settings.tasks} tasks, but a sentence has the language id "
                f"{int(ids.max())}; set tasks above it"
            )


def _sentence_means(h_TD: Tensor, tokens: Tokens) -> Tensor:
    """Mean of the tokens of each sentence [B, D], float64; 0 where it has none."""
    number = tokens.num_sentences
    sums_BD = h_TD.new_zeros(number, h_TD.shape[1], dtype=torch.float64).index_add(0, tokens.sentence, h_TD.double())
    return sums_BD / count_values(tokens.sentence, number).clamp(min=1).unsqueeze(1)
