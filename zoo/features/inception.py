"""The Inception network of published FIDs, from the frozen graph of TensorFlow.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2015,
https://arxiv.org/abs/1512.00567, with the weights of 2015-12-05, which Salimans et al. (2016,
https://arxiv.org/abs/1606.03498) and Heusel et al. (2017, https://arxiv.org/abs/1706.08500) use.
"""

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

INPUT = "Mul:0"  # Scaled 299x299 images, after the decoding and resizing of the graph.
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
"""The `structure` of the graph of 2015-12-05."""
OPERATIONS = {
    *("Const", "Identity", "CheckNumerics", "Cast", "ExpandDims", "Reshape", "Concat"),
    *("DecodeJpeg", "ResizeBilinear", "Sub", "Mul", "Conv2D", "BatchNormWithGlobalNormalization"),
    *("Relu", "AvgPool", "MaxPool", "MatMul", "BiasAdd", "Softmax"),
}
"""The operations of the graph of 2015-12-05, as TensorFlow's `summarize_graph` lists them."""
MOST_VALUES = 30_000_000
"""A limit of the values in all constants; the graph of 2015-12-05 has 23,885,411."""


def read(path: str | os.PathLike) -> tf.compat.v1.GraphDef:
    """The frozen graph in a `.pb` file.

    Raises:
        ValueError: If the file does not hold a graph.
    """
    graph = tf.compat.v1.GraphDef()
    try:
        with open(path, "rb") as file:
            graph.ParseFromString(file.read())
    except DecodeError as error:
        raise ValueError(
            f"'{path}' must be the frozen graph classify_image_graph_def.pb. Received: a file that "
            f"is not a graph ({error})."
        ) from error
    return graph


def structure(graph: tf.compat.v1.GraphDef) -> dict[str, Any]:
    """The properties that identify the graph of Inception: see `STRUCTURE`.

    Raises:
        ValueError: If a node with this information is missing.
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
            f"Expected a graph with the nodes of Inception. Received: one in which {error} is "
            "missing or has another form."
        ) from error


def check_operations(graph: tf.compat.v1.GraphDef) -> None:
    """Checks that a graph can do nothing other than compute, before TensorFlow imports it.

    TensorFlow runs every operation of a graph that a result depends on, and there are operations
    that read and write files. The nodes on which others depend by control inputs are checked too.

    Raises:
        ValueError: If the graph has an operation that is not one of `OPERATIONS`, a function, or
            constants of more than `MOST_VALUES` values.
    """
    if other := sorted({node.op for node in graph.node} - OPERATIONS):
        raise ValueError(
            "Expected a graph with the operations of the Inception graph of 2015-12-05 only. "
            f"Received: {', '.join(other)}. Do not use the file: other operations "
            "can read and write files."
        )
    if graph.library.function or graph.library.gradient:
        raise ValueError(
            "Expected a graph without functions, as the Inception graph of 2015-12-05 is. "
            f"Received: {len(graph.library.function)} function(s). Do not use the file."
        )
    constants = [node.attr["value"].tensor for node in graph.node if node.op == "Const"]
    values = sum(math.prod(dim.size for dim in it.tensor_shape.dim) for it in constants)
    if values > MOST_VALUES:
        raise ValueError(
            f"Expected a graph with at most {MOST_VALUES:,} values in its constants. "
            f"Received: {values:,}."
        )


def check(graph: tf.compat.v1.GraphDef, path: str | os.PathLike) -> None:
    """Raises a `ValueError` unless the graph has the structure of the graph of 2015-12-05.

    Other operations than those of that graph are refused first: see `check_operations`.
    The graph is identified by its preprocessing, its layers and the number of its weights, because
    no checksum of the file is published. The values of the weights are not checked: every result
    records their SHA-256.
    """
    check_operations(graph)
    found = structure(graph)
    for what, expected in STRUCTURE.items():
        if found[what] != expected:
            raise ValueError(
                f"'{path}' is not the Inception graph of 2015-12-05 (classify_image_graph_def.pb): "
                f"{what} should be {expected}. Received: {found[what]}."
            )


def network(graph: tf.compat.v1.GraphDef) -> Callable[[np.ndarray], list[np.ndarray]]:
    """The part of a graph from scaled images to features and logits, for batches of any size.

    The logits have no bias, as in the code of Salimans et al. and its successors.

    Args:
        graph: A graph with the nodes that `structure` reads, for batches of one.

    Returns:
        A function from `[B, 299, 299, 3]` in [-1, 1) to `[B, 2048]` and `[B, 1008]`.

    Raises:
        ValueError: If `check_operations` or TensorFlow refuses the graph.
    """
    check_operations(graph)
    with tf.Graph().as_default() as within:
        images = tf.compat.v1.placeholder(tf.float32, [None, *structure(graph)["size"], 3])
        pool, weights = tf.graph_util.import_graph_def(
            graph, input_map={INPUT: images}, return_elements=[FEATURES, f"{WEIGHTS}:0"], name=""
        )
        # The path of the graph from here to the logits has shapes for one image.
        features = tf.reshape(pool, [-1, weights.shape[0]])
        logits = features @ weights
    # A session is used, because functions do not support BatchNormWithGlobalNormalization.
    return tf.compat.v1.Session(graph=within).make_callable([features, logits], [images])
