"""What every test shares: one thread, so that numbers and timings do not depend on the machine."""

import os

# Read by torch when it is first imported, here and in every process that a test starts.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
