"""Which sentence pairs become training, validation and test text.

Shape letter of this package: ``N`` sentence pairs.
"""
