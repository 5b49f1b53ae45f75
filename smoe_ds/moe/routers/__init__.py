"""The routers of a mixture, one module each; their settings are in :mod:`smoe_ds.config.routers`."""
