"""The user's own PNG and JPEG images, in a folder."""

import hashlib
import io
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import ExifTags, JpegImagePlugin, PngImagePlugin

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


def _hold_out(listing: Listing, parts: int, folder: Path, seed: int) -> list:
    """Gives what remains of a listing, in random order, and then `parts` tenths of it.

    An image's number in [0, 1), a hash of the seed and of its path in the folder, says where it
    belongs: to the last part from 0.9 on, to the one before it from 0.8 on. So images that are added
    or removed later move no other from one split to another, and a folder may be moved as a whole.
    The parts are tenths on average. Where a folder is so small that a split would be empty, the
    image with the next lower number (for what remains: the lowest) stands in for it; until the
    split has an image of its own, and no longer.
    """
    if len(listing) <= parts:
        raise ValueError(
            f"'{folder}' holds {len(listing)} image(s); at least {parts + 1} are needed for a "
            "split. Add images."
        )
    numbered = sorted(
        (_number(Path(path).relative_to(folder), seed), (path, label)) for path, label in listing
    )
    numbers = [number for number, _ in numbered]
    cuts = [len(listing)]
    for part in range(1, parts + 1):
        own = int(np.searchsorted(numbers, 1 - part / 10))
        # From the end on: one image for this part, and one for each before it.
        cuts.insert(0, max(min(own, cuts[0] - 1), parts + 1 - part))
    return [[entry for _, entry in numbered[a:b]] for a, b in pairwise([0, *cuts])]


def _number(path: Path, seed: int) -> float:
    """A number in [0, 1) that looks random, the same for the same relative path and seed."""
    digest = hashlib.sha256(os.fsencode(f"{seed}/{path.as_posix()}")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def listing(data_dir: str | None, seed: int = 0) -> dict[str, Listing]:
    """The files of each split and their labels; reads no image.

    Where the folder does not say which images are for validation and testing, a tenth each is, on
    average, as the seed and the images' names decide: adding images moves no other.

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
    folders, files = _children(root)
    found = {path.name for path in folders}
    if files or found not in ({"train", "test"}, set(SPLITS)):
        return dict(zip(SPLITS, _hold_out(_labelled(root), 2, root, seed), strict=True))
    splits = {path.name: _labelled(path) for path in folders}
    if "validation" not in splits:
        parts = _hold_out(splits["train"], 1, root / "train", seed)
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
    # In an order that knows no labels, so that the first images of a split are some of all.
    return {split: sorted(splits[split], key=lambda e: _order(e, root, seed)) for split in SPLITS}


def _order(entry, root, seed):
    return _number(Path(entry[0]).relative_to(root), seed)


def decoder(size: int, channels: int):
    """The function from a path to the image, uint8 `[size, size, channels]`."""

    def decode(path):
        return square(_decoded(path, channels), size)

    return decode


def _decoded(path, channels):
    """The image in a file as one sees it, uint8 `[H, W, channels]`: turned as its tag asks for."""
    contents = tf.io.read_file(path)
    image = tf.io.decode_image(contents, channels, expand_animations=False)
    image = tf.ensure_shape(image, [None, None, channels])
    orientation = tf.numpy_function(_orientation, [contents], tf.int32, stateful=False)
    orientation = tf.ensure_shape(orientation, [])
    # The tag's values (TIFF 6.0, "Orientation"): 1 is upright, 2 mirrored, 3 both mirrored and upside
    # down, 4 upside down; 5 to 8 are the same with rows and columns exchanged beforehand.
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    for axis, mirrored in ((1, [2, 3, 6, 7]), (0, [3, 4, 7, 8])):
        wanted = tf.reduce_any(orientation == mirrored)
        image = tf.cond(wanted, lambda i=image, a=axis: tf.reverse(i, [a]), lambda i=image: i)
    return tf.ensure_shape(image, [None, None, channels])


def _orientation(contents: bytes | np.ndarray) -> np.int32:
    """The orientation that an image's metadata tell, 1 to 8; 1, upright, if they tell none."""
    if isinstance(contents, np.ndarray):  # As TensorFlow hands it over outside of graphs.
        contents = contents.item()
    # Of a PNG, Pillow would decode the pixels to look for the tag behind them.
    is_png = contents.startswith(b"\x89PNG")
    if is_png and not any(word in contents for word in (b"eXIf", b"exif", b"adobe.xmp")):
        return np.int32(1)
    reader = PngImagePlugin.PngImageFile if is_png else JpegImagePlugin.JpegImageFile
    try:
        # Not by `Image.open`, which refuses very large images.
        with reader(io.BytesIO(contents)) as image:
            orientation = int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Metadata beyond understanding do not make the pixels unreadable.
        return np.int32(1)
    return np.int32(orientation if 1 <= orientation <= 8 else 1)


def read_image(path: str | Path, image_shape: tuple[int, int, int]) -> np.ndarray:
    """One PNG or JPEG file as float32 `[H, W, C]` in [0, 1]: upright, central square, resized.

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


def read_images(folder: str | Path, image_size: int | None = None) -> np.ndarray:
    """All PNG and JPEG files of a folder, or of its subfolders, as uint8 `[N, H, W, C]`.

    One channel if all of them are grey, else three. Turned upright where their metadata ask for it.

    Args:
        folder: The folder.
        image_size: Central squares of that side, resized with antialiasing; by default images are
            taken as they are.

    Raises:
        DatasetNotFound: If there is no such folder, or no image in it.
        ValueError: If a file is no image, or sizes differ and `image_size` is not given.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise DatasetNotFound(f"There is no folder '{root}'.")
    paths = [path for path, _ in _labelled(root)]
    images, grey = None, True
    for i, path in enumerate(paths):
        try:
            image = _decoded(path, 3)
        except tf.errors.OpError as error:
            raise ValueError(f"Cannot decode '{path}': it is no PNG or JPEG image.") from error
        image = (square(image, image_size) if image_size else image).numpy()
        if images is None:
            images = np.empty([len(paths), *image.shape], np.uint8)
        if image.shape != images.shape[1:]:
            raise ValueError(
                f"The images in '{root}' are of different sizes: '{Path(paths[0]).name}' of "
                f"{images.shape[1]}x{images.shape[2]}, '{Path(path).name}' of "
                f"{image.shape[0]}x{image.shape[1]} pixels. Give image_size, to which all are resized."
            )
        images[i] = image
        grey &= bool((image == image[..., :1]).all())
    return np.ascontiguousarray(images[..., :1]) if grey else images


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
