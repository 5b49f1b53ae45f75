"""How a run that dies is ended and reported: signs of life, the watcher beside each rank, ``crash.json``."""
