"""The user's own PNG and JPEG images, in a folder."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import tensorflow as tf

from zoo.datasets.errors import DatasetNotFound
from zoo.datasets.images import SPLITS, ImageData, Split
from zoo.datasets.pixels import square

SUFFIXES = (".png", ".jpg", ".jpeg")
MEMORY = 4 * 2**30  # bytes of decoded images which are held; more are decoded batch by batch
Listing = list[tuple[str, str | None]]  # (path, name of the label)


def _children(folder: Path) -> tuple[list[Path], list[Path]]:
    """The subfolders and the images of a folder, sorted; hidden ones do not count."""
    children = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    folders = [path for path in children if path.is_dir()]
    files = [path for path in children if not path.is_dir()]
    for path in files:
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(
                f"Expected only PNG and JPEG images ({', '.join(SUFFIXES)}), found '{path}'. "
                "Convert it, or move it elsewhere."
            )
    return folders, files


def _labelled(folder: Path) -> Listing:
    """All images of a folder, with their subfolder's name as label where there are subfolders."""
    folders, files = _children(folder)
    if folders and files:
        raise ValueError(
            f"Expected either images or one subfolder per label in '{folder}', found both "
            f"(for instance '{files[0].name}' and '{folders[0].name}/'). Move one of them away."
        )
    listing = [(str(path), None) for path in files]
    for label in folders:
        deeper, images = _children(label)
        if deeper:
            raise ValueError(f"Expected images in '{label}', found the folder '{deeper[0].name}/'.")
        if not images:
            raise DatasetNotFound(f"The folder '{label}' of the label '{label.name}' is empty.")
        listing += [(str(path), label.name) for path in images]
    if not listing:
        raise DatasetNotFound(
            f"No PNG or JPEG images in '{folder}'. Put images there, or one subfolder per label."
        )
    return listing


def _hold_out(listing: Listing, parts: int, folder: Path, rng: np.random.Generator) -> list:
    """Shuffles a listing; gives what remains, and then `parts` tenths of it (at least one each)."""
    tenth = max(1, len(listing) // 10)
    if len(listing) <= parts * tenth:
        raise ValueError(
            f"'{folder}' holds {len(listing)} image(s); at least {parts + 1} are needed for a "
            "split. Add images."
        )
    shuffled = [listing[i] for i in rng.permutation(len(listing))]
    rest = len(listing) - parts * tenth
    cuts = [rest + part * tenth for part in range(parts + 1)]
    return [shuffled[:rest], *(shuffled[a:b] for a, b in pairwise(cuts))]


def listing(data_dir: str | None, seed: int = 0) -> dict[str, Listing]:
    """The files of each split and their labels; reads no image.

    Raises:
        DatasetNotFound: where there is no such folder, or no image in it.
        ValueError: for a layout which is neither flat nor one subfolder per label.
    """
    if data_dir is None:
        raise ValueError(
            "The data set 'folder' needs `data_dir`, the folder that holds the images."
        )
    root = Path(data_dir).expanduser()
    if not root.is_dir():
        raise DatasetNotFound(f"There is no folder '{root}'. Give the images' folder as data_dir.")
    rng = np.random.default_rng(seed)
    folders, files = _children(root)
    found = {path.name for path in folders}
    if files or found not in ({"train", "test"}, set(SPLITS)):
        return dict(zip(SPLITS, _hold_out(_labelled(root), 2, root, rng), strict=True))
    splits = {path.name: _labelled(path) for path in folders}
    if "validation" not in splits:
        parts = _hold_out(splits["train"], 1, root / "train", rng)
        labels = {label for _, label in splits["train"]}
        splits["train"], splits["validation"] = parts
    else:
        labels = {label for _, label in splits["train"]}
    for split in SPLITS[1:]:
        if strange := sorted(str(label) for _, label in splits[split] if label not in labels):
            raise ValueError(
                f"The labels in '{root / split}' must be among those in '{root / 'train'}': "
                f"{', '.join(sorted(map(str, labels)))}. Received: {strange[0]}."
            )
    return {split: splits[split] for split in SPLITS}


def decoder(size: int, channels: int):
    """The function from a path to the image, uint8 `[size, size, channels]`."""

    def decode(path):
        image = tf.io.decode_image(tf.io.read_file(path), channels, expand_animations=False)
        return square(tf.ensure_shape(image, [None, None, channels]), size)

    return decode


def read_image(path: str | Path, image_shape: tuple[int, int, int]) -> np.ndarray:
    """One PNG or JPEG file as float32 `[H, W, C]` in [0, 1]: central square, resized.

    Args:
        path: The file.
        image_shape: H, W, C wanted; C is 1 or 3.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no image.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file '{path}'.")
    try:
        return decoder(image_shape[0], image_shape[-1])(str(path)).numpy().astype("float32") / 255
    except tf.errors.OpError as error:
        raise ValueError(f"Cannot decode '{path}': it is no PNG or JPEG image.") from error


def load(data_dir: str | None, *, image_size: int | None, seed: int, **options) -> ImageData:
    """Reads a folder of images; see `zoo.datasets.load`."""
    splits = listing(data_dir, seed)
    size = image_size or 64
    paths = [path for split in SPLITS for path, _ in splits[split]]
    names = sorted({label for split in SPLITS for _, label in splits[split] if label is not None})
    keep = len(paths) * size * size * 3 <= MEMORY
    images = np.empty([len(paths) if keep else 0, size, size, 3], np.uint8)
    decode = decoder(size, 3)

    def inspect(path):
        image = decode(path)
        return image, tf.reduce_all(image == image[..., :1])

    # Every file is decoded once in any case: a corrupt one must show now, not in epoch 7.
    data = tf.data.Dataset.from_tensor_slices(paths).map(
        inspect, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    grey, done = True, 0
    try:
        for image, is_grey in data.as_numpy_iterator():
            grey &= bool(is_grey)
            if keep:
                images[done] = image
            done += 1
    except tf.errors.OpError as error:
        # The order is deterministic, hence the file that failed is the next one.
        raise ValueError(
            f"Cannot decode '{paths[done]}': it is corrupt, or no PNG or JPEG image. "
            "Replace or remove it."
        ) from error
    channels = 1 if grey else 3
    images = np.ascontiguousarray(images[..., :channels])
    content, start = {}, 0
    for split in SPLITS:
        count = len(splits[split])
        part = slice(start, start + count)
        labels = [names.index(label) for _, label in splits[split]] if names else None
        content[split] = Split(
            images[part] if keep else np.array(paths[part]),
            np.array(labels, np.int32) if names else None,
        )
        start += count
    return ImageData(
        "folder",
        content,
        (size, size, channels),
        decode=None if keep else decoder(size, channels),
        label_names=tuple(names) or None,
        seed=seed,
        **options,
    )
