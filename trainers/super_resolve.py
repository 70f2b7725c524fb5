"""Enlarges small images: `python -m trainers.super_resolve --run=runs/cvae_super_resolution_mnist`."""

import numpy as np
from absl import flags

from trainers import cli
from zoo import conditions, inference, pictures, resizing
from zoo.config import with_article

FLAGS = flags.FLAGS

cli.define_flags_of_users(
    "A .png with a row for each image: the small image, its bicubic enlargement, the results and, for "
    "a test image, the image itself. Default: enlarged.png in the run's folder."
)
cli.define_condition_flags()
cli.define_flags_of_images(
    "enlarge. Their central squares are resized to the small size. Default: the averages of test "
    "images of the run.",
    "results",
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
flags.DEFINE_bool(
    "consistent", False, "Make the averages of the results equal to the small images."
)
flags.DEFINE_integer("steps", 200, "Number of steps of map.", lower_bound=1)


def main() -> None:
    """Runs the program with the arguments of the command line."""
    cli.start(_super_resolve)


def _super_resolve():
    path = cli.picture_path("enlarged.png")
    model, run = cli.open_run()
    own = conditions.factor(model)
    factor = FLAGS.factor or own or 2
    method = FLAGS.method or ("conditional" if factor == own else "map")
    if factor == own and FLAGS.y is not None:
        raise ValueError(
            "The condition of this model is the small image: leave --y out. Received: --y."
        )
    truth, y = None, None
    if FLAGS.image is None:
        _, truth, y = cli.test_images(model, run)
        small = resizing.box_average(truth, factor).numpy()
    else:
        small = cli.read_images(resizing.small_shape(model.image_shape, factor))
        needs_condition = model.condition is not None and not model.condition_is_optional
        if FLAGS.y is None and needs_condition and factor != own:
            raise ValueError(
                f"{with_article(type(model).__name__, True)} takes a condition, which image files do "
                "not have: pass labels, such as --y=3, or choose test images instead of files. "
                "Received: --image without --y."
            )
    if FLAGS.y is not None:
        y = cli.conditions_for(model, run, len(small))
    n = cli.number_of_results(method)
    options = {"method": method, "n": n, "consistent": FLAGS.consistent, "seed": FLAGS.seed}
    options |= cli.options_of_map(method, "steps")
    with cli.weights(model):
        images = inference.super_resolve(
            model, small, factor, None if factor == own else y, **options
        )
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
