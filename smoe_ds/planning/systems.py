"""Every system that the code knows, at the sizes of one run: parameters, FLOPs, rows, and what to write for it.

To add a system, write its line in ``SYSTEMS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from smoe_ds.config.block import BlockSettings
from smoe_ds.config.load import RunFile
from smoe_ds.config.moe import MoeConfig
from smoe_ds.config.problems import dotted, rephrase
from smoe_ds.config.routing import ROUTING_KEYS
from smoe_ds.config.run import RunConfig
from smoe_ds.config.smoe import SmoeConfig
from smoe_ds.errors import ConfigError
from smoe_ds.planning.plan import make_plan


@dataclass(frozen=True)
class System:
    """A system and how a run is set to it.

    Attributes:
        name: as its paper calls it.
        paper: arXiv number, or where it was published.
        moe: keys of ``smoe.moe`` beside the strata.
        model: keys of ``smoe.model``.
        strata: ``one``: all experts in one stratum; ``own``: the run's strata; ``none``: no experts.
        sized: more keys of ``smoe.moe`` and ``smoe.model``, by section, that follow from the run's sizes.
    """

    name: str
    paper: str
    moe: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    strata: Literal["one", "own", "none"] = "one"
    sized: Callable[[SmoeConfig], Mapping[str, Mapping[str, Any]]] = lambda smoe: {}


def _widths(smoe: SmoeConfig) -> dict[str, dict[str, Any]]:
    """HMoE's experts: widths in arithmetic progression, the last about 2.5 times the first."""
    number = sum(smoe.moe.strata)
    return {"moe": {"expert_widths": [number + 1 + 2 * place for place in range(number)]}}


def _pyramid(smoe: SmoeConfig) -> dict[str, dict[str, Any]]:
    """PR-MoE's pyramid: twice the experts in the last block of each stack."""
    every, experts = smoe.moe.every, 2 * sum(smoe.moe.strata)
    stacks = (("encoder", smoe.model.encoder_layers), ("decoder", smoe.model.decoder_layers))
    last = [f"{stack}.{layers // every * every}" for stack, layers in stacks if layers >= every]
    return {"moe": {"layers": {name: {"strata": [experts]} for name in last}}}


def _languages(smoe: SmoeConfig) -> dict[str, dict[str, Any]]:
    capacity = smoe.model.language_capacity
    if not capacity.languages:
        raise ConfigError(
            "smoe.model.language_capacity: the run does not say how many languages have a matrix; set languages to as "
            "many as the vocabulary has language tokens"
        )
    return {"model": {"language_capacity": capacity}}


SYSTEMS = (
    System("Dense", "1706.03762", strata="none"),
    System("Vanilla MoE", "2006.16668"),
    System("Switch Transformer", "2101.03961", {"top_k": 1}),
    System("MoE+EOM", "2212.07571", {"expert_output_masking": 0.1}),
    System("CMR", "2207.04672", {"shared_expert": "cmr"}),
    System("Stacking", "2305.02176", {"stacked": True}, strata="own"),
    System("SMoE", "2305.02176", strata="own"),
    System("Shared expert, added", "2201.05596", {"shared_expert": "add", "top_k": 1}),
    System("Router z-loss", "2202.08906", {"router_z_weight": 0.001}),
    System("Gating dropout", "2205.14336", {"gating_dropout": 0.2}),
    System("Loss-free balancing", "2408.15664", {"bias_balancing": 0.001, "load_balancing_weight": 0.0}),
    System("Hash layers", "2106.04426", {"router": {"kind": "hash"}}),
    System("THOR", "2110.04260", {"router": {"kind": "random"}}),
    System("BASE", "2103.16716", {"router": {"kind": "base"}}),
    System("S-BASE", "2202.01169", {"router": {"kind": "sinkhorn"}, "top_k": 1}),
    System(
        "Expert choice, encoder",
        "2202.09368",
        {"layers": {"encoder.*": {"router": {"kind": "expert_choice"}, "capacity_factor": None}}},
    ),
    System("Task-level", "2110.03742", {"router": {"kind": "task"}}),
    System(
        "Sentence-level, encoder",
        "2110.03742",
        {"layers": {"encoder.*": {"router": {"kind": "task", "by": "sentence"}, "capacity_factor": None}}},
    ),
    System("DynMoE", "2405.14297", {"router": {"kind": "dynamic"}}),
    System("XMoE", "2403.18926", {"router": {"kind": "top_p"}}),
    System("X-MoE", "2204.09179", {"gate_scores": "cosine"}),
    System("MoE+FOM", "2212.07571", {"final_output_masking": 0.1}),
    System("PR-MoE, residual", "2201.05596", {"shared_expert": "residual", "top_k": 1}),
    System("PR-MoE", "2201.05596", {"shared_expert": "residual", "top_k": 1}, sized=_pyramid),
    System("HMoE", "2408.10681", {"balance_loss": "p_penalty", "load_balancing_weight": 0.1}, sized=_widths),
    System("CLSR", "ICLR 2021", sized=_languages),
    System("MH-MoE", "2404.15045", {"heads": 4}),
    System("PESC", "2401.02731", {"experts": {"kind": "adapters"}}),
    System("MPOE", "2203.01104", {"experts": {"kind": "mpo"}}),
)
"""In the order of the table: those of the paper's tables, then the others."""

_SHAPES = ("gate_width", "expert_ffn", "expert_widths", "balance_loss")
_RESET = {*_SHAPES, "num_experts", "stacked", "top_k", "router", *(key for system in SYSTEMS for key in system.moe)}
"""Keys of ``smoe.moe`` by which systems differ: where a line does not name them, they have their default."""

_RESET_MODEL = {"language_capacity"}
"""The same of ``smoe.model``."""

_RESET_TRAIN = {"freeze", "expert_lr_factor", "gate_lr_factor"}
"""Keys of ``smoe.train`` about parameters that only the run's own system may have."""


@dataclass(frozen=True)
class SystemRow:
    """A system at a run's sizes.

    Attributes:
        system: its name.
        paper: arXiv number.
        settings: what the run has to change for it, by dotted key; nothing if it cannot have it.
        parameters: of the whole model.
        flops_per_token: of one forward pass in training, uniform routing, as a plan counts them.
        rows_per_token: feed-forward networks that a token visits in a block, the shared one included.
        training_passes: forward passes of a micro-batch in training.
        problem: why the run cannot have it; the numbers are None then.
    """

    system: str
    paper: str
    settings: dict[str, Any]
    parameters: int | None = None
    flops_per_token: int | None = None
    rows_per_token: float | None = None
    training_passes: int | None = None
    problem: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def system_rows(run: RunConfig, vocab_size: int) -> list[SystemRow]:
    """Every system with as many experts as the run's strata have together.

    Args:
        run: checked configuration; what is no system's own, such as capacity or ``ep_size``, stays as it is.
        vocab_size: V.

    Raises:
        ConfigError: layers of the run differ.
    """
    if run.smoe.moe.layers:
        raise ConfigError(
            f"{run.source}: smoe.moe.layers makes blocks differ; systems are compared with equal blocks: leave it out"
        )
    return [_row(system, run, vocab_size) for system in SYSTEMS]


def run_of(system: System, run: RunConfig) -> RunConfig:
    """The run with a system in the place of its own.

    Raises:
        ConfigError: the run's sizes do not allow it; says why.
    """
    strata, sized = _strata(system, run.smoe.moe), system.sized(run.smoe)
    moe = {**_kept(system, run.smoe.moe), **system.moe, **sized.get("moe", {}), "strata": strata}
    sections = {name: getattr(run.smoe, name) for name in SmoeConfig.model_fields}
    model = {**run.smoe.model.model_dump(exclude=_RESET_MODEL), **system.model, **sized.get("model", {})}
    train = run.smoe.train.model_dump(exclude=_RESET_TRAIN)
    try:
        smoe = SmoeConfig.model_validate({**sections, "moe": moe, "model": model, "train": train})
    except ValidationError as error:
        problems = rephrase(error, RunFile, ("smoe",), {})
        raise ConfigError("; ".join(f"{dotted(one.path)}: {one.message}" for one in problems)) from None
    return replace(run, smoe=smoe)


def _strata(system: System, moe: MoeConfig) -> list[int]:
    if system.strata == "none":
        return []
    if not moe.strata:
        raise ConfigError("smoe.moe.strata: the run has no experts; give it as many as the systems are to have")
    if system.strata == "own" and len(moe.strata) == 1:
        raise ConfigError(f"smoe.moe.strata: {moe.strata} is one stratum; split it in two or more")
    return list(moe.strata) if system.strata == "own" else [sum(moe.strata)]


def _kept(system: System, moe: MoeConfig) -> dict[str, Any]:
    """Keys of the run that are no system's own, and that the system's router knows."""
    router = BlockSettings.model_validate({"router": system.moe.get("router", {"kind": "top_k"})}).router
    left_out = _RESET | (ROUTING_KEYS - router.heeds)
    return {key: getattr(moe, key) for key in moe.model_fields_set if key not in left_out}


def _row(system: System, run: RunConfig, vocab_size: int) -> SystemRow:
    try:
        changed = run_of(system, run)
        plan = make_plan(changed, vocab_size=vocab_size)
    except ConfigError as error:
        return SystemRow(system.name, system.paper, {}, problem=str(error))
    return SystemRow(
        system=system.name,
        paper=system.paper,
        settings=_changes(run.smoe, changed.smoe),
        parameters=plan.parameters["total"],
        flops_per_token=plan.flops_per_token,
        rows_per_token=plan.ffns_per_token,
        training_passes=plan.training_passes,
    )


def _changes(old: SmoeConfig, new: SmoeConfig) -> dict[str, Any]:
    """Keys whose values differ, with the new ones; sections of a kind without their defaults."""
    return {
        **_differences("smoe.moe", old.moe, new.moe),
        **_differences("smoe.model", old.model, new.model),
    }


def _differences(name: str, old: BaseModel, new: BaseModel) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for key in type(new).model_fields:
        before, after = getattr(old, key), getattr(new, key)
        if after == before:
            continue
        if not isinstance(after, BaseModel):
            changes[f"{name}.{key}"] = after
        elif hasattr(after, "kind"):  # such a section is replaced as a whole
            changes[f"{name}.{key}"] = {"kind": after.kind, **after.model_dump(mode="json", exclude_defaults=True)}
        else:
            changes |= _differences(f"{name}.{key}", before, after)
    return changes
