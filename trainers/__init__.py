"""Programs of the zoo: `python -m trainers.train` or `zoo-train`, and so on for each module."""

import os

# Without this, TensorFlow logs a page about the hardware when it is loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
