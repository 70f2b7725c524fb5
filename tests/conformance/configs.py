"""The models that conformance checks, and the settings of each check."""

from typing import NamedTuple


class Config(NamedTuple):
    """How conformance builds a model.

    Args:
        preset: Name of a preset for `digits`.
        settings: Settings that differ from the preset, as on the command line after `--set`. Small
            networks keep the tests short.
        falls: The result that training must lower, as `model.evaluate` reports it. A model with
            several players names a reconstruction error, or in a GAN the loss of the discriminator:
            the losses of the others depend on an opponent that also learns.
        random_steps: Whether a training step draws random numbers.
        channels: Number of channels: the frames of a model of videos, or colours.
    """

    preset: str
    settings: tuple[str, ...] = ()
    falls: str = "loss"
    random_steps: bool = True
    channels: int = 1


# Models for which the fast tests also trace a step: one player and a flow; rounds of two players with
# batch statistics, dropout and clipped gradients; a gate and a label; two streams. The slow tests
# repeat the checks for all models.
REPRESENTATIVE = ("VAE-iaf-realnvp", "GAN", "VAEGAN-label", "M2")

# The key is the name of the class. A suffix after a hyphen names other parts of the same class.
CONFIGS = {
    "Autoencoder": Config("autoencoder_digits", ("hidden=32",), random_steps=False),
    "VAE": Config("vae_digits", ("hidden=32",)),
    "VAE-iaf-realnvp": Config(
        "vae_flow_digits", ("hidden=32", "posterior=iaf", "prior_hidden=16", "prior_steps=2")
    ),
    "VAE-planar-mixture": Config("vae_planar_digits", ("hidden=32", "prior=mixture")),
    "VAE-full_covariance-vamp": Config(
        "vae_vamp_digits", ("hidden=32", "posterior=full_covariance", "prior_components=5")
    ),
    "BetaTCVAE": Config("beta_tcvae_digits", ("hidden=32", "dataset_size=160")),
    "BetaVAE": Config("beta_vae_digits", ("hidden=32", "capacity=5.0", "capacity_steps=20")),
    "IWAE": Config("iwae_digits", ("hidden=32", "doubly_reparameterised=true", "warm_up_steps=10")),
    "DenoisingVAE": Config(
        "denoising_vae_digits", ("hidden=32", "salt_and_pepper=0.0", "gaussian=0.1")
    ),
    "DenoisingIWAE": Config("denoising_iwae_digits", ("hidden=32", "model.num_samples=3")),
    "CVAE": Config("cvae_digits", ("hidden=32",), falls="distortion"),
    "CVAE-quadrants": Config(
        "cvae_quadrants_digits",
        ("model.hidden=32", "baseline_hidden=16", "alpha=0.5"),
        falls="distortion",
    ),
    "CVAE-small_image": Config(
        "cvae_super_resolution_digits", ("model.hidden=16", "filters=4,8"), falls="distortion"
    ),
    "Predictor": Config("predictor_quadrants_digits", ("hidden=32",), random_steps=False),
    "RAE": Config("rae_digits", ("hidden=32",), random_steps=False),
    "RAE-gradient_penalty": Config(
        "rae_digits", ("hidden=32", "regularizer=gradient_penalty", "lambda_=0.001")
    ),
    # Dropout, batch normalization, several discriminator steps, smoothed and noisy labels.
    "GAN": Config(
        "gan_digits",
        (
            "generator_hidden=32",
            "discriminator_hidden=32",
            "discriminator_steps=2",
            "label_noise=0.05",
            "optimizers.generator.use_ema=true",
            "optimizers.discriminator.global_clipnorm=5.0",
        ),
        falls="discriminator_loss",
    ),
    # A penalty, spectral normalization, and instance noise that decreases. (Under the Wasserstein
    # and the hinge loss the gradients of the last bias from real and fake examples cancel.)
    "GAN-penalty": Config(
        "wgan_gp_digits",
        (
            "loss=least_squares",
            "generator_hidden=32",
            "discriminator_hidden=32",
            "discriminator_steps=1",
            "spectral_norm=true",
            "prior=sphere",
            "instance_noise=0.2",
            "instance_noise_steps=20",
        ),
        falls="discriminator_loss",
    ),
    "CGAN": Config(
        "cgan_digits",
        ("generator_hidden=32", "discriminator_hidden=32", "discriminator=projection"),
        falls="discriminator_loss",
    ),
    "AAE": Config(
        "aae_digits",
        ("hidden=32", "discriminator_hidden=32", "posterior=normal"),
        falls="autoencoder_loss",
    ),
    "LabelInformedAAE": Config(
        "label_informed_aae_petals_digits",
        ("model.hidden=32", "discriminator_hidden=32"),
        falls="autoencoder_loss",
    ),
    "ClusteringAAE": Config(
        "clustering_aae_digits",
        ("model.hidden=32", "discriminator_hidden=32", "latent_dim=2"),
        falls="autoencoder_loss",
    ),
    "SemiSupervisedAAE": Config(
        "semi_supervised_aae_digits",
        ("model.hidden=32", "discriminator_hidden=32", "batch_norm=false"),
        falls="autoencoder_loss",
    ),
    "DimensionReductionAAE": Config(
        "dimension_reduction_aae_digits",
        ("model.hidden=32", "discriminator_hidden=32", "batch_norm=false", "input_noise=0.0"),
        falls="autoencoder_loss",
    ),
    "SemiSupervisedDimensionReductionAAE": Config(
        "semi_supervised_dimension_reduction_aae_digits",
        ("model.hidden=32", "discriminator_hidden=32", "batch_norm=false", "input_noise=0.0"),
        falls="autoencoder_loss",
    ),
    "VAEGAN": Config(
        "vaegan_digits", ("hidden=32", "discriminator_hidden=32"), falls="discriminator_loss"
    ),
    # A condition, and players that are not updated on some batches.
    "VAEGAN-label": Config(
        "vaegan_label_digits",
        ("hidden=32", "discriminator_hidden=32", "margin=0.05"),
        falls="discriminator_loss",
    ),
    "VAEGAN-small_image": Config(
        "vaegan_super_resolution_digits",
        ("hidden=32", "discriminator_hidden=32", "margin=0.05"),
        falls="discriminator_loss",
    ),
    "FactorVAE": Config(
        "factor_vae_digits", ("hidden=32", "discriminator_hidden=32"), falls="distortion"
    ),
    # The discriminator has no batch normalization, so that both losses depend on each bias.
    "BiGAN": Config(
        "ali_cifar10",
        ("width=4", "hidden=16", "latent_dim=8", "optimizers.discriminator.learning_rate=0.002"),
        falls="discriminator_loss",
    ),
    "WAEGAN": Config(
        "waegan_digits", ("hidden=32", "discriminator_hidden=32", "prior_aware=true"), falls="cost"
    ),
    "AVB": Config(
        "avb_ac_digits",
        (
            "model.hidden=32",
            "discriminator_hidden=32",
            "discriminator_steps=2",
            "posterior_bases=2",
            "posterior_hidden=8",
        ),
        falls="distortion",
    ),
    "AlphaGAN": Config(
        "alpha_gan_digits",
        ("model.hidden=32", "model.discriminator_hidden=32", "code_discriminator_hidden=32"),
        falls="reconstruction",
    ),
    # Under the hinge loss, the gradients of the last bias from real and fake images cancel.
    "DCVAE": Config(
        "dcvae_digits",
        (
            "model.hidden=32",
            "model.discriminator_hidden=32",
            "discriminator_steps=2",
            "loss=least_squares",
            "queue_size=64",
        ),
        falls="decision_loss",
    ),
    "InfoVAE": Config("info_vae_digits", ("hidden=32",)),
    "InverseGraphics": Config(
        "inverse_graphics_heads_grey",
        ("network=mlp", "model.hidden=32", "units=(1, 1, 1, 5)", "group_size=8"),
    ),
    "DisCVAE": Config(
        "dis_cvae_sprites_scenes",
        ("network=mlp", "model.hidden=32", "foreground_dim=4", "background_dim=3"),
    ),
    "DisCVAE-masked": Config(
        "dis_cvae_sprites_scenes",
        ("network=mlp", "model.hidden=32", "composite=masked"),
    ),
    "FaceAutoencoder": Config(
        "face_autoencoder_heads",
        ("model.hidden=32", "filters=4,8", "latitudes=8", "longitudes=8"),
        random_steps=False,
        channels=3,
    ),
    "VideoVAE": Config(
        "video_vae_bouncing_sprites",
        ("model.hidden=32", "transition_hidden=16", "static_dim=2"),
        channels=3,
    ),
    "M2": Config("m2_digits", ("model.hidden=32", "classifier_hidden=32")),
    "M1M2": Config("m1_m2_digits", ("model.hidden=32", "classifier_hidden=32")),
    "SwappingAutoencoder": Config(
        "swapping_autoencoder_digits", ("filters=4,8",), falls="reconstruction"
    ),
    "WAE": Config("wae_digits", ("hidden=32", "lambda_=100.0")),
    "WAE-normal": Config("wae_digits", ("hidden=32", "posterior=normal", "kernel=rbf")),
}
