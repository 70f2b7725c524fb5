"""Atomic file writes: a path holds the old content or the new content, never a part of it."""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path, which replaces `path` if the block ends without an error.

    The temporary path is in the same folder, because a rename is atomic only within one file
    system. It has the suffix of `path`. If the block raises, the temporary file is removed. The
    folder is created if needed.

    Args:
        path: The file to create or to replace.

    Yields:
        A new path with the same suffix.

    Example:
        >>> with zoo.files.replacing("scores.csv") as partial:
        ...     _ = partial.write_text("epoch,loss")
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # `tempfile` is not used, because it creates files that only their owner can read.
    partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_json(path: str | os.PathLike) -> Any:
    """The content of a JSON file.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is not JSON.
    """
    return json.loads(Path(path).read_text())


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Writes JSON atomically, indented by two spaces.

    Raises:
        TypeError: If `content` cannot be written as JSON. The old file stays.
    """
    text = json.dumps(content, indent=2) + "\n"
    with replacing(path) as partial:
        partial.write_text(text)
