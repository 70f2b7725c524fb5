"""Measurements of speed: programs, not part of the library."""
