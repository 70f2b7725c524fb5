"""DC-IGN: the clamp of groups, its gradients, and re-renderings."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

import zoo
from zoo.datasets.images import ImageData, Split

SEED = tf.constant([1, 2])
GROUP = 4
UNITS = (1, 1, 3)
BLOCKS = (slice(0, 1), slice(1, 2), slice(2, 5))


def small(**options):
    defaults = {
        "factors": ("azimuth", "elevation", "identity"),
        "units": UNITS,
        "group_size": GROUP,
        "hidden": (6,),
    }
    return zoo.models.inverse_graphics((8, 8, 1), **(defaults | options))


def kinds(*varied):
    """`y` of groups with these varied factors."""
    return {"varied": tf.repeat(tf.constant(varied), GROUP)}


@pytest.fixture
def x(digits):
    return tf.constant(digits[: 3 * GROUP])


def of_groups(values):
    return np.reshape(values, [-1, GROUP, values.shape[-1]])


@pytest.mark.parametrize("clamp", ["mean", "first"])
def test_inactive_latents_are_equal_in_a_group_and_active_ones_are_unchanged(x, clamp):
    model = small(clamp=clamp)
    q = model.posterior(x)
    clamped, _ = model.clamped(q, kinds(0, 1, 2)["varied"])
    for name in ("loc", "scale"):
        before = of_groups(getattr(q.distribution, name))
        after = of_groups(getattr(clamped.distribution, name))
        for k, active in enumerate(BLOCKS):
            inactive = np.delete(np.arange(5), active)
            np.testing.assert_array_equal(after[k][:, active], before[k][:, active])
            value = before[k].mean(0) if clamp == "mean" else before[k][0]
            expected = np.tile(value[inactive], [GROUP, 1])
            np.testing.assert_allclose(after[k][:, inactive], expected, rtol=1e-6)


def test_the_loss_is_that_of_the_clamped_posterior(x):
    model = small(invariance=0.3, likelihood="unit_normal")
    y = kinds(2, 0, 1)
    losses, terms = model.objective(x, y, SEED, training=True)
    q = model.posterior(x)
    loc, scale = q.distribution.loc.numpy(), q.distribution.scale.numpy()
    spread = np.zeros(len(x))
    for k, active in enumerate(BLOCKS[i] for i in (2, 0, 1)):
        rows = slice(k * GROUP, (k + 1) * GROUP)
        for j in np.delete(np.arange(5), active):
            spread[rows] += (loc[rows, j] - loc[rows, j].mean()) ** 2 / 2
            loc[rows, j], scale[rows, j] = loc[rows, j].mean(), scale[rows, j].mean()
    rate = (loc**2 + scale**2 - 1 - 2 * np.log(scale)).sum(-1) / 2
    noise = zoo.Conditional(model.posterior.network, zoo.DiagonalNormal())  # The same draws.
    eps = noise(x).sample(1, seed=SEED)
    eps = ((eps - q.distribution.loc) / q.distribution.scale).numpy()
    images = model.decode(loc + scale * eps[0]).numpy()
    log_prob = scipy.stats.norm.logpdf(x.numpy(), model.likelihood(loc + scale * eps[0]).mean())
    assert images.shape == x.shape
    np.testing.assert_allclose(terms["spread"], spread, rtol=1e-4)
    np.testing.assert_allclose(terms["rate"], rate, rtol=1e-4)
    np.testing.assert_allclose(terms["distortion"], -log_prob.sum((1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(
        losses["vae"], terms["distortion"] + terms["rate"] + 0.3 * spread, rtol=1e-5
    )


def test_the_gradient_of_an_inactive_mean_is_its_difference_from_the_group(x):
    """Equals the paper's replacement of the backward pass; scales of inactive latents have none."""
    model = small(invariance=0.7)
    params = tf.Variable(model.posterior.network(x))
    model.posterior.network = lambda *args, **kwargs: params  # The heads as free parameters.
    model.posterior.call = lambda *args, **kwargs: zoo.DiagonalNormal()(params, 1)
    y = kinds(0, 2, 1)
    with tf.GradientTape() as tape:
        losses, _ = model.objective(x, y, SEED, training=True)
        total = tf.reduce_sum(losses["vae"])
    d_loc, d_raw = (of_groups(g) for g in np.split(tape.gradient(total, params), 2, -1))
    loc = of_groups(params.numpy()[:, :5])
    for k, active in enumerate(BLOCKS[i] for i in (0, 2, 1)):
        inactive = np.delete(np.arange(5), active)
        expected = 0.7 * (loc[k] - loc[k].mean(0))[:, inactive]
        np.testing.assert_allclose(d_loc[k][:, inactive], expected, atol=1e-5)
        np.testing.assert_array_equal(d_raw[k][:, inactive], 0)
        assert np.abs(d_loc[k][:, active]).min() > 0
        assert np.abs(d_raw[k][:, active]).min() > 0


def test_with_one_factor_the_model_is_the_vae_bit_for_bit(x):
    model = small(factors=("all",), units=(5,))
    vae = zoo.VAE(model.posterior, model.likelihood, model.prior)
    results = []
    for m, y in ((model, kinds(0, 0, 0)), (vae, None)):
        with tf.GradientTape() as tape:
            losses, _ = m.objective(x, y, SEED, training=True)
        results.append((losses["vae"], *tape.gradient(losses["vae"], m.trainable_variables)))
    assert len(results[0]) == len(results[1]) > 4
    for have, want in zip(*results, strict=True):
        np.testing.assert_array_equal(have, want)


def test_a_group_of_equal_images_has_the_loss_of_the_vae(x):
    model = small(invariance=5.0)
    x = tf.repeat(x[:3], GROUP, 0)
    losses, terms = model.objective(x, kinds(0, 1, 2), SEED, training=True)
    expected, _ = super(type(model), model).objective(x, None, SEED, training=True)
    np.testing.assert_allclose(terms["spread"], 0, atol=1e-10)
    np.testing.assert_allclose(losses["vae"], expected["vae"], rtol=1e-5)


def test_the_losses_of_a_group_do_not_depend_on_other_groups(x):
    model = small(invariance=1.0)
    _, terms = model.objective(x, kinds(0, 1, 2), SEED, training=True)
    other = tf.concat([x[:GROUP], tf.reverse(x[GROUP:], [0])], 0)
    _, changed = model.objective(other, kinds(0, 2, 2), SEED, training=True)
    for name in ("spread", "distortion", "rate"):
        np.testing.assert_allclose(changed[name][:GROUP], terms[name][:GROUP], rtol=1e-5)
        assert not np.allclose(changed[name][GROUP:], terms[name][GROUP:])


def test_a_linear_encoder_becomes_orthogonal_to_the_factors_of_other_latents():
    """The spread's gradient by the linear formula: (a_j . w) variance w for inactive latents j."""
    rng = np.random.default_rng(0)
    model = small()
    directions = rng.normal(size=[3, 64]).astype(np.float32)
    values = rng.normal(size=[3, GROUP, 1]).astype(np.float32)
    scenes = rng.normal(size=[3, 1, 64]).astype(np.float32)
    data = tf.reshape(scenes + values * directions[:, None], [-1, 64])
    weights = tf.Variable(rng.normal(size=[64, 5]).astype(np.float32))
    with tf.GradientTape() as tape:
        q = zoo.DiagonalNormal()(tf.concat([data @ weights, tf.zeros([12, 5])], -1), 1)
        _, spread = model.clamped(q, kinds(0, 1, 2)["varied"])
        total = tf.reduce_sum(spread)
    expected = np.zeros([64, 5])
    for k, active in enumerate(BLOCKS):
        slopes = directions[k] @ weights.numpy()
        slopes[active] = 0
        expected += GROUP * values[k].var() * np.outer(directions[k], slopes)
    np.testing.assert_allclose(tape.gradient(total, weights), expected, rtol=1e-3, atol=1e-2)


def test_evaluation_is_that_of_the_vae(x):
    model = small()
    losses, terms = model.objective(x, kinds(0, 1, 2), SEED, training=False)
    expected, _ = super(type(model), model).objective(x, None, SEED, training=False)
    np.testing.assert_array_equal(losses["vae"], expected["vae"])
    np.testing.assert_array_equal(terms["spread"], 0)


def heads(**options):
    sizes = {"train": 100, "validation": 20, "test": 20}
    return zoo.datasets.load("heads_grey", image_size=8, sizes=sizes, **options)


def on_heads(**options):
    return zoo.models.inverse_graphics(
        (8, 8, 1), hidden=(6,), likelihood="shared_scale_normal", **options
    )


def test_a_calibrated_factor_is_rendered_at_its_value():
    data, model = heads(), on_heads()
    model.calibrate(data)
    x, factors = data.arrays("train")[0], data.factors("train")
    codes = model.encode(x).numpy()
    for k, name in enumerate(("azimuth", "elevation", "light_azimuth")):
        fit = np.polynomial.Polynomial.fit(factors[:, k].astype(float), codes[:, k], 3)
        z = codes[:2].copy()
        z[:, k] = fit(0.3)
        have = model.rerender(x[:2], name, [0.3, 0.1])
        assert have.shape == (2, 2, 8, 8, 1)
        np.testing.assert_allclose(have[:, 0], model.decode(z), atol=1e-5)
    with pytest.raises(ValueError, match=r"calibrate.*Received: 'identity'"):
        model.rerender(x, "identity", [0.0])


def test_each_latent_of_a_block_has_its_own_polynomial():
    data, model = heads(), on_heads(factors=("azimuth", "identity"), units=(2, 3))
    model.calibrate(data)
    x, factors = data.arrays("train")[0], data.factors("train")
    codes = model.encode(x).numpy()
    z = codes[:2].copy()
    for k in range(2):
        fit = np.polynomial.Polynomial.fit(factors[:, 0].astype(float), codes[:, k], 3)
        z[:, k] = fit(0.3)
    have = model.rerender(x[:2], "azimuth", [0.3])
    np.testing.assert_allclose(have[:, 0], model.decode(z), atol=1e-5)


@pytest.mark.filterwarnings("error")
def test_a_factor_of_few_values_has_a_polynomial_of_lower_degree():
    model = zoo.models.inverse_graphics(
        (8, 8, 1), hidden=(6,), factors=("shape", "rest"), units=(1, 2)
    )
    sizes = {"train": 50, "validation": 5, "test": 5}
    data = zoo.datasets.load("sprites", image_size=8, sizes=sizes)
    model.calibrate(data)
    codes, shapes = model.encode(data.arrays("train")[0]), data.factors("train")[:, 0]
    assert np.asarray(model.calibration)[0, 0] == 0
    for value in range(3):
        mean = codes.numpy()[shapes == value, 0].mean()
        fit = np.polyval(np.asarray(model.calibration)[0], value)
        np.testing.assert_allclose(fit, mean, rtol=1e-4, atol=1e-5)


def test_a_latent_is_replaced_by_its_values(x):
    model = small()
    z = model.encode(x).numpy()
    z[:, 3] = -1.5
    np.testing.assert_allclose(model.rerender(x, 3, [2.0, -1.5])[:, 1], model.decode(z), atol=1e-6)


def test_a_latent_may_be_a_tensor_in_a_graph(x):
    model = small()

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32), tf.TensorSpec([None])])
    def rerender(latent, values):
        return model.rerender(x, latent, values)

    values = tf.constant([2.0, -1.5])
    np.testing.assert_allclose(rerender(3, values), model.rerender(x, 3, values), atol=1e-6)
    for latent in (-1, 5):
        with pytest.raises(tf.errors.InvalidArgumentError, match="The latents are 0 to 4"):
            rerender(latent, values)


def test_own_groups_without_factors_are_trained_and_not_calibrated(digits):
    images = np.round(16 * digits[: 3 * GROUP]).astype(np.uint8)
    split = Split(images, {"varied": np.repeat([0, 1, 2], GROUP)})
    splits = dict.fromkeys(("train", "validation", "test"), split)
    data = ImageData("own", splits, (8, 8, 1), levels=17, group_size=GROUP)
    model = small()
    model.compile("adam")
    model.fit(data.batches("train", 2 * GROUP, grouped=True), verbose=0)
    model.finish(data)
    assert model.calibrated == ()
    with pytest.raises(ValueError, match="Factors are known"):
        model.calibrate(data)


def test_the_calibration_is_saved(tmp_path):
    model, data = on_heads(), heads()
    model.compile("adam")
    model.finish(data)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.calibrated == ("azimuth", "elevation", "light_azimuth")
    x, _ = data.arrays("test")
    np.testing.assert_allclose(
        loaded.rerender(x, "azimuth", [0.2]), model.rerender(x, "azimuth", [0.2]), atol=1e-6
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"posterior": "full_covariance"}, "choose the posterior 'normal'"),
        ({"units": (1, 4)}, "a number for each of `factors`"),
        ({"units": (1, 1, 0)}, "units"),
        ({"clamp": "median"}, "clamp"),
        ({"invariance": -1.0}, "invariance"),
        ({"group_size": 1}, "group_size"),
    ],
)
def test_parts_and_numbers_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_units_must_sum_to_the_number_of_latents():
    model = small()
    with pytest.raises(ValueError, match="`units` must sum to the number of latents, 5"):
        zoo.InverseGraphics(model.posterior, model.likelihood, model.prior, {"a": 2, "b": 2})


def test_adapt_starts_the_decoder_at_the_mean():
    model, data = on_heads(), heads()
    model.adapt(data)
    bias = zoo.networks.output_bias(model.likelihood.network).bias.numpy()
    np.testing.assert_allclose(bias, data.arrays("train")[0].mean(0).ravel(), rtol=1e-4)


def test_data_with_other_groups_are_refused():
    with pytest.raises(ValueError, match=r"groups of 10 images.*group_size=20"):
        on_heads(group_size=10).adapt(heads())
    with pytest.raises(ValueError, match=r"`units` has 2 factors.*vary 4 factors"):
        on_heads(factors=("a", "b"), units=(1, 2)).adapt(heads())


def test_batches_without_the_annotation_are_refused(digits):
    model = small()
    model.compile("adam")
    with pytest.raises(ValueError, match="reads the annotations 'varied'"):
        model.fit(digits[:8], verbose=0)


@pytest.mark.parametrize(
    ("varied", "message"),
    [
        (np.arange(12) // GROUP + 1, "The annotation 'varied' is from 0 to 2.*from 1 to 3"),
        (np.arange(12) // GROUP - 1, "The annotation 'varied' is from 0 to 2.*from -1 to 1"),
        (np.ones(12, np.float32), r"ints of shape \[B\]. Received: float32"),
        (
            np.zeros([12, 1], np.int32),
            r"ints of shape \[B\]. Received: int32 of shape \((12|None), 1\)",
        ),
    ],
)
@pytest.mark.parametrize("as_dataset", [False, True])
def test_invalid_annotations_are_refused(digits, varied, message, as_dataset):
    model, y = small(), {"varied": varied}
    model.compile("adam", run_eagerly=True)
    data = (digits[:12], y)
    if as_dataset:
        data = (tf.data.Dataset.from_tensor_slices(data).batch(12),)
    with pytest.raises(ValueError, match=message):
        model.fit(*data, batch_size=None if as_dataset else 12, verbose=0)


def test_batches_that_are_not_whole_groups_are_refused(x):
    model = small()
    with pytest.raises(ValueError, match=r"whole groups of 4 images\. Received: a batch of 11"):
        model.clamped(model.posterior(x[:11]), tf.zeros(11, tf.int32))

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 1])])
    def step(x):
        y = {"varied": tf.zeros(tf.shape(x)[0], tf.int32)}
        return model.objective(x, y, SEED, training=True)[0]["vae"]

    with pytest.raises(tf.errors.InvalidArgumentError, match="whole groups of 4 images"):
        step(x[:11])


@pytest.mark.parametrize(
    ("factor", "values", "message"),
    [
        (5, [0.0], "The latents are 0 to 4"),
        (-1, [0.0], "The latents are 0 to 4"),
        (1.5, [0.0], "`factor` must be an int"),
        ("azimuth", [0.0], r"call `calibrate\(data\)`"),
        ("colour", [0.0], "the factors are azimuth, elevation, identity"),
        (0, 0.0, r"shape \[V\]"),
    ],
)
def test_unknown_factors_are_refused(x, factor, values, message):
    with pytest.raises(ValueError, match=message):
        small().rerender(x, factor, values)
