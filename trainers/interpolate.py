"""Walks from one latent to another: `python -m trainers.interpolate --run=runs/vae_mnist`."""

import tensorflow as tf
from absl import flags

from trainers import cli
from zoo import conditions, datasets, pictures, training

FLAGS = flags.FLAGS

cli.define_flags_of_users("A .png. Default: walks.png in the run's folder.")
cli.define_condition_flags()
flags.adopt_module_key_flags(cli)
flags.DEFINE_integer("n", 10, "Points on each way, both ends included.", lower_bound=2)
flags.DEFINE_integer("pairs", 5, "Number of ways.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Which latents of the prior, or which test images.")
flags.DEFINE_enum(
    "between", "latents", ["latents", "images"], "Draws of the prior, or test images."
)
flags.DEFINE_list("images", None, "Two image files to go between.")


def main() -> None:
    path = cli.output_path("walks.png")
    if FLAGS.images and len(FLAGS.images) != 2:
        raise ValueError(f"--images takes two files, A,B. Received: {len(FLAGS.images)}.")
    model, run = cli.open_run()
    y = None
    if FLAGS.images:
        pairs = [[datasets.read_image(name, model.image_shape) for name in FLAGS.images]]
    elif FLAGS.between == "images":
        if run is None:
            raise ValueError(
                "A .keras file does not say which data set it was trained on: give --images=A,B."
            )
        config = run.read_config()
        if FLAGS.data_dir:
            config.data.data_dir = FLAGS.data_dir
        data = training.load_data(config)
        x, labels = data.arrays("test")
        rows = [(FLAGS.seed + 2 * i) % len(x) for i in range(FLAGS.pairs)]
        pairs = [(x[row], x[(row + 1) % len(x)]) for row in rows]
        conditions.check(model, data)
        if model.condition is not None and FLAGS.y is None:
            y = labels[rows]  # Those of the first ends, all along the way.
    else:
        if "sample" not in model.abilities():
            raise NotImplementedError(
                f"A {type(model).__name__} has no prior to draw latents from. Go between images: "
                "--between=images, or --images=A,B."
            )
        y = cli.conditions_for(model, run, FLAGS.pairs)
        both = None if y is None else y.repeat(2, 0)
        latents = training.fixed_latents(model, 2 * FLAGS.pairs, FLAGS.seed, both)
        pairs = [tuple(pair) for pair in tf.reshape(latents, [FLAGS.pairs, 2, -1])]
    if y is None:
        y = cli.conditions_for(model, run, len(pairs))
    with cli.weights(model):
        pictures.interpolations(pairs, model, path, n=FLAGS.n, y=y)
    print(f"{len(pairs)} ways of {FLAGS.n} points: {path}")


if __name__ == "__main__":
    cli.start(main)
