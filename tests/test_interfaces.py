"""Parts that do not fit together are refused when a model is constructed."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import zoo
from zoo import networks
from zoo.interfaces import LOGIT, Interface
from zoo.models import BUILDERS
from zoo.models.m2 import class_network

SHAPE, D = (8, 8, 1), 4
IMAGE, LATENT = "[B, 8, 8, 1]", "[B, 4]"


def posterior(shape=SHAPE, dim=D, family=zoo.DiagonalNormal):
    family = family()
    return zoo.Conditional(networks.mlp_encoder(shape, family.num_params(dim), ()), family)


def decoder(dim=D, shape=SHAPE, params=1):
    return networks.mlp_decoder(dim, shape, params, ())


def likelihood(dim=D, shape=SHAPE, params=1):
    return zoo.Conditional(decoder(dim, shape, params), zoo.Bernoulli())


def logit(shape):
    return networks.mlp_encoder(shape, LOGIT[0], ())


def joint(shape, dim, outputs=1):
    x, z = keras.Input(shape), keras.Input((dim,))
    both = keras.layers.Concatenate()([keras.layers.Flatten()(x), z])
    return keras.Model([x, z], keras.layers.Dense(outputs)(both))


def labelled(make, shape, classes):
    return networks.conditioned(make, shape, networks.Condition("label", (classes,)))


def cgan(generator_classes, discriminator_classes):
    return zoo.CGAN(
        labelled(lambda shape: decoder(*shape), (D,), generator_classes),
        labelled(logit, SHAPE, discriminator_classes),
        zoo.StandardNormal(D),
    )


def m2(classes, of_posterior=None, of_likelihood=None, x=SHAPE):
    def part(inputs, outputs, classes):
        family = zoo.Bernoulli() if len(outputs) == 3 else zoo.DiagonalNormal()
        network = class_network(inputs, outputs, classes, (6,), "relu")
        return zoo.Conditional(network, family)

    return zoo.M2(
        networks.mlp_encoder(x, classes, ()),
        part(SHAPE, (2 * D,), of_posterior or classes),
        part((D,), SHAPE, of_likelihood or classes),
        zoo.StandardNormal(D),
    )


def clustering(style=D, categories=3, dim=D):
    return {
        "posterior": zoo.Conditional(
            networks.mlp_encoder(SHAPE, 3 + D, ()), zoo.SoftmaxAndStyle(3)
        ),
        "likelihood": likelihood(3 + D),
        "prior": zoo.CategoryAndStyle(3, zoo.StandardNormal(dim)),
        "discriminator": networks.mlp(style, 1, ()),
        "category_discriminator": networks.mlp(categories, 1, ()),
    }


def changed(build, fits, **other):
    """A function that builds the model with some of the parts that fit replaced by others."""
    return lambda: build(**fits() | {name: make() for name, make in other.items()})


def vae_parts():
    return {"posterior": posterior(), "likelihood": likelihood(), "prior": zoo.StandardNormal(D)}


def gan_parts():
    return {
        "generator": decoder(),
        "discriminator": logit(SHAPE),
        "prior": zoo.StandardNormal(D),
    }


def aae_parts():
    return vae_parts() | {"discriminator": networks.mlp(D, 1, ())}


def encoder_and_gan_parts():
    return gan_parts() | {"posterior": posterior()}


def vaegan_parts():
    features = networks.mlp_discriminator(SHAPE, (6,), features=True)
    return encoder_and_gan_parts() | {"discriminator": features}


def m1m2_parts():
    first = zoo.models.m1_m2(SHAPE, hidden=(6,), latent_dim=3, classifier_hidden=(6,))
    names = ("classifier", "likelihood", "prior", "first_posterior", "first_likelihood")
    return {name: getattr(first, name) for name in ("posterior", *names)}


class OnlyOneAxis(zoo.distributions.Prior):
    """D independent values, instead of one vector of D values."""

    def call(self, y=None):
        return tfp.distributions.Normal(tf.zeros(D), 1.0)


def two_outputs():
    x = keras.Input(SHAPE)
    h = keras.layers.Flatten()(x)
    return keras.Model(x, [keras.layers.Dense(D)(h), keras.layers.Dense(D)(h)])


def flat_decoder():
    return zoo.Conditional(networks.mlp(D, 64, ()), zoo.Bernoulli())


def vae(**other):
    return changed(zoo.VAE, vae_parts, **other)


def gan(**other):
    return changed(zoo.GAN, gan_parts, **other)


TWO_PARAMETERS = (
    r"`likelihood` of this VAE .*over \[B, 8, 8, 1\] .*Bernoulli, .*\[B, 8, 8, 1\].*"
    r"Received.*\[B, 8, 8, 2\]"
)

MISFITS = {
    # The likelihood, in a VAE.
    "two parameters per pixel": (vae(likelihood=lambda: likelihood(params=2)), TWO_PARAMETERS),
    "grey decoder of colour images": (
        vae(posterior=lambda: posterior((8, 8, 3))),
        r"`likelihood` .*over \[B, 8, 8, 3\].*Received.*over \[B, 8, 8, 1\]",
    ),
    "decoder of another size": (
        vae(likelihood=lambda: likelihood(shape=(4, 4, 1))),
        r"`likelihood` .*over \[B, 8, 8, 1\].*Received.*over \[B, 4, 4, 1\]",
    ),
    "flat decoder": (
        vae(likelihood=flat_decoder),
        r"`likelihood` .*over \[B, 8, 8, 1\].*Received.*over \[B, 64\]",
    ),
    # The posterior and the prior.
    "latents of another size": (
        vae(posterior=lambda: posterior(dim=6)),
        r"`posterior` .*over \[B, 4\].*DiagonalNormal.*\[B, 8\].*Received.*\[B, 6\].*\[B, 12\]",
    ),
    "D outputs in place of 2 D": (
        vae(
            posterior=lambda: zoo.Conditional(
                networks.mlp_encoder(SHAPE, D, ()), zoo.DiagonalNormal()
            )
        ),
        r"`posterior` .*returns \[B, 8\].*Received.*returns \[B, 4\]",
    ),
    "prior of another size": (
        vae(prior=lambda: zoo.StandardNormal(3)),
        r"`prior` of this VAE .*over \[B, 4\].*Received: a StandardNormal over \[B, 3\]",
    ),
    "prior of another event": (vae(prior=OnlyOneAxis), r"`prior` .*\[B, 4\].*Received.*over \[B\]"),
    "encoder of flat images": (
        vae(posterior=lambda: posterior((64,))),
        r"take images must have an input \[B, H, W, C\].*Received: an input \[B, 64\]",
    ),
    "condition of another shape": (
        lambda: zoo.CVAE(
            zoo.Conditional(
                labelled(lambda shape: networks.mlp(shape[0], 2 * D, ()), SHAPE, 10),
                zoo.DiagonalNormal(),
            ),
            zoo.Conditional(
                networks.conditioned(
                    lambda shape: decoder(*shape), (D,), networks.Condition("attributes", (5,))
                ),
                zoo.Bernoulli(),
            ),
            zoo.StandardNormal(D),
        ),
        r"same condition.*int32 \[B\] \(`posterior`\), float32 \[B, 5\] \(`likelihood`\)",
    ),
    # Every other class.
    "Autoencoder": (
        lambda: zoo.Autoencoder(networks.mlp_encoder(SHAPE, 3, ()), likelihood()),
        r"`encoder` of this Autoencoder .*to \[B, 4\].*Received.*to \[B, 3\]",
    ),
    "RAE": (
        lambda: zoo.RAE(
            networks.mlp_encoder(SHAPE, D, ()), likelihood(), zoo.distributions.FittedMixture(3, 2)
        ),
        r"`prior` of this RAE .*\[B, 4\].*\[B, 3\]",
    ),
    "generator of another size": (
        gan(generator=lambda: decoder(shape=(4, 4, 1))),
        r"`generator` of this GAN .*to \[B, 8, 8, 1\].*Received.*to \[B, 4, 4, 1\]",
    ),
    "grey generator": (
        gan(discriminator=lambda: logit((8, 8, 3))),
        r"`generator` of this GAN .*to \[B, 8, 8, 3\].*Received.*to \[B, 8, 8, 1\]",
    ),
    "latents of a GAN": (
        gan(prior=lambda: zoo.StandardNormal(7)),
        r"`prior` .*\[B, 4\].*Received.*\[B, 7\]",
    ),
    "discriminator with two outputs": (
        gan(discriminator=lambda: networks.mlp_encoder(SHAPE, 2, ())),
        r"`discriminator` .*to \[B, 1\].*Received.*to \[B, 2\]",
    ),
    "discriminator without the last axis": (
        gan(
            discriminator=lambda: keras.Sequential(
                [keras.Input(SHAPE), *logit(SHAPE).layers, keras.layers.Reshape(())]
            )
        ),
        r"`discriminator` .*to \[B, 1\].*Received.*to \[B\]",
    ),
    "classes of a CGAN": (lambda: cgan(10, 5), r"same condition.*classes: 10 \(`generator`\), 5"),
    "discriminator of an AAE": (
        changed(zoo.AAE, aae_parts, discriminator=lambda: networks.mlp(3, 1, ())),
        r"`discriminator` of this AAE .*from \[B, 4\].*Received.*from \[B, 3\]",
    ),
    "FactorVAE": (
        changed(zoo.FactorVAE, aae_parts, discriminator=lambda: logit(SHAPE)),
        r"`discriminator` of this FactorVAE .*from \[B, 4\].*from \[B, 8, 8, 1\]",
    ),
    "WAE": (
        lambda: zoo.WAE(posterior(), decoder(shape=(8, 8, 3)), zoo.StandardNormal(D)),
        r"`generator` of this WAE .*to \[B, 8, 8, 1\].*to \[B, 8, 8, 3\]",
    ),
    "WAEGAN": (
        changed(zoo.WAEGAN, encoder_and_gan_parts),
        r"`discriminator` of this WAEGAN .*from \[B, 4\].*from \[B, 8, 8, 1\]",
    ),
    "BiGAN": (
        changed(zoo.BiGAN, encoder_and_gan_parts, discriminator=lambda: joint(SHAPE, 3)),
        r"`discriminator` of this BiGAN .*from \[B, 8, 8, 1\] and \[B, 4\].*and \[B, 3\]",
    ),
    "AVB": (
        changed(zoo.AVB, aae_parts, discriminator=lambda: joint((4, 4, 1), D)),
        r"`discriminator` of this AVB .*from \[B, 8, 8, 1\] and \[B, 4\].*\[B, 4, 4, 1\]",
    ),
    "AlphaGAN": (
        lambda: zoo.AlphaGAN(**encoder_and_gan_parts(), code_discriminator=networks.mlp(3, 1, ())),
        r"`code_discriminator` of this AlphaGAN .*from \[B, 4\].*from \[B, 3\]",
    ),
    "VAEGAN": (
        changed(zoo.VAEGAN, encoder_and_gan_parts),
        r"`discriminator` of this VAEGAN .*to \[B, \?\] and \[B, 1\].*Received.*to \[B, 1\]",
    ),
    "generator of a VAEGAN": (
        changed(zoo.VAEGAN, vaegan_parts, generator=lambda: decoder(3)),
        r"`posterior` of this VAEGAN .*over \[B, 3\].*over \[B, 4\]",
    ),
    "style of a ClusteringAAE": (
        lambda: zoo.ClusteringAAE(**clustering(style=3)),
        r"`discriminator` of this ClusteringAAE .*from \[B, 4\].*from \[B, 3\]",
    ),
    "categories of a ClusteringAAE": (
        lambda: zoo.SemiSupervisedAAE(**clustering(categories=4)),
        r"`category_discriminator` of this SemiSupervisedAAE .*from \[B, 3\].*from \[B, 4\]",
    ),
    "decoder of heads": (
        lambda: zoo.DimensionReductionAAE(**clustering(), heads=zoo.ClusterHeads(3, D)),
        r"`likelihood` of this DimensionReductionAAE .*given \[B, 4\].*given \[B, 7\]",
    ),
    "classes of an M2": (lambda: m2(10, of_posterior=5), r"`posterior` must take.*5 classes"),
    "classes of x in an M2": (lambda: m2(10, of_likelihood=9), r"`likelihood` must.*9 classes"),
    "classifier of an M2": (
        lambda: m2(10, x=(4, 4, 1)),
        r"`classifier` of this M2 .*from \[B, 8, 8, 1\].*from \[B, 4, 4, 1\]",
    ),
    "M1M2": (
        changed(zoo.M1M2, m1m2_parts, first_likelihood=lambda: likelihood(3)),
        r"`first_likelihood` of this M1M2 .*given \[B, 50\].*given \[B, 3\]",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_parts_that_do_not_fit_are_refused_when_the_model_is_built(name):
    build, sentence = MISFITS[name]
    with pytest.raises(ValueError, match=f"(?s){sentence}"):
        build()


# Detects: a new class whose networks nobody compares.
def test_each_class_lists_all_its_networks():
    small = {"hidden": (6,), "latent_dim": 2}
    for name, build in BUILDERS.items():
        options = build.__signature__.parameters
        shape = (8, 8, 3) if name == "face_autoencoder" else SHAPE
        model = build(shape, **{k: v for k, v in small.items() if k in options})
        networks_of_model = {
            argument
            for argument in model._argument_names()
            if isinstance(getattr(model, argument), keras.layers.Layer)
        }
        listed = set(model.interfaces())
        # The heads of an AAE and the head of a FaceAutoencoder are no networks.
        assert networks_of_model - ({"heads", "head"} - listed) == listed, name


@pytest.mark.parametrize(
    "make",
    [
        lambda network: zoo.Conditional(network, zoo.DiagonalNormal()),
        lambda network: zoo.ConditionalPrior(network, zoo.DiagonalNormal()),
        zoo.ImplicitConditional,
        lambda network: zoo.GAN(network, logit(SHAPE), zoo.StandardNormal(D)),
        lambda network: zoo.GAN(decoder(), network, zoo.StandardNormal(D)),
        lambda network: zoo.CGAN(network, logit(SHAPE), zoo.StandardNormal(D)),
        lambda network: zoo.Autoencoder(network, likelihood()),
        lambda network: zoo.AVB(**vae_parts(), discriminator=network),
        lambda network: zoo.AAE(**vae_parts(), discriminator=network),
        lambda network: zoo.M2(network, posterior(), likelihood(), zoo.StandardNormal(D)),
    ],
)
def test_a_network_that_is_not_built_is_refused(make):
    with pytest.raises(ValueError, match=r"must be built.*keras\.Input.*'unbuilt', without inputs"):
        make(keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(8)], name="unbuilt"))


# The parts themselves -------------------------------------------------------------------------


def test_an_encoder_of_two_outputs_is_refused_with_the_way_to_join_them():
    with pytest.raises(ValueError, match=r"in one tensor.*Concatenate.*\(None, 4\), \(None, 4\)"):
        zoo.Conditional(two_outputs(), zoo.DiagonalNormal())


def test_outputs_that_no_number_of_values_has_are_refused():
    with pytest.raises(ValueError, match=r"DiagonalNormal has 2, 4, 6, .*Received: .*\(5,\)"):
        zoo.Conditional(networks.mlp(2, 5, ()), zoo.DiagonalNormal())
    with pytest.raises(ValueError, match="FullCovarianceNormal"):
        zoo.Conditional(networks.mlp(2, 6, ()), zoo.FullCovarianceNormal())
    with pytest.raises(ValueError, match=r"FullCovarianceNormal .*on one axis"):
        zoo.Conditional(decoder(params=2), zoo.FullCovarianceNormal())
    with pytest.raises(ValueError, match="takes 13 parameters"):
        zoo.Conditional(networks.mlp(2, 6, ()), zoo.PlanarNormal(3, steps=1))


@pytest.mark.parametrize("name", zoo.distributions.by_name.POSTERIORS)
def test_a_part_knows_the_shapes_of_its_distribution(name):
    part = zoo.distributions.by_name.posterior(
        name,
        3,
        lambda n: networks.mlp_encoder(SHAPE, n, ()),
        lambda noise, n: zoo.distributions.noisy_mlp(SHAPE, noise, n, ()),
    )
    assert part.context_shape == SHAPE
    assert part.event_shape == tuple(part(tf.zeros([2, *SHAPE])).event_shape) == (3,)


def test_layers_of_latents_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"of shape \(4,\)\D+Received.*shape \(3,\)"):
        zoo.HierarchicalPosterior(posterior(), posterior((3,), 2))
    with pytest.raises(ValueError, match=r"of shape \(2,\)\D+Received.*shape \(3,\)"):
        zoo.HierarchicalPrior(zoo.StandardNormal(2), posterior((3,), 2))


# Models and parts of users --------------------------------------------------------------------


class Own(zoo.distributions.Part):
    """A posterior without a network, which knows no shapes."""

    def call(self, x, y=None, training=False):
        mean = tf.reduce_mean(x, [1, 2])
        return tfp.distributions.MultivariateNormalDiag(tf.tile(mean, [1, D]), tf.ones(D))


class Sized(Own):
    context_shape, event_shape = SHAPE, (3,)


class OnOwn(zoo.VAE):
    """A VAE of a script. It adds an attribute after the constructor of the base class."""

    image_shape = SHAPE

    def __init__(self, *parts):
        super().__init__(*parts)
        self.extra = networks.mlp(2, 1, ())

    def interfaces(self):
        return super().interfaces() | {"extra": Interface(((3,),), (LOGIT,))}


def test_a_part_without_known_shapes_is_accepted():
    model = zoo.AAE(Own(), likelihood(), zoo.StandardNormal(D), networks.mlp(D, 1, ()))
    x = np.zeros([2, *SHAPE], np.float32)
    losses, _ = model.reconstruction_objective(x, None, tf.constant([1, 2]), False)
    assert losses["autoencoder"].shape == [2]


def test_the_shapes_that_a_part_states_are_compared():
    with pytest.raises(ValueError, match=r"`posterior` .*over \[B, 4\].*a Sized over \[B, 3\]"):
        zoo.VAE(Sized(), likelihood(), zoo.StandardNormal(D))


def test_a_model_of_a_script_is_compared_after_its_own_constructor():
    with pytest.raises(ValueError, match=r"`extra` of this OnOwn .*from \[B, 3\].*from \[B, 2\]"):
        OnOwn(posterior(), likelihood(), zoo.StandardNormal(D))
    with pytest.raises(ValueError, match=r"`likelihood` of this OnOwn .*\[B, 4, 4, 1\]"):
        OnOwn(posterior(), likelihood(shape=(4, 4, 1)), zoo.StandardNormal(D))


def test_the_signature_of_a_constructor_is_kept():
    assert list(inspect.signature(zoo.Autoencoder).parameters) == [
        "encoder",
        "likelihood",
        "prior",
        "kwargs",
    ]
