"""Which sentence pairs are dropped, which are noticed, and the cleaned text on its way."""
