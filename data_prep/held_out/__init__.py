"""Which sentence pairs become training, validation and test text."""
