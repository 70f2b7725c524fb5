"""Tables of attributes in folders of images: `attributes.csv`, or CelebA's `list_attr_celeba.txt`.

`attributes.csv` has a header, which names the attributes, and a row for each image: the file, then one
number for each attribute, separated by commas. Numbers are 0 and 1, or real.

`list_attr_celeba.txt` has the number of images, the names of the attributes, and a row for each image:
the file, then -1 or 1 for each attribute, separated by spaces. -1 becomes 0.

A file is a path relative to the table, or the name alone.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

CSV, CELEBA = "attributes.csv", "list_attr_celeba.txt"
NAMES = (CSV, CELEBA)
_LARGEST = float(np.finfo(np.float32).max)


def read(folder: Path, images: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Reads the attributes of images from the table in a folder.

    Rows of files that are not among the images are skipped.

    Args:
        folder: The folder.
        images: Paths of images in the folder or below.

    Returns:
        The names of the attributes, and their values as float32 `[N, A]`. Without a table there are
        no attributes.

    Raises:
        ValueError: If there are two tables, if a table is damaged, if an image has no row or two
            images have the same one, or if a value is not a finite number.
    """
    found = [folder / name for name in NAMES if (folder / name).is_file()]
    if not found:
        return (), np.zeros([len(images), 0], np.float32)
    if len(found) > 1:
        raise ValueError(
            f"Expected one table of attributes in '{folder}'. Move one of them elsewhere. "
            f"Received: {CSV} and {CELEBA}."
        )
    [path] = found
    lines = _lines(path)
    names = _names(path, lines)
    rows = _rows(path, lines, names)
    values = np.empty([len(images), len(names)], np.float32)
    users: dict[str, str] = {}
    for i, image in enumerate(images):
        key = Path(image).relative_to(folder).as_posix()
        if key not in rows:
            key = Path(image).name
        if key not in rows:
            raise ValueError(
                f"Expected a row for each image in '{path}'. Add the row or remove the image. "
                f"Received: no row for '{image}'."
            )
        if users.setdefault(key, image) != image:
            raise ValueError(
                f"The row of '{key}' in '{path}' belongs to two images, '{users[key]}' and '{image}'. "
                f"Write paths relative to '{folder}' into the table."
            )
        values[i] = rows[key]
    return names, values


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The cells of the lines that are not empty, with the number of each line."""
    try:
        # Spreadsheets write a byte order mark.
        with open(path, newline="", encoding="utf-8-sig") as file:
            if path.name == CELEBA:
                rows = ((number, line.split()) for number, line in enumerate(file, 1))
            else:
                reader = csv.reader(file)
                rows = ((reader.line_num, [c.strip() for c in row]) for row in reader)
            yield from ((number, row) for number, row in rows if row)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is not a table of text: {error}. Repair the file.") from error


def _names(path, lines):
    """The names of the attributes, from the header."""
    _, header = next(lines, (0, []))
    if path.name == CELEBA:
        if len(header) != 1 or not header[0].isdecimal():
            raise ValueError(
                f"Expected the number of images in the first line of '{path}', as in CelebA. "
                f"Received: {' '.join(header)[:60]!r}."
            )
        names = next(lines, (0, []))[1]
    else:
        names = header[1:]
    if not names or not all(names) or len(set(names)) < len(names):
        form = "names" if path.name == CELEBA else "file,name,name and so on"
        raise ValueError(
            f"Expected a header in '{path}', {form}, with at least one attribute, and a different "
            f"name for each column. Received: {','.join(names or header)[:60]!r}."
        )
    return tuple(names)


def _rows(path, lines, names):
    """The values of each file."""
    rows: dict[str, list[float]] = {}
    for number, (file, *cells) in lines:
        where = f"in line {number} of '{path}'"
        if len(cells) != len(names):
            raise ValueError(
                f"Expected a file and {len(names)} value(s), one for each column of the header, "
                f"{where}. Received: {len(cells)} value(s)."
            )
        if file in rows:
            raise ValueError(f"Expected one row for each file. Received: '{file}' again {where}.")
        rows[file] = [
            _value(path, cell, name, where) for cell, name in zip(cells, names, strict=True)
        ]
    return rows


def _value(path, cell, name, where):
    if path.name == CELEBA:
        if cell not in ("-1", "1"):
            raise ValueError(f"Expected -1 or 1 for '{name}' {where}. Received: {cell!r}.")
        return float(cell == "1")
    try:
        value = float(cell)
    except ValueError:
        value = np.nan
    if not abs(value) <= _LARGEST:
        raise ValueError(f"Expected a finite number for '{name}' {where}. Received: {cell!r}.")
    return value
