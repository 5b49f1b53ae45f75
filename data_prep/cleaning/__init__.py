"""Which sentence pairs are dropped, which are noticed, and the cleaned text on its way.

Shape letters of this package: ``N`` sentence pairs, ``M`` some of them, ``K`` hashes that are looked for.
"""
