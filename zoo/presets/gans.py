"""Presets of GANs."""

PRESETS = {}
