"""DC-VAE beside VAE/GAN on MNIST: labels of reconstructions, and distances of samples."""

from collections.abc import Iterator

import numpy as np

from benchmarks.tables.table import Row, Table, Trained
from zoo import features
from zoo.datasets import ImageData
from zoo.features import Extractor
from zoo.metrics import frechet_distance
from zoo.metrics.estimate import Estimate
from zoo.model import GenerativeModel

_SAMPLES = 10_000
_PART = 500


def scores(
    model: GenerativeModel,
    data: ImageData,
    extractor: Extractor,
    samples: int = _SAMPLES,
    seed: int = 0,
) -> dict[str, Estimate | float]:
    """Scores of reconstructions and of samples, by a classifier.

    Args:
        model: A model that encodes and samples.
        data: Its data set, with a test split.
        extractor: A classifier of `zoo.features`.
        samples: Number of samples.
        seed: Seed of the latents.

    Returns:
        `agreement`: the share of the test images whose reconstruction the classifier gives the same
        label as the image, in percent. `reconstructions`: the Fréchet distance of the reconstructions
        to the test images. `samples` and `clamped samples`: that of samples from latents of the
        prior, and from the same latents clamped to [-1, 1]. `contrast accuracy`: the share of
        reconstructions with noise that are nearest to the key of their image, in percent, the mean
        over the levels of features, if the model has a queue.
    """
    x, _ = data.arrays("test")
    real = extractor(data.pixels("test"))
    found = extractor(_decoded(model, np.concatenate([*_encoded(model, x)])))
    same = 100.0 * (found.logits.argmax(-1) == real.logits.argmax(-1))
    z = np.asarray(model.sample_latents(samples, seed=seed))
    distances = {"reconstructions": found.features}
    for name, latents in (("samples", z), ("clamped samples", np.clip(z, -1, 1))):
        distances[name] = extractor(_decoded(model, latents)).features
    about = {"network": extractor.id, "samples": samples}
    results: dict[str, Estimate | float] = {
        "agreement": Estimate(
            float(same.mean()), float(same.std(ddof=1) / np.sqrt(len(same))), len(same)
        )
    }
    for name, fake in distances.items():
        value = frechet_distance(real.features, fake).value
        results[name] = Estimate(value, None, len(fake), estimator=about)
    if "contrast_accuracy" in model.terms:
        logs = model.evaluate(x, batch_size=_PART, verbose=0, return_dict=True)
        results["contrast accuracy"] = 100 * logs["contrast_accuracy"]
    return results


def _encoded(model: GenerativeModel, x: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(x), _PART):
        yield np.asarray(model.encode(x[start : start + _PART]))


def _decoded(model: GenerativeModel, z: np.ndarray) -> np.ndarray:
    """The images of latents, rounded to 8 bits."""
    parts = [model.decode(z[i : i + _PART]) for i in range(0, len(z), _PART)]
    return np.round(255 * np.concatenate(parts)).astype(np.uint8)


def _score(trained: Trained) -> dict[str, Estimate | float]:
    extractor = features.get(features.for_dataset(trained.config.data.name))
    return scores(trained.model, trained.data, extractor, seed=trained.config.seed)


TABLE = Table(
    name="dcvae",
    title="DC-VAE against VAE/GAN, MNIST",
    reference="Parmar et al., 2021. https://arxiv.org/abs/2011.10063",
    protocol=(
        "The presets dcvae_mnist and vaegan_mnist, trained for the same time. Without the contrastive "
        "loss, DC-VAE is a VAE/GAN whose adversarial gradient reaches the encoder, and in which "
        "nothing ties a reconstruction to its image. Without the game it has no discriminator of "
        "real and fake images. The zoo's own small classifier of MNIST scores 10,000 test images, "
        "their reconstructions without noise, and 10,000 samples. 'agreement' is the share of "
        "reconstructions with the label of their image, in percent. The other scores are Fréchet "
        "distances to the test images in the classifier's features, which are not an FID: of "
        "reconstructions; of samples from latents of N(0, I); and of samples from the same latents "
        "clamped to [-1, 1], the protocol of the authors' code. 'contrast accuracy' is the share "
        "of reconstructions with noise that are nearer to their own key than to 1,024 keys of "
        "training images, in percent, the mean over both levels of features."
    ),
    differs=(
        "The paper scores CIFAR-10, STL-10, CelebA and LSUN with Inception's features, with residual "
        "networks and 800 epochs. The numbers cannot be compared with those here.",
        "The weights are those of the last step, not their moving average.",
        "VAE/GAN has latents of 10 dimensions, a larger weight of the rate, and batches of 100: the "
        "settings of its own preset.",
    ),
    rows=(
        Row("DC-VAE", "dcvae_mnist"),
        Row(
            "DC-VAE, without the contrastive loss",
            "dcvae_mnist",
            ("comparison=sets",),
        ),
        Row(
            "DC-VAE, without the game",
            "dcvae_mnist",
            # The batch of the contrastive loss in the other rows.
            ("comparison=instances", "batch_size=64"),
        ),
        Row("VAE/GAN", "vaegan_mnist"),
    ),
    score=_score,
    unit="percent, or squared units of the classifier's features",
    scoring=0.1,
)
