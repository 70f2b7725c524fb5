"""Presets of hybrids of VAE and GAN."""

PRESETS = {}
