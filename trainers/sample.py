"""Draws images: `python -m trainers.sample --run=runs/vae_mnist --n=100 --output=drawn.png`."""

import numpy as np
import tensorflow_probability as tfp
from absl import flags

from trainers import cli
from zoo import pictures
from zoo.model import as_seed

FLAGS = flags.FLAGS

cli.define_flags_of_users(
    "A .png for a grid, a .npy for the array [n, H, W, C] in [0, 1], or a folder (any other name) for "
    "one file per image. Default: drawn.png in the run's folder."
)
cli.define_condition_flags()
flags.adopt_module_key_flags(cli)
flags.DEFINE_integer("n", 100, "Number of images.", lower_bound=1)
flags.DEFINE_integer("seed", None, "Seed of the latents. Default: new images each time.")


def main() -> None:
    """Runs the program with the arguments of the command line."""
    cli.start(_sample)


def _sample():
    path = cli.output_path("drawn.png")
    model, run = cli.open_run()
    y = cli.conditions_for(model, run, FLAGS.n)
    with cli.weights(model):
        # In parts, so that many images fit into memory; each part has its own seed.
        seeds = tfp.random.split_seed(as_seed(FLAGS.seed), -(-FLAGS.n // 500))
        starts = [500 * i for i in range(len(seeds))]
        parts = [
            model.sample(min(500, FLAGS.n - i), None if y is None else y[i : i + 500], seed=s)
            for i, s in zip(starts, seeds, strict=True)
        ]
    images = np.concatenate(parts)
    pictures.write_images(images, path)
    print(f"{FLAGS.n} images: {path}")


if __name__ == "__main__":
    main()
