"""Benchmarks: programs in the repository that are not part of the library."""
