"""The specification of a corpus: its keys, how it is loaded, and the corpora that are known by name."""
