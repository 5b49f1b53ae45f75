"""How a run grows with its devices: measured constants, and the step time predicted from them."""
