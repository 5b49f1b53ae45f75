"""Measures what a device does by itself, with the run's own modules and sizes: rates of the step time's constants."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from smoe_ds.config.experts import Ffn
from smoe_ds.config.number_formats import torch_dtype
from smoe_ds.config.run import RunConfig
from smoe_ds.model.feed_forward import moe_factory
from smoe_ds.model.loss import translation_loss
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe.cost import feed_forward
from smoe_ds.moe.experts import ExpertFFN, apply_experts
from smoe_ds.planning.work import (
    ITEMSIZE,
    PASSES,
    ROW_TOUCHES,
    block_of,
    dense_flops_per_token,
    dense_twin,
    tokens_per_side,
)
from smoe_ds.scaling.constants import Constant, measured
from smoe_ds.scaling.line import Line
from smoe_ds.scaling.stopwatch import Stopwatch

SENTENCE = 32
"""Tokens of a sentence where no corpus says how long they are."""
_FILLED = {"ffn_init": "xavier"}  # as in training, where no matrix stays 0
_NARROW = 8  # inner width of experts that cost next to nothing
_SIZES = (2**19, 2**21, 2**23)  # elements of the tensors that are streamed: more than caches hold
_MOST_UPDATED = 50_000_000


class Calibration:
    """Measurements of one run on one device; every method is a collective over the ranks of the process group, if any.

    Args:
        run: checked configuration.
        vocab_size: V.
        device: what this rank computes on.
        repeats: readings of which the shortest counts.
        sentence: tokens of a sentence on each side.
    """

    def __init__(
        self, run: RunConfig, vocab_size: int, device: torch.device, *, repeats: int = 5, sentence: int = SENTENCE
    ) -> None:
        self.run, self.vocab_size, self.device, self.sentence = run, vocab_size, device, sentence
        self.dtype = torch_dtype(run.precision)
        self.watch = Stopwatch(device, repeats)

    def measure(self, parameters: int) -> dict[str, Constant]:
        """All of them.

        Args:
            parameters: that one rank updates.
        """
        found = {"dense": self.dense(), "expert": self.expert()}
        if not self.run.smoe.moe.is_dense:
            found["routing"] = self.routing(found["expert"].line)
        found["memory"] = self.memory()
        found["transfer"] = self.transfer()
        found["update"] = self.update(parameters, self.device)
        on_host = self.device.type == "cpu"
        found["host_update"] = found["update"] if on_host else self.update(parameters, torch.device("cpu"))
        return found

    def dense(self) -> Constant:
        """Forward and backward of the run's model without experts, over FLOPs; the fixed cost is that of a sublayer."""
        twin = dense_twin(self.run)
        smoe = twin.smoe
        model = smoe.model.model_copy(update=_FILLED)
        network = Transformer(model, smoe.moe, self.vocab_size, seed=1).to(self.device, self.dtype).train()

        def step_on(ids: Tensor) -> Callable[[], None]:
            def step() -> None:
                network.zero_grad(set_to_none=True)
                logits, _ = network(ids, ids)
                translation_loss(logits, ids, smoe.train.label_smoothing).smoothed.backward()

            return step

        points = []
        for tokens in self._token_counts():
            length = min(self.sentence, smoe.model.max_positions, tokens)
            ids = torch.randint(4, self.vocab_size, (max(1, tokens // length), length), device=self.device)
            flops = PASSES * ids.numel() * dense_flops_per_token(twin, self.vocab_size)
            points.append((flops, self.watch.seconds(step_on(ids))))
        return measured(points, 2 * smoe.model.encoder_layers + 3 * smoe.model.decoder_layers)

    def expert(self) -> Constant:
        """Forward and backward of one expert, over FLOPs: from a few rows to all of a micro-batch."""
        model, block = self.run.smoe.model, block_of(self.run)
        inner = model.d_ffn if block is None else block.inner_width(model.d_ffn)
        module = ExpertFFN(model.d_model, inner, model.activation).to(self.device, self.dtype)
        module.initialize("calibration", how="xavier")
        flops = PASSES * feed_forward(model.d_model, inner, model.activation, 1).flops_of()
        most = round(tokens_per_side(self.run) * max(self._choices(), 1))
        counts = sorted({max(1, most // 4**power) for power in range(6)})
        return measured(
            (rows * flops, self._forward_backward(module, rows, lambda x: apply_experts([module], x, [x.shape[0]])))
            for rows in counts
        )

    def routing(self, expert: Line) -> Constant:
        """Gate, choice and the rows' ways through a layer, over the bytes touched: a layer with very narrow experts.

        Args:
            expert: cost of an expert; its fixed part is taken off.
        """
        smoe = self.run.smoe
        block = block_of(self.run)
        assert block is not None
        experts, choices = sum(block.strata), self._choices()
        narrow = smoe.model.model_copy(update={"d_ffn": _NARROW})
        changes = {"strata": [experts], "stacked": False, "shared_expert": "none", "gating_dropout": 0.0}
        changes |= {"expert_ffn": None, "heads": 1, "experts": Ffn(), "expert_init": "xavier"}
        plain = block.model_copy(update=changes)
        layer = moe_factory(narrow, 1)("calibration", plain).to(self.device, self.dtype).train()
        touched = ROW_TOUCHES * choices * narrow.d_model * ITEMSIZE[self.run.precision]
        points = []
        for tokens in self._token_counts():
            seconds = self._forward_backward(layer, tokens, lambda x: layer(x)[0])
            points.append((touched * tokens, max(seconds - experts * expert.fixed, seconds / 10)))
        return measured(points)

    def _choices(self) -> float:
        """Rows that a token makes in a block of one stratum; 0 in a dense model."""
        block = block_of(self.run)
        return 0.0 if block is None else block.router.mean_choices(block, sum(block.strata))

    def update(self, parameters: int, device: torch.device) -> Constant:
        """What ZeRO does with a share of the parameters: flat gradient to fp32, norm, scale, Adam, weights back."""
        most = min(max(parameters, 16), _MOST_UPDATED)
        return measured(
            (elements, self.watch.seconds(self._update_of(elements, device)))
            for elements in (most // 16, most // 4, most)
        )

    def memory(self) -> Constant:
        """Elementwise work, over bytes read and written."""

        def add(elements: int) -> tuple[float, float]:
            a, b = (torch.zeros(elements, device=self.device) for _ in range(2))
            return 3 * a.nbytes, self.watch.seconds(lambda: a.add_(b))

        return measured(add(elements) for elements in _SIZES)

    def transfer(self) -> Constant:
        """Copies from the host's memory, over bytes."""

        def copy(elements: int) -> tuple[float, float]:
            there = torch.zeros(elements, device=self.device)
            here = torch.zeros(elements, pin_memory=self.device.type == "cuda")
            return here.nbytes, self.watch.seconds(lambda: there.copy_(here))

        return measured(copy(elements) for elements in _SIZES)

    def _update_of(self, elements: int, device: torch.device) -> Callable[[], None]:
        master = nn.Parameter(torch.zeros(elements, device=device))
        gradient = torch.ones(elements, device=device, dtype=self.dtype)
        weights = torch.zeros_like(gradient)
        adam = torch.optim.Adam([master], lr=1e-4, fused=True if device.type == "cuda" else None)

        def step() -> None:
            master.grad = gradient.to(torch.float32, copy=True)
            master.grad.mul_(1 / master.grad.norm())
            adam.step()
            weights.copy_(master.detach())

        return step

    def _forward_backward(self, module: nn.Module, tokens: int, forward: Callable[[Tensor], Tensor]) -> float:
        """Seconds of both passes with ``tokens`` rows of input."""
        x = torch.randn(tokens, self.run.smoe.model.d_model, device=self.device, dtype=self.dtype, requires_grad=True)
        grad = torch.randn_like(x)

        def step() -> None:
            module.zero_grad(set_to_none=True)
            x.grad = None
            forward(x).backward(grad)

        return self.watch.seconds(step)

    def _token_counts(self) -> list[int]:
        """Tokens of a side: of a full micro-batch and of smaller ones."""
        side = round(tokens_per_side(self.run))
        return sorted({max(2, side // part) for part in (1, 2, 4, 8)})
