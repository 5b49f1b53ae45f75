"""What trained experts do: how often each is used, and which can be left out.

Shape letters of this package: ``E`` experts (of a stratum: those its gate sees), ``K`` choices per token.
"""
