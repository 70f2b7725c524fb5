"""Training runs. A run trains the model of a configuration and writes a folder of results.

`train` writes the folder, `Run` holds the paths of its files, and `open_model` loads the trained
model.
"""

from zoo.training import callbacks, strategies
from zoo.training.checks import check_config, check_data, check_model, check_unchanged
from zoo.training.gallery import draw_curves, draw_pictures
from zoo.training.run import Run, load_data, load_model, open_model, read_config
from zoo.training.strategies import WorkerLostError
from zoo.training.train import evaluate, train

__all__ = [
    "Run",
    "WorkerLostError",
    "callbacks",
    "check_config",
    "check_data",
    "check_model",
    "check_unchanged",
    "draw_curves",
    "draw_pictures",
    "evaluate",
    "load_data",
    "load_model",
    "open_model",
    "read_config",
    "strategies",
    "train",
]
