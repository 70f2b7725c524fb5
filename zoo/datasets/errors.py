"""What can go wrong before there is any data."""


class DatasetNotFound(FileNotFoundError):
    """A data set is not where it was looked for; the message says where, and what to do."""
