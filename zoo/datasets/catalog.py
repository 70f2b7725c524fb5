"""The data sets by name."""

import difflib

import numpy as np

from zoo.datasets import folder, tfds_sets
from zoo.datasets.images import ImageData, Split, check_options, resized
from zoo.datasets.labelled import check_num_labels


def names() -> list[str]:
    """The names of all data sets, sorted."""
    return sorted(["digits", "folder", "four_points", *tfds_sets.RECIPES])


def check(name: str, data_dir: str | None = None) -> None:
    """Raises what `load` would raise for a wrong name or folder, without reading an image.

    A TFDS set that is not prepared passes: only `load` tries to prepare it.

    Raises:
        ValueError: for an unknown name, or a folder of images laid out wrongly.
        zoo.datasets.DatasetNotFound: for a folder that is not there, or is empty.
    """
    if name not in names():
        near = difflib.get_close_matches(str(name), names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(f"Unknown data set {name!r}. Known: {', '.join(names())}{hint}")
    if name == "folder":
        folder.listing(data_dir)
    elif name in tfds_sets.RECIPES:
        tfds_sets.check(name, data_dir)


def _digits(*, image_size: int | None, **options) -> ImageData:
    """scikit-learn's 1,797 digits of 8x8 pixels in 17 levels, in the stored order."""
    from sklearn.datasets import load_digits  # Here, because `import zoo` does without it.

    bunch = load_digits()
    images, levels = bunch.images[..., None].astype(np.uint8), 17
    if image_size not in (None, 8):
        # Resized in 256 levels; 17 would leave visible steps.
        images, levels = resized(np.round(images * (255 / 16)).astype(np.uint8), image_size), 256
    labels = bunch.target.astype(np.int32)
    cuts = {"train": (0, 1000), "validation": (1000, 1350), "test": (1350, 1797)}
    splits = {split: Split(images[a:b], labels[a:b]) for split, (a, b) in cuts.items()}
    digits = tuple(map(str, bunch.target_names))
    return ImageData(
        "digits", splits, images.shape[1:], levels=levels, label_names=digits, **options
    )


def _four_points(*, image_size: int | None, **options) -> ImageData:
    """Images of 2x2 pixels of which one is lit, all four as often."""
    _check_four_points(image_size)
    points = np.eye(4, dtype=np.uint8).reshape(4, 2, 2, 1)
    # So many that an epoch of small batches is long against what comes after it.
    sizes = {"train": 512_000, "validation": 512, "test": 512}
    rows = {split: np.arange(n, dtype=np.int32) % 4 for split, n in sizes.items()}
    splits = {split: Split(points[labels], labels) for split, labels in rows.items()}
    return ImageData("four_points", splits, (2, 2, 1), levels=2, **options)


def _check_four_points(image_size):
    if image_size not in (None, 2):
        raise ValueError(
            f"The images of 'four_points' have 2x2 pixels. Received: image_size={image_size}."
        )


def expected(name: str, image_size: int | None = None) -> tuple[tuple[int, int, int], int] | None:
    """The shape of a set's images and their number of grey levels, without loading it.

    None for `folder`, whose images must be seen first.

    Raises:
        ValueError: For a size that the images of 'four_points' have not.
    """
    if name == "folder":
        return None
    if name == "four_points":
        _check_four_points(image_size)
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
    seen_quadrants: int | None = None,
    num_labels: int | None = None,
    seed: int = 0,
) -> ImageData:
    """Loads a data set by name.

    | name | images | train / validation / test | y |
    |---|---|---|---|
    | digits | 8x8x1, 17 levels; part of scikit-learn | 1000 / 350 / 447 | digit |
    | four_points | 2x2x1, 0 and 1: one of four pixels is lit | 512000 / 512 / 512 | which |
    | mnist, fashion_mnist | 28x28x1 | 50000 / 10000 / 10000 | class |
    | binarized_mnist | 28x28x1, 0 and 1 | 50000 / 10000 / 10000 | none |
    | svhn_cropped, cifar10 | 32x32x3 | train[:90%] / train[90%:] / test | class |
    | omniglot | 28x28x1, from 105x105, ink is 1 | train[:90%] / train[90%:] / test | alphabet |
    | celeb_a | 64x64x3, from the central 148x148 | its own | 40 attributes, 0 or 1 |
    | folder | 64x64, central squares | about 80% / 10% / 10%, or its own | subfolder |

    `folder` reads the PNG and JPEG files of `data_dir`; with one subfolder per label these
    subfolders' sorted names are the labels. Subfolders named exactly `train` and `test`, and
    perhaps `validation`, are the splits instead (without `validation`, about a tenth of `train`
    is held out). Which image belongs where, its path and the seed alone decide, so that adding
    images moves no other. They are turned upright where their metadata ask for it. The images have one channel if all of them are grey, else three; transparency is dropped.
    A file that cannot be read is an error, never left out.

    Args:
        name: one of `names()`.
        data_dir: the images of `folder`; for all else the folder of the sets prepared by TFDS
            (None: TFDS_DATA_DIR, else ~/tensorflow_datasets). A set that is not prepared there
            is built from its original files in `data_dir`/downloads/manual, or is downloaded.
        image_size: side of the images; they are resized with antialiasing. None: the set's own.
        binarize: None, "dynamic", "dynamic_all", "fixed" or "threshold"; see `ImageData`.
        seen_quadrants: 1, 2 or 3 to make `y` the image as far as it is seen: so many quadrants of it,
            and -1 elsewhere; see `ImageData`. None: the set's own `y`.
        num_labels: how many training images keep their label, as many of each class; the others
            have -1. None: all. See `ImageData`.
        seed: seed of the order, of the draws, of the labels kept, and of the splits of `folder`.

    Returns:
        An `ImageData`.

    Raises:
        ValueError: for an unknown name or option, or a file which is no image.
        zoo.datasets.DatasetNotFound: where the data is not there and cannot be had.

    Example:

        import zoo.datasets

        data = zoo.datasets.load("digits", binarize="dynamic")
        train = data.batches("train", 100, shuffle=True, repeat=True)
        x, y = next(iter(train))  # [100, 8, 8, 1] zeros and ones, [100] digits
    """
    check_options(image_size, binarize, seen_quadrants)
    check_num_labels(num_labels)
    check(name, data_dir)
    if name == "binarized_mnist" and (binarize or image_size not in (None, 28)):
        raise ValueError(
            "'binarized_mnist' is binary already, and is kept as published: it takes neither "
            f"`binarize` nor `image_size`. Received: binarize={binarize!r}, "
            f"image_size={image_size!r}. Use 'mnist' for these."
        )
    options = {"image_size": image_size, "binarize": binarize, "seed": seed}
    options["seen_quadrants"] = seen_quadrants
    options["num_labels"] = num_labels
    if name == "digits":
        return _digits(**options)
    if name == "four_points":
        return _four_points(**options)
    if name == "folder":
        return folder.load(data_dir, **options)
    return tfds_sets.load(name, data_dir, **options)
