"""What a run costs before it starts: parameters, FLOPs, exchange, placement, memory.

Modules tell their own costs (:mod:`smoe_ds.model.accounting`, :mod:`smoe_ds.moe.accounting`); this package adds
them up.

Shape letters: ``T`` tokens, ``D`` model width, ``F`` feed-forward width, ``V`` vocabulary, ``E`` experts, ``L`` strata,
``K`` choices per token, ``R`` rows. A multiplication and the addition to it are two FLOPs.
"""
