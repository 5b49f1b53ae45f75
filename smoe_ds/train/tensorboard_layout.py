"""What TensorBoard's custom scalars show: is it learning, is it balanced, is it fast."""

from __future__ import annotations

from smoe_ds.run.requested_capacity import REQUESTED_CAPACITY

LEARNING, BALANCE, SPEED = "1 learning", "2 balance", "3 speed"
"""Groups of tags that stand before all others, in TensorBoard's alphabetical order."""

LAYOUT: dict[str, dict[str, list[str]]] = {
    "Is it learning?": {
        "NLL (nat a token): training, validation": ["train/nll$", "valid/nll$"],
        "validation NLL by direction": ["valid/nll/"],
        "training NLL by direction": ["train_nll/"],
        "validation BLEU by direction": ["valid_bleu/"],
        "gradient norm": ["train/gradient_norm$"],
        "learning rate": ["train/learning_rate$"],
        "skipped steps": ["train/skipped_steps$", "train/skipped_spikes$"],
    },
    "Is it balanced?": {
        "busiest expert over the mean": ["moe_load/"],
        "share of rows dropped": ["moe_dropped/"],
        "dead experts": ["moe_dead/"],
        "requested capacity by block": [REQUESTED_CAPACITY],
        "requested capacity in the encoder, by direction": ["valid_rc_encoder/"],
        "requested capacity in the decoder, by direction": ["valid_rc_decoder/"],
        "gate entropy (nat)": ["moe_gate_entropy/"],
    },
    "Is it fast?": {
        "tokens per second": ["train/tokens_per_second$"],
        "time of a step by phase (s)": ["time/"],
        "memory (GiB)": ["memory/"],
    },
}
"""Categories, charts, and the beginnings of the tags in each chart (regular expressions)."""


def custom_scalars() -> dict[str, dict[str, list[object]]]:
    """The layout as ``SummaryWriter.add_custom_scalars`` takes it."""
    return {
        category: {chart: ["Multiline", list(tags)] for chart, tags in charts.items()}
        for category, charts in LAYOUT.items()
    }
