"""Folders of PNG and JPEG images."""

import hashlib
import io
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import ExifTags, JpegImagePlugin, PngImagePlugin

from zoo.datasets import tables
from zoo.datasets.errors import DatasetNotFound
from zoo.datasets.images import SPLITS, ImageData, Split, untuned
from zoo.datasets.pixels import MOST_PIXELS, PNG, decode, on_black, square

SUFFIXES = (".png", ".jpg", ".jpeg")
MEMORY = 4 * 2**30  # Bytes of decoded images to hold; larger sets are decoded batch by batch.
Listing = list[tuple[str, str | None]]  # (path, name of the label)
# Files and folders that Windows, macOS, Linux and network drives add to folders, in lower case.
IGNORED = {
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "icon\r",
    "__macosx",
    "@eadir",
    "#recycle",
    "$recycle.bin",
    "system volume information",
    "lost+found",
}
# The usual names of folders for splits, in lower case.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
LAYOUTS = (
    "The layouts are: images; one subfolder per label; or the subfolder 'train' and, if there are "
    "such splits, 'validation' (or 'valid', 'val', 'dev') and 'test', each with one of the first two "
    "layouts."
)


def shown(path: str | Path) -> str:
    """A path as text that can be printed, even if the path is not UTF-8."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _check_name(path):
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"Expected paths in UTF-8. Rename the file or folder. Received: '{shown(path)}'."
        ) from error


def _check_regular(path):
    """Refuses everything that is not a file or a link to a file: reading a pipe would never end."""
    if path.is_file():
        return
    if path.is_dir():
        raise ValueError(f"Expected an image file. Received: the folder '{path}'.")
    if path.is_symlink() and not path.exists():
        raise ValueError(
            f"'{path}' is a link to '{shown(os.readlink(path))}', which does not exist. Remove it."
        )
    raise ValueError(
        f"Expected regular files. Remove '{path}', which is a device, a pipe or a socket."
    )


def _children(folder: Path, tables_allowed: bool = False) -> tuple[list[Path], list[Path]]:
    """The subfolders and the images of a folder, sorted.

    Hidden files and folders, those that systems add (`IGNORED`), and tables of attributes where they
    are allowed, are left out.
    """
    folders, files = [], []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name.lower() in IGNORED:
            continue
        if path.name in tables.NAMES:
            if tables_allowed:
                continue
            raise ValueError(
                "Expected a table of attributes only in the folder that data_dir names. "
                f"Move it there. Received: '{path}'."
            )
        _check_name(path)
        if path.is_dir():
            folders.append(path)
            continue
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(
                f"Expected only PNG and JPEG images ({', '.join(SUFFIXES)}). Convert other files or "
                f"move them. Received: '{path}'."
            )
        _check_regular(path)
        files.append(path)
    return folders, files


def _labelled(folder: Path, tables_allowed: bool = False) -> Listing:
    """All images of a folder; the names of subfolders, if there are any, are the labels."""
    folders, files = _children(folder, tables_allowed)
    if folders and files:
        raise ValueError(
            f"Expected either images or subfolders in '{folder}'. Move one kind elsewhere. "
            f"Received: both, such as '{files[0].name}' and '{folders[0].name}/'. {LAYOUTS}"
        )
    listing: Listing = [(str(path), None) for path in files]
    for label in folders:
        deeper, images = _children(label)
        if deeper:
            raise ValueError(
                f"Expected only images in '{label}', the folder of a label. "
                f"Received: the folder '{deeper[0].name}/'. {LAYOUTS}"
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
    belongs to the last part from 0.9 on, and to the part before it from 0.8 on. Therefore images
    that are added or removed do not move others from one split to another, and the folder can be
    moved as a whole. The parts are tenths on average. If a part of a small folder would be empty,
    it gets the image with the next lower number (for the remaining images: the lowest number).
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


def _split_folders(folders: list[Path], root: Path) -> dict[str, Path]:
    """The folders of the splits by split; none if no folder has the name of a split.

    Raises:
        ValueError: If only some folders have such names, if two belong to one split, or if there is
            no `train`.
    """
    split_of = {name: split for split, names in SPLIT_NAMES.items() for name in names}
    found = {path: split_of.get(path.name.lower()) for path in folders}
    named = [path.name for path, split in found.items() if split]
    if not named:
        return {}
    if others := [path.name for path, split in found.items() if not split]:
        raise ValueError(
            f"'{named[0]}' in '{root}' is the name of a split, but '{others[0]}' is not. "
            f"{LAYOUTS} If '{named[0]}' is a label, move all labels into a new subfolder 'train'."
        )
    splits = {split: path for path, split in found.items() if split}
    if len(splits) < len(named) or "train" not in splits:
        raise ValueError(
            f"Expected in '{root}' one subfolder for 'train' and at most one for each other split. "
            f"Received: {', '.join(named)}. {LAYOUTS}"
        )
    return splits


def listing(data_dir: str | None, seed: int = 0) -> dict[str, Listing]:
    """The files of each split and their labels, without reading an image.

    Subfolders with the usual names of splits, in any case, are the splits: see `SPLIT_NAMES`. A
    missing validation or test split gets about a tenth of the other images: of `train`, or of all
    images if there are no folders of splits. The seed and the paths decide, so added images do not
    move others.

    Args:
        data_dir: The folder.
        seed: Seed of the splits and of their order.

    Raises:
        ValueError: If `data_dir` is `None`, if the layout is not one of `LAYOUTS`, or if the folder
            has something other than images.
        DatasetNotFound: If the folder does not exist or contains no image.
    """
    if data_dir is None:
        raise ValueError(
            "The data set 'folder' needs `data_dir`, the folder of the images. "
            "Received: data_dir=None."
        )
    root = Path(data_dir).expanduser()
    if not root.is_dir():
        raise DatasetNotFound(
            f"There is no folder '{shown(root)}'. Set data_dir to the folder of images."
        )
    folders, files = _children(root, tables_allowed=True)
    found = {} if files else _split_folders(folders, root)
    if not found:
        return dict(zip(SPLITS, _hold_out(_labelled(root, True), 2, root, seed), strict=True))
    splits = {split: _labelled(path) for split, path in found.items()}
    _check_labels(splits, found)
    if missing := [split for split in SPLITS if split not in splits]:
        parts = _hold_out(splits["train"], len(missing), found["train"], seed)
        splits.update(zip(["train", *missing], parts, strict=True))
    # The order does not depend on labels, so the first images of a split are of various labels.
    return {split: sorted(splits[split], key=lambda e: _order(e, root, seed)) for split in SPLITS}


def _check_labels(splits, folders):
    """Checks that the labels of every split are labels of `train`."""
    labels = {label for _, label in splits["train"]}
    for split, listing in splits.items():
        found = {label for _, label in listing}
        if (None in found) != (None in labels):
            raise ValueError(
                f"Expected subfolders of labels either in all splits or in none. Received: "
                f"'{folders['train']}' {'without' if None in labels else 'with'} labels, and "
                f"'{folders[split]}' {'without' if None in found else 'with'} labels."
            )
        if strange := sorted(map(str, found - labels)):
            raise ValueError(
                f"The labels in '{folders[split]}' must be among those in '{folders['train']}': "
                f"{', '.join(sorted(map(str, labels)))}. Received: {strange[0]}."
            )


def _order(entry, root, seed):
    return _number(Path(entry[0]).relative_to(root), seed)


def decoder(size: int, channels: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """The function from a path to the image, uint8 `[size, size, channels]`.

    With 4 channels the image is on black, and the last channel is alpha.
    """
    if channels == 4:
        return lambda path: square(on_black(_decoded(path, 4)), size)
    return lambda path: square(_decoded(path, channels), size)


def _decoded(path, channels):
    """The image in a file, uint8 `[H, W, channels]`, rotated and mirrored as its tag says."""
    contents = tf.io.read_file(path)
    image = decode(contents, channels)
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
        contents = bytes(contents.item())
    # In a PNG the tag may follow the pixels, and Pillow would decode all of them to find it.
    tags = (b"eXIf", b"exif", b"adobe.xmp")
    if contents.startswith(PNG) and not any(tag in contents for tag in tags):
        return np.int32(1)
    try:
        with _opened(contents) as image:
            orientation = int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pixels may be readable even if the metadata are not.
        return np.int32(1)
    return np.int32(orientation if 1 <= orientation <= 8 else 1)


def _opened(contents: bytes) -> PngImagePlugin.PngImageFile | JpegImagePlugin.JpegImageFile:
    """A PNG or JPEG file in Pillow, of which only the header is read."""
    # `Image.open` refuses very large images, and knows other formats.
    is_png = contents.startswith(PNG)
    reader = PngImagePlugin.PngImageFile if is_png else JpegImagePlugin.JpegImageFile
    return reader(io.BytesIO(contents))


def _undecodable(path: str | Path) -> ValueError:
    """The error about a file that `decode` refused."""
    cause = "it is corrupt. Replace or remove it."
    try:
        contents = Path(path).read_bytes()
        if not contents:
            cause = "it is empty. Replace or remove it."
        elif not contents.startswith((PNG, b"\xff\xd8")):
            cause = (
                "it is not a PNG or JPEG image, although its name says so. Convert or remove it."
            )
        else:
            with _opened(contents) as image:
                width, height = image.size
            if width * height > MOST_PIXELS:
                cause = (
                    f"it has {width:,} x {height:,} pixels, and at most {MOST_PIXELS:,} are allowed. "
                    "Make it smaller or remove it."
                )
    except OSError as error:
        cause = f"{error.strerror}." if error.strerror else cause
    except Exception:  # Pillow raises errors of many types for a damaged header.
        pass
    return ValueError(f"Cannot decode '{path}': {cause}")


def read_image(path: str | Path, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Reads the upright central square of a PNG or JPEG file, resized: float32 `[H, W, C]` in [0, 1].

    Args:
        path: The file.
        image_shape: H, W, C of the result; C is 1 or 3.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the path is not a regular file, or not an image of at most
            `zoo.datasets.pixels.MOST_PIXELS` pixels.
    """
    _check_name(path)
    if not os.path.lexists(path):
        raise FileNotFoundError(f"There is no file '{path}'.")
    _check_regular(Path(path))
    try:
        return decoder(image_shape[0], image_shape[-1])(str(path)).numpy().astype("float32") / 255
    except tf.errors.OpError as error:
        raise _undecodable(path) from error


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
        raise DatasetNotFound(f"There is no folder '{shown(root)}'.")
    paths = [path for path, _ in _labelled(root, tables_allowed=True)]
    images = np.empty([0, 0, 0, 3], np.uint8)
    grey = True
    for i, path in enumerate(paths):
        try:
            image = _decoded(path, 3)
        except tf.errors.OpError as error:
            raise _undecodable(path) from error
        image = (square(image, image_size) if image_size else image).numpy()
        if i == 0:
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


def load(
    data_dir: str | None, *, image_size: int | None, mask: str | None, seed: int, **options: Any
) -> ImageData:
    """Reads a folder of images; see `zoo.datasets.load`."""
    splits = listing(data_dir, seed)
    assert data_dir is not None  # `listing` has found the folder.
    files = {split: [path for path, _ in splits[split]] for split in SPLITS}
    every = [path for split in SPLITS for path in files[split]]
    columns, attributes = tables.read(Path(data_dir).expanduser(), every)
    names = sorted({label for split in SPLITS for _, label in splits[split] if label is not None})
    size = image_size or 64
    images, masks, channels = _read_all(every, size, mask, data_dir)
    content, start = {}, 0
    for split in SPLITS:
        part = slice(start, start + len(files[split]))
        leaves = {}
        if names:
            labels = [names.index(label) for _, label in splits[split] if label is not None]
            leaves["label"] = np.array(labels, np.int32)
        if columns:
            leaves["attributes"] = attributes[part]
        if masks is not None:
            leaves["mask"] = masks[part]
        stored = np.array(files[split]) if images is None else images[part]
        content[split] = Split(stored, leaves or None)
        start = part.stop
    return ImageData(
        "folder",
        content,
        (size, size, channels),
        decode=decoder(size, channels) if images is None else None,
        label_names=tuple(names) or None,
        attribute_names=columns or None,
        seed=seed,
        **options,
    )


def _read_all(paths, size, mask, data_dir):
    """All images, or `None` if they do not fit in memory; their masks; and the number of channels.

    Every file is decoded once, so that a corrupt file is found now and not in a later epoch.
    """
    values = 4 if mask else 3
    keep = len(paths) * size * size * values <= MEMORY
    if mask and not keep:
        raise ValueError(
            f"Images with masks must fit in {MEMORY:,} bytes. Choose a smaller image_size. "
            f"Received: {len(paths)} images of {size}x{size} pixels."
        )
    images = np.empty([len(paths) if keep else 0, size, size, values], np.uint8)
    decode = decoder(size, values)

    def inspect(path):
        image = decode(path)
        return image, tf.reduce_all(image[..., :3] == image[..., :1])

    data = tf.data.Dataset.from_tensor_slices(paths).map(
        inspect, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    grey, done = True, 0
    try:
        for image, is_grey in untuned(data).as_numpy_iterator():
            grey &= bool(is_grey)
            if keep:
                images[done] = image
            done += 1
    except tf.errors.OpError as error:
        # The order is deterministic, so the next file is the one that failed.
        raise _undecodable(paths[done]) from error
    channels = 1 if grey else 3
    masks = np.ascontiguousarray(images[..., 3:]) if mask else None
    if masks is not None and masks.min() == 255:
        raise ValueError(
            "mask='alpha' needs images with transparent pixels. Leave `mask` out. "
            f"Received: '{data_dir}', without such an image."
        )
    return np.ascontiguousarray(images[..., :channels]) if keep else None, masks, channels
