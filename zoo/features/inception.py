"""The Inception network of published FIDs, from TensorFlow's own frozen graph.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2015,
https://arxiv.org/abs/1512.00567, in the weights of 2015-12-05, which Salimans et al. (2016,
https://arxiv.org/abs/1606.03498) and Heusel et al. (2017, https://arxiv.org/abs/1706.08500) use.
"""

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

INPUT = "Mul:0"  # 299x299 and scaled, after the graph's own decoding and resizing
FEATURES = "pool_3:0"
WEIGHTS = "softmax/weights"
STRUCTURE = {
    "size": [299, 299],
    "half-pixel centres or aligned corners": False,
    "subtracted": 128.0,
    "factor": 1 / 128,
    "convolutions": 94,
    "values in their kernels": 21_751_136,
    "features, classes": [2048, 1008],
}
"""What `structure` gives for the graph of 2015-12-05."""


def read(path: str | os.PathLike) -> tf.compat.v1.GraphDef:
    """The frozen graph in a `.pb` file.

    Raises:
        ValueError: If the file holds something else.
    """
    graph = tf.compat.v1.GraphDef()
    try:
        with open(path, "rb") as file:
            graph.ParseFromString(file.read())
    except DecodeError as error:
        raise ValueError(
            f"'{path}' must be the frozen graph classify_image_graph_def.pb. Received: a file that "
            f"is no graph ({error})."
        ) from error
    return graph


def structure(graph: tf.compat.v1.GraphDef) -> dict[str, Any]:
    """What tells Inception's graph from others: see `STRUCTURE`.

    Raises:
        ValueError: If the nodes with this information are not there.
    """
    nodes = {node.name: node for node in graph.node}

    def constant(name):
        return tf.make_ndarray(nodes[name].attr["value"].tensor)

    def shape(name):
        return [dim.size for dim in nodes[name].attr["value"].tensor.tensor_shape.dim]

    try:
        resize = nodes["ResizeBilinear"].attr
        kernels = [shape(node.input[1]) for node in graph.node if node.op == "Conv2D"]
        return {
            "size": constant("ResizeBilinear/size").tolist(),
            "half-pixel centres or aligned corners": resize["half_pixel_centers"].b
            or resize["align_corners"].b,
            "subtracted": float(constant("Sub/y")),
            "factor": float(constant("Mul/y")),
            "convolutions": len(kernels),
            "values in their kernels": sum(math.prod(kernel) for kernel in kernels),
            "features, classes": shape(WEIGHTS),
        }
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"A graph with the nodes of Inception was expected. Received: one in which {error} is "
            "missing or is something else."
        ) from error


def check(graph: tf.compat.v1.GraphDef, path: str | os.PathLike) -> None:
    """Raises a `ValueError` unless the graph is built as that of 2015-12-05.

    The zoo knows no checksum of that file. So the graph is recognised by its preprocessing, its
    layers and the number of its weights; whether the weights' values are the right ones, only the
    SHA-256 can tell that every result carries.
    """
    found = structure(graph)
    for what, expected in STRUCTURE.items():
        if found[what] != expected:
            raise ValueError(
                f"'{path}' is not the Inception graph of 2015-12-05 (classify_image_graph_def.pb): "
                f"{what} should be {expected}. Received: {found[what]}."
            )


def network(graph: tf.compat.v1.GraphDef) -> Callable[[np.ndarray], list[np.ndarray]]:
    """The part of a graph from scaled images to (features, logits), for batches of any size.

    The logits are without the bias, as in Salimans et al.'s own code and what followed it.

    Args:
        graph: Built as `structure` wants it, for batches of one.

    Returns:
        A function from `[B, 299, 299, 3]` in [-1, 1) to `[B, 2048]` and `[B, 1008]`.
    """
    with tf.Graph().as_default() as within:
        images = tf.compat.v1.placeholder(tf.float32, [None, *structure(graph)["size"], 3])
        pool, weights = tf.graph_util.import_graph_def(
            graph, input_map={INPUT: images}, return_elements=[FEATURES, f"{WEIGHTS}:0"], name=""
        )
        # The graph's own path from here to the logits is shaped for one image.
        features = tf.reshape(pool, [-1, weights.shape[0]])
        logits = features @ weights
    # A session, because the graph's BatchNormWithGlobalNormalization is barred from functions.
    return tf.compat.v1.Session(graph=within).make_callable([features, logits], [images])
