"""Draws paths from one latent to another: `python -m trainers.interpolate --run=runs/vae_mnist`."""

import tensorflow as tf
from absl import flags

from trainers import cli
from zoo import conditions, datasets, pictures, training
from zoo.config import with_article

FLAGS = flags.FLAGS

cli.define_flags_of_users("A .png. Default: walks.png in the run's folder.")
cli.define_condition_flags()
flags.adopt_module_key_flags(cli)
flags.DEFINE_integer("n", 10, "Points on each path, including both ends.", lower_bound=2)
flags.DEFINE_integer("pairs", 5, "Number of paths.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of the latents, or index of the first test image.")
flags.DEFINE_enum(
    "between", "latents", ["latents", "images"], "Draws of the prior, or test images."
)
flags.DEFINE_list("images", None, "Two image files, the ends of one path.")


def main() -> None:
    """Runs the program with the arguments of the command line."""
    cli.start(_interpolate)


def _interpolate():
    path = cli.output_path("walks.png")
    if FLAGS.images and len(FLAGS.images) != 2:
        raise ValueError(f"--images takes two files, A,B. Received: {len(FLAGS.images)}.")
    model, run = cli.open_run()
    y = None
    if FLAGS.images:
        pairs = [[datasets.read_image(name, model.image_shape) for name in FLAGS.images]]
        y = cli.condition_of(pairs[0][0], model, run) if FLAGS.y is None else None
    elif FLAGS.between == "images":
        if run is None:
            raise ValueError(
                "A .keras file does not name its data set: pass --images=A,B, or the folder of a run."
            )
        config = run.read_config()
        if FLAGS.data_dir:
            config.data.data_dir = FLAGS.data_dir
        data = training.load_data(config)
        x, labels = data.arrays("test")
        rows = [(FLAGS.seed + 2 * i) % len(x) for i in range(FLAGS.pairs)]
        pairs = [(x[row], x[(row + 1) % len(x)]) for row in rows]
        conditions.check(model, data)
        needed = model.condition is not None and not model.condition_is_optional
        if needed and FLAGS.y is None:
            # The whole path has the condition of its first end.
            y = conditions.rows_of(conditions.read(model, labels), rows)
    else:
        if "sample" not in model.abilities():
            raise NotImplementedError(
                f"{with_article(type(model).__name__, True)} has no prior to draw latents from. "
                "Interpolate between images: --between=images, or --images=A,B."
            )
        y = cli.conditions_for(model, run, FLAGS.pairs)
        both = None if y is None else y.repeat(2, 0)
        latents = model.sample_latents(2 * FLAGS.pairs, both, FLAGS.seed)
        pairs = [tuple(pair) for pair in tf.reshape(latents, [FLAGS.pairs, 2, -1])]
    if FLAGS.y is not None:
        y = cli.conditions_for(model, run, len(pairs))
    with cli.weights(model):
        pictures.interpolations(pairs, model, path, n=FLAGS.n, y=y)
    print(f"{len(pairs)} paths of {FLAGS.n} points: {path}")


if __name__ == "__main__":
    main()
