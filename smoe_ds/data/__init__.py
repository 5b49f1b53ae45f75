"""Prepared corpora: tokenizer, shards, and the stream of batches made of them."""
