"""What trained experts do: how text is routed to them, how often each is used, and which can be left out.

Shape letters of this package: ``E`` experts (of a stratum: those its gate sees), ``K`` choices per token, ``B``
sentences, ``S`` positions, ``V`` vocabulary ids, ``U`` those of them that occur, ``G`` groups of tokens, ``N``
languages; of arrays over blocks, ``B`` blocks.
"""
