"""Systems compared: studies, which train them with several seeds alike, and runs that were evaluated before."""
