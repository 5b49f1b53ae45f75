"""Results as text and tables; the results themselves are made elsewhere."""
