"""Draws images: `python -m trainers.sample --run=runs/vae_mnist --n=100 --output=drawn.png`.

With --queries, samples are drawn beside test images with the same conditions:
`python -m trainers.sample --run=runs/vaegan_attributes_toon_heads --queries=8`.
"""

from typing import Any

import numpy as np
import tensorflow_probability as tfp
from absl import flags

from trainers import cli
from zoo import conditions, pictures, training
from zoo.config import with_article
from zoo.model import GenerativeModel, as_seed

FLAGS = flags.FLAGS

cli.define_flags_of_users(
    "A .png for a grid, a .gif for an animated grid of videos, a .npy for the array [n, H, W, C] in [0, 1], "
    "or a folder (any other name) for one file per image. Default: drawn.png in the run's folder."
)
cli.define_condition_flags()
flags.adopt_module_key_flags(cli)
flags.DEFINE_integer(
    "n",
    None,
    "Number of images; 100 by default. With --queries, the number in a row; 8 by default.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "queries",
    None,
    "Draw a row for each of this number of test images: the image, and samples with its condition.",
    lower_bound=1,
)
flags.DEFINE_list("beside", [], "With --queries, runs of other models to sample in the same rows.")
flags.DEFINE_integer("seed", None, "Seed of the latents. Default: new images each time.")


def main() -> None:
    """Runs the program with the arguments of the command line."""
    cli.start(_sample)


def _sample():
    if FLAGS.queries is not None:
        _draw_queries(FLAGS.queries, FLAGS.n or 8)
        return
    if FLAGS.beside:
        raise ValueError("--beside needs --queries. Received: no --queries.")
    path, n = cli.output_path("drawn.png"), FLAGS.n or 100
    model, run = cli.open_run()
    pictures.check_path(path, model.image_shape)
    pictures.write_images(_samples(model, n, cli.conditions_for(model, run, n)), path)
    print(f"{n} images: {path}")


def _samples(model: GenerativeModel, n: int, y: Any) -> np.ndarray:
    """`n` samples of a model, with its conditions if it takes one."""
    with cli.weights(model):
        # In parts, so that many images fit into memory; each part has its own seed.
        seeds = tfp.random.split_seed(as_seed(FLAGS.seed), -(-n // 500))
        starts = [500 * i for i in range(len(seeds))]
        parts = [
            model.sample(min(500, n - i), None if y is None else y[i : i + 500], seed=s)
            for i, s in zip(starts, seeds, strict=True)
        ]
    return np.concatenate(parts)


def _draw_queries(rows: int, columns: int) -> None:
    if FLAGS.y is not None:
        raise ValueError("--queries takes the conditions of test images. Received: --y.")
    path = cli.png_path("queries.png")
    model, run = cli.open_run()
    if run is None:
        raise ValueError(
            "--queries draws test images, and a .keras file does not name its data set: pass the "
            f"folder of a run. Received: --run={FLAGS.run}."
        )
    data = training.load_data(run.read_config(), data_dir=FLAGS.data_dir)
    every = conditions.of_data(model, data)
    if every is None:
        raise ValueError(
            f"--queries is for models with a condition. Received: {with_article(type(model).__name__)} "
            "without one."
        )
    x, _ = data.arrays("test", rows)
    y = every[: len(x)].repeat(columns, 0)
    models = [model, *(training.open_model(other, FLAGS.checkpoint)[0] for other in FLAGS.beside)]
    drawn = [_samples(one, len(y), y) for one in models]
    shape = (len(x), columns)
    pictures.queries(x, [d.reshape(*shape, *d.shape[1:]) for d in drawn], path)
    print(f"{len(x)} queries: {path}")


if __name__ == "__main__":
    main()
