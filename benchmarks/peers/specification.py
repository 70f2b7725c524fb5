"""The rows of the comparison: one specification of each model, from which both libraries build it.

This module uses the standard library only, because it also runs in the environment of pythae.
"""

import dataclasses
import itertools
import re

CONTEXT = 32
"""Values that the zoo's encoder passes to each step of an inverse autoregressive flow."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A model of both libraries, with the settings that both have.

    The encoder is a perceptron with ReLU, from pixels through `hidden`; the decoder is its mirror.
    The weights of both start as in Keras's `Dense`.

    Attributes:
        name: The name of the row.
        model: The name of pythae's class.
        data: "binary" for static binary MNIST, "grey" for grey MNIST.
        latent_dim: D of the latents.
        hidden: Units of the encoder's hidden layers.
        likelihood: "bernoulli", with logits as outputs; "unit_normal", with means as outputs;
            "image", an image in [0, 1], for models without a likelihood.
        scored: Whether importance samples from the posterior estimate the likelihood.
        normal: Whether the posterior is normal, with scales 1e-4 + softplus(output); otherwise it
            is a point.
        discriminator_hidden: Units of the discriminator's hidden layers: with ReLU for latents, with
            leaky ReLU of slope 0.2 for images.
        draws: Number of draws from the posterior for each image and step.
        components: Number of pseudo-inputs of a VampPrior.
        flow_steps, flow_hidden: Number of steps of an inverse autoregressive flow, and units of the
            hidden layers of each step's masked network.
        weight: Weight of the discrepancy of a WAE.
        gamma, margin: Weight of the generator's distortion, and the margin of the equilibrium, of
            a VAE/GAN.
        batch_size: Number of images in a batch.
        learning_rate, discriminator_learning_rate, beta_1: Settings of Adam. Epsilon is 1e-7.
    """

    name: str
    model: str
    data: str = "binary"
    latent_dim: int = 20
    hidden: tuple[int, ...] = (512,)
    likelihood: str = "bernoulli"
    scored: bool = True
    normal: bool = True
    discriminator_hidden: tuple[int, ...] = ()
    draws: int = 1
    components: int = 0
    flow_steps: int = 0
    flow_hidden: tuple[int, ...] = ()
    weight: float = 0.0
    gamma: float = 0.0
    margin: float = 0.0
    batch_size: int = 100
    learning_rate: float = 1e-3
    discriminator_learning_rate: float = 0.0
    beta_1: float = 0.9

    @property
    def slug(self) -> str:
        """The name for files."""
        return re.sub("[^a-z0-9]+", "_", self.name.lower()).strip("_")


ROWS: dict[str, Row] = {
    row.slug: row
    for row in (
        Row("VAE", "VAE"),
        Row("VAE, squared error", "VAE", data="grey", likelihood="unit_normal"),
        Row("IWAE", "IWAE", draws=5),
        Row("VampPrior", "VAMP", components=100),
        Row("IAF posterior", "VAE_IAF", flow_steps=2, flow_hidden=(128,)),
        Row(
            "WAE-MMD",
            "WAE_MMD",
            data="grey",
            latent_dim=8,
            hidden=(512, 512),
            likelihood="image",
            scored=False,
            normal=False,
            weight=200.0,
        ),
        Row(
            "AAE",
            "Adversarial_AE",
            data="grey",
            latent_dim=8,
            hidden=(512, 512),
            scored=False,
            normal=False,
            discriminator_hidden=(512, 512),
            learning_rate=5e-4,
            discriminator_learning_rate=1e-4,
            beta_1=0.5,
        ),
        Row(
            "VAE/GAN",
            "VAEGAN",
            data="grey",
            hidden=(512, 512),
            likelihood="image",
            scored=False,
            discriminator_hidden=(240, 240),
            gamma=0.01,
            margin=0.35,
            learning_rate=5e-4,
            discriminator_learning_rate=1e-4,
            beta_1=0.5,
        ),
    )
}
"""The rows by the names of their files."""


def parameters(row: Row, pixels: int, library: str) -> int:
    """The number of trained weights.

    Encoder, decoder and discriminator are those of the specification. Only the parts that each
    library makes itself differ: pythae's pseudo-inputs are a dense layer with a bias, and the steps
    of its flow do not take a context.

    Args:
        row: The row.
        pixels: Number of pixels of an image.
        library: "zoo" or "pythae".
    """
    d, zoo = row.latent_dim, library == "zoo"
    context = CONTEXT if zoo and row.flow_steps else 0
    encoder = _perceptron(pixels, row.hidden, (2 if row.normal else 1) * d + context)
    decoder = _perceptron(d, row.hidden[::-1], pixels)
    total = encoder + decoder
    if row.discriminator_hidden:
        inputs = d if row.model == "Adversarial_AE" else pixels
        total += _perceptron(inputs, row.discriminator_hidden, 1)
    if row.components:
        total += pixels * (row.components + (0 if zoo else 1))
    if row.flow_steps:
        step = _perceptron(d, row.flow_hidden, 2 * d) + context * row.flow_hidden[0]
        total += row.flow_steps * step
    return total


def _perceptron(inputs, hidden, outputs):
    sizes = [inputs, *hidden, outputs]
    return sum((a + 1) * b for a, b in itertools.pairwise(sizes))
