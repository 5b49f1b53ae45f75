"""The processes that share the work: of one host, of an MPI world, or coming and going (``--share``)."""
