"""Completes images from a part of them: `python -m trainers.complete --run=runs/vae_mnist`."""

import numpy as np
from absl import flags

from trainers import cli
from zoo import conditions, datasets, inference, pictures

FLAGS = flags.FLAGS

cli.define_flags_of_users(
    "A .png with a row for each image: its seen part, the completions, and the image. Default: "
    "completions.png in the run's folder."
)
cli.define_condition_flags()
cli.define_flags_of_images(
    "complete. Their central squares are resized, and become black and white if the model was trained "
    "on binarised images. Default: test images of the run.",
    "completions",
)
cli.define_flags_of_map()
flags.adopt_module_key_flags(cli)
flags.DEFINE_string(
    "seen",
    "half:left",
    "The part that is seen: half:left, half:right, half:top, half:bottom, box, border, quadrants:K, "
    "pixels:P for each pixel with probability P, frames:K for the first K frames of a video, or the "
    "path of a mask image, whose white is seen.",
)
flags.DEFINE_enum(
    "method",
    "map",
    ["map", "pseudo_gibbs", "metropolis"],
    "map: the most probable latents, for any model with a decoder. metropolis: samples given the seen "
    "part, by Metropolis-within-Gibbs, for models with a posterior, a likelihood and a prior that have "
    "densities. pseudo_gibbs: faster, with an unknown bias, also without these densities.",
)
flags.DEFINE_integer(
    "steps", None, "Number of steps. Default: 200 for map, otherwise 500.", lower_bound=1
)


def main() -> None:
    """Runs the program with the arguments of the command line."""
    cli.start(_complete)


def _complete():
    path = cli.picture_path("completions.png")
    options = _options()
    # An unknown name is refused before the model is loaded.
    datasets.masks.check_seen(FLAGS.seen)
    model, run = cli.open_run()
    if conditions.factor(model) is not None:
        raise ValueError(
            "The condition of this model is a small image, which shows the hidden part: use "
            "trainers.super_resolve, or a model with another condition."
        )
    if FLAGS.image is None:
        data, x, y = cli.test_images(model, run)
        if FLAGS.y is not None:
            y = cli.conditions_for(model, run, len(x))
        seen = data.seen_mask(FLAGS.seen, len(x), FLAGS.seed)
    else:
        x, y, seen = _files(model, run)
    if y is not None and np.ndim(y) == 4:
        # The condition is the part that the run's own mask shows. What `seen` hides is hidden in it.
        y = np.where(seen, y, np.float32(-1))
    with cli.weights(model):
        done = inference.complete(model, x, seen, y, seed=FLAGS.seed, **options)
    seen_part = np.where(seen, x, np.float32(0.5))
    rows = np.stack([seen_part, *done.images.numpy(), x], 1)
    pictures.save(path, pictures.grid(rows.reshape(-1, *x.shape[1:]), rows.shape[1]))
    shares = ""
    if done.acceptance is not None:
        each = done.acceptance.numpy().mean(0)
        shares = f" Accepted proposals: {each.mean():.0%}, and {each.min():.0%} of the worst image."
    print(f"The seen parts of {len(x)} images, their completions, and the images: {path}.{shares}")


def _options():
    """The options of `inference.complete`."""
    options = {"method": FLAGS.method, "n": cli.number_of_results(FLAGS.method)}
    options |= cli.options_of_map(FLAGS.method)
    return options | ({} if FLAGS.steps is None else {"steps": FLAGS.steps})


def _files(model, run):
    """The images of `--image`, the conditions that they determine, and which values are seen."""
    x = cli.read_images(model.image_shape)
    if run is not None:
        data = run.read_config().data
        if data.binarize is not None or data.name == "binarized_mnist":
            x = np.float32(x >= 0.5)
    seen = datasets.named_mask(FLAGS.seen, x.shape[1:3], len(x), FLAGS.seed)
    if FLAGS.y is not None:
        return x, cli.conditions_for(model, run, len(x)), seen
    own = [cli.condition_of(image, model, run) for image in x]
    return x, None if own[0] is None else np.concatenate(own), seen


if __name__ == "__main__":
    main()
