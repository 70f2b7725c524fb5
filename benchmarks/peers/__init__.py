"""Models of another library, pythae, compared with those of the zoo."""
