"""Benchmarks: programs in the repository that are not part of the library."""

# Ends with a message if Keras has settings that the zoo does not support.
import trainers as trainers
