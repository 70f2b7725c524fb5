"""Release: weights of trained models, packed for distribution."""
