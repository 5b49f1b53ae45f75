"""The encoder-decoder transformer.

Shape letters of this package: ``B`` sentences, ``S`` source positions, ``T`` target positions, ``D`` model width,
``F`` feed-forward width, ``H`` heads, ``V`` vocabulary.
"""
