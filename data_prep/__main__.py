"""``python -m data_prep SPEC.yaml``."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's BLAS is not used; see `workers` about threads

    from data_prep.cli import main

    sys.exit(main())
