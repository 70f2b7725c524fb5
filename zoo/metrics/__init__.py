"""Evaluation of trained models."""

from zoo.metrics.likelihood import negative_log_likelihood

__all__ = ["negative_log_likelihood"]
