"""Statistics of two passes added up."""

from __future__ import annotations

import torch

from smoe_ds.moe.stats import BlockStats, StratumStats


def stratum() -> StratumStats:
    one = torch.ones(())
    return StratumStats(
        num_tokens=3,
        prob_sum_E=torch.ones(2),
        requested_KE=torch.ones(1, 2, dtype=torch.long),
        num_dropped=1,
        entropy_sum=one,
        z_sum=one,
        balanced=False,
        uses_load_balancing=False,
        sums={"x": one},
        records=torch.ones(2),
        widths_E=torch.tensor([8, 16]),
    )


def test_what_is_no_sum_stays() -> None:
    block = BlockStats([stratum()], torch.ones(3, dtype=torch.long), torch.ones(()), heads=2)
    both = block + block
    (added,) = both.strata
    assert (both.heads, added.balanced, added.uses_load_balancing) == (2, False, False)
    assert added.widths_E is not None and added.widths_E.tolist() == [8, 16]
    assert added.records is not None and added.records.tolist() == [2, 2]
    assert (added.num_tokens, added.num_dropped, added.sums["x"].item()) == (6, 2, 2.0)
    assert both.cmr_gate_sum is not None and both.cmr_gate_sum.item() == 2.0
