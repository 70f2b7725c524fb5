"""Programs of the zoo: `python -m trainers.train` or `zoo-train`, and so on for each module."""

import os
import sys

# Without this, TensorFlow logs a page about the hardware when it is loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

try:
    import zoo as zoo
except ImportError as error:
    # The package checks the settings before the other modules can be imported.
    if type(error).__name__ != "SettingError":
        raise
    sys.exit(f"Error: {error}")
