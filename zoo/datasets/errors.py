"""Errors of data sets."""


class DatasetNotFound(FileNotFoundError):
    """A data set is missing; the message says where it was searched and what to do."""
