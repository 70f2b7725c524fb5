"""Enlarges small images: `python -m trainers.super_resolve --run=runs/cvae_super_resolution_mnist`."""

import numpy as np
from absl import flags

from trainers import cli
from zoo import conditions, datasets, inference, pictures, resizing

FLAGS = flags.FLAGS

cli.define_flags_of_users(
    "A .png with a row for each image: the small image, its bicubic enlargement, the results and, for "
    "a test image, the image itself. Default: enlarged.png in the run's folder."
)
cli.define_condition_flags()
cli.define_flags_of_images(
    "enlarge. Their central squares are resized to the small size. Default: the averages of test "
    "images of the run."
)
cli.define_flags_of_map()
flags.adopt_module_key_flags(cli)
flags.DEFINE_integer(
    "factor",
    None,
    "By how much the results are larger. Default: the factor of a model whose condition is a small "
    "image, otherwise 2.",
    lower_bound=2,
)
flags.DEFINE_enum(
    "method",
    None,
    ["conditional", "map"],
    "conditional: draws of a model whose condition is a small image. map: the most probable latents, "
    "for any model with a decoder. Default: conditional if the model allows it.",
)
flags.DEFINE_integer(
    "n",
    None,
    "Number of results for each image. Default: 1 for map, otherwise 5.",
    lower_bound=1,
)
flags.DEFINE_bool(
    "consistent", False, "Make the averages of the results equal to the small images."
)
flags.DEFINE_integer("steps", 200, "Number of steps of map.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of draws and starts.", lower_bound=0)


def main() -> None:
    """Runs the program with the arguments of the command line."""
    cli.start(_super_resolve)


def _super_resolve():
    path = cli.picture_path("enlarged.png")
    model, run = cli.open_run()
    own = conditions.factor(model)
    factor = FLAGS.factor or own or 2
    method = FLAGS.method or ("conditional" if factor == own else "map")
    truth, y = None, None
    if FLAGS.image is None:
        _, truth, y = cli.test_images(model, run)
        small = resizing.box_average(truth, factor).numpy()
    else:
        shape = resizing.small_shape(model.image_shape, factor)
        small = np.stack([datasets.read_image(name, shape) for name in FLAGS.image])
    if factor == own:
        if FLAGS.y is not None:
            raise ValueError(
                "The condition of this model is the small image: leave --y out. Received: --y."
            )
        y = None
    elif FLAGS.y is not None:
        y = cli.conditions_for(model, run, len(small))
    n = FLAGS.n or (1 if method == "map" else 5)
    given = {"method": method, "n": n, "consistent": FLAGS.consistent, "seed": FLAGS.seed}
    given |= cli.options_of_map(method, "steps")
    with cli.weights(model):
        images = inference.super_resolve(model, small, factor, y, **given)
    pictures.enlargements(small, images, path, truth)
    errors = np.abs(
        resizing.box_average(images.numpy().reshape(-1, *model.image_shape), factor)
        - np.tile(small, (n, 1, 1, 1))
    )
    also = "" if truth is None else ", and the images"
    print(
        f"{len(small)} small images, their bicubic enlargements, {n} results of each{also}: {path}. "
        f"Mean distance of the averages from the small images: {errors.mean():.4f}."
    )


if __name__ == "__main__":
    main()
