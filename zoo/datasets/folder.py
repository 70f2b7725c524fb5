"""Folders of PNG and JPEG images."""

import hashlib
import io
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import ExifTags, JpegImagePlugin, PngImagePlugin

from zoo.datasets.errors import DatasetNotFound
from zoo.datasets.images import SPLITS, ImageData, Split
from zoo.datasets.pixels import square

SUFFIXES = (".png", ".jpg", ".jpeg")
MEMORY = 4 * 2**30  # Bytes of decoded images to hold; larger sets are decoded batch by batch.
Listing = list[tuple[str, str | None]]  # (path, name of the label)


def _children(folder: Path) -> tuple[list[Path], list[Path]]:
    """The subfolders and the images of a folder, sorted, without hidden ones."""
    children = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    folders = [path for path in children if path.is_dir()]
    files = [path for path in children if not path.is_dir()]
    for path in files:
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(
                f"Expected only PNG and JPEG images ({', '.join(SUFFIXES)}). Convert other files or "
                f"move them. Received: '{path}'."
            )
    return folders, files


def _labelled(folder: Path) -> Listing:
    """All images of a folder; the names of subfolders, if there are any, are the labels."""
    folders, files = _children(folder)
    if folders and files:
        raise ValueError(
            f"Expected either images or one subfolder per label in '{folder}'. Move one kind "
            f"elsewhere. Received: both, such as '{files[0].name}' and '{folders[0].name}/'."
        )
    listing: Listing = [(str(path), None) for path in files]
    for label in folders:
        deeper, images = _children(label)
        if deeper:
            raise ValueError(
                f"Expected only images in '{label}', the folder of a label. "
                f"Received: the folder '{deeper[0].name}/'. Move it elsewhere."
            )
        if not images:
            raise DatasetNotFound(
                f"The folder '{label}' of the label '{label.name}' is empty. Add images or remove it."
            )
        listing += [(str(path), label.name) for path in images]
    if not listing:
        raise DatasetNotFound(
            f"No PNG or JPEG images in '{folder}'. Put images there, or one subfolder per label."
        )
    return listing


def _hold_out(listing: Listing, parts: int, folder: Path, seed: int) -> list:
    """Splits a listing at random: first the remaining images, then `parts` tenths.

    A hash of the seed and of an image's path in the folder gives a number in [0, 1): the image
    belongs to the last part from 0.9 on, and to the part before it from 0.8 on. So adding or
    removing images does not move others from one split to another, and the folder can be moved as a
    whole. The parts are tenths on average. If a part of a small folder would be empty, it gets the
    image with the next lower number (for the remaining images: the lowest number).
    """
    if len(listing) <= parts:
        raise ValueError(
            f"Expected at least {parts + 1} images in '{folder}', one for each split. Add images. "
            f"Received: {len(listing)} image(s)."
        )
    numbered = sorted(
        (_number(Path(path).relative_to(folder), seed), (path, label)) for path, label in listing
    )
    numbers = [number for number, _ in numbered]
    cuts = [len(listing)]
    for part in range(1, parts + 1):
        own = int(np.searchsorted(numbers, 1 - part / 10))
        # From the last part backwards, one image is kept for the part and for each part before it.
        cuts.insert(0, max(min(own, cuts[0] - 1), parts + 1 - part))
    return [[entry for _, entry in numbered[a:b]] for a, b in pairwise([0, *cuts])]


def _number(path: Path, seed: int) -> float:
    """A pseudo-random number in [0, 1), a function of the relative path and the seed."""
    digest = hashlib.sha256(os.fsencode(f"{seed}/{path.as_posix()}")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def listing(data_dir: str | None, seed: int = 0) -> dict[str, Listing]:
    """The files of each split and their labels, without reading an image.

    If the folder has no subfolders for the splits, validation and test get about a tenth of the
    images each. The seed and the paths decide, so added images do not move others.

    Args:
        data_dir: The folder.
        seed: Seed of the splits and of their order.

    Raises:
        ValueError: If `data_dir` is `None`, or if the layout is neither flat nor one subfolder per
            label.
        DatasetNotFound: If the folder does not exist or contains no image.
    """
    if data_dir is None:
        raise ValueError(
            "The data set 'folder' needs `data_dir`, the folder of the images. "
            "Received: data_dir=None."
        )
    root = Path(data_dir).expanduser()
    if not root.is_dir():
        raise DatasetNotFound(f"There is no folder '{root}'. Set data_dir to the folder of images.")
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
    # The order does not depend on labels, so the first images of a split are of various labels.
    return {split: sorted(splits[split], key=lambda e: _order(e, root, seed)) for split in SPLITS}


def _order(entry, root, seed):
    return _number(Path(entry[0]).relative_to(root), seed)


def decoder(size: int, channels: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """The function from a path to the image, uint8 `[size, size, channels]`."""

    def decode(path):
        return square(_decoded(path, channels), size)

    return decode


def _decoded(path, channels):
    """The image in a file, uint8 `[H, W, channels]`, rotated and mirrored as its tag says."""
    contents = tf.io.read_file(path)
    image = tf.io.decode_image(contents, channels, expand_animations=False)
    image = tf.ensure_shape(image, [None, None, channels])
    orientation = tf.numpy_function(_orientation, [contents], tf.int32, stateful=False)
    orientation = tf.ensure_shape(orientation, [])
    # The tag's values (TIFF 6.0, "Orientation"): 1 is upright, 2 mirrored, 3 mirrored and upside down,
    # 4 upside down; 5 to 8 are the same after exchanging rows and columns.
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    for axis, mirrored in ((1, [2, 3, 6, 7]), (0, [3, 4, 7, 8])):
        reverse = tf.reduce_any(orientation == mirrored)
        image = tf.cond(reverse, lambda i=image, a=axis: tf.reverse(i, [a]), lambda i=image: i)
    return tf.ensure_shape(image, [None, None, channels])


def _orientation(contents: bytes | np.ndarray) -> np.int32:
    """The orientation in an image's metadata, 1 to 8, or 1 (upright) if there is none."""
    if isinstance(contents, np.ndarray):  # TensorFlow passes an array when it runs eagerly.
        contents = contents.item()
    # In a PNG the tag may follow the pixels, and Pillow would decode all of them to find it.
    is_png = contents.startswith(b"\x89PNG")
    if is_png and not any(word in contents for word in (b"eXIf", b"exif", b"adobe.xmp")):
        return np.int32(1)
    reader = PngImagePlugin.PngImageFile if is_png else JpegImagePlugin.JpegImageFile
    try:
        # `Image.open` refuses very large images.
        with reader(io.BytesIO(contents)) as image:
            orientation = int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pixels may be readable even if the metadata are not.
        return np.int32(1)
    return np.int32(orientation if 1 <= orientation <= 8 else 1)


def read_image(path: str | Path, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Reads the upright central square of a PNG or JPEG file, resized: float32 `[H, W, C]` in [0, 1].

    Args:
        path: The file.
        image_shape: H, W, C of the result; C is 1 or 3.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is not an image.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file '{path}'.")
    try:
        return decoder(image_shape[0], image_shape[-1])(str(path)).numpy().astype("float32") / 255
    except tf.errors.OpError as error:
        raise ValueError(f"Cannot decode '{path}': it is not a PNG or JPEG image.") from error


def read_images(folder: str | Path, image_size: int | None = None) -> np.ndarray:
    """Reads all PNG and JPEG files of a folder, or of its subfolders: uint8 `[N, H, W, C]`.

    The images have one channel if all of them are grey, otherwise three. They are rotated and
    mirrored as their metadata say.

    Args:
        folder: The folder.
        image_size: Side to which central squares are resized, with antialiasing; `None` to keep the
            images as they are.

    Raises:
        DatasetNotFound: If the folder does not exist or contains no image.
        ValueError: If a file is not an image, or if sizes differ and `image_size` is `None`.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise DatasetNotFound(f"There is no folder '{root}'.")
    paths = [path for path, _ in _labelled(root)]
    images: np.ndarray | None = None
    grey = True
    for i, path in enumerate(paths):
        try:
            image = _decoded(path, 3)
        except tf.errors.OpError as error:
            raise ValueError(f"Cannot decode '{path}': it is not a PNG or JPEG image.") from error
        image = (square(image, image_size) if image_size else image).numpy()
        if images is None:
            images = np.empty([len(paths), *image.shape], np.uint8)
        if image.shape != images.shape[1:]:
            raise ValueError(
                f"The images in '{root}' have different sizes. Set image_size to resize them. "
                f"Received: '{Path(paths[0]).name}' of {images.shape[1]}x{images.shape[2]} and "
                f"'{Path(path).name}' of {image.shape[0]}x{image.shape[1]} pixels."
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

    # Decode every file once, so that a corrupt file is found now and not in a later epoch.
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
        # The order is deterministic, so the next file is the one that failed.
        raise ValueError(
            f"Cannot decode '{paths[done]}': it is corrupt, or not a PNG or JPEG image. "
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
