"""Trains a preset: `python -m trainers.train --preset=vae_mnist --set latent_dim=10`."""

import os

from absl import flags

from trainers import cli
from zoo import presets, training

FLAGS = flags.FLAGS

flags.adopt_module_key_flags(cli)
flags.DEFINE_string("preset", "vae_digits", "The preset to train; --list_presets shows all.")
flags.DEFINE_string("config", None, "The config.json of a run to repeat, instead of --preset.")
flags.DEFINE_bool("list_presets", False, "List the presets and exit.")
flags.DEFINE_string("dataset", None, "Name of the data set; `folder` for your own images.")
flags.DEFINE_string(
    "data_dir", None, "Folder of your images, or of the sets that TFDS prepared (TFDS_DATA_DIR)."
)
flags.DEFINE_string("output", None, "The run's folder. Default: runs/PRESET.")
flags.DEFINE_integer("epochs", None, "Number of passes over the training set.")
flags.DEFINE_integer("batch_size", None, "Images per step, over all replicas.")
flags.DEFINE_integer("seed", None, "Seed of weights, order and noise.")
flags.DEFINE_multi_string("set", [], "key=value: a hyperparameter of the preset. Repeatable.")
flags.DEFINE_enum(
    "strategy", None, ["default", "mirrored", "multi_worker", "tpu"], "The tf.distribute strategy."
)
flags.DEFINE_bool("mixed_precision", None, "Compute in bfloat16, keep weights in float32.")
flags.DEFINE_bool("jit_compile", None, "Compile the step with XLA.")
flags.DEFINE_bool("resume", False, "Continue the run in the folder from its last checkpoint.")
flags.DEFINE_bool("overwrite", False, "Replace the run in the folder.")
flags.DEFINE_bool("deterministic", None, "Make results bitwise reproducible; slower.")
flags.DEFINE_bool("progress", True, "Show a progress bar.")

# Flag -> path in the configuration.
_PATHS = {
    "dataset": "data.name",
    "data_dir": "data.data_dir",
    "epochs": "epochs",
    "batch_size": "batch_size",
    "seed": "seed",
    "strategy": "strategy",
    "mixed_precision": "mixed_precision",
    "jit_compile": "jit_compile",
    "deterministic": "deterministic",
}


def main() -> None:
    """Runs the program with the arguments of the command line."""
    cli.start(_train)


def _train():
    if FLAGS.list_presets:
        _list_presets()
        return
    if FLAGS.resume and FLAGS.overwrite:
        raise ValueError("--resume continues a run, --overwrite replaces it: choose one.")
    if FLAGS.config and FLAGS["preset"].present:
        raise ValueError("--config names its own preset: pass --config or --preset, not both.")
    config = training.read_config(FLAGS.config) if FLAGS.config else presets.get(FLAGS.preset)
    run = training.Run(FLAGS.output or f"runs/{config.preset}")
    if FLAGS.resume:
        config = _begun(run, config)
    if FLAGS.data_dir:  # Absolute, so that the run finds it from any other folder.
        FLAGS.data_dir = os.path.abspath(os.path.expanduser(FLAGS.data_dir))
    changes = [
        f"{path}={FLAGS[flag].value}" for flag, path in _PATHS.items() if FLAGS[flag].present
    ]
    presets.override(config, changes + FLAGS.set)
    training.train(config, run, FLAGS.resume, FLAGS.overwrite, FLAGS.progress)


def _begun(run, config):
    begun = run.read_config()
    if (FLAGS["preset"].present or FLAGS.config) and begun.preset != config.preset:
        raise ValueError(
            f"The run in '{run.path}' is of preset '{begun.preset}', not '{config.preset}'."
        )
    return begun


def _list_presets():
    width = max(map(len, presets.names()))
    for name in presets.names():
        config = presets.get(name)
        about = f"{config.about} {config.epochs} epochs of {config.data.name}."
        print(f"{name:{width}}  {about}")


if __name__ == "__main__":
    main()
