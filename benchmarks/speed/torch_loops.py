"""Plain PyTorch training loops over the networks of some presets, with the same optimizers.

A step computes the same as in the zoo: layers, losses, draws, Adam. A network that is not
updated gets no gradients.

The threads of PyTorch wait for each other in busy loops. If other programs use the cores, training
is many times slower: measure on an idle machine, or set OMP_WAIT_POLICY=PASSIVE.
"""

import os
from collections.abc import Callable

import torch
from ml_collections import ConfigDict
from torch import nn
from torch.nn import functional as F


def make(config: ConfigDict, image_shape: tuple[int, int, int]) -> Callable[[int], None] | None:
    """A function of n that trains for n steps on one random batch; `None` if there is no loop.

    The function uses as many threads as there are cores.

    Args:
        config: The configuration of a preset.
        image_shape: Height, width, channels.
    """
    torch.set_num_threads(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )
    torch.manual_seed(config.seed)
    height, width, channels = image_shape
    x = torch.rand(config.batch_size, channels, height, width)
    make_loop = {
        "autoencoder": _autoencoder,
        "vae": _autoencoder,
        "gan": _gan,
        "dcgan": _gan,
    }.get(config.builder)
    return make_loop(config, x) if make_loop and _is_plain(config.model) else None


def _is_plain(m):
    """Whether the loops support the settings. They have no penalty, no flow and no other loss."""
    wanted = {
        "likelihood": ("bernoulli", "unit_normal"),
        "loss": ("non_saturating",),
        "discriminator_steps": (1,),
        "posterior": ("normal",),
        "prior": ("normal", "uniform"),
        "num_samples": (1,),
        "network": ("mlp", "conv"),
        "augment": ("",),
        "activation": ("relu",),
    }
    off = ("gradient_penalty", "r1", "spectral_norm", "instance_noise", "label_noise", "free_bits")
    wanted |= dict.fromkeys((*off, "warm_up_steps"), (0,))
    return all(m[key] in values for key, values in wanted.items() if key in m)


def networks(config: ConfigDict, shape: torch.Size) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder, or generator and discriminator, for images of shape `[C, H, W]`."""
    m, name = config.model, config.builder
    if name in ("autoencoder", "vae"):
        codes, pixels = m.latent_dim * (2 if name == "vae" else 1), shape.numel()
        if m.network == "conv":
            return _conv(m, codes, shape)
        return (
            nn.Sequential(nn.Flatten(), *_mlp(pixels, m.hidden), nn.Linear(m.hidden[-1], codes)),
            nn.Sequential(
                *_mlp(m.latent_dim, m.hidden[::-1]),
                nn.Linear(m.hidden[0], pixels),
                nn.Unflatten(1, shape),
            ),
        )
    return _dcgan(m, shape) if m.network == "conv" else _gan_mlp(m, shape)


def _mlp(inputs, hidden):
    layers = []
    for n in hidden:
        layers += [nn.Linear(inputs, n), nn.ReLU()]
        inputs = n
    return layers


def _conv(m, codes, shape):
    channels, side, filters = shape[0], shape[1] // 2 ** len(m.filters), list(m.filters)
    encoder, before = [], channels
    for n in filters:
        encoder += [nn.Conv2d(before, n, 4, 2, 1), nn.ReLU()]
        before = n
    flat = before * side * side
    encoder += [nn.Flatten(), *_mlp(flat, m.hidden), nn.Linear(m.hidden[-1], codes)]
    decoder = [*_mlp(m.latent_dim, [*m.hidden[::-1], flat])]
    decoder.append(nn.Unflatten(1, (before, side, side)))
    for n in filters[-2::-1]:
        decoder += [nn.ConvTranspose2d(before, n, 4, 2, 1), nn.ReLU()]
        before = n
    decoder.append(nn.ConvTranspose2d(before, channels, 4, 2, 1))
    return nn.Sequential(*encoder), nn.Sequential(*decoder)


def _gan_mlp(m, shape):
    generator, before = [], m.latent_dim
    for n in m.generator_hidden:
        generator += [nn.Linear(before, n, bias=False), nn.BatchNorm1d(n), nn.ReLU()]
        before = n
    generator += [nn.Linear(before, shape.numel()), nn.Sigmoid(), nn.Unflatten(1, shape)]
    discriminator, before = [_Rescale(2, -1), nn.Flatten()], shape.numel()
    for n in m.discriminator_hidden:
        discriminator += [nn.Linear(before, n), nn.LeakyReLU(0.2), nn.Dropout(m.dropout)]
        before = n
    return nn.Sequential(*generator), nn.Sequential(*discriminator, nn.Linear(before, 1))


def _dcgan(m, shape):
    channels, side, doublings = shape[0], shape[1], 0
    while side > 7 and side % 2 == 0:
        side, doublings = side // 2, doublings + 1
    top = m.width * 2 ** (doublings - 1)
    generator = [
        nn.Linear(m.latent_dim, side * side * top, bias=False),
        nn.Unflatten(1, (top, side, side)),
        nn.BatchNorm2d(top),
        nn.ReLU(),
    ]
    for i in range(1, doublings):
        n = top // 2**i
        up = nn.ConvTranspose2d(2 * n, n, 5, 2, 2, output_padding=1, bias=False)
        generator += [up, nn.BatchNorm2d(n), nn.ReLU()]
    last = nn.ConvTranspose2d(m.width, channels, 5, 2, 2, output_padding=1)
    generator += [last, nn.Tanh(), _Rescale(0.5, 0.5)]
    discriminator = [_Rescale(2, -1), nn.Conv2d(channels, m.width, 5, 2, 2), nn.LeakyReLU(0.2)]
    for i in range(1, doublings):
        n = m.width * 2**i
        down = nn.Conv2d(n // 2, n, 5, 2, 2, bias=False)
        discriminator += [down, nn.BatchNorm2d(n), nn.LeakyReLU(0.2)]
    discriminator += [nn.Flatten(), nn.Linear(top * side * side, 1)]
    return nn.Sequential(*generator), nn.Sequential(*discriminator)


class _Rescale(nn.Module):
    def __init__(self, scale, offset):
        super().__init__()
        self.scale, self.offset = scale, offset

    def forward(self, x):
        return x * self.scale + self.offset


def _adam(settings, parameters):
    betas = (settings.get("beta_1", 0.9), 0.999)
    return torch.optim.Adam(parameters, settings.learning_rate, betas, eps=1e-7)


def _autoencoder(config, x):
    encoder, decoder = networks(config, x.shape[1:])
    (settings,) = config.optimizers.values()
    optimizer = _adam(settings, [*encoder.parameters(), *decoder.parameters()])
    draws, bernoulli = config.builder == "vae", config.model.likelihood == "bernoulli"
    if bernoulli:
        x = x.round()

    def run(steps):
        for _ in range(steps):
            z, rate = encoder(x), 0.0
            if draws:
                loc, raw = z.chunk(2, 1)
                scale = 1e-4 + F.softplus(raw)
                z = loc + scale * torch.randn_like(loc)
                rate = (0.5 * (loc**2 + scale**2 - 1) - scale.log()).sum()
            out = decoder(z)
            if bernoulli:
                distortion = F.binary_cross_entropy_with_logits(out, x, reduction="sum")
            else:
                distortion = 0.5 * F.mse_loss(out, x, reduction="sum")
            optimizer.zero_grad()
            ((distortion + rate) / len(x)).backward()
            optimizer.step()

    return run


def _gan(config, x):
    generator, discriminator = networks(config, x.shape[1:])
    m = config.model
    optimizers = [
        _adam(config.optimizers[name], network.parameters())
        for name, network in (("discriminator", discriminator), ("generator", generator))
    ]

    def noise():
        z = torch.empty(len(x), m.latent_dim)
        return z.uniform_(-1, 1) if m.prior == "uniform" else z.normal_()

    def run(steps):
        real = torch.full([len(x), 1], m.real_label)
        no, yes = torch.zeros_like(real), torch.ones_like(real)
        cost = F.binary_cross_entropy_with_logits
        for _ in range(steps):
            with torch.no_grad():
                fake = generator(noise())
            loss = cost(discriminator(x), real) + cost(discriminator(fake), no)
            optimizers[0].zero_grad()
            loss.backward()
            optimizers[0].step()
            discriminator.requires_grad_(False)
            loss = cost(discriminator(generator(noise())), yes)
            optimizers[1].zero_grad()
            loss.backward()
            optimizers[1].step()
            discriminator.requires_grad_(True)

    return run
