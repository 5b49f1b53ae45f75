"""Prepared corpora: tokenizer, shards, and the stream of batches made of them.

Shape letters of this package: ``N`` sentence pairs (of a window, a batch or a shard), ``D`` directions, ``M``
micro-batches, ``G`` permutations; in a batch ``B`` sentence pairs, ``S`` source positions, ``T`` target positions.
"""
