"""pythae's side: builds, trains and exports the model of a row. Runs in an environment of its own.

PEERS/bin/python benchmarks/peers/train_pythae.py --row=vae --data=binary.npz --output=vae.npz

`benchmarks.peers.compare` writes the images and runs this program for each row and seed. The
program imports pythae, PyTorch, NumPy and the two modules next to it, but not the zoo.
"""

import argparse
import dataclasses
import importlib.metadata
import os
import platform
import tempfile
import time

import exchange
import numpy as np
import specification
import torch
from pythae import models
from pythae.data.preprocessors import DataProcessor
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseDiscriminator, BaseEncoder
from pythae.trainers import (
    AdversarialTrainer,
    AdversarialTrainerConfig,
    BaseTrainer,
    BaseTrainerConfig,
    CoupledOptimizerAdversarialTrainer,
    CoupledOptimizerAdversarialTrainerConfig,
)
from torch import nn
from torch.nn import functional as F

_SAMPLES = 500


def _linear(inputs, outputs):
    """A linear layer that starts as Keras's `Dense`."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _perceptron(inputs, hidden, outputs, activation=nn.ReLU):
    layers = []
    for units in hidden:
        layers += [_linear(inputs, units), activation()]
        inputs = units
    return nn.Sequential(*layers, _linear(inputs, outputs))


class Encoder(BaseEncoder):
    """From images to the means and log variances of the posterior, or to points."""

    def __init__(self, row, pixels):
        super().__init__()
        self.normal = row.normal
        self.network = _perceptron(pixels, row.hidden, (2 if row.normal else 1) * row.latent_dim)

    def forward(self, x):
        outputs = self.network(x.flatten(1))
        if not self.normal:
            return ModelOutput(embedding=outputs, log_covariance=torch.zeros_like(outputs))
        loc, raw = outputs.chunk(2, -1)
        return ModelOutput(embedding=loc, log_covariance=2 * torch.log(1e-4 + F.softplus(raw)))


class Decoder(BaseDecoder):
    """From latents to images, or to means of pixels."""

    def __init__(self, row, shape):
        super().__init__()
        self.shape, self.bounded = shape, row.likelihood != "unit_normal"
        self.network = _perceptron(row.latent_dim, row.hidden[::-1], int(np.prod(shape)))

    def forward(self, z):
        outputs = self.network(z)
        images = torch.sigmoid(outputs) if self.bounded else outputs
        return ModelOutput(reconstruction=images.reshape(len(z), *self.shape))


class Discriminator(BaseDiscriminator):
    """From latents or images to probabilities; level 1 is the last hidden layer's input."""

    depth = 2

    def __init__(self, row, pixels):
        super().__init__()
        self.of_images = row.model == "VAEGAN"
        inputs = pixels if self.of_images else row.latent_dim
        activation = (lambda: nn.LeakyReLU(0.2)) if self.of_images else nn.ReLU
        self.network = _perceptron(inputs, row.discriminator_hidden, 1, activation)

    def forward(self, z, output_layer_levels=None):
        h = z.flatten(1)
        features = self.network[:-2](2 * h - 1 if self.of_images else h)
        if output_layer_levels == [1]:
            return ModelOutput(embedding_layer_1=features)
        return ModelOutput(embedding=torch.sigmoid(self.network[-2:](features)))


def build(row, shape):
    """The model of a row, for images of shape `[1, H, W]`."""
    pixels = int(np.prod(shape))
    options = {"input_dim": shape, "latent_dim": row.latent_dim}
    if row.model == "WAE_MMD":
        options |= {"reg_weight": row.weight}
    else:
        loss = {"bernoulli": "bce", "unit_normal": "mse", "image": "mse"}[row.likelihood]
        options |= {"reconstruction_loss": loss}
    own = {
        "IWAE": {"number_samples": row.draws},
        "VAMP": {"number_components": row.components},
        "VAE_IAF": {
            "n_made_blocks": row.flow_steps,
            "n_hidden_in_made": len(row.flow_hidden),
            "hidden_size": row.flow_hidden[0] if row.flow_hidden else 0,
        },
        "Adversarial_AE": {"deterministic_posterior": not row.normal},
        "VAEGAN": {
            "adversarial_loss_scale": 1 / (1 + row.gamma),
            "reconstruction_layer": 1,
            "margin": row.margin,
        },
    }.get(row.model, {})
    end = "_Config" if "_" in row.model else "Config"
    config = getattr(models, row.model + end)(**options, **own)
    parts = {"encoder": Encoder(row, pixels), "decoder": Decoder(row, shape)}
    if row.discriminator_hidden:
        parts["discriminator"] = Discriminator(row, pixels)
    return getattr(models, row.model)(config, **parts)


def trainer(model, row, settings, images, folder):
    """pythae's trainer of the model, without a schedule of the learning rate."""
    adam = {"betas": (row.beta_1, 0.999), "eps": 1e-7}
    common = {
        "output_dir": folder,
        "num_epochs": settings.epochs,
        "per_device_train_batch_size": row.batch_size,
        "seed": settings.seed,
        "no_cuda": True,
    }
    players = {
        "Adversarial_AE": ("autoencoder", "discriminator"),
        "VAEGAN": ("encoder", "decoder", "discriminator"),
    }.get(row.model)
    if players is None:
        config = BaseTrainerConfig(**common, learning_rate=row.learning_rate, optimizer_params=adam)
        kind = BaseTrainer
    else:
        for player in players:
            rate = (
                row.discriminator_learning_rate if player == "discriminator" else row.learning_rate
            )
            common |= {f"{player}_learning_rate": rate, f"{player}_optimizer_params": adam}
        coupled = len(players) == 3
        config = (
            CoupledOptimizerAdversarialTrainerConfig if coupled else AdversarialTrainerConfig
        )(**common)
        kind = CoupledOptimizerAdversarialTrainer if coupled else AdversarialTrainer
    x = torch.from_numpy(exchange.unit(images)[:, None])
    return kind(model, DataProcessor.to_dataset(x), training_config=config)


@torch.no_grad()
def export(model, row, settings, test):
    """The arrays that `exchange.check_result` lists."""
    torch.manual_seed(settings.seed)
    model.eval()
    d, components = row.latent_dim, row.components or 1
    prior_loc, prior_scale = torch.zeros(components, d), torch.ones(components, d)
    if row.components:
        q = model.encoder(model.pseudo_inputs(model.idle_input))
        prior_loc, prior_scale = q.embedding, torch.exp(0.5 * q.log_covariance)
    samples = []
    for start in range(0, settings.samples, _SAMPLES):
        number = min(_SAMPLES, settings.samples - start)
        at = torch.randint(components, (number,))
        z = prior_loc[at] + prior_scale[at] * torch.randn(number, d)
        samples.append(model.decoder(z).reconstruction.numpy())
    arrays = {"samples": np.concatenate(samples)[:, 0]}
    if row.scored:
        q = model.encoder(torch.from_numpy(exchange.unit(test)[:, None]))
        loc, scale = q.embedding.numpy(), torch.exp(0.5 * q.log_covariance).numpy()
        base = exchange.draws(loc, scale, settings.importance_samples, settings.seed)
        z, log_det = base, np.zeros(base.shape[:2], np.float32)
        if row.flow_steps:
            flows = [model.iaf_flow.inverse(torch.from_numpy(part)) for part in base]
            z = np.stack([flow.out.numpy() for flow in flows])
            log_det = np.stack([flow.log_abs_det_jac.numpy() for flow in flows])
        # Half precision: the errors of a log-likelihood are about 0.001 nats.
        outputs = [model.decoder.network(torch.from_numpy(part)).numpy() for part in z]
        arrays |= {
            "loc": loc,
            "scale": scale,
            "base": base,
            "z": z,
            "log_det": log_det,
            "outputs": np.stack([part.astype(np.float16) for part in outputs]),
            "prior_loc": prior_loc.numpy(),
            "prior_scale": prior_scale.numpy(),
        }
    return arrays


def run(row, settings, images):
    """Trains the model of a row; returns facts and arrays."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(cores)
    torch.manual_seed(settings.seed)
    about = {"versions": {"python": platform.python_version()}}
    about["versions"] |= {
        name: importlib.metadata.version(name) for name in ("pythae", "torch", "numpy")
    }
    train, test = images["train"][: settings.images], images["test"][: settings.scored]
    model = build(row, (1, *train.shape[1:]))
    with tempfile.TemporaryDirectory() as folder:
        process = trainer(model, row, settings, train, folder)
        wall, processor = time.monotonic(), time.process_time()
        try:
            process.train()
        except ArithmeticError as error:  # pythae's error for a loss that is NaN
            return about | {"failed": str(error)}, {}
        about["seconds"] = time.monotonic() - wall
        about["seconds_of_all_cores"] = (time.process_time() - processor) / cores
    about["parameters"] = sum(p.numel() for p in model.parameters())
    # The last weights, as on the other side. pythae saves those of the lowest training loss.
    arrays = export(process.model, row, settings, test)
    if failed := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
        return about | {"failed": f"Values of {', '.join(failed)} are NaN or infinite."}, {}
    return about, arrays | {"samples": exchange.as_bytes(arrays["samples"])}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--row", required=True, choices=specification.ROWS)
    parser.add_argument("--data", required=True, help="the images, written by compare")
    parser.add_argument("--output", required=True, help="the file to write")
    for field in dataclasses.fields(exchange.Settings):
        parser.add_argument(f"--{field.name}", type=int, default=field.default)
    flags = vars(parser.parse_args())
    row = specification.ROWS[flags.pop("row")]
    data, output = flags.pop("data"), flags.pop("output")
    settings = exchange.Settings(**flags)
    _, images = exchange.read(data)
    exchange.check_data(images, row, settings)
    exchange.write(output, *run(row, settings, images))


if __name__ == "__main__":
    main()
