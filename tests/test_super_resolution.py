"""Super-resolution against closed forms, and the images of models whose condition is a small image."""

import keras
import numpy as np
import pytest
from speed import slow

import zoo
from zoo import inference, resizing

# A linear model of 4 x 2 pixels: x = MEAN + FACTORS z. Its averages A x are two numbers.
RNG = np.random.default_rng(0)
SHAPE, SCALE = (4, 2, 1), 0.2
MEAN = RNG.uniform(0.45, 0.55, 8)
FACTORS = RNG.uniform(-0.1, 0.1, (8, 2))
AVERAGE = np.kron(np.eye(2), np.full(4, 1 / 4))
SMALL = RNG.uniform(0.4, 0.6, (3, 2, 1, 1)).astype(np.float32)


def linear():
    """The linear model, with an encoder that knows nothing."""
    decoder = zoo.networks.mlp_decoder(2, SHAPE, 1, ())
    decoder.set_weights([FACTORS.T, MEAN])
    likelihood = zoo.Conditional(decoder, zoo.SharedScaleNormal(0.3))
    posterior = zoo.Conditional(zoo.networks.mlp_encoder(SHAPE, 4, ()), zoo.DiagonalNormal())
    return zoo.VAE(posterior, likelihood, zoo.StandardNormal(2))


def modes(scale, weight=1.0):
    """((A W)' A W + weight s^2 I)^-1 (A W)' (y - A mu) of each small image y."""
    factors = AVERAGE @ FACTORS
    precision = factors.T @ factors + weight * scale**2 * np.eye(2)
    errors = SMALL.reshape(3, 2) - AVERAGE @ MEAN
    return np.linalg.solve(precision, factors.T @ errors.T).T


@pytest.mark.parametrize("weight", [4.0, slow(1.0)])
def test_latents_of_averages_of_a_linear_model_have_their_closed_form(weight):
    z, energy = inference.fit_latents(
        linear(),
        SMALL,
        operator=lambda x: resizing.box_average(x, 2),
        scale=SCALE,
        weight=weight,
        steps=400,
        seed=0,
    )
    mode = modes(SCALE, weight)
    np.testing.assert_allclose(z, mode, atol=2e-3)
    errors = SMALL.reshape(3, 2) - (MEAN + mode @ FACTORS.T) @ AVERAGE.T
    expected = (errors**2).sum(1) / (2 * SCALE**2)
    expected += weight * (0.5 * (mode**2).sum(1) + np.log(2 * np.pi))
    np.testing.assert_allclose(energy, expected, atol=1e-4)


def test_the_scale_of_averages_is_that_of_pixels_divided_by_the_factor():
    images = inference.super_resolve(linear(), SMALL, 2, steps=800, learning_rate=0.02)
    expected = (MEAN + modes(0.1 / 2) @ FACTORS.T).reshape(1, 3, *SHAPE)
    np.testing.assert_allclose(images, expected, atol=1e-3)


def test_the_first_start_is_the_code_of_the_enlarged_image():
    model = linear()
    images = inference.super_resolve(model, SMALL, 2, steps=0)
    code = model.encode(resizing.bicubic(SMALL, 2))
    np.testing.assert_allclose(images[0], model.decode(code), atol=1e-6)


def test_consistent_images_have_the_averages_exactly():
    model = linear()
    free, consistent = (
        inference.super_resolve(model, SMALL, 2, steps=1, consistent=c)[0] for c in (False, True)
    )
    assert np.abs(resizing.box_average(free, 2) - SMALL).max() > 1e-2
    np.testing.assert_allclose(resizing.box_average(consistent, 2), SMALL, atol=1e-6)
    moved = free + resizing.nearest(SMALL - resizing.box_average(free, 2), 2)
    np.testing.assert_allclose(consistent, moved, atol=1e-6)


def test_a_model_without_an_encoder_finds_its_own_sample_from_the_averages():
    model = zoo.models.gan(
        (4, 4, 1), latent_dim=2, generator_hidden=(8,), discriminator_hidden=(8,)
    )
    small = resizing.box_average(model.sample(3, seed=1), 2).numpy()
    found = inference.super_resolve(
        model, small, 2, weight=0, starts=8, steps=300, batch_size=2, seed=0
    )
    np.testing.assert_allclose(resizing.box_average(found[0], 2), small, atol=1e-2)


def conditional():
    """A CVAE whose images are nearest(y) / 2 + (0.1 + 0.02 z), with z ~ N(mean(y), small)."""
    y, z = keras.Input((2, 1, 1), name="small_image"), keras.Input((1,))
    offset = keras.layers.Reshape((1, 1, 1))(0.02 * z + 0.1)
    # Keras takes the second term of a sum for a bias, if its one axis of more than 1 fits.
    decoder = keras.Model([z, y], offset + keras.layers.UpSampling2D(2)(y) / 2)
    mean = keras.ops.mean(y, [1, 2])
    prior = keras.Model(y, keras.layers.Concatenate()([mean, 0 * mean - 9]))
    encoder = zoo.networks.mlp_encoder(SHAPE, 2, ())
    return zoo.CVAE(
        zoo.Conditional(encoder, zoo.DiagonalNormal()),
        zoo.Conditional(decoder, zoo.SharedScaleNormal(0.1)),
        zoo.ConditionalPrior(prior, zoo.DiagonalNormal()),
    )


def test_draws_have_the_condition_of_their_small_image():
    model = conditional()
    assert zoo.conditions.factor(model) == 2
    images = inference.super_resolve(model, SMALL, 2, n=3, batch_size=4, seed=0).numpy()
    mean = 0.02 * SMALL.mean((1, 2), keepdims=True) + 0.1
    expected = resizing.nearest(SMALL, 2) / 2 + mean
    np.testing.assert_allclose(images, np.tile(expected, (3, 1, 1, 1, 1)), atol=1e-3)
    # Each draw has its own random numbers, also in batches of the same images.
    more = inference.super_resolve(model, SMALL, 2, n=3, batch_size=3, seed=0).numpy()
    assert len(np.unique(more[:, :, 0, 0, 0])) == 9
    again = inference.super_resolve(model, SMALL, 2, n=3, batch_size=4, seed=0)
    np.testing.assert_array_equal(images, again)


def test_the_latents_of_a_conditional_model_are_fitted_under_its_condition():
    model = conditional()
    images = inference.super_resolve(model, SMALL, 2, method="map", steps=300)
    # The prior is narrow, so the mode is its mean.
    expected = resizing.nearest(SMALL, 2) / 2 + 0.02 * SMALL.mean((1, 2), keepdims=True) + 0.1
    np.testing.assert_allclose(images[0], expected, atol=1e-3)


@pytest.mark.parametrize("builder", ["cvae", slow("vaegan")])
def test_models_are_trained_on_small_images(builder):
    """One step of a convolutional model changes all weights that take the small image."""
    data = zoo.datasets.load("digits", y="small:2")
    sizes = {"latent_dim": 2, "hidden": (4,), "filters": (2,), "network": "conv"}
    sizes |= {"prior": "conditional"} if builder == "cvae" else {"width": 2}
    model = getattr(zoo.models, builder)((8, 8, 1), condition="image", condition_size=2, **sizes)
    zoo.conditions.check(model, data)
    model.compile("sgd", run_eagerly=True)
    x, y = data.arrays("train", 8)
    small = inference.super_resolve(model, y[:2], 2, n=2, consistent=True, seed=0)
    assert small.shape == (2, 2, 8, 8, 1)
    before = [w.numpy() for w in model.trainable_variables]
    model.train_on_batch(x, y)
    for old, new in zip(before, model.trainable_variables, strict=True):
        if len(old.shape) == 4:  # The kernels of convolutions
            assert (np.abs(new.numpy() - old).max((0, 1)) > 0).any(-1).all()
    wrong = zoo.datasets.load("digits", y="small:4")
    with pytest.raises(ValueError, match=r"shape \[B, 4, 4, 1\].*set data.y, for example"):
        zoo.conditions.check(model, wrong)
    with pytest.raises(ValueError, match=r"a small image are from 0 to 1. Received: .* to 3"):
        model.decode(np.zeros([1, 2]), np.full([1, 4, 4, 1], 3.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"small": SMALL[0]}, r"shape \['B', 2, 1, 1\].*Received: shape \(2, 1, 1\)"),
        ({"small": SMALL[:0]}, r"Received: shape \(0, 2, 1, 1\)"),
        ({"small": 2 * SMALL}, r"in \[0, 1\]. Received: float32 from"),
        ({"small": SMALL * np.nan}, r"in \[0, 1\]. Received: float32 from nan"),
        ({"small": np.zeros([3, 2, 1, 1], int)}, r"in \[0, 1\]. Received: int64"),
        ({"factor": 3}, "divisible by 3"),
        ({"factor": 1}, "`factor` must be at least 2"),
        ({"method": "bicubic"}, "Unknown method 'bicubic'"),
        ({"operator": abs}, "The options of method='map' are .*steps.* Received: operator="),
        ({"method": "conditional"}, "needs a model whose condition .* Received: a VAE"),
        ({"n": 2}, "pass n=1, or a model whose condition is the small image"),
        ({"model": conditional, "y": SMALL}, "leave `y` out"),
    ],
)
def test_invalid_arguments_are_refused(options, message):
    given = {"model": linear, "small": SMALL, "factor": 2} | options
    with pytest.raises(ValueError, match=message):
        inference.super_resolve(given.pop("model")(), **given)


def test_observations_that_do_not_fit_the_operator_are_refused():
    options = {"operator": lambda x: resizing.box_average(x, 2), "steps": 1}
    with pytest.raises(ValueError, match=r"observations of shape \['B', 2, 1, 1\]"):
        inference.fit_latents(linear(), np.zeros([3, 4, 2, 1], np.float32), **options)
    with pytest.raises(ValueError, match="`seen` hides values of images"):
        inference.fit_latents(linear(), SMALL, seen=np.ones(SHAPE), **options)
    with pytest.raises(ValueError, match="finite float observations"):
        inference.fit_latents(linear(), SMALL * np.inf, **options)
