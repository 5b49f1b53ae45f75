"""Who runs where: the launch environment, the process group, agreement between ranks, how fast they exchange data."""
