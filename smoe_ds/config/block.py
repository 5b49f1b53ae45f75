"""The settings of one block with experts: ``smoe.moe``, as far as blocks of one model may differ in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from smoe_ds.config.expert_widths import widths_of
from smoe_ds.config.experts import AnyExperts, ExpertsSection, Ffn
from smoe_ds.config.routers import AnyRouter, RouterSection, TopK
from smoe_ds.config.routing import MOST_EXPERTS, ROUTING_KEYS, RoutingSettings


class BlockSettings(RoutingSettings):
    """One algorithm for all: vanilla MoE is one stratum, Switch one stratum with ``top_k: 1``.

    MoE+EOM is ``expert_output_masking: 0.1``, FOM ``final_output_masking`` (arXiv 2212.07571), CMR ``shared_expert:
    cmr``, PR-MoE ``shared_expert: residual`` or ``add`` (arXiv 2201.05596), MH-MoE ``heads: 4`` (arXiv 2404.15045),
    Stacking ``stacked: true`` on any of them.
    """

    norm: Literal["paper", "released"] = Field(
        default="paper",
        description="paper: LayerNorm before the experts, and the residual is the input. released (the authors' code): "
        "after the first stratum the residual is the normalised input, and the block's output is normalised.",
    )
    expert_output_masking: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of expert outputs set to zero in training (EOM). Evaluation scales all of them by 1 minus "
        "this share.",
    )
    final_output_masking: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of tokens whose output of a stratum, the shared expert's part included, is set to zero in "
        "training (FOM). Evaluation scales all of them by 1 minus this share.",
    )
    shared_expert: Literal["none", "add", "cmr", "residual"] = Field(
        default="none",
        description="One more expert, in the first stratum, that every token passes. add: its output is added (PR-MoE "
        "with a single stratum and top_k 1); cmr: a sigmoid gate mixes it with the routed experts (CMR); residual: a "
        "softmax gives the factors of both (PR-MoE as DeepSpeed's use_residual).",
    )
    cmr_gate_dropout: float = Field(
        default=0.1, ge=0, lt=1, description="CMR: share of tokens that use the shared expert alone in training."
    )
    heads: int = Field(
        default=1,
        ge=1,
        description="Above 1: every token is projected, split into this many sub-tokens, which go through the block "
        "each on its own, put together again and projected back (MH-MoE). Must divide d_model.",
    )
    gating_dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Probability that a micro-batch bypasses a block's gates in training; see gating_dropout_mode.",
    )
    gating_dropout_mode: Literal["skip", "local"] = Field(
        default="skip",
        description="What such a micro-batch does. skip: it leaves the block unchanged; local: its tokens choose among "
        "the experts on their own rank, so nothing is exchanged (no effect if ep_size is 1).",
    )
    expert_ffn: int | None = Field(
        default=None,
        gt=0,
        description="Inner width of an expert. null: that of the dense networks, smoe.model.d_ffn; with heads the "
        "width, down to a multiple of 8, with which the block has as many parameters as without.",
    )
    expert_widths: list[Annotated[float, Field(gt=0)]] = Field(
        default=[],
        description="Experts of different width: a ratio for each, first stratum first, e.g. [1, 1, 2, 4]. They are "
        "scaled so that the mean width is d_ffn, and rounded to multiples of 8 (HMoE). []: all as wide as d_ffn.",
    )
    expert_backend: Literal["auto", "loop", "lean", "grouped"] = Field(
        default="auto",
        description="How built-in experts are computed. loop: one after the other; lean: the same with less memory, "
        "for ep_size 1; grouped: as grouped matrix products; auto: grouped if the device has a fast kernel, else lean, "
        "else loop.",
    )
    exchange_chunks: int = Field(
        default=1,
        ge=1,
        le=64,
        description="With ep_size above 1: compute a rank's experts in this many parts, each while the rows of the "
        "others travel. More than 1 pays off on a slow network.",
    )
    expert_init: Literal["xavier", "linear", "switch", "zero"] = Field(
        default="zero",
        description="How experts start. xavier: U(-a, a) with a = sqrt(6 / (in + out)); linear: weights and biases "
        "U(-1/sqrt(in), 1/sqrt(in)), as in PyTorch's Linear and the paper's code; switch: normal with variance 0.1 / "
        "in; zero: first matrices as linear, the last one and all biases 0, so that the block adds nothing at first. "
        "Of stacked strata only the last one's experts start so; the others, and what experts share, as linear.",
    )
    gate_init: Literal["xavier", "linear", "switch", "orthogonal"] = Field(
        default="linear",
        description="How gates start; names as for expert_init. orthogonal: rows of length 0.1 at right angles to each "
        "other, as far as there are dimensions (BASE layers).",
    )
    experts: AnyExperts = Field(
        default=Ffn(), discriminator="kind", description="What an expert is: a section with its kind and settings."
    )
    router: AnyRouter = Field(
        default=TopK(),
        discriminator="kind",
        description="How tokens find their experts: a section with its kind and settings.",
    )

    def rules(self) -> Iterator[tuple[str, str]]:
        if any(n < 1 for n in self.strata):
            yield "strata", f"{self.strata} has a stratum without experts; give every stratum at least one"
            return
        if sum(self.strata) > MOST_EXPERTS:
            yield "strata", f"{sum(self.strata):,} experts are more than the {MOST_EXPERTS:,} that a block can have"
            return
        router: RouterSection = self.router
        needed = router.fewest_experts(self)
        fewest = min(self.strata if self.stacked else self.strata[-1:], default=needed)
        if needed > fewest:
            yield (
                "top_k",
                f"{needed} is above the {fewest} experts that a gate of strata {self.strata} sees; "
                f"set top_k to {fewest} or less, or give that stratum more experts",
            )
        for key in sorted((ROUTING_KEYS - router.heeds) & self.model_fields_set):
            if getattr(self, key) not in (None, type(self).model_fields[key].default):
                off = " or set it to null" if key == "capacity_factor" else ""
                yield key, f"the router {router.kind} does not use it; leave it out{off}"
        yield from self._width_problems()
        local = self.gating_dropout > 0 and self.gating_dropout_mode == "local"
        if local and not router.can_stay_local:
            yield "gating_dropout_mode", f"the router {router.kind} cannot choose by rank; set it to skip"
        if self.gate_width is not None and self.gate_scores == "linear":
            yield "gate_width", "only cosine scores use it; leave it out, or set gate_scores to cosine"
        if self.strata:
            yield from router.problems(self)
        experts: ExpertsSection = self.experts
        if experts.loop_only and self.expert_backend not in ("auto", "loop"):
            yield "expert_backend", f"{experts.loop_only}, so {self.expert_backend} does not work; set it to auto"

    def _width_problems(self) -> Iterator[tuple[str, str]]:
        ratios, experts = len(self.expert_widths), sum(self.strata)
        if ratios not in (0, experts):
            yield (
                "expert_widths",
                f"has {ratios} ratios, but strata {self.strata} {experts} experts; give one for each, or []",
            )
        kind: ExpertsSection = self.experts
        if self.uneven and kind.one_width:
            yield "expert_widths", f"{kind.one_width}, so they have one width; leave it out"
        if self.uneven and self.expert_backend == "grouped":
            yield "expert_backend", "grouped needs experts of one width, unlike expert_widths; set it to auto"

    def inner_width(self, d_ffn: int) -> int:
        """Inner width of an expert, the mean where they differ; ``d_ffn`` is that of the dense networks."""
        return self.expert_ffn or d_ffn

    @property
    def uneven(self) -> bool:
        """Whether experts differ in width."""
        return len(set(self.expert_widths)) > 1

    def widths(self, d_ffn: int) -> tuple[int, ...]:
        """The width of each expert by its number.

        Raises:
            ValueError: ``expert_widths`` does not fit ``d_ffn``; says why.
        """
        mean = self.inner_width(d_ffn)
        if not self.uneven:
            return (mean,) * sum(self.strata)
        try:
            return widths_of(self.expert_widths, mean)
        except ValueError as error:
            raise ValueError(f"expert_widths: {error}") from None

    def ranks_are_alike(self, ep_size: int) -> bool:
        """Whether each rank has experts of the same widths in the same order."""
        ratios = self.expert_widths
        return all(len(set(ratios[i : i + ep_size])) == 1 for i in range(0, len(ratios), ep_size))

    @property
    def is_dense(self) -> bool:
        """Whether there are no experts at all."""
        return not self.strata

    def cosine_width(self, visible: int) -> int | None:
        """Dimensions of the space of cosine scores for a gate that sees so many experts; None for linear scores."""
        if self.gate_scores == "linear":
            return None
        return self.gate_width or max(visible // 2, 2)

    def gate_rows(self, visible: int) -> int:
        """Rows of the weight [rows, D] of a gate that sees so many experts; 0 where the router has none."""
        rows: int = self.cosine_width(visible) or self.router.gate_rows(visible)
        return rows

    def gate_parameters(self, d_model: int, visible: int) -> int:
        """Parameters of the gate and the router of one stratum."""
        own: int = self.router.own_parameters(d_model, visible)
        width = self.cosine_width(visible)
        return self.gate_rows(visible) * d_model + own + (0 if width is None else width * visible + 1)

    @property
    def learns_routing(self) -> bool:
        """Whether the block has a gate, or a router that learns."""
        return self.shared_expert in ("cmr", "residual") or bool(self.strata and self.gate_parameters(1, 1))

    def gate_flops(self, d_model: int, visible: int) -> float:
        """FLOPs of one token's routing, matrix products alone."""
        width = self.cosine_width(visible)
        if width is None:
            linear: float = self.router.gate_flops(d_model, visible)
            return linear
        return 2.0 * width * (d_model + visible)

    def pruning_problem(self) -> str | None:
        """Why experts cannot be left out of the trained block; None if they can."""
        if not self.router.prunable:
            return f"experts of the router {self.router.kind} cannot be removed"
        if self.uneven:
            return "experts of different width cannot be removed"
        return "experts of a gate with cosine scores cannot be removed" if self.gate_scores == "cosine" else None
