"""What families and priors have in common: KL divergences, and coming back from a config."""

import json

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

import zoo
from zoo import distributions

RNG = np.random.default_rng(0)


def test_the_kl_of_two_diagonal_normals_is_the_formula_and_the_monte_carlo_mean():
    loc, raw = RNG.normal(size=(2, 4, 3)).astype(np.float32)
    q = zoo.DiagonalNormal()(tf.concat([loc, raw], -1), 1)
    p = zoo.StandardNormal(3)()
    scale = 1e-4 + np.log1p(np.exp(raw))
    formula = -0.5 * (1 + 2 * np.log(scale) - loc**2 - scale**2).sum(-1)
    z = q.sample(20_000, seed=[3, 4])
    estimates = (scipy.stats.norm.logpdf(z, loc, scale) - scipy.stats.norm.logpdf(z, 0.0, 1.0)).sum(
        -1
    )
    error = estimates.std(0) / np.sqrt(len(estimates))
    # `z` is of no use where there is a formula.
    exact = distributions.kl(q, p, tf.fill([4, 3], np.nan))
    np.testing.assert_allclose(exact, formula, rtol=1e-5)
    assert (np.abs(estimates.mean(0) - formula) < 4 * error).all()


@pytest.mark.parametrize(
    "part",
    [
        zoo.Deterministic(),
        zoo.Bernoulli(),
        zoo.ContinuousBernoulli(),
        zoo.DiagonalNormal(0.02, 3.0),
        zoo.UnitNormal(),
        zoo.FullCovarianceNormal(0.02),
        zoo.SharedScaleNormal(0.7, 0.2),
        zoo.DiscretizedLogistic(9, 0.02, 0.3),
        zoo.Categorical(4),
        zoo.StandardNormal(4),
        zoo.IsotropicNormal(4, 3.0),
        zoo.Uniform(4, -2.0, 0.5),
        zoo.NormalPetals(4, 3.0, (0.3, 0.2)),
        zoo.SwissRoll(1.5, 2.0, 0.1, 7),
        zoo.MixturePrior(3, 4, 0.1),
    ],
    ids=lambda part: type(part).__name__,
)
def test_families_and_priors_come_back_from_their_config(part):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(part)))
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(part) and copy is not part
    assert keras.saving.serialize_keras_object(copy) == keras.saving.serialize_keras_object(part)
    is_prior = isinstance(part, distributions.Prior)
    size = 5 if isinstance(part, zoo.FullCovarianceNormal) else 4
    params = () if is_prior else (tf.constant([[0.3, 0.6, -1.0, 2.0, 0.5]])[:, :size], 1)
    copy.set_weights(part.get_weights())
    draws = [p(*params).sample(5, seed=[3, 1]) for p in (part, copy)]
    np.testing.assert_array_equal(*draws)
