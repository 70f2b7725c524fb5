"""Presets of adversarial autoencoders."""

PRESETS = {}
