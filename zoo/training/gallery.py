"""The pictures of a run: what a model can show of its images and latents."""

import numpy as np
import tensorflow as tf

from zoo import conditions, pictures
from zoo.datasets import ImageData
from zoo.model import GenerativeModel
from zoo.models.vaegan import VAEGAN, attribute_vectors
from zoo.training.run import Run


def fixed_latents(model: GenerativeModel, n: int, seed: int, y=None) -> tf.Tensor:
    """`n` draws from the prior, given `y[n, ...]` if need be: `[n, D]`, the same for the same seed."""
    if "sample" not in model.abilities():
        raise NotImplementedError(
            f"A {type(model).__name__} has no prior to draw latents from. "
            f"It can: {', '.join(model.abilities())}."
        )
    return model.sample_latents(n, y, seed)


def draw(model: GenerativeModel, data: ImageData, run: Run, seed: int) -> None:
    """Puts all the pictures that the model's abilities allow into the run's folder."""
    folder = run.path
    with model.best_weights():
        if "sample" in model.abilities():
            given = conditions.in_turn(model, data, 100, 10)
            latents = fixed_latents(model, 100, seed, given)
            pictures.samples(model, latents, folder / "samples.png", y=given)
            given = conditions.in_turn(model, data, 4)
            both = None if given is None else given.repeat(2, 0)  # The same for both ends.
            ends = tf.split(fixed_latents(model, 8, seed + 1, both), 4)
            pictures.interpolations(ends, model, folder / "interpolations.png", y=given)
            if hasattr(model.prior, "walks"):  # Along its own axes.
                walks = model.prior.walks(10)
                given = conditions.in_turn(model, data, 1)
                points = tf.reshape(walks, [-1, model.latent_dim])
                given = None if given is None else given.repeat(len(points), 0)
                pictures.samples(model, points, folder / "prior_walks.png", 10, given)
        elif model.latent_dim == 0:
            given = conditions.in_turn(model, data, 10)
            none = np.zeros([10, 0])
            pictures.samples(model, none, folder / "completions.png", columns=1, y=given)
        if model.can_encode:
            x, y = data.arrays("test", limit=2000)
            # The label that a model finds in an image is part of what its pictures show.
            taken = model.condition is not None and not model.condition_in_latents
            given = y if taken else None

            def of(rows):
                return None if given is None else given[rows]

            pictures.reconstructions(model, x[:30], folder / "reconstructions.png", of(slice(30)))
            pairs = [(x[i], x[(i + 1) % len(x)]) for i in range(0, min(8, len(x)), 2)]
            pictures.interpolations(
                pairs, model, folder / "interpolations_images.png", y=of(slice(0, 8, 2))
            )
            if hasattr(model, "category_images"):
                parts = np.array_split(x, min(4, len(x)))
                best = np.argmax(np.concatenate([model.classify(part) for part in parts]), -1)
                images = model.category_images()
                members = [x[best == k] for k in range(len(images))]
                pictures.categories(images, members, folder / "categories.png")
            if isinstance(model, VAEGAN) and model.condition is None:
                _draw_attributes(model, data, x[:10], folder / "attributes.png")
            if model.latent_dim > 1 and len(x) > 1:
                parts = np.array_split(np.arange(len(x)), min(4, len(x)))
                codes = np.concatenate([model.encode(x[rows], of(rows)) for rows in parts])
                pictures.latent_scatter(
                    codes,
                    y if y is not None and y.ndim == 1 else None,
                    folder / "latents.png",
                    label_names=data.label_names,
                    prior_samples=np.asarray(
                        fixed_latents(model, 2000, seed + 2, conditions.in_turn(model, data, 2000))
                    )
                    if "sample" in model.abilities()
                    else None,
                )


def _draw_attributes(model, data, x, path, limit=40):
    """Draws `x` with each attribute that some of 2,000 training images have and some lack.

    Labels are attributes too. Of data with neither, or with more than `limit`, there is no picture.
    """
    images, y = data.arrays("train", limit=2000)
    if y is not None and y.ndim == 1:
        images, y = images[y >= 0], y[y >= 0]  # Other labels have been held back.
        y = (y[:, None] == np.unique(y)).astype(int)
    if y is None or y.ndim != 2 or not np.isin(y, (0, 1)).all():
        return
    y = y[:, (y == 0).any(0) & (y == 1).any(0)]
    if 0 < y.shape[1] <= limit:
        parts = np.array_split(images, min(4, len(images)))
        codes = np.concatenate([model.encode(part) for part in parts])
        pictures.attributes(model, x, attribute_vectors(codes, y), path)


def draw_curves(run, model):
    history = run.read_metrics()
    if history:
        epochs = [int(epoch) + 1 for epoch in history.pop("epoch")]
        units = "nats" if "log_prob" in model.abilities() else None
        pictures.learning_curves(history, run.path / "learning_curves.png", epochs, units)
