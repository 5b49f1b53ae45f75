"""A local service over a translator: a page and a JSON API in front, processes with the model behind.

The process in front (``server.py``) speaks HTTP (``app.py``, ``guard.py``) and computes nothing. It cuts texts into
sentences (``sentences.py``), and ``pool.py`` hands these in batches (``queue.py``) to worker processes
(``worker.py``), which hold the model. These translate them, or follow their tokens through the strata (``tokens.py``).
See SERVE.md.
"""
