"""The pictures of a run. `GenerativeModel.abilities` determines which pictures are drawn."""

import keras
import numpy as np

from zoo import conditions, inference, pictures
from zoo.datasets import ImageData
from zoo.model import GenerativeModel
from zoo.training import callbacks
from zoo.training.run import Run

_MOST_ATTRIBUTES = 40  # columns of attributes.png


def draw_pictures(model: GenerativeModel, data: ImageData, run: Run, seed: int) -> None:
    """Draws every picture that the model's abilities allow into the run's folder.

    | picture | needs |
    |---|---|
    | samples.png, interpolations.png | the ability `sample` |
    | prior_walks.png | `sample`, and a prior with `walks`, paths along its own axes |
    | completions.png | a condition and no latents |
    | super_resolution.png | a small image as the condition |
    | reconstructions.png, interpolations_images.png | the ability `encode` |
    | latents.png | `encode`, and at least two latent dimensions |
    | categories.png | the ability `category_images` |
    | attributes.png, attributes_removed.png | the ability `attribute_vectors`, and labels or attributes |
    | progressions.png | `encode`, and attributes as the condition |
    | layers.png, recompositions.png | the ability `decode_layers` |
    | swaps.png, mixes.png | the abilities `swap` and `mix` |
    | factors.png | `encode` without a condition, and data with factors |
    | samples.gif | `sample`, and data of videos |
    | extensions.png, extensions.gif | the ability `extend`, and data of videos |
    | rerenderings_FACTOR.png | the ability `rerender`; one for each calibrated factor |
    | heads.png, turned.png, relit.png | the abilities `overlay`, `turn` and `relight` |

    The model has the moving averages of its weights if the optimizers keep them.

    Args:
        model: A trained model.
        data: Its data set.
        run: The run; only its folder is used.
        seed: Seed of the latents.
    """
    with model.best_weights():
        if "sample" in model.abilities():
            _draw_samples(model, data, run.path, seed)
        elif model.latent_dim == 0:
            y = conditions.in_turn(model, data, 10)
            latents = np.zeros([10, 0])
            pictures.samples(model, latents, run.path / "completions.png", columns=1, y=y)
        if (factor := conditions.factor(model)) is not None:
            x, small = data.arrays("test", 8)
            assert isinstance(small, np.ndarray)  # `conditions.check` has found it.
            images = inference.super_resolve(model, small, factor, n=5, seed=seed)
            pictures.enlargements(small, images, run.path / "super_resolution.png", x)
        if "encode" in model.abilities():
            _draw_codes(model, data, run.path, seed)
        if data.frames is not None:
            _draw_videos(model, data, run.path, seed)


def draw_curves(model: GenerativeModel, run: Run) -> None:
    """Draws the run's learning curves, if an epoch has ended."""
    history = run.read_metrics()
    if history:
        epochs = [int(epoch) + 1 for epoch in history.pop("epoch")]
        units = "nats" if "log_prob" in model.abilities() else None
        pictures.learning_curves(history, run.path / "learning_curves.png", epochs, units)


def epoch_pictures(
    model: GenerativeModel, data: ImageData, run: Run, seed: int
) -> list[keras.callbacks.Callback]:
    """The callbacks that draw a picture after each epoch.

    The picture shows samples of a model that can sample during training. A model with the ability
    `fit_prior` can sample only after training. Like a model without a prior, it shows
    reconstructions of validation images.

    Args:
        model: A compiled model.
        data: Its data set.
        run: The run; only its folder is used.
        seed: Seed of the latents.
    """
    abilities = model.abilities()
    if "sample" in abilities and "fit_prior" not in abilities:
        y = conditions.in_turn(model, data, 60, 10, "validation")
        latents = model.sample_latents(64 if y is None else 60, y, seed)
        return [callbacks.SampleGrids(run.samples_dir, latents, y)]
    if "encode" in abilities:
        x, y = _images_and_conditions(model, data, "validation", 30)
        return [callbacks.ReconstructionGrids(run.reconstructions_dir, x, y)]
    return []


def _draw_samples(model, data, folder, seed):
    y = conditions.in_turn(model, data, 100, 10)
    pictures.samples(model, model.sample_latents(100, y, seed), folder / "samples.png", y=y)
    y = conditions.in_turn(model, data, 4)
    both_ends = None if y is None else y.repeat(2, 0)
    ends = np.split(model.sample_latents(8, both_ends, seed + 1), 4)
    pictures.interpolations(ends, model, folder / "interpolations.png", y=y)
    walks = np.asarray(model.prior.walks(10))
    if len(walks):
        latents = walks.reshape(-1, model.latent_dim)
        y = conditions.in_turn(model, data, 1)
        y = None if y is None else y.repeat(len(latents), 0)
        pictures.samples(model, latents, folder / "prior_walks.png", 10, y)


def _draw_codes(model, data, folder, seed):
    x, y = _images_and_conditions(model, data, "test", 2000)
    labels = conditions.labels_in(data.arrays("test", limit=2000)[1])

    def condition(rows):
        return conditions.rows_of(y, rows)

    first = slice(30)
    pictures.reconstructions(model, x[first], folder / "reconstructions.png", condition(first))
    starts = range(0, min(8, len(x)), 2)
    pairs = [(x[i], x[(i + 1) % len(x)]) for i in starts]
    path = folder / "interpolations_images.png"
    pictures.interpolations(pairs, model, path, y=condition(list(starts)))
    parts = np.array_split(np.arange(len(x)), min(4, len(x)))
    if "category_images" in model.abilities():
        category = np.argmax(np.concatenate([model.classify(x[rows]) for rows in parts]), -1)
        images = model.category_images()
        members = [x[category == k] for k in range(len(images))]
        pictures.categories(images, members, folder / "categories.png")
    if "attribute_vectors" in model.abilities():
        _draw_attributes(model, data, x[:10], folder)
    if "decode_layers" in model.abilities():
        pictures.layers(model, x[:8], condition(slice(8)), folder / "layers.png")
        pictures.recompositions(model, x[:8], condition(slice(8)), folder / "recompositions.png")
    if {"swap", "mix"} <= {*model.abilities()} and len(x) > 1:
        half = min(8, len(x) // 2)
        pictures.swaps(model, x[:half], x[half : 2 * half], folder / "swaps.png")
        pictures.mixes(model, x[:half], x[half : 2 * half], folder / "mixes.png")
    if {"overlay", "turn", "relight"} <= {*model.abilities()}:
        _draw_heads(model, x[:6], folder)
    if model.condition is not None and model.condition.shape.rank == 2:
        z = model.encode(x[:1], condition(slice(1)))[0]
        own = conditions.in_turn(model, data, 1)[0]
        pictures.progressions(model, z, own, folder / "progressions.png")
    if data.factor_names and y is None and len(x) > 1:
        _draw_factors(model, data, folder)
    if model.latent_dim > 1 and len(x) > 1:
        prior = None
        if "sample" in model.abilities():
            prior = model.sample_latents(2000, conditions.in_turn(model, data, 2000), seed + 2)
        pictures.latent_scatter(
            np.concatenate([model.encode(x[rows], condition(rows)) for rows in parts]),
            labels if labels is not None and labels.ndim == 1 else None,
            folder / "latents.png",
            label_names=data.label_names,
            prior_samples=prior,
        )


def _draw_heads(model, x, folder):
    """Images beside their heads: on the images, geometry, albedo; other angles and lights."""
    z = model.encode(x)
    shown = [model.head.render(z, shown=kind) for kind in ("geometry", "albedo")]
    explained = np.stack([x, model.overlay(x), *shown], 1)
    pictures.rerenderings(explained, None, folder / "heads.png")
    angles = np.linspace(-0.9, 0.9, 7)
    for name, images in {
        "turned": model.turn(x, angles, 0 * angles),
        "relit": model.relight(x, angles, np.full(7, 0.3)),
    }.items():
        beside = np.concatenate([x[:, None], images], 1)
        pictures.rerenderings(beside, None, folder / f"{name}.png")


def _draw_factors(model, data, folder, scenes=4, steps=9):
    x, _ = data.arrays("test", limit=2000)
    values = data.factors("test", limit=2000)
    codes = np.concatenate([model.encode(part) for part in np.array_split(x, min(4, len(x)))])
    pictures.factors(codes, values, data.factor_names, folder / "factors.png")
    if "rerender" not in model.abilities():
        return
    for column, name in enumerate(data.factor_names):
        if name not in model.calibrated:
            continue
        if data.factor_sizes[column]:  # Discrete values
            every = np.unique(values[:, column])
            shown = every[np.linspace(0, len(every) - 1, min(steps, len(every))).astype(int)]
        else:
            shown = np.linspace(*np.quantile(values[:, column], [0.05, 0.95]), steps)
        chosen = np.linspace(0, len(x) - 1, scenes).astype(int)
        truth = None
        if data.can_render:
            factors = np.repeat(values[chosen], len(shown), 0)
            factors[:, column] = np.tile(shown, scenes)
            truth = data.render(factors).reshape(scenes, len(shown), *data.image_shape)
        images = model.rerender(x[chosen], name, shown)
        pictures.rerenderings(images, truth, folder / f"rerenderings_{name}.png")


def _draw_videos(model, data, folder, seed):
    channels = data.image_shape[-1] // data.frames
    if "sample" in model.abilities():
        videos = model.sample(50, conditions.in_turn(model, data, 50, 10), seed)
        pictures.animation(videos, folder / "samples.gif", 10, channels)
    # A model may take the channels of several frames for one.
    if "extend" in model.abilities() and model.frames == data.frames:
        x, _ = data.arrays("test", limit=10)
        seen = max(1, data.frames // 2)
        extended = np.asarray(model.extend(x[..., : seen * channels], data.frames - seen))
        pictures.extensions(x, extended, seen, folder / "extensions.png", channels)
        both = np.concatenate([x, extended])
        pictures.animation(both, folder / "extensions.gif", len(x), channels)


def _images_and_conditions(model, data, split, limit):
    """Images of a split, and their conditions if the encoder takes them."""
    x, y = data.arrays(split, limit=limit)
    # Latents that include a label include the encoder's prediction, so no condition is passed.
    takes_condition = model.condition is not None and not model.condition_in_latents
    return x, conditions.read(model, y) if takes_condition else None


def _draw_attributes(model, data, x, folder):
    """Draws `x` with and without each attribute that some of 2,000 training images have and some lack.

    Each label counts as an attribute. Attributes with other values than 0 and 1 are left out. Without
    attributes, or with too many, no picture is drawn.
    """
    images, y = data.arrays("train", limit=2000)
    y = conditions.labels_in(y)
    if y is not None and y.ndim == 1:
        known = y >= 0
        images, y = images[known], y[known]
        y = (y[:, None] == np.unique(y)).astype(int)
    if y is None or y.ndim != 2:
        return
    y = y[:, np.isin(y, (0, 1)).all(0) & (y == 0).any(0) & (y == 1).any(0)]
    if 0 < y.shape[1] <= _MOST_ATTRIBUTES:
        vectors = model.attribute_vectors(images, y)
        pictures.attributes(model, x, vectors, folder / "attributes.png")
        pictures.attributes(model, x, vectors, folder / "attributes_removed.png", strength=-1.0)
