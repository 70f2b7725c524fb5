"""Formulas of evaluation metrics, on arrays of features, images and latents.

Likelihoods and annealing take a model. `zoo.evaluation` computes the metrics of a model and its data
with their protocols; `trainers.evaluate` does the same from the command line.
"""

from zoo.metrics.annealed import annealed_importance_sampling, annealed_nll
from zoo.metrics.classifier_score import classifier_score
from zoo.metrics.disentanglement import (
    beta_vae_score,
    dci,
    factor_vae_score,
    mutual_information_gap,
    sap,
)
from zoo.metrics.estimate import Estimate
from zoo.metrics.frechet import Moments, frechet_bias, frechet_distance
from zoo.metrics.kernel import kernel_distance, maximum_mean_discrepancy
from zoo.metrics.latent import (
    active_units,
    aggregate_posterior,
    rate_and_distortion,
    total_correlation,
)
from zoo.metrics.likelihood import negative_log_likelihood
from zoo.metrics.manifold import precision_recall_density_coverage
from zoo.metrics.neighbours import data_copying, nearest_neighbours
from zoo.metrics.parzen import parzen_log_likelihood
from zoo.metrics.similarity import diversity, ms_ssim, psnr, ssim
from zoo.metrics.streaming import PRDC, ClassifierScore, FrechetDistance, KernelDistance

__all__ = [
    "PRDC",
    "ClassifierScore",
    "Estimate",
    "FrechetDistance",
    "KernelDistance",
    "Moments",
    "active_units",
    "aggregate_posterior",
    "annealed_importance_sampling",
    "annealed_nll",
    "beta_vae_score",
    "classifier_score",
    "data_copying",
    "dci",
    "diversity",
    "factor_vae_score",
    "frechet_bias",
    "frechet_distance",
    "kernel_distance",
    "maximum_mean_discrepancy",
    "ms_ssim",
    "mutual_information_gap",
    "nearest_neighbours",
    "negative_log_likelihood",
    "parzen_log_likelihood",
    "precision_recall_density_coverage",
    "psnr",
    "rate_and_distortion",
    "sap",
    "ssim",
    "total_correlation",
]
