"""How a run grows with its devices: measured constants, and the step time predicted from them.

What has to be done comes from :mod:`smoe_ds.planning.work`; this package knows how long devices and links take for it.

Shape letters as in :mod:`smoe_ds.planning`. Times are seconds, sizes bytes, FLOP/s a device's floating-point operations
per second.
"""
