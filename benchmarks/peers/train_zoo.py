"""The zoo's side: builds, trains and exports the model of a row."""

import time
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import zoo
from benchmarks.machine import machine
from benchmarks.peers import exchange
from benchmarks.peers.exchange import Settings
from benchmarks.peers.specification import Row
from zoo.datasets.images import ImageData, Split
from zoo.finite import NonFiniteError
from zoo.model import GenerativeModel
from zoo.versions import versions

_SAMPLES = 500
"""Number of samples at a time."""


def build(row: Row, image_shape: tuple[int, int, int]) -> GenerativeModel:
    """The model of a row."""
    networks, d = zoo.networks, row.latent_dim
    # The decoders of pythae start with a bias of 0.
    sizes: dict[str, Any] = {"latent_dim": d, "hidden": row.hidden, "start_at_mean": False}
    if row.model in ("VAE", "VAMP", "VAE_IAF"):
        if row.components:
            sizes |= {"prior": "vamp", "prior_components": row.components}
        if row.flow_steps:
            sizes |= {"posterior": "iaf", "posterior_steps": row.flow_steps}
            sizes |= {"posterior_hidden": row.flow_hidden}
        return zoo.models.vae(image_shape, likelihood=row.likelihood, **sizes)
    if row.model == "IWAE":
        return zoo.models.iwae(image_shape, activation="relu", num_samples=row.draws, **sizes)
    if row.model == "Adversarial_AE":
        return zoo.models.aae(image_shape, discriminator_hidden=row.discriminator_hidden, **sizes)
    encoder = networks.mlp_encoder(image_shape, (2 if row.normal else 1) * d, row.hidden)
    family = zoo.DiagonalNormal() if row.normal else zoo.Deterministic()
    posterior, prior = zoo.Conditional(encoder, family), zoo.StandardNormal(d)
    generator = networks.mlp_decoder(d, image_shape, hidden=row.hidden[::-1], output="sigmoid")
    if row.model == "WAE_MMD":
        return zoo.WAE(posterior, generator, prior, lambda_=row.weight, start_at_mean=False)
    discriminator = networks.mlp_discriminator(image_shape, row.discriminator_hidden, features=True)
    rule = zoo.Equilibrium(margin=row.margin)
    return zoo.VAEGAN(posterior, generator, prior, discriminator, gamma=row.gamma, equilibrium=rule)


def train(
    row: Row, settings: Settings, images: Mapping[str, np.ndarray], jit_compile: bool = True
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Trains a row's model; returns facts and arrays, as `exchange.check_result` expects them.

    Args:
        row: The row.
        settings: The settings of the training.
        images: The images "train" and "test", uint8 `[N, H, W]`.
        jit_compile: Whether XLA compiles the step.
    """
    keras.utils.set_random_seed(settings.seed)
    train, test = images["train"][: settings.images], images["test"][: settings.scored]
    data = ImageData(
        row.data, {"train": Split(train[..., None])}, (*train.shape[1:], 1), seed=settings.seed
    )
    model = build(row, data.image_shape)
    steps = data.steps_per_epoch(row.batch_size)
    model.compile(
        {player: _adam(row, player) for player in model.players()},
        jit_compile=jit_compile,
        steps_per_execution=max(n for n in range(1, 51) if steps % n == 0),
    )
    batches = data.batches("train", row.batch_size, shuffle=True, repeat=True)
    wall, processor = time.monotonic(), time.process_time()
    about: dict[str, Any] = {"versions": versions()}
    try:
        model.fit(batches, epochs=settings.epochs, steps_per_epoch=steps, verbose=0)
    except NonFiniteError as error:
        return about | {"failed": str(error)}, {}
    about |= {
        "seconds": time.monotonic() - wall,
        "seconds_of_all_cores": (time.process_time() - processor) / machine()["cores"],
        "parameters": sum(int(np.prod(v.shape)) for v in model.trainable_variables),
    }
    return about, export(model, row, settings, test)


def _adam(row, player):
    rate = row.discriminator_learning_rate if player == "discriminator" else row.learning_rate
    return keras.optimizers.Adam(rate, row.beta_1, epsilon=1e-7)


def export(
    model: GenerativeModel, row: Row, settings: Settings, test: np.ndarray
) -> dict[str, np.ndarray]:
    """The arrays that `exchange.check_result` lists.

    Args:
        model: The trained model.
        row, settings: As for `train`.
        test: The test images for the likelihood, uint8 `[N, H, W]`.
    """
    parts = [
        np.asarray(
            model.sample(min(_SAMPLES, settings.samples - start), seed=[settings.seed, start])
        )
        for start in range(0, settings.samples, _SAMPLES)
    ]
    arrays = {"samples": exchange.as_bytes(np.concatenate(parts)[..., 0])}
    if not row.scored:
        return arrays
    q = model.posterior(tf.constant(exchange.unit(test)[..., None]))
    normal = q.distribution if row.flow_steps else q
    loc, scale = normal.mean().numpy(), normal.stddev().numpy()
    base = exchange.draws(loc, scale, settings.importance_samples, settings.seed)
    if row.flow_steps:
        steps = [(q.bijector.forward(b), q.bijector.forward_log_det_jacobian(b, 1)) for b in base]
        z, log_det = (np.stack(part) for part in zip(*steps, strict=True))
    else:
        z, log_det = base, np.zeros(base.shape[:2], np.float32)
    decoder = model.likelihood.network
    # Half precision: the errors of a log-likelihood are about 0.001 nats.
    outputs = [np.asarray(decoder(part), np.float16).reshape(len(part), -1) for part in z]
    prior = model.prior()
    if row.components:
        prior = prior.components_distribution
    shape = (row.components or 1, row.latent_dim)
    return arrays | {
        "loc": loc,
        "scale": scale,
        "base": base,
        "z": z,
        "log_det": log_det,
        "outputs": np.stack(outputs),
        "prior_loc": prior.mean().numpy().reshape(shape),
        "prior_scale": prior.stddev().numpy().reshape(shape),
    }
