"""What a run costs before it starts: parameters, FLOPs, exchange, placement, memory.

Modules tell their own costs (:mod:`smoe_ds.model.transformer_cost`, :mod:`smoe_ds.moe.block_cost`); this package adds
them up.

Shape letters: ``T`` tokens, ``D`` model width, ``F`` feed-forward width, ``V`` vocabulary, ``E`` experts, ``L`` strata,
``K`` choices per token, ``R`` rows. A multiplication and the addition to it are two FLOPs.
"""
