"""Higgins et al., "beta-VAE", 2017: disentanglement scores on the grid of dSprites."""

import dataclasses

from benchmarks.tables.table import Row, Table, Trained
from zoo import datasets, metrics
from zoo.evaluation import Evaluation
from zoo.metrics.estimate import Estimate
from zoo.model import GenerativeModel

DCI_TRAIN = 2_000
"""Number of images to train the trees of DCI and the support vector machines of SAP on."""

_SETTINGS = ("image_size=32", "learning_rate_decay=cosine")


def _score(trained: Trained) -> dict[str, Estimate]:
    data = trained.data
    if data.name == "sprites_groups":  # Models of groups are scored on the images of the others.
        size, seed = data.image_shape[0], trained.config.seed
        data = datasets.load("sprites", image_size=size, seed=seed)
    return scores(trained.model, data, trained.config.seed)


def scores(
    model: GenerativeModel,
    data: datasets.ImageData,
    seed: int = 0,
    num_train: int = 10_000,
    num_eval: int = 5_000,
) -> dict[str, Estimate]:
    """The five scores of a model's codes of the test images, in per cent.

    The beta-VAE score is that of the four factors which are numbers; "with shape" is that of all
    five factors, as all other scores.

    Args:
        model: A model that encodes.
        data: Images with known factors, which are not the model's training images.
        seed: Seed of the draws.
        num_train: Number of draws to train the beta-VAE and the FactorVAE score.
        num_eval: Number of draws to test them.
    """
    evaluation = Evaluation.of_model(model, data, seed=seed)

    def examples(split, limit=None):
        codes = evaluation.means(*data.arrays(split, limit))
        return codes, data.factors(split, limit).astype(int)

    test = examples("test")
    both = *examples("validation", DCI_TRAIN), *test
    draws = {"num_train": num_train, "num_eval": num_eval, "seed": seed}
    found = {
        "beta-VAE score": metrics.beta_vae_score(test[0], test[1][:, 1:], **draws),
        "with shape": metrics.beta_vae_score(*test, **draws),
        "FactorVAE score": metrics.factor_vae_score(*test, **draws),
        "MIG": metrics.mutual_information_gap(*test),
        "DCI": metrics.dci(*both, seed=seed)["disentanglement"],
        "SAP": metrics.sap(*both),
    }
    return {name: _in_per_cent(score) for name, score in found.items()}


def _in_per_cent(score):
    error = None if score.stderr is None else 100 * score.stderr
    return dataclasses.replace(score, value=100 * score.value, stderr=error)


TABLE = Table(
    name="disentanglement",
    title="Disentanglement scores on sprites",
    reference=(
        "Higgins et al., 2017, the comparison on 2D shapes. "
        "https://openreview.net/forum?id=Sy2fzU9gl"
    ),
    protocol=(
        "50,000 binary images of `sprites` of 32x32 pixels; 1024-256-256-10 and its mirror, ReLU, "
        "Bernoulli likelihood, batches of 64, Adam from 2e-3 with a cosine fall to 0, no warm-up of "
        "the rate, the same number of epochs for all rows. beta-TCVAE has batches of 256. DC-IGN is trained on 50,000 images of "
        "`sprites_groups` in batches of four groups of 20. The scores are those of Locatello et al., "
        "2019, of the posterior means of the 5,000 test images: 10,000 draws to train the beta-VAE "
        "and the FactorVAE score and 5,000 to test them; the beta-VAE score of scale, orientation "
        "and both positions, and with the shape; the trees of DCI and the support vector machines "
        f"of SAP are trained on {DCI_TRAIN:,} validation images. DCI is its disentanglement. The "
        "weight of beta-VAE was chosen among 2, 4 and 8 by the scores of validation images after "
        "six epochs, that of FactorVAE between 10 and 30, that of beta-TCVAE, its batches and its "
        "estimator among five settings, and DC-IGN's invariance is 0.1 instead of "
        "1/100."
    ),
    differs=(
        "The paper has the 737,280 published images of 64x64 pixels and networks of 1,200 units, "
        "trained for longer. Here the images are rendered from the same grid; the exact shapes of "
        "the published images are not known.",
        "The paper's numbers come from its own classifier, for a beta of 4 at 64x64 pixels, and were "
        "not checked against its text; its factors are taken to be the four that are numbers. "
        "FactorVAE and beta-TCVAE are later than the paper.",
        "DC-IGN has two latents for the shape, five for the orientation, and one for each other "
        "factor. Its groups have the five factors in turn; the original has ten groups of "
        "identities for one of each other kind.",
    ),
    rows=(
        Row("VAE", "vae_sprites", _SETTINGS, {"beta-VAE score": 61.58}),
        Row(
            "beta-VAE, beta = 8",
            "beta_vae_sprites",
            (*_SETTINGS, "beta=8"),
            {"beta-VAE score": 99.23},
        ),
        Row("FactorVAE, gamma = 30", "factor_vae_sprites", (*_SETTINGS, "gamma=30")),
        Row(
            "beta-TCVAE, beta = 6",
            "beta_tcvae_sprites",
            (*_SETTINGS, "beta=6", "batch_size=256"),
        ),
        Row("DC-IGN", "inverse_graphics_sprites_groups", _SETTINGS, {"beta-VAE score": 99.3}),
    ),
    score=_score,
    unit="per cent",
    digits=1,
    remarks=(
        "The order is the paper's: beta-VAE and DC-IGN have the beta-VAE score 100 for the four "
        "factors that are numbers, and the VAE has 81, more than in the paper. FactorVAE has 99.",
        "A high score needs no complete code. The decoders of beta-VAE and DC-IGN draw discs of the "
        "right place and size: orientation and shape are not in the code, and the classifier tells "
        "the orientation from the other three factors because no latent is constant when it is "
        "fixed. With the shape, which is not in the code either, the scores are at most 83, and "
        "the FactorVAE score, which counts majority votes of single latents, is at most 60.",
        "Trials, of which no record exists: a warm-up of the rate over the first 2,000 steps "
        "entangles the position for good: after 12 epochs, MIG of validation images was 1 % with "
        "it; without it, it was 3 % for the VAE after 6 epochs, 18 % with a beta of 4 after 12 "
        "epochs and 32 % with a beta of 8 after 6 epochs.",
        "A trial without a record: a capacity that rises from 0 to 18 nats over 17,000 steps "
        "(beta = 20, 24 epochs) has the same score, 100, and the highest MIG of validation "
        "images, 38 %, but no latent for the orientation.",
        "The estimates of beta-TCVAE need large batches. In a trial without a record, in batches "
        "of 64 with a beta of 8, the estimate of the total correlation fell to -2.9 nats, which "
        "is impossible, and the score to 60.",
    ),
    equal_epochs=True,
    scoring=0.2,
)
