"""`ImageData`: images in memory, and a pipeline that gathers batches by index."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from zoo import draws
from zoo.contract import check_counts
from zoo.datasets.labelled import check_num_labels, hide_labels, labelled_rows
from zoo.datasets.masks import check_seen, named_mask, random_share, seen_frames
from zoo.datasets.pixels import square
from zoo.resizing import box_average, small_factor, small_shape

BINARIZATIONS = ("dynamic", "dynamic_all", "fixed", "threshold")
SPLITS = ("train", "validation", "test")
_FIXED = -1  # The epoch number of the draw that never changes.
_FOREVER = np.iinfo(np.int64).max


class Split(NamedTuple):
    """The images of one split (uint8 `[N, H, W, C]`, or `[N]` file paths) and their annotations.

    Several annotations are a dict of arrays `[N, ...]`. A `mask` is uint8 `[N, H, W, 1]`.
    """

    images: np.ndarray | tf.Tensor
    labels: np.ndarray | tf.Tensor | Mapping[str, np.ndarray | tf.Tensor] | None = None


def check_options(image_size: int | None, binarize: str | None, seen: str | None = None) -> None:
    """Checks the options of images.

    Raises:
        ValueError: If an option has an invalid value.
        FileNotFoundError: If `seen` is the path of a file that does not exist.
    """
    integral = isinstance(image_size, int | np.integer) and not isinstance(image_size, bool)
    if image_size is not None and not (integral and image_size > 0):
        raise ValueError(
            "`image_size` must be None or a positive int (images are square). "
            f"Received: image_size={image_size!r}."
        )
    if binarize is not None and binarize not in BINARIZATIONS:
        raise ValueError(
            f"`binarize` must be None or one of {', '.join(map(repr, BINARIZATIONS))}. "
            f"Received: binarize={binarize!r}."
        )
    if seen is not None:
        check_seen(seen, (image_size or 2, image_size or 2))


def check_y(name: str, leaves: tuple[str, ...], y: str | None, seen: str | None = None) -> None:
    """Checks the names of the annotations that become `y`; see `ImageData`.

    Raises:
        ValueError: If the data set has no such annotation, or if `y` is the image's seen part.
    """
    if y is None:
        return
    if seen:
        raise ValueError(
            "`y` is one of three: an annotation, a small image, or the seen part of the image. "
            f"Received: y={y!r}, seen={seen!r}."
        )
    if y.startswith("small:"):
        if small_factor(y) is None:
            raise ValueError(
                "A small image is 'small:K', smaller by a factor K of at least 2, such as 'small:4'. "
                f"Received: y={y!r}."
            )
        return
    if not leaves or not (y == "all" or {*y.split(",")} <= {*leaves}):
        known = "None"
        if leaves:
            known = f"'all' or one of {', '.join(map(repr, leaves))}, or several with commas"
        known += ", or 'small:K' for the image, smaller by a factor K"
        raise ValueError(f"`y` of {name!r} must be {known}. Received: y={y!r}.")


def _chosen(annotations, y):
    """`y`: one of the annotations of a split, a dict of several, or `None` if there are none."""
    if y == "all":
        return annotations
    if "," in y:
        return {name: annotations[name] for name in y.split(",")}
    return annotations.get(y)


def _with_columns(name, annotations, attribute_names, wanted):
    """The annotations and the names of the attributes, with the wanted columns only."""
    columns = wanted.split(",")
    known = attribute_names or ()
    if unknown := [column for column in columns if column not in known]:
        have = f"The attributes of {name!r} are {', '.join(known)}." if known else ""
        raise ValueError(
            f"{have or f'The data set {name!r} has no attributes.'} "
            f"Received: {unknown[0]!r} in attributes={wanted!r}."
        )
    at = [known.index(column) for column in columns]
    kept = {
        split: {**leaves, "attributes": np.asarray(leaves["attributes"])[:, at]}
        for split, leaves in annotations.items()
    }
    return kept, tuple(columns)


def _named(labels, attribute_names):
    """Annotations by name; see `ImageData.annotation_names`."""
    if labels is None:
        return {}
    if isinstance(labels, Mapping):
        return dict(labels)
    return {"attributes" if attribute_names else "label": labels}


def _check_groups(name, splits, group_size):
    check_counts(group_size=group_size)
    for split, part in splits.items():
        if len(part.images) % group_size:
            raise ValueError(
                f"The splits of {name!r} must consist of whole groups of {group_size} images. "
                f"Received: {len(part.images)} images in {split!r}."
            )


def _check_frames(name, image_shape, frames):
    check_counts(frames=frames)
    if image_shape[-1] % frames:
        raise ValueError(
            f"Expected the same number of channels for each of the {frames} frames of {name!r}. "
            f"Received: {image_shape[-1]} channels."
        )


def _seed(seed: int, purpose: int, epoch: tf.Tensor | int) -> tf.Tensor:
    """A stateless seed, a pure function of its arguments."""
    # `purpose` separates orders and draws, which a common seed would correlate.
    return tf.random.experimental.stateless_fold_in(tf.constant([seed, purpose], tf.int64), epoch)


def _uniform(keys: tf.Tensor, shape: tuple[int, ...]) -> tf.Tensor:
    """Uniform numbers in [0, 1), one SplitMix64 stream for each key.

    TensorFlow has no stateless draw with one seed per example. With one stream per example, a fixed
    draw does not depend on batch size, order and sharding. Steele, Lea, Flood, "Fast splittable
    pseudorandom number generators", OOPSLA 2014.

    Args:
        keys: uint64 `[B]`.
        shape: Shape of one example.

    Returns:
        float32 `[B, *shape]`, multiples of 2^-24.
    """

    def xor_shift(z, by):
        return tf.bitwise.bitwise_xor(z, tf.bitwise.right_shift(z, np.uint64(by)))

    count = int(np.prod(shape))
    gamma, first, second = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
    z = keys[:, None] + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(gamma)
    z = xor_shift(z, 30) * np.uint64(first)
    z = xor_shift(z, 27) * np.uint64(second)
    z = xor_shift(z, 31)
    unit = tf.cast(tf.bitwise.right_shift(z, np.uint64(40)), tf.float32) * 2.0**-24
    return tf.reshape(unit, [-1, *shape])


class ImageData:
    """Images in splits, as arrays and as `tf.data` pipelines.

    Images are rows of one uint8 tensor, and a batch is a gather of rows, without operations per
    example. Order, binarisation and random masks of epoch e are pure functions of (seed, e), so a run that
    resumes at epoch e gets the same batches as an uninterrupted run.

    Attributes:
        name: The data set's name.
        image_shape: (H, W, C).
        levels: Number of grey levels.
        annotation_names: Names of the annotations; empty if there are none. One array of labels has
            the name "label", or "attributes" if it has `attribute_names`.
        y: The name of the annotation that `y` is; several names, separated by commas, or "all" for
            a dict of annotations; `None` for the first annotation. "small:K" for the image, smaller by
            a factor K: the averages of boxes of K x K pixels, float32 `[B, H / K, W / K, C]`, of the
            same binary draw as the image.
        label_names: Names of the integer labels, or `None`.
        attribute_names: Names of the columns of `y` if `y` is a vector, otherwise `None`.
        factor_names: Names of the columns of the annotation `factors`, or `None`.
        factor_sizes: Number of values of each factor, where 0 means continuous, or `None`.
        group_size: Rows k g to (k + 1) g - 1 of a split, for g = `group_size`, belong together;
            `None` if there are no groups.
        frames: If the images are videos, their number of frames, otherwise `None`. The channels of
            the first frame come first.
        seen: If not `None`, `y` is the seen part of the image, and -1 elsewhere. The seen part has a
            name of `zoo.datasets.named_mask`, or is "frames:K" for the first K frames of a video. `y`
            shows the same binary draw as the image. The random masks of "pixels:P" are functions of
            the seed, the epoch and the row of the image, new in each training epoch; validation and
            test keep one fixed draw.
        num_labels: If not `None`, the number of training images that keep their label, the same for
            each class; the others have -1. Validation and test keep all labels.
        sizes: Number of examples of each split.
        binarize: `None`, or one of `BINARIZATIONS`:
            "dynamic": Bernoulli draws with the pixel as probability, new in each training epoch;
            validation and test keep one fixed draw. "dynamic_all": new draws in each epoch of every
            split; for validation and test the epoch is the pass number, so use `repeat=True`
            (each pass is an epoch) or pass `first_epoch`. "fixed": one draw for all epochs.
            "threshold": 1 if the pixel is at least 0.5, otherwise 0.
        seed: Seed of order and draws.

    Args:
        splits: `Split`s by name.
        levels: Number of grey levels; the pixel value `levels - 1` means 1.0.
        decode: For splits of file paths, the function from a path to uint8 `[H, W, C]`.
        mask_levels: Number of levels of masks; the value `mask_levels - 1` means 1.0.
        render: The function of the method `render`, to uint8 images, if factors determine the images.
        attributes: The attributes to keep, separated by commas; `None` for all.

    Raises:
        ValueError: If an option has an invalid value or does not fit the data.
    """

    def __init__(
        self,
        name: str,
        splits: Mapping[str, Split],
        image_shape: tuple[int, int, int],
        *,
        levels: int = 256,
        decode: Callable[[tf.Tensor], tf.Tensor] | None = None,
        label_names: tuple[str, ...] | None = None,
        attribute_names: tuple[str, ...] | None = None,
        factor_names: tuple[str, ...] | None = None,
        factor_sizes: tuple[int, ...] | None = None,
        group_size: int | None = None,
        frames: int | None = None,
        mask_levels: int = 256,
        render: Callable[[np.ndarray], np.ndarray] | None = None,
        attributes: str | None = None,
        y: str | None = None,
        binarize: str | None = None,
        seen: str | None = None,
        num_labels: int | None = None,
        seed: int = 0,
    ):
        check_options(None, binarize, seen)
        check_num_labels(num_labels)
        check_counts(0, seed=seed)
        annotations = {
            split: _named(part.labels, attribute_names) for split, part in splits.items()
        }
        if attributes is not None:
            annotations, attribute_names = _with_columns(
                name, annotations, attribute_names, attributes
            )
        self.annotation_names = tuple(next(iter(annotations.values())))
        check_y(name, self.annotation_names, y, seen)
        self.y, self.factor_names, self.factor_sizes = y, factor_names, factor_sizes
        self.group_size, self._mask_levels = group_size, mask_levels
        if group_size is not None:
            _check_groups(name, splits, group_size)
        self._factor = small_factor(y)
        if self._factor is not None:
            small_shape(image_shape, self._factor)
        y = y or next(iter(self.annotation_names), "")
        splits = {
            split: Split(part.images, _chosen(annotations[split], y))
            for split, part in splits.items()
        }
        leaves = self.annotation_names if y == "all" else y.split(",")
        if "label" not in leaves:
            label_names = None
        if "attributes" not in leaves:
            attribute_names = factor_names if leaves == ["factors"] else None
        if num_labels is not None:
            if seen:
                raise ValueError(
                    "`y` is either the label or the image's seen part. Received: "
                    f"num_labels={num_labels}, seen={seen!r}."
                )
            train = splits["train"]
            hidden = hide_labels(train.labels, num_labels, seed)
            splits = {**splits, "train": train._replace(labels=hidden)}
            self._labelled = np.flatnonzero(hidden >= 0).astype(np.int32)
            self._unlabelled = np.flatnonzero(hidden < 0).astype(np.int32)
        self.num_labels = num_labels
        self.name, self.image_shape, self.binarize, self.seed = name, image_shape, binarize, seed
        self.seen, self.frames = seen, frames
        if frames is not None:
            _check_frames(name, image_shape, frames)
        if seen:  # `y` replaces labels and attributes.
            label_names = attribute_names = None
            self._mask, self._seen_share = self.seen_mask(seen)[0], random_share(seen)
        self.label_names, self.attribute_names = label_names, attribute_names
        self.sizes = {split: len(part.images) for split, part in splits.items()}
        self.levels, self._decode, self._render = levels, decode, render
        # Graphs capture eager tensors by reference but copy arrays. tf.data runs on the CPU.
        with tf.device("CPU:0"):
            self._splits = {
                split: Split(
                    tf.convert_to_tensor(part.images),
                    None
                    if part.labels is None
                    else tf.nest.map_structure(tf.convert_to_tensor, part.labels),
                )
                for split, part in splits.items()
            }
        self._annotations = annotations

    def __repr__(self) -> str:
        return f"<ImageData {self.name} {self.image_shape} {self.sizes}>"

    @property
    def has_labels(self) -> bool:
        """Whether there is a `y`: integer labels, attributes, a small image or a seen part."""
        return self._from_image or self._splits["train"].labels is not None

    @property
    def _from_image(self) -> bool:
        """Whether `y` is computed from the image."""
        return self.seen is not None or self._factor is not None

    def seen_mask(self, name: str, n: int = 1, seed: int = 0) -> np.ndarray:
        """Which values of images or videos are seen, by the name of the seen part.

        Args:
            name: A name for `zoo.datasets.named_mask`, or "frames:K" for the first K frames of a video.
            n: Number of masks.
            seed: Seed of masks of random pixels.

        Returns:
            Bools `[n, H, W, 1]`, or `[n, H, W, C]` for the frames of a video.

        Raises:
            ValueError, FileNotFoundError: As for `named_mask`; or if the images are not videos of more
                than K frames.

        Example:
            >>> data = zoo.datasets.load("digits")
            >>> data.seen_mask("half:left")[0, 0, :, 0]
            array([ True,  True,  True,  True, False, False, False, False])
        """
        if (count := seen_frames(name)) is None:
            return named_mask(name, self.image_shape[:2], n, seed)
        if self.frames is None or count >= self.frames:
            have = "no videos" if self.frames is None else f"videos of {self.frames} frames"
            raise ValueError(
                "The seen frames are fewer than the frames of a video, such as those of "
                f"'moving_sprites'. Received: seen={name!r} for {self.name!r}, which has {have}."
            )
        channels = self.image_shape[-1]
        shown = np.arange(channels) < count * (channels // self.frames)
        return np.tile(shown, (n, *self.image_shape[:2], 1))

    @property
    def decoded_in_batches(self) -> bool:
        """Whether images are kept as files and decoded batch by batch, as those of large folders."""
        return self._decode is not None

    @property
    def labelled_share(self) -> float:
        """Share of the training images that have a label, in [0, 1]."""
        if self.num_labels is None:
            return float(self.has_labels)
        return self.num_labels / self.sizes["train"]

    def annotations(self, split: str, limit: int | None = None) -> dict[str, np.ndarray]:
        """All annotations of the first `limit` images of a split, whatever `y` is.

        Returns:
            The arrays by name, each `[N, ...]`, as in `batches`. Labels are not hidden.

        Raises:
            ValueError: If the split is unknown.
        """
        _check_limit(limit)
        size = self._size(split)
        size = size if limit is None else min(limit, size)
        return {
            name: np.asarray(self._scaled(tf.convert_to_tensor(values[:size])))
            for name, values in self._annotations[split].items()
        }

    def factors(self, split: str, limit: int | None = None) -> np.ndarray:
        """The known factors of the first `limit` images of a split: float32 or int32 `[N, F]`.

        The columns have the names `factor_names` and the numbers of values `factor_sizes`.

        Raises:
            ValueError: If the data set has no factors, or the split is unknown.
        """
        if "factors" not in self.annotation_names:
            raise ValueError(
                "Factors are known for the rendered data sets, such as 'sprites'. "
                f"Received: {self.name!r}."
            )
        return self.annotations(split, limit)["factors"]

    @property
    def can_render(self) -> bool:
        """Whether factors determine the images: see `render`."""
        return self._render is not None

    def render(self, factors: np.ndarray) -> np.ndarray:
        """The images of factors, as floats in [0, 1], `[N, H, W, C]`.

        Args:
            factors: Values of `factor_names`, `[N, F]`.

        Raises:
            ValueError: If factors do not determine the images of this set, or have another shape.

        Example:
            >>> data = zoo.datasets.load("sprites", sizes={"train": 10})
            >>> images, _ = data.arrays("train")
            >>> np.array_equal(data.render(data.factors("train")), images)
            True
        """
        if self._render is None:
            raise ValueError(
                "Factors determine the images of some rendered sets only, such as 'heads_grey'. "
                f"Received: {self.name!r}."
            )
        factors, count = np.asarray(factors), len(self.factor_names or ())
        if factors.ndim != 2 or factors.shape[1] != count:
            raise ValueError(
                f"Expected factors of shape [N, {count}]. Received: shape {factors.shape}."
            )
        return self._render(factors).astype(np.float32) / (self.levels - 1)

    def check_groups(self, batch_size: int, replicas: int = 1) -> None:
        """Checks that batches of whole groups can be shared out to replicas.

        Args:
            batch_size: The global batch size.
            replicas: Number of replicas of all workers.

        Raises:
            ValueError: If the data set has no groups, or if the part of a replica would not
                consist of whole groups.
        """
        if self.group_size is None:
            raise ValueError(
                "Batches of whole groups need data with groups, such as 'heads_grey'. "
                f"Received: {self.name!r}, without groups."
            )
        if batch_size % (replicas * self.group_size):
            raise ValueError(
                f"The part of each replica must consist of whole groups of {self.group_size} images. "
                f"Received: batch_size={batch_size} for {replicas} replica(s); choose a multiple of "
                f"{replicas * self.group_size}."
            )

    def steps_per_epoch(self, batch_size: int) -> int:
        """Number of full training batches in an epoch."""
        check_counts(batch_size=batch_size)
        return self.sizes["train"] // batch_size

    def batches(
        self,
        split: str,
        batch_size: int,
        *,
        shuffle: bool = False,
        repeat: bool = False,
        first_epoch: int = 0,
        drop_remainder: bool | None = None,
        shard: tuple[int, int, int] = (0, 1, 1),
        labels: bool = True,
        semi_supervised: bool = False,
        grouped: bool = False,
    ) -> tf.data.Dataset:
        """A pipeline over one split.

        Without `repeat`, each iteration over the dataset is exactly one epoch, `first_epoch`. To
        train for several epochs, use `repeat=True` and `steps_per_epoch`.

        With `semi_supervised` a batch is two streams, `((x_labelled, y), x_unlabelled)`, each of a
        fixed size; `batch_size` is the sum of the two sizes. The share of labelled rows in a batch
        is the share of labelled images in the training set, but at least a tenth, so that every
        batch has a label: see `zoo.datasets.labelled.labelled_rows`. Each replica gets the same
        number of rows of each stream. An epoch has as many batches as an epoch of one stream.
        Within an epoch an unlabelled image occurs at most once, and a labelled image repeats only
        after all other labelled images. Models with `semi_supervised = True` train on such batches;
        they weight the streams, or use them for different losses. If every image has a label, a
        batch is `(x, y)`.

        With `grouped` a batch is a row of whole groups, in the layout `[B / g, g]` with `g =
        group_size`: the first g rows of a batch are one group, in stored order, then come the g rows
        of the next group. Groups are shuffled, and never divided between batches or replicas: the
        part of each replica has `B / (g * workers * replicas)` groups. So statistics of groups
        follow from a reshape to `[-1, g, ...]` on each replica.

        Args:
            split: "train", "validation" or "test".
            batch_size: The global batch size, over all workers and replicas.
            shuffle: Whether each epoch has a new order, instead of the stored order.
            repeat: Whether to repeat epochs without end.
            first_epoch: Number of the first epoch, counted from 0.
            drop_remainder: Whether to leave out the last, smaller batch of an epoch. `None` for the
                value of `repeat`.
            shard: (worker, workers, replicas per worker). The dataset yields the batches of this
                worker's replicas in turn, each of `batch_size / (workers * replicas)` rows. Over
                all workers and replicas, in this order, they make up the global batch.
            labels: Whether batches include `y`.
            semi_supervised: Whether a batch is two streams, labelled and unlabelled. Only for
                shuffled training images.
            grouped: Whether a batch consists of whole groups, for data with a `group_size`.

        Returns:
            A dataset of `x`, of `(x, y)` if there are labels, or of `((x_labelled, y),
            x_unlabelled)` with `semi_supervised`. `x`: float32 `[B, H, W, C]` in [0, 1]. `y`: int32
            labels `[B]`; float32 attributes `[B, A]`; float32 masks `[B, H, W, 1]` in [0, 1];
            another annotation `[B, ...]`, or a dict of all of them; float32 `[B, H, W, C]`, the
            seen part of `x` and -1 elsewhere; or float32 `[B, H / K, W / K, C]`, a small image.

        Raises:
            ValueError: If the split is unknown, if the remainder is dropped and a batch is larger
                than the split, if a shard is invalid, or if groups would be divided.
        """
        check_counts(batch_size=batch_size)
        check_counts(0, first_epoch=first_epoch)
        size = self._size(split)
        drop = repeat if drop_remainder is None else drop_remainder
        worker, workers, replicas = shard
        parts = workers * replicas
        if not (0 <= worker < workers and replicas > 0):
            raise ValueError(
                "`shard` must be (worker, workers, replicas_per_worker) with 0 <= worker < workers "
                f"and at least one replica. Received: shard={shard}."
            )
        if parts > 1 and not drop:
            raise ValueError(
                "A sharded pipeline needs `drop_remainder=True`, because a smaller last batch "
                f"cannot be divided evenly. Received: shard={shard}, drop_remainder=False."
            )
        if batch_size % parts:
            raise ValueError(
                f"`batch_size` must be divisible by the {parts} replicas of {workers} worker(s). "
                f"Received: batch_size={batch_size}, shard={shard}."
            )
        if drop and size < batch_size:
            raise ValueError(
                f"Split {split!r} of {self.name!r} has {size} images, too few for one full batch. "
                f"Received: batch_size={batch_size}; make it {size} or less."
            )
        steps = size // batch_size if drop else -(-size // batch_size)
        each = batch_size // parts
        if grouped:
            self.check_groups(batch_size, parts)
        if grouped and semi_supervised:
            raise ValueError(
                "Batches of whole groups are one stream. Received: grouped=True and "
                "semi_supervised=True."
            )
        group = self.group_size if grouped else 1
        if semi_supervised and not (split == "train" and shuffle and labels):
            raise ValueError(
                "`semi_supervised` is for shuffled training images and their labels. "
                f"Received: split={split!r}, shuffle={shuffle}, labels={labels}."
            )
        two_streams = semi_supervised and self.num_labels is not None
        each_labelled = labelled_rows(each, self.labelled_share) if two_streams else 0
        each_unlabelled = each - each_labelled
        if two_streams and not (drop and each_unlabelled):
            raise ValueError(
                "A batch of two streams needs `drop_remainder=True`, and room for a labelled and an "
                "unlabelled row in the part of each replica. "
                f"Received: drop_remainder={drop}, batch_size={batch_size}, shard={shard}, "
                f"of which {each_labelled} row(s) in {each} are labelled."
            )

        new_draws = self._has_new_draws(split)

        def one_epoch(epoch):
            if two_streams:
                labelled, unlabelled = self._streams(epoch, steps * parts * each_labelled)
            else:
                order = self._shuffled(size, group, epoch) if shuffle else tf.range(size)
            keys = self._keys(split)
            mask_keys = self._mask_keys(split, epoch if split == "train" else _FIXED)

            def rows(turn):
                step, place = turn // replicas, (worker * replicas + turn % replicas) * each
                start = step * batch_size + place
                if two_streams:
                    part = step * parts + worker * replicas + turn % replicas
                    streams = (unlabelled, each_unlabelled), (labelled, each_labelled)
                    row = tf.concat([r[part * n : (part + 1) * n] for r, n in streams], 0)
                else:
                    row = order[start : start + each]
                # Random numbers are drawn for the global batch; each shard takes its part.
                seed = _seed(self.seed, 1 + SPLITS.index(split), epoch)
                seed = tf.random.experimental.stateless_fold_in(seed, step)
                return row, tf.gather(keys, row), tf.gather(mask_keys, row), seed, place

            return tf.data.Dataset.range(steps * replicas).map(rows)

        def to_batch(row, keys, mask_keys, seed, place):
            uniform = None
            if new_draws:
                uniform = tf.random.stateless_uniform([batch_size, *self.image_shape], seed)
                uniform = uniform[place : place + tf.size(row, tf.int64)]
            x, y = self._examples(split, row, keys, mask_keys, uniform)
            x = tf.ensure_shape(x, [each if drop else None, *self.image_shape])
            if y is None or not labels:
                return x
            y = tf.nest.map_structure(
                lambda t: tf.ensure_shape(t, [each if drop else None, *t.shape[1:]]), y
            )
            if two_streams:
                return (x[each_unlabelled:], y[each_unlabelled:]), x[:each_unlabelled]
            return x, y

        last = _FOREVER if repeat else first_epoch + 1
        count = tf.data.INFINITE_CARDINALITY if repeat else steps * replicas
        data = tf.data.Dataset.range(first_epoch, last).flat_map(one_epoch)
        data = data.map(to_batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        data = data.apply(tf.data.experimental.assert_cardinality(count))
        if parts > 1:
            options = tf.data.Options()
            options.experimental_distribute.auto_shard_policy = (
                tf.data.experimental.AutoShardPolicy.OFF
            )
            data = data.with_options(options)
        return untuned(data.prefetch(tf.data.AUTOTUNE))

    def batches_of(
        self,
        split: str,
        rows: tf.Tensor,
        epoch: tf.Tensor | int = 0,
        num_labelled: int | None = None,
        first_step: int = 0,
    ) -> Callable[[tf.Tensor], Any]:
        """The batches of one epoch as a function of the step, given the rows of each batch.

        A program that XLA compiles together with its data uses this function in place of `batches`.
        With the rows that `batches` reads, and the same size of a batch, the batches are the same,
        except that a compiled program draws other numbers where each epoch has new draws: XLA and
        TensorFlow's kernels draw other numbers from one seed.

        Args:
            split: "train", "validation" or "test".
            rows: The rows of each batch: int32 `[steps, B]`.
            epoch: Number of the epoch, an int64 scalar.
            num_labelled: Number of labelled rows, which come last in a batch, if a batch is two
                streams; `None` for one stream.
            first_step: The number of the first row of `rows` among the steps of the epoch.

        Returns:
            A function from the number of a row of `rows`, an int32 scalar, to a batch.

        Raises:
            ValueError: If the split is unknown.
        """
        self._size(split)
        with tf.init_scope():  # Fixed draws are those of the kernels in a compiled program too.
            keys, mask_keys = self._keys(split), self._mask_keys(split, _FIXED)
        if split == "train":
            mask_keys = self._mask_keys(split, epoch)
        seed = _seed(self.seed, 1 + SPLITS.index(split), epoch)

        def batch(step):
            row, uniform = rows[step], None
            if self._has_new_draws(split):
                own = tf.random.experimental.stateless_fold_in(
                    seed, tf.cast(step, tf.int64) + first_step
                )
                uniform = draws.uniform([rows.shape[1], *self.image_shape], own)
            mask_key = tf.gather(mask_keys, row)
            x, y = self._examples(split, row, tf.gather(keys, row), mask_key, uniform)
            if y is None:
                return x
            if num_labelled is not None:
                n = rows.shape[1] - num_labelled
                return (x[n:], y[n:]), x[:n]
            return x, y

        return batch

    def streams(
        self, batch_size: int, *, semi_supervised: bool = False, grouped: bool = False
    ) -> list[tuple[np.ndarray, int, int]]:
        """What the rows of a training batch are drawn from, as `batches` draws them.

        Args:
            batch_size: Number of rows of a batch.
            semi_supervised: As for `batches`.
            grouped: As for `batches`.

        Returns:
            For each stream: the rows that it draws from in random order, without repetition until
            all were drawn, `[N]`; the number of its rows in a batch; and the number of rows that
            stay together, a group. If a batch is two streams, the second is the labelled one.
        """
        if semi_supervised and self.num_labels is not None:
            n = labelled_rows(batch_size, self.labelled_share)
            return [
                (np.asarray(self._unlabelled), batch_size - n, 1),
                (np.asarray(self._labelled), n, 1),
            ]
        if grouped:
            self.check_groups(batch_size)
        group = self.group_size if grouped and self.group_size else 1
        return [(np.arange(self._size("train")), batch_size, group)]

    def arrays(
        self, split: str, limit: int | None = None
    ) -> tuple[np.ndarray, np.ndarray | dict[str, np.ndarray] | None]:
        """The first `limit` examples of a split in stored order, or all of them.

        Images are binarised by the fixed draw, as in the batches of an evaluation.

        Returns:
            `x`, float32 `[N, H, W, C]` in [0, 1], and `y` as in `batches`, or `None`.

        Raises:
            ValueError: If the split is unknown.
        """
        _check_limit(limit)
        size = self._size(split)
        rows = tf.range(size if limit is None else min(limit, size))
        keys, mask_keys = self._keys(split), self._mask_keys(split, _FIXED)
        x = np.empty([len(rows), *self.image_shape], np.float32)
        parts = []
        for start in range(0, len(rows), 1024):
            row = rows[start : start + 1024]
            given = (tf.gather(keys, row), tf.gather(mask_keys, row))
            x[start : start + 1024], y = self._examples(split, row, *given)
            if self._from_image:
                parts.append(y.numpy())
        if self._from_image:
            return x, np.concatenate(parts)
        labels = self._splits[split].labels
        if labels is None:
            return x, None
        return x, tf.nest.map_structure(lambda t: self._scaled(t[: len(rows)]).numpy(), labels)

    def spread(self, split: str, limit: int) -> Iterator[tuple[np.ndarray, Any]]:
        """Chunks of at most `limit` examples, in steady steps through a split, for statistics.

        Images with new draws in each epoch are grey: their values are the means of all draws.

        Args:
            split: "train", "validation" or "test".
            limit: Number of images, at least 1.

        Returns:
            An iterator of pairs: `x`, float32 `[N, H, W, C]` in [0, 1], and the annotations, as in
            `batches`, or `None`.

        Raises:
            ValueError: If the split is unknown, or `limit` is below 1.
        """
        _check_limit(limit)
        size = self._size(split)
        rows = np.linspace(0, size, min(limit, size), endpoint=False).astype(np.int32)
        labels, keys = self._splits[split].labels, self._keys(split)
        for start in range(0, len(rows), 1024):
            row = rows[start : start + 1024]
            if self._has_new_draws(split):
                x = self._stored(split, row)
            else:
                x = self._images(split, row, tf.gather(keys, row))
            y = None
            if labels is not None:
                y = tf.nest.map_structure(lambda t: self._scaled(tf.gather(t, row)).numpy(), labels)  # noqa: B023
            yield x.numpy(), y

    def pixels(self, split: str, limit: int | None = None) -> np.ndarray:
        """The first `limit` images of a split as stored, without binarisation: uint8 `[N, H, W, C]`.

        Images of fewer than 256 levels are scaled to the nearest 8-bit values.

        Raises:
            ValueError: If the split is unknown.
        """
        _check_limit(limit)
        size = self._size(split)
        size = size if limit is None else min(limit, size)
        images = np.empty([size, *self.image_shape], np.uint8)
        for start in range(0, size, 1024):
            x = self._stored(split, tf.range(start, min(start + 1024, size)))
            images[start : start + 1024] = np.round(x * 255.0)
        return images

    def _size(self, split: str) -> int:
        if split not in self.sizes:
            raise ValueError(
                f"The splits of {self.name!r} are {', '.join(self.sizes)}. Received: split={split!r}."
            )
        return self.sizes[split]

    def _scaled(self, annotation):
        """Masks as floats in [0, 1], and other annotations as they are."""
        if annotation.dtype == tf.uint8 and annotation.shape.rank == 4:
            return tf.cast(annotation, tf.float32) / (self._mask_levels - 1)
        return annotation

    def _shuffled(self, size: int, group: int, epoch: tf.Tensor) -> tf.Tensor:
        """The order of an epoch, in which groups stay whole: int32 `[size]`, a multiple of `group`."""
        order = tf.range(size // group)
        order = tf.random.experimental.stateless_shuffle(order, _seed(self.seed, 0, epoch))
        return tf.reshape(order[:, None] * group + tf.range(group), [-1])

    def _streams(self, epoch: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Rows of `count` labelled images, each pass in a new order, and of all unlabelled images."""
        passes = -(-count // len(self._labelled))
        # The order and the draws use the purposes 0 to 3, and masks 5 to 7.
        keys = tf.random.stateless_uniform(
            [passes, len(self._labelled)], _seed(self.seed, 4, epoch)
        )
        labelled = tf.gather(self._labelled, tf.reshape(tf.argsort(keys), [-1]))
        seed = _seed(self.seed, 0, epoch)
        return labelled, tf.random.experimental.stateless_shuffle(self._unlabelled, seed)

    def _has_new_draws(self, split: str) -> bool:
        """Whether each epoch of the split has a new draw."""
        return self.binarize == "dynamic_all" or (self.binarize == "dynamic" and split == "train")

    def _keys(self, split: str) -> tf.Tensor:
        """Keys of the random streams of a split's examples, uint64 `[N]`, for the fixed draw."""
        if self.binarize in (None, "threshold"):
            return tf.zeros([self.sizes[split]], tf.uint64)
        seed = _seed(self.seed, 1 + SPLITS.index(split), _FIXED)
        shape = [self.sizes[split]]
        return tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.uint64)

    def _mask_keys(self, split: str, epoch: tf.Tensor | int) -> tf.Tensor:
        """Keys of the random masks of a split's examples, uint64 `[N]`."""
        shape = [self.sizes[split]]
        if not self.seen or self._seen_share is None:
            return tf.zeros(shape, tf.uint64)
        seed = _seed(self.seed, 5 + SPLITS.index(split), epoch)
        return tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.uint64)

    def _stored(self, split, row):
        x = tf.gather(self._splits[split].images, row)
        if self._decode:
            x = tf.map_fn(self._decode, x, fn_output_signature=tf.uint8, parallel_iterations=16)
        return tf.cast(x, tf.float32) / (self.levels - 1)

    def _images(self, split, row, keys, uniform=None):
        x = self._stored(split, row)
        if self.binarize == "threshold":
            return tf.cast(x >= 0.5, tf.float32)
        if self.binarize:
            uniform = _uniform(keys, self.image_shape) if uniform is None else uniform
            return tf.cast(uniform < x, tf.float32)
        return x

    def _examples(self, split, row, keys, mask_keys, uniform=None):
        x, labels = self._images(split, row, keys, uniform), self._splits[split].labels
        if self.seen:
            return x, self._seen_part(x, mask_keys)
        if self._factor is not None:
            x = tf.ensure_shape(x, [None, *self.image_shape])
            return x, box_average(x, self._factor)
        if labels is None:
            return x, None
        return x, tf.nest.map_structure(lambda t: self._scaled(tf.gather(t, row)), labels)

    def _seen_part(self, x, mask_keys):
        mask = self._mask
        if self._seen_share is not None:
            mask = _uniform(mask_keys, (*self.image_shape[:2], 1)) < self._seen_share
        return tf.ensure_shape(tf.where(mask, x, -1.0), [None, *self.image_shape])


def untuned(data: tf.data.Dataset) -> tf.data.Dataset:
    """The pipeline with autotuning off.

    The end of an iterator may wait for the thread that tunes, which sleeps for 10 ms, 20 ms, 40 ms
    and so on: an iterator could take twice its time. Without tuning, `tf.data.AUTOTUNE` means one
    thread per core, 16 at most.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


def _check_limit(limit):
    if limit is not None:
        check_counts(limit=limit)


def resized(images: np.ndarray, size: int) -> np.ndarray:
    """Applies `square` to an array of images, uint8 `[N, H, W, C]`."""
    data = tf.data.Dataset.from_tensor_slices(images).map(lambda image: square(image, size))
    return next(data.batch(len(images)).as_numpy_iterator())
