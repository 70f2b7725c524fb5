"""Data sets by name."""

import difflib
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.contract import check_counts
from zoo.datasets import folder, tfds_sets
from zoo.datasets.heads import HEADS, HEADS_GREY
from zoo.datasets.images import SPLITS, ImageData, Split, check_options, check_y, resized
from zoo.datasets.labelled import check_num_labels
from zoo.datasets.moving import BOUNCING, MOVING, TURNING
from zoo.datasets.rendered import check_sizes
from zoo.datasets.scenes import SCENES
from zoo.datasets.sprites import SPRITES, SPRITES_GROUPS
from zoo.datasets.textures import TEXTURES

RENDERED = {
    "bouncing_sprites": BOUNCING,
    "heads": HEADS,
    "heads_grey": HEADS_GREY,
    "moving_sprites": MOVING,
    "sprites": SPRITES,
    "sprites_groups": SPRITES_GROUPS,
    "sprites_scenes": SCENES,
    "textures": TEXTURES,
    "turning_sprites": TURNING,
}


def names() -> list[str]:
    """The names of all data sets, sorted."""
    return sorted(["digits", "folder", "four_points", *tfds_sets.RECIPES, *RENDERED])


def check(name: str, data_dir: str | None = None) -> None:
    """Checks a name and a folder as `load` does, without reading an image.

    A TFDS set that is not prepared passes, because `load` prepares it.

    Args:
        name: One of `names()`.
        data_dir: As for `load`.

    Raises:
        ValueError: If the name is unknown, or if the layout of the folder is wrong.
        zoo.datasets.DatasetNotFound: If the folder does not exist or is empty.
    """
    if name not in names():
        near = difflib.get_close_matches(str(name), names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(f"Unknown data set {name!r}. Known: {', '.join(names())}{hint}")
    if name == "folder":
        folder.listing(data_dir)
    elif name in tfds_sets.RECIPES:
        tfds_sets.check(name, data_dir)


def _digits(*, image_size: int | None, **options: Any) -> ImageData:
    """scikit-learn's 1,797 digits of 8x8 pixels in 17 levels, in the stored order."""
    from sklearn.datasets import load_digits  # Importing scikit-learn is slow.

    bunch = load_digits()
    images, levels = bunch.images[..., None].astype(np.uint8), 17
    if image_size not in (None, 8):
        # With 17 levels, resized images would show steps.
        images, levels = resized(np.round(images * (255 / 16)).astype(np.uint8), image_size), 256
    labels = bunch.target.astype(np.int32)
    cuts = {"train": (0, 1000), "validation": (1000, 1350), "test": (1350, 1797)}
    splits = {split: Split(images[a:b], labels[a:b]) for split, (a, b) in cuts.items()}
    digits = tuple(map(str, bunch.target_names))
    return ImageData(
        "digits", splits, images.shape[1:], levels=levels, label_names=digits, **options
    )


def _four_points(*, image_size: int | None, **options: Any) -> ImageData:
    """Images of 2x2 pixels with one pixel lit; each of the four images is equally frequent."""
    _check_four_points(image_size)
    points = np.eye(4, dtype=np.uint8).reshape(4, 2, 2, 1)
    # Epochs are long, so that the work between two epochs takes a small share of the time.
    sizes = {"train": 512_000, "validation": 512, "test": 512}
    rows = {split: np.arange(n, dtype=np.int32) % 4 for split, n in sizes.items()}
    splits = {split: Split(points[labels], labels) for split, labels in rows.items()}
    return ImageData("four_points", splits, (2, 2, 1), levels=2, **options)


def _check_four_points(image_size):
    if image_size not in (None, 2):
        raise ValueError(
            f"The images of 'four_points' have 2x2 pixels. Received: image_size={image_size}."
        )


# A process often loads the same set again, to train and to evaluate.
@functools.lru_cache(maxsize=1)
def _rendered_splits(name: str, sizes: tuple[int, ...], image_size: int, seed: int):
    splits = RENDERED[name].splits(dict(zip(SPLITS, sizes, strict=True)), image_size, seed)
    for split in splits.values():  # The cache shares the arrays.
        assert isinstance(split.labels, Mapping)  # The annotations of a rendered set
        for array in (split.images, *split.labels.values()):
            array.flags.writeable = False
    return splits


def _rendered(name, sizes, *, image_size, seed, **options) -> ImageData:
    """A set that is rendered now; see `zoo.datasets.rendered`."""
    kind = RENDERED[name]
    check_counts(0, seed=seed)
    sizes = check_sizes(name, kind, sizes)
    check_y(name, kind.leaves, options["y"], options["seen"])
    size = image_size or kind.shape[0]
    splits = _rendered_splits(name, tuple(sizes[split] for split in SPLITS), size, seed)
    shape = (size, size, kind.shape[-1])
    of_factors = kind.render
    render = None if of_factors is None else lambda factors: of_factors(factors, size)
    return ImageData(
        name, splits, shape, levels=kind.levels, render=render, seed=seed, **kind.options, **options
    )


def expected(name: str, image_size: int | None = None) -> tuple[tuple[int, int, int], int] | None:
    """Shape and number of grey levels of a data set's images, without loading it.

    Args:
        name: One of `names()`.
        image_size: As for `load`.

    Returns:
        `((H, W, C), levels)`, or `None` for `folder`, which is known only after reading the images.

    Raises:
        ValueError: If the images of 'four_points' do not have that size.
    """
    if name == "folder":
        return None
    if name == "four_points":
        _check_four_points(image_size)
    if name in RENDERED:
        size = image_size or RENDERED[name].shape[0]
        return (size, size, RENDERED[name].shape[-1]), RENDERED[name].levels
    recipe = tfds_sets.RECIPES.get(name)
    embedded = {"digits": ((8, 8, 1), 17), "four_points": ((2, 2, 1), 2)}
    shape, levels = (recipe.shape, recipe.levels) if recipe else embedded[name]
    if image_size in (None, shape[0]):
        return shape, levels
    return (image_size, image_size, shape[-1]), 256


def load(
    name: str,
    *,
    data_dir: str | None = None,
    image_size: int | None = None,
    binarize: str | None = None,
    seen: str | None = None,
    num_labels: int | None = None,
    y: str | None = None,
    attributes: str | None = None,
    mask: str | None = None,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
) -> ImageData:
    """Loads a data set by name.

    | name | images | train / validation / test | y |
    |---|---|---|---|
    | digits | 8x8x1, 17 levels; part of scikit-learn | 1000 / 350 / 447 | digit |
    | four_points | 2x2x1, 0 and 1; one of four pixels is lit | 512000 / 512 / 512 | lit pixel |
    | mnist, fashion_mnist | 28x28x1 | 50000 / 10000 / 10000 | class |
    | binarized_mnist | 28x28x1, 0 and 1 | 50000 / 10000 / 10000 | none |
    | svhn_cropped, cifar10 | 32x32x3 | train[:90%] / train[90%:] / test | class |
    | omniglot | 28x28x1, from 105x105, ink is 1 | train[:90%] / train[90%:] / test | alphabet |
    | celeb_a | 64x64x3, from the central 148x148 | its own | 40 attributes, 0 or 1 |
    | sprites | 64x64x1, 0 and 1; the grid of dSprites | 50000 / 5000 / 5000 | shape |
    | sprites_groups | 64x64x1, 0 and 1; groups of 20 | 50000 / 2000 / 2000 | shape |
    | sprites_scenes | 32x32x3, a sprite on a texture | 20000 / 2000 / 2000 | 8 attributes |
    | heads | 48x48x3, four images of each head | 8000 / 400 / 400 | 24 attributes |
    | heads_grey | 32x32x1, groups of 20 | 40000 / 2000 / 2000 | 13 attributes |
    | textures | 32x32x3, two textures in a layout | 20000 / 2000 / 2000 | 7 factors |
    | moving_sprites | 16x16x4, 0 and 1; four frames with two futures | 8000 / 1000 / 1000 | 4 factors |
    | turning_sprites | 16x16x4, 0 and 1; four frames with four futures | 8000 / 1000 / 1000 | 4 factors |
    | bouncing_sprites | 16x16x8, 0 and 1; eight frames | 8000 / 1000 / 1000 | 5 factors |
    | folder | 64x64, central squares | about 80% / 10% / 10%, or its own | subfolder, else attributes |

    The last sets before `folder` are rendered when they are loaded, as functions of the seed, the sizes
    and the image size, with the same bytes on every machine. Their annotations are known exactly:

    | name | annotations `[N, ...]` |
    |---|---|
    | sprites | label; factors int32 `[5]` |
    | sprites_groups | label; factors int32 `[5]`; varied int32, the factor that differs in the group |
    | sprites_scenes | attributes `[8]` in [0, 1]; mask `[H, W, 1]`; factors `[5]` |
    | heads | attributes `[24]`, 0 or 1; factors `[24]`; group int32; mask; landmarks `[8, 2]`, pixels; light `[9, 3]` |
    | heads_grey | attributes `[13]`, 0 or 1; factors `[13]`; varied int32, the factor that differs in the group |
    | moving_sprites, turning_sprites | factors int32 `[4]` |
    | bouncing_sprites | factors `[5]` |
    | textures | factors `[7]`; layout `[H, W, 1]`, 0 or 1; palette `[4, 3]`, two colours inside and two outside |

    `zoo.datasets.sprites`, `zoo.datasets.scenes`, `zoo.datasets.heads`, `zoo.datasets.textures` and
    `zoo.datasets.moving` describe them. The channels of the moving sprites are the frames of a video.

    `folder` reads the PNG and JPEG files of `data_dir`. If there is one subfolder per label, the
    sorted names of the subfolders are the labels. Subfolders named `train` (or `training`),
    `validation` (or `valid`, `val`, `dev`) and `test` (or `testing`), in any case, are the splits
    instead; about a tenth of `train` is held out for each of the other splits that is missing. The
    split of an image depends only on its path and the seed, so added images do not move others.
    Images are decoded as Pillow decodes them, and rotated and mirrored as their metadata say. They
    have one channel if all of them are grey, otherwise three; transparency is dropped, or becomes the
    annotation `mask`. A table `attributes.csv` or `list_attr_celeba.txt` in `data_dir` becomes the
    annotation `attributes`: see `zoo.datasets.tables`. Hidden files and files of the system, such as
    `Thumbs.db`, are skipped. Any other file is an error, as is an image of more than
    `zoo.datasets.pixels.MOST_PIXELS` pixels.

    Args:
        name: One of `names()`.
        data_dir: For `folder`, the folder of images. For the TFDS sets, the folder of prepared
            sets; `None` for TFDS_DATA_DIR, or ~/tensorflow_datasets if that is not set. A set that
            is not prepared is built from its original files in `data_dir`/downloads/manual, or
            downloaded.
        image_size: Side to which images are resized, with antialiasing; `None` for the set's own.
        binarize: `None`, "dynamic", "dynamic_all", "fixed" or "threshold"; see `ImageData`.
        seen: The part of the image that `y` shows, such as "quadrants:1", "half:top", "box",
            "pixels:0.5", or the path of a mask; or "frames:K" for the first K frames of a video. `y`
            is -1 elsewhere. See `named_mask` and `ImageData`. `None` for the set's own `y`.
        num_labels: Number of training images that keep their label, the same for each class; the
            others have -1. `None` for all. See `ImageData`.
        y: The annotation that becomes `y`, such as "attributes"; several, separated by commas, or
            "all" for a dict of annotations; "small:4" for the image, smaller by a factor of 4, or
            another factor; `None` for the one in the table.
        attributes: The columns of the annotation `attributes` to keep, separated by commas, such as
            "glasses,hat". `None` for all.
        mask: "alpha" for an annotation `mask` `[H, W, 1]` of `folder`, the alpha channel of its PNG
            files. The images then show the colours on black: each pixel is its colour times its mask.
            `None` for no masks.
        sizes: Numbers of images of some splits, such as `{"train": 2000}`, for the rendered sets.
            `None` for the numbers in the table.
        seed: Seed of the order, of the binarisation, of the kept labels, of the splits of `folder`,
            and of rendered images.

    Raises:
        ValueError: If a name or option is unknown, or a file is not an image.
        zoo.datasets.DatasetNotFound: If the data set is neither prepared nor downloadable.

    Example:
        >>> data = zoo.datasets.load("digits", binarize="dynamic")
        >>> train = data.batches("train", 100, shuffle=True, repeat=True)
        >>> x, y = next(iter(train))  # Zeros and ones, and digits.
        >>> x.shape, y.shape
        (TensorShape([100, 8, 8, 1]), TensorShape([100]))
    """
    check_options(image_size, binarize, seen)
    check_num_labels(num_labels)
    check(name, data_dir)
    if name == "binarized_mnist" and (binarize or image_size not in (None, 28)):
        raise ValueError(
            "'binarized_mnist' is already binary and takes neither `binarize` nor `image_size`: use "
            f"'mnist' with these options. Received: binarize={binarize!r}, "
            f"image_size={image_size!r}."
        )
    options: dict[str, Any] = {
        "image_size": image_size,
        "binarize": binarize,
        "seen": seen,
        "num_labels": num_labels,
        "y": y,
        "attributes": attributes,
        "seed": seed,
    }
    if mask not in (None, "alpha") or (mask and name != "folder"):
        raise ValueError(
            "`mask` is None, or 'alpha' for the images of 'folder'. "
            f"Received: mask={mask!r} for {name!r}."
        )
    if name in RENDERED:
        return _rendered(name, sizes, **options)
    if sizes is not None:
        raise ValueError(
            f"`sizes` is for the rendered data sets: {', '.join(RENDERED)}. "
            f"Received: {name!r} with sizes={sizes!r}."
        )
    if name == "digits":
        return _digits(**options)
    if name == "four_points":
        return _four_points(**options)
    if name == "folder":
        return folder.load(data_dir, mask=mask, **options)
    return tfds_sets.load(name, data_dir, **options)
