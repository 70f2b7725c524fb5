"""disCVAE: layers, the paper's loss, the bound, and which term reaches which network."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

import zoo
from zoo.models.dis_cvae import smooth_l1

SEED = tf.constant([1, 2])
SHAPE = (4, 4, 3)
PARTS = ("foreground_posterior", "background_posterior", "foreground", "background")


def small(**options):
    defaults = {"foreground_dim": 3, "background_dim": 2, "condition_size": 2}
    networks = {"network": "mlp", "hidden": (6,)}
    return zoo.models.dis_cvae(SHAPE, **(defaults | networks | options))


def scenes(n=5):
    """Images, and attributes and masks with soft edges."""
    random = np.random.default_rng(0)
    x = random.uniform(size=(n, *SHAPE)).astype(np.float32)
    mask = random.integers(0, 10, size=(n, 4, 4, 1)) / np.float32(9)
    y = random.uniform(size=(n, 2)).astype(np.float32)
    return x, {"attributes": y, "mask": mask}


def without_inputs(model):
    """Sets the last kernel of each network to zero, so that its outputs are the random biases."""
    random = np.random.default_rng(1)
    for part in map(model.__getattribute__, PARTS):
        *_, kernel, bias = getattr(part, "network", part).trainable_variables
        kernel.assign(tf.zeros_like(kernel))
        bias.assign(random.normal(size=bias.shape))


def kl_to_standard_normal(q):
    loc, scale = q.distribution.loc.numpy(), q.distribution.scale.numpy()
    return (loc**2 + scale**2 - 1 - 2 * np.log(scale)).sum(-1) / 2


def rates_of(model, x, y):
    front = model.foreground_posterior(x, y["attributes"])
    planes = np.zeros([*x.shape[:3], 3], np.float32)
    back = model.background_posterior(np.concatenate([x, planes], -1), y["attributes"])
    return kl_to_standard_normal(front), kl_to_standard_normal(back)


def test_the_loss_is_that_of_the_authors_code_in_images_from_minus_1_to_1():
    model = small(gate_weight=0.9)
    without_inputs(model)
    x, y = scenes()
    losses, terms = model.objective(x, y, SEED, training=True)
    front, gate, back = (v.numpy() for v in model.decode_layers(np.zeros([5, 5]), y["attributes"]))
    mask = y["mask"]

    def criterion(image, target):
        error = np.abs((2 * image - 1) - (2 * target - 1))
        return np.where(error < 1, error**2 / 2, error - 0.5).sum((1, 2, 3))

    seen = np.broadcast_to(1 - mask, x.shape)  # The code's mask has three channels.
    bce = -(seen * np.log(gate) + (1 - seen) * np.log(1 - gate)).sum((1, 2, 3))
    front_rate, back_rate = rates_of(model, x, y)
    expected = {
        "foreground_distortion": criterion(front, mask * x),
        "image_distortion": criterion(front + gate * back, x),
        "gate_distortion": 0.3 * bce,
        "foreground_rate": front_rate,
        "background_rate": back_rate,
    }
    assert list(expected) == list(model.terms)
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=2e-5, err_msg=name)
    np.testing.assert_allclose(losses["vae"], sum(expected.values()), rtol=2e-5)


def test_the_masked_loss_is_the_bound_on_the_log_density_of_image_and_mask():
    model = small(composite="masked")
    without_inputs(model)
    x, y = scenes()
    losses, terms = model.objective(x, y, SEED, training=True)
    front, gate, back = (v.numpy() for v in model.decode_layers(np.zeros([5, 5]), y["attributes"]))
    inside = y["mask"] > 0.5
    means = np.where(inside, front, back)
    log_prob = scipy.stats.norm.logpdf(x, means, model.noise.scale).sum((1, 2, 3))
    log_prob += scipy.stats.bernoulli.logpmf(inside, 1 - gate).sum((1, 2, 3))
    rates = rates_of(model, x, y)
    np.testing.assert_allclose(losses["vae"], sum(rates) - log_prob, rtol=2e-5)
    assert set(terms) == set(model.terms)


def test_smooth_l1_is_that_of_images_from_minus_1_to_1():
    d = np.linspace(-1, 1, 41).astype(np.float32)
    error = np.abs(2 * d)
    np.testing.assert_allclose(
        smooth_l1(d), np.where(error < 1, error**2 / 2, error - 0.5), atol=1e-6
    )


ADDITIVE = {
    "foreground_distortion": {"foreground_posterior", "foreground"},
    "image_distortion": set(PARTS),
    "gate_distortion": {"foreground_posterior", "foreground"},
    "foreground_rate": {"foreground_posterior"},
    "background_rate": {"foreground_posterior", "background_posterior"},
}
MASKED = ADDITIVE | {
    "background_distortion": {"foreground_posterior", "background_posterior", "background"}
}
del MASKED["image_distortion"]


@pytest.mark.parametrize(
    ("composite", "reached"),
    [("additive", ADDITIVE), ("masked", MASKED)],
    ids=["additive", "masked"],
)
def test_each_term_reaches_the_networks_that_it_depends_on(composite, reached):
    model = small(composite=composite)
    x, y = scenes()
    with tf.GradientTape(persistent=True) as tape:
        losses, terms = model.objective(x, y, SEED, training=True)
    for term, parts in reached.items():
        for name in PARTS:
            variables = getattr(model, name).trainable_variables
            gradients = [g for g in tape.gradient(terms[term], variables) if g is not None]
            has = any(np.abs(g).max() > 0 for g in gradients)
            assert has == (name in parts), (term, name)
    loss = losses["vae"]
    assert all(g is not None for g in tape.gradient(loss, model.variables_of("vae")))


def test_the_colours_of_the_foreground_do_not_change_the_gates_term():
    model = small()
    x, y = scenes()
    *_, bias = model.foreground.trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        _, terms = model.objective(x, y, SEED, training=True)
    by_channel = {
        term: np.reshape(tape.gradient(terms[term], bias), (4, 4, 4))
        for term in ("gate_distortion", "foreground_distortion")
    }
    np.testing.assert_array_equal(by_channel["gate_distortion"][..., :3], 0)
    np.testing.assert_array_equal(by_channel["foreground_distortion"][..., 3], 0)
    assert np.abs(by_channel["gate_distortion"][..., 3]).min() > 0


def test_in_the_bound_the_background_is_charged_outside_of_the_mask_only():
    model = small(composite="masked")
    x, y = scenes(1)
    *_, bias = model.background.trainable_variables
    with tf.GradientTape() as tape:
        losses, _ = model.objective(x, y, SEED, training=True)
    gradient = np.reshape(tape.gradient(losses["vae"], bias), SHAPE)
    outside = y["mask"][0, ..., 0] <= 0.5
    assert 0 < outside.sum() < outside.size
    np.testing.assert_array_equal(np.any(gradient != 0, -1), outside)


@pytest.mark.parametrize("composite", ["additive", "masked"])
def test_an_image_is_the_foreground_where_the_gate_is_closed(composite):
    model = small(composite=composite)
    *_, bias = model.foreground.trainable_variables
    gate = np.zeros(SHAPE[:2])
    gate[0] = 1e3
    bias.assign(np.concatenate([np.zeros(SHAPE), (gate * 2 - 1e3)[..., None]], -1).ravel())
    z = np.random.default_rng(0).normal(size=(2, 5))
    layers = model.decode_layers(z, [0.2, 0.7])
    image = model.decode(z, [0.2, 0.7])
    np.testing.assert_allclose(image[:, 1:], layers.foreground[:, 1:], atol=1e-6)
    back = layers.background[:, 0]
    if composite == "additive":
        back = np.minimum(layers.foreground[:, 0] + back, 1)
    np.testing.assert_allclose(image[:, 0], back, atol=1e-6)


def test_a_change_of_the_background_changes_no_term_of_the_foreground():
    model = small()
    x, y = scenes()
    y["mask"] = np.round(y["mask"])
    other = np.where(y["mask"] == 1, x, 1 - x)
    (_, one), (_, two) = (model.objective(v, y, SEED, training=True) for v in (x, other))
    for name in ("foreground_distortion", "foreground_rate", "gate_distortion"):
        np.testing.assert_array_equal(one[name], two[name])


def test_the_foregrounds_latents_see_the_foreground_only():
    model = small()
    x, y = scenes()
    y["mask"] = np.round(y["mask"])
    other = np.where(y["mask"] == 1, x, 1 - x)
    z, z_other = model.encode(x, y).numpy(), model.encode(other, y).numpy()
    np.testing.assert_array_equal(z[:, :3], z_other[:, :3])
    assert np.abs(z[:, 3:] - z_other[:, 3:]).max(-1).min() > 0
    np.testing.assert_array_equal(z, model.encode(x, y["attributes"], y["mask"]))


def test_a_recomposition_has_the_foreground_of_one_and_the_background_of_the_other():
    model = small()
    a, b = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    y = np.array([0.1, 0.9], np.float32)
    front, back = model.decode_layers(a, y), model.decode_layers(b, 1 - y)
    image = front.foreground + front.gate * back.background
    np.testing.assert_allclose(model.recompose(a, b, y), np.minimum(image, 1), rtol=1e-6)


def test_attributes_change_the_foreground_and_not_the_background():
    model = small()
    z = np.random.default_rng(0).normal(size=(2, 5))
    one, two = model.decode_layers(z, [0.0, 1.0]), model.decode_layers(z, [1.0, 0.0])
    np.testing.assert_array_equal(one.background, two.background)
    assert np.abs(one.foreground - two.foreground).max() > 0
    assert np.abs(one.gate - two.gate).max() > 0


def test_convolutional_networks_have_the_shapes_of_the_image():
    model = zoo.models.dis_cvae((8, 8, 3), condition_size=3, filters=(4, 4), hidden=(5,))
    assert model.sample(2, y=[0.0, 0.5, 1.0]).shape == (2, 8, 8, 3)
    assert model.background_posterior.context_shape == (8, 8, 3 + 16)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"mask": np.full([5, 4, 4, 1], 2.0, np.float32)}, "'mask' is from 0.0 to 1.0"),
        ({"mask": np.zeros([5, 4, 4], np.float32)}, r"numbers of shape \[B, 4, 4, 1\]"),
        ({"mask": None}, "without 'mask'"),
        ({"attributes": np.zeros([5, 3], np.float32)}, r"Expected `y` of shape \[5, 2\]"),
    ],
)
def test_invalid_annotations_are_refused(change, sentence):
    model = small()
    model.compile("adam")
    x, y = scenes()
    y = {name: value for name, value in (y | change).items() if value is not None}
    with pytest.raises(ValueError, match=sentence):
        model.fit(x, y, verbose=0)


def test_a_mask_out_of_range_in_a_later_batch_is_reported():
    model = small()
    model.compile("adam", jit_compile=False)
    x, y = scenes(4)
    y["mask"][3] = 1.5
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(2)
    with pytest.raises(ValueError, match=r"'mask' is from 0\.0 to 1\.0.*batch 1"):
        model.fit(data, verbose=0)


def test_an_image_without_a_mask_is_not_encoded():
    x, y = scenes()
    with pytest.raises(ValueError, match="fit_latents"):
        small().encode(x, y["attributes"])


@pytest.mark.parametrize(
    ("y", "mask", "sentence"),
    [
        ({"mask": np.zeros([5, 4, 4, 1])}, np.zeros([5, 4, 4, 1]), "Expected one mask"),
        ({}, np.zeros([1, 4, 4, 1]), "a mask for each of 5 images"),
        ({}, np.full([5, 4, 4, 1], 2.0), "'mask' is from 0.0 to 1.0"),
    ],
)
def test_other_masks_are_not_encoded(y, mask, sentence):
    x, own = scenes()
    y = y | {"attributes": own["attributes"]} if y else own["attributes"]
    with pytest.raises(ValueError, match=sentence):
        small().encode(x, y, mask)


def test_latents_of_images_without_masks_are_found_by_optimisation():
    """An invalid mask is refused, and not ignored."""
    model = small()
    x, y = scenes(2)
    z, energy = zoo.inference.fit_latents(model, x, y["attributes"], steps=2, seed=0)
    assert z.shape == (2, 5) and energy.shape == (2,)
    start, _ = zoo.inference.fit_latents(model, x, y, steps=0)
    np.testing.assert_allclose(start, model.encode(x, y), atol=1e-6)
    with pytest.raises(ValueError, match=r"'mask' is from 0\.0 to 1\.0"):
        zoo.inference.fit_latents(model, x, y | {"mask": 2 * np.ones([2, 4, 4, 1])}, steps=1)


def test_the_pixels_of_the_bound_start_with_the_given_scale():
    for options, scale in (({}, 0.1), ({"likelihood_scale": 0.3}, 0.3)):
        model = small(composite="masked", **options)
        x = tf.zeros([1, 4, 4, 3])
        want = scipy.stats.norm(0, scale).logpdf(0.0)
        np.testing.assert_allclose(model._log_probs(x, x), np.full(x.shape, want), rtol=1e-5)
    with pytest.raises(ValueError, match="likelihood_scale"):
        zoo.models.dis_cvae((8, 8, 3), likelihood_scale=0.3)


def test_the_bound_has_the_weight_one_of_the_gate():
    assert small(composite="masked").gate_weight == 1
    assert small().gate_weight == 0.9


@pytest.mark.parametrize("composite", ["additive", "masked"])
def test_a_saved_model_has_the_same_layers(composite, tmp_path):
    model = small(composite=composite)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    z = np.random.default_rng(0).normal(size=(2, 5))
    for have, want in zip(
        loaded.decode_layers(z, [0.0, 1.0]), model.decode_layers(z, [0.0, 1.0]), strict=True
    ):
        np.testing.assert_array_equal(have, want)


def test_unknown_composites_are_refused():
    with pytest.raises(ValueError, match="Unknown composite 'add'"):
        small(composite="add")
