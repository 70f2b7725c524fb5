"""Errors of data sets."""


class DatasetNotFound(FileNotFoundError):
    """A data set is missing; the message says where the zoo looked for it and what to do."""
