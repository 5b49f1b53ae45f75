"""What a run costs before it starts: parameters, FLOPs, exchange, placement, memory."""
