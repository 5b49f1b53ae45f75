"""How a run that dies is ended and told: signs of life, the watcher beside each rank, ``crash.json``."""
