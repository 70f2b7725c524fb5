"""Training runs: a configuration becomes a folder with a trained model, its scores and pictures.

`train` fills the folder, `Run` names what is in it, and `open_model` loads the model again.
"""

from zoo.training import callbacks, strategies
from zoo.training.checks import check, check_data, check_model, check_unchanged
from zoo.training.gallery import draw, draw_curves
from zoo.training.run import Run, load_data, load_model, open_model, read_config
from zoo.training.strategies import WorkerLostError
from zoo.training.train import evaluate, train

__all__ = [
    "Run",
    "WorkerLostError",
    "callbacks",
    "check",
    "check_data",
    "check_model",
    "check_unchanged",
    "draw",
    "draw_curves",
    "evaluate",
    "load_data",
    "load_model",
    "open_model",
    "read_config",
    "strategies",
    "train",
]
