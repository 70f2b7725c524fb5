"""Burda et al., "Importance Weighted Autoencoders", 2016, table 1: MNIST, one and two layers."""

from benchmarks.tables.table import Row, Table, negative_log_likelihood
from zoo import metrics

_SETTINGS = (
    "batch_size=100",
    "optimizers.vae.learning_rate=3e-3",
    "learning_rate_decay=cosine",
    "steps_per_execution=100",
)


def _score(trained):
    return {"NLL": negative_log_likelihood(trained)} | _active_units(trained)


def _active_units(trained):
    """The active units of each layer of latents, on the test images."""
    means = trained.model.encode(trained.data.arrays("test")[0]).numpy()
    dims = trained.config.model.get("latent_dims", None)
    if dims is None:
        return {"active units": metrics.active_units(means)}
    return {
        "active units of z1": metrics.active_units(means[:, : dims[0]]),
        "active units of z2": metrics.active_units(means[:, dims[0] :]),
    }


_PROTOCOL = (
    "tanh, batches of 100, Adam from 3e-3 with epsilon 1e-4 and a cosine fall to 0, dynamic "
    "binarisation. NLL of the 10,000 test images under one fixed binarisation, with 500 importance "
    "samples for all images, corrected by the mean difference to 5,000 samples for 200 images. "
    "Active units: the latents whose posterior mean has a variance above 0.01 over the test images."
)
_DIFFERS = (
    "The paper trains for 3,280 epochs in batches of 20, with a learning rate that decays in "
    "eight stages from 1e-3 to 1e-4. Here the table states the epochs. The batch size and the "
    "learning rate suit short training: of the batch sizes 20, 100, 200 and the rates from "
    "1e-3 to 5e-3, they gave the best bound on validation images after some minutes.",
    "The paper trains on 59,600 images. Here there are 50,000, because 10,000 are for validation.",
    "The paper uses 5,000 importance samples for every test image.",
)

_OTHER_DRAW = (
    "The validation images of these curves were binarised by another fixed draw than a repeated run "
    "uses, which changes their bounds by about 0.05 nats."
)

TABLE = Table(
    name="iwae",
    title="Importance-weighted autoencoder on MNIST, one stochastic layer",
    reference="Burda et al., 2016, table 1. https://arxiv.org/abs/1509.00519",
    protocol="784-200-200-50 and its mirror, " + _PROTOCOL,
    differs=_DIFFERS,
    rows=(
        Row(
            "IWAE, k = 1 (VAE)",
            "iwae_mnist",
            (*_SETTINGS, "model.num_samples=1"),
            {"NLL": 86.76, "active units": 19},
            1.0,
        ),
        Row(
            "IWAE, k = 5",
            "iwae_mnist",
            (*_SETTINGS, "model.num_samples=5"),
            {"NLL": 85.54, "active units": 22},
            1.3,
        ),
        Row(
            "IWAE, k = 50",
            "iwae_mnist",
            (*_SETTINGS, "model.num_samples=50"),
            {"NLL": 84.78, "active units": 25},
            0.8,
        ),
    ),
    score=_score,
    scoring=0.1,
    remarks=(
        "The target is an NLL within 0.6 nats of the paper. It is missed by 0.1 nats for k = 1, by 0.6 "
        "for k = 5 and by 1.6 for k = 50. The active units are 19, 20 and 22 of the paper's 19, 22 and "
        "25.",
        "For k = 1, 605 epochs in batches of 100 are 302,500 updates; the paper's 3,280 epochs in batches "
        "of 20 are 9.8 million. The bound on validation images is 101.7 nats after 200 epochs, 95.2 after "
        "405 and 92.1 after 605, where the learning rate is 0; on training images it is 100.4, 93.7 and "
        "90.7. " + _OTHER_DRAW,
        "For k = 50 there are a third as many epochs as for k = 5, and its NLL is above that of k = 5. "
        "The rate of 3e-3 suits some minutes on a CPU; with two layers, 1e-3 is far better (see the table "
        "of two layers). With one layer a smaller rate was not tried for long.",
    ),
)

TWO_LAYERS = Table(
    name="iwae_two_layers",
    title="Importance-weighted autoencoder on MNIST, two stochastic layers",
    reference="Burda et al., 2016, table 1. https://arxiv.org/abs/1509.00519",
    protocol="784-200-200-100, 100-100-100-50 and their mirrors, "
    + _PROTOCOL.replace("from 3e-3", "from 1e-3"),
    differs=_DIFFERS,
    rows=(
        Row(
            "IWAE, two layers, k = 1 (VAE)",
            "hierarchical_iwae_mnist",
            (*_SETTINGS, "optimizers.vae.learning_rate=1e-3", "model.num_samples=1"),
            {"NLL": 85.33},
            1.0,
        ),
        Row(
            "IWAE, two layers, k = 5",
            "hierarchical_iwae_mnist",
            (*_SETTINGS, "optimizers.vae.learning_rate=1e-3", "model.num_samples=5"),
            {"NLL": 83.89},
            1.6,
        ),
    ),
    score=_score,
    scoring=0.1,
    remarks=(
        "The NLL is above the paper's by 1.5 nats for k = 1 and by 1.7 for k = 5, after 250 epochs. Five "
        "draws are better than one by 1.3 nats; by 1.4 in the paper.",
        "The rate was chosen on validation images. After `trainers.train --epochs=12 "
        "--preset=hierarchical_iwae_mnist --set=batch_size=100 --set=num_samples=5 "
        "--set=optimizers.vae.learning_rate=RATE` the bound is 112.6 nats with the rate 3e-3, as with one "
        "layer, and 103.3 with 1e-3.",
        "With k = 1 the bound on validation images is 96.8 nats after 82 epochs, 93.0 after 168 and 91.6 "
        "after 250; on training images it is 95.7, 91.8 and 90.3. With k = 5 it is 93.7, 90.3 and 88.9, "
        "and 92.7, 89.0 and 87.7. " + _OTHER_DRAW,
    ),
)

TABLES = (TABLE, TWO_LAYERS)
