"""Burda et al., "Importance Weighted Autoencoders", 2016, table 1: MNIST, one stochastic layer."""

from benchmarks.tables.table import Row, Table, negative_log_likelihood

_SETTINGS = (
    "batch_size=100",
    "optimizers.vae.learning_rate=3e-3",
    "learning_rate_decay=cosine",
    "steps_per_execution=100",
)


def _score(trained):
    return {"NLL": negative_log_likelihood(trained)}


TABLE = Table(
    name="iwae",
    title="Importance-weighted autoencoder on MNIST, one stochastic layer",
    reference="Burda et al., 2016, table 1. https://arxiv.org/abs/1509.00519",
    protocol=(
        "784-200-200-50 and its mirror, tanh, batches of 100, Adam from 3e-3 with epsilon 1e-4 and a "
        "cosine fall to 0, dynamic binarisation. NLL of the 10,000 test images, one fixed draw of "
        "them, with 5,000 importance samples on 200 images and 500 on all, joined by their "
        "difference."
    ),
    differs=(
        "3,280 epochs in batches of 20, at a learning rate that falls in eight stages from 1e-3 to "
        "1e-4, in the paper; here as many as the table says, and settings that learn more in few: of "
        "the batch sizes 20, 100, 200 and rates from 1e-3 to 5e-3 those with the best bound on "
        "validation images after some minutes.",
        "Here the rows differ in their epochs, since draws cost time: k = 50 is trained least.",
        "59,600 training images; here 50,000, since 10,000 are for validation.",
        "The output's bias starts at the mean image; here at 0.",
        "5,000 samples for every test image in the paper.",
    ),
    rows=(
        Row(
            "IWAE, k = 1 (VAE)",
            "iwae_mnist",
            (*_SETTINGS, "model.num_samples=1"),
            {"NLL": 86.76},
            1.0,
        ),
        Row("IWAE, k = 5", "iwae_mnist", (*_SETTINGS, "model.num_samples=5"), {"NLL": 85.54}, 1.4),
        Row(
            "IWAE, k = 50", "iwae_mnist", (*_SETTINGS, "model.num_samples=50"), {"NLL": 84.78}, 3.0
        ),
    ),
    score=_score,
    scoring=0.22,
    remarks=(
        "Missed: k = 1 was to be within 1.0 nat of the paper, and lacks 2.2 for that; k = 5 lacks "
        "1.2. At equal epochs k = 5 is better than k = 1, as in the paper, and by more.",
        "Why: updates. 210 epochs in batches of 100 are 105,000 of them, the paper's 3,280 epochs in "
        "batches of 20 are 9.8 million. Bounds on training and validation images were falling until "
        "the learning rate was 0, those on validation images with them: it is no overfitting.",
        "k = 50 costs some seven times as much for each epoch as k = 5. In its share of half an hour it "
        "is not trained to a point where its place in the paper's order could show.",
    ),
)
