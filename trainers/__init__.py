"""Programs of the zoo: `python -m trainers.train`, `.sample`, `.interpolate`, `.evaluate`, `.export`."""

import os

# TensorFlow greets with a page of remarks on the hardware, unless told not to before it is loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
