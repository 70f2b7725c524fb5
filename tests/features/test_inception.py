"""The frozen graph, on a small graph of the same build that TensorFlow also runs unchanged."""

import hashlib
import inspect
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo.features
from zoo.features import catalog, inception

SIDE, CHANNELS, CLASSES = 17, 6, 5
TINY = {
    "size": [SIDE, SIDE],
    "half-pixel centres or aligned corners": False,
    "subtracted": 128.0,
    "factor": 1 / 128,
    "convolutions": 1,
    "values in their kernels": 5 * 5 * 3 * CHANNELS,
    "features, classes": [CHANNELS, CLASSES],
}
ATTRIBUTES = {int: "i", float: "f", bool: "b"}  # fields of AttrValue


def tiny_graph():
    """A graph with the nodes, the old ops and the batch of one of classify_image_graph_def.pb."""
    rng = np.random.default_rng(0)
    graph = tf.compat.v1.GraphDef()
    graph.versions.producer = 8  # the last layer with BatchNormWithGlobalNormalization
    floats = {"T": tf.float32}

    def add(name, op, *inputs, **attributes):
        node = graph.node.add(name=name, op=op, input=inputs)
        for key, value in attributes.items():
            if isinstance(value, tf.DType):
                node.attr[key].type = value.as_datatype_enum
            elif isinstance(value, bytes):
                node.attr[key].s = value
            elif isinstance(value, list):
                node.attr[key].list.i.extend(value)
            else:
                node.attr[key].CopyFrom(tf.compat.v1.AttrValue(**{ATTRIBUTES[type(value)]: value}))

    def constant(name, value, dtype=np.float32):
        tensor = tf.make_tensor_proto(np.asarray(value, dtype))
        graph.node.add(name=name, op="Const")
        graph.node[-1].attr["value"].tensor.CopyFrom(tensor)
        graph.node[-1].attr["dtype"].type = tensor.dtype

    graph.node.add(name="DecodeJpeg/contents", op="Const")
    jpeg = tf.make_tensor_proto(tf.io.encode_jpeg(np.zeros([8, 8, 3], np.uint8)).numpy())
    graph.node[-1].attr["value"].tensor.CopyFrom(jpeg)
    graph.node[-1].attr["dtype"].type = jpeg.dtype
    add("DecodeJpeg", "DecodeJpeg", "DecodeJpeg/contents", channels=3)
    add("Cast", "Cast", "DecodeJpeg", SrcT=tf.uint8, DstT=tf.float32)
    constant("ExpandDims/dim", 0, np.int32)
    add("ExpandDims", "ExpandDims", "Cast", "ExpandDims/dim", **floats)
    constant("ResizeBilinear/size", [SIDE, SIDE], np.int32)
    add("ResizeBilinear", "ResizeBilinear", "ExpandDims", "ResizeBilinear/size", **floats)
    constant("Sub/y", 128)
    add("Sub", "Sub", "ResizeBilinear", "Sub/y", **floats)
    constant("Mul/y", 1 / 128)
    add("Mul", "Mul", "Sub", "Mul/y", **floats)
    shape = graph.node[-1].attr["_output_shapes"].list.shape.add()
    for size in (1, SIDE, SIDE, 3):
        shape.dim.add(size=size)
    constant("conv/conv2d_params", rng.normal(size=[5, 5, 3, CHANNELS]))
    add(
        "conv/Conv2D",
        "Conv2D",
        "Mul",
        "conv/conv2d_params",
        strides=[1, 2, 2, 1],
        padding=b"VALID",
        **floats,
    )
    moments = ("moving_mean", "moving_variance", "beta", "gamma")
    for moment in moments:
        constant(f"conv/batchnorm/{moment}", rng.uniform(0.5, 1, CHANNELS))
    add(
        "conv/batchnorm",
        "BatchNormWithGlobalNormalization",
        "conv/Conv2D",
        *[f"conv/batchnorm/{moment}" for moment in moments],
        variance_epsilon=1e-3,
        scale_after_normalization=False,
        **floats,
    )
    add("conv/CheckNumerics", "CheckNumerics", "conv/batchnorm", message=b"conv", **floats)
    add("conv/control_dependency", "Identity", "conv/batchnorm", "^conv/CheckNumerics", **floats)
    add("conv", "Relu", "conv/control_dependency", **floats)
    add(
        "pool_3",
        "AvgPool",
        "conv",
        ksize=[1, 7, 7, 1],
        strides=[1, 1, 1, 1],
        padding=b"VALID",
        **floats,
    )
    constant("pool_3/_reshape/shape", [1, CHANNELS], np.int32)
    add("pool_3/_reshape", "Reshape", "pool_3", "pool_3/_reshape/shape", **floats)
    constant("softmax/weights", rng.normal(size=[CHANNELS, CLASSES]))
    constant("softmax/biases", rng.normal(size=CLASSES))
    add("softmax/logits/MatMul", "MatMul", "pool_3/_reshape", "softmax/weights", **floats)
    add("softmax/logits", "BiasAdd", "softmax/logits/MatMul", "softmax/biases", **floats)
    add("softmax", "Softmax", "softmax/logits", **floats)
    return graph


def run(graph, feed, fetches, values):
    """Fetches of the unchanged graph, which takes one image at a time."""
    with tf.Graph().as_default() as within, tf.compat.v1.Session() as session:
        tf.graph_util.import_graph_def(graph, name="")
        assert within.get_tensor_by_name("pool_3/_reshape:0").shape == [1, CHANNELS]
        results = [session.run(fetches, {feed: value}) for value in values]
    return [np.concatenate(arrays) for arrays in zip(*results, strict=True)]


@pytest.fixture(scope="module")
def graph():
    return tiny_graph()


@pytest.fixture
def written(graph, tmp_path):
    path = tmp_path / "classify_image_graph_def.pb"
    path.write_bytes(graph.SerializeToString())
    return path


@pytest.mark.parametrize("side", [9, SIDE, 40])
def test_ttur_matches_the_graph_including_its_resize(graph, side):
    images = np.random.default_rng(1).integers(0, 256, [5, side, side, 3], np.uint8)
    fetches = ["pool_3/_reshape:0", "softmax/logits/MatMul:0", "softmax/logits:0"]
    features, logits, biased = run(graph, "Cast:0", fetches, images.astype("float32"))
    extractor = catalog._of_graph("inception-ttur", graph, "00")
    for batch_size in (1, 2, 5):
        result = extractor(images, batch_size)
        np.testing.assert_allclose(result.features, features, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(result.logits, logits, rtol=1e-4, atol=1e-5)
    assert np.abs(result.logits - biased).max() > 0.1


def test_clean_matches_the_graph_after_pillows_resize(graph):
    images = np.random.default_rng(1).integers(0, 256, [5, 40, 40, 3], np.uint8)
    resized = (zoo.features.preprocess(images, SIDE, "bicubic") - 128) / 128
    fetches = ["pool_3/_reshape:0", "softmax/logits/MatMul:0"]
    features, logits = run(graph, "Mul:0", fetches, resized[:, None])
    result = catalog._of_graph("inception-clean", graph, "00")(images, batch_size=3)
    np.testing.assert_allclose(result.features, features, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(result.logits, logits, rtol=1e-4, atol=1e-5)


def test_grey_images_are_repeated_over_the_colours(graph):
    grey = np.random.default_rng(1).integers(0, 256, [2, 20, 20, 1], np.uint8)
    extractor = catalog._of_graph("inception-ttur", graph, "00")
    expected = extractor(np.repeat(grey, 3, -1)).features
    np.testing.assert_array_equal(extractor(grey).features, expected)


def test_extractors_of_the_graph_have_their_protocols(graph):
    ttur, clean = (
        catalog._of_graph(f"inception-{protocol}", graph, "00") for protocol in ("ttur", "clean")
    )
    assert ttur.name_of("fid") == clean.name_of("fid") == "fid"
    assert (ttur.protocol, clean.protocol) == ("ttur", "clean")
    assert json.loads(json.dumps(ttur.preprocessing))["method"] == "tf1_bilinear"
    assert clean.preprocessing["antialias"] and not ttur.preprocessing["antialias"]


def test_the_structure_is_read_from_the_graph(graph):
    assert inception.structure(graph) == TINY
    assert list(TINY) == list(inception.STRUCTURE)


def test_a_graph_that_reads_and_writes_files_is_refused_and_nothing_is_written(
    written, tmp_path, monkeypatch
):
    secret, stolen = tmp_path / "secret", tmp_path / "stolen"
    secret.write_text("secret")
    hostile = inception.read(written)
    for name, value in (("from", secret), ("to", stolen)):
        tensor = tf.make_tensor_proto(str(value))
        hostile.node.add(name=name, op="Const").attr["value"].tensor.CopyFrom(tensor)
        hostile.node[-1].attr["dtype"].type = tensor.dtype
    hostile.node.add(name="read", op="ReadFile", input=["from"])
    hostile.node.add(name="write", op="WriteFile", input=["to", "read"])
    (pool,) = (node for node in hostile.node if node.name == "pool_3")
    pool.input.append("^write")
    written.write_bytes(hostile.SerializeToString())
    monkeypatch.setattr(inception, "STRUCTURE", TINY)
    with pytest.raises(ValueError, match=r"operations of the Inception.*ReadFile, WriteFile"):
        zoo.features.get("inception-ttur", written)
    with pytest.raises(ValueError, match="ReadFile, WriteFile"):
        inception.network(hostile)
    assert not stolen.exists()


def test_a_graph_with_functions_is_refused(graph):
    hostile = tf.compat.v1.GraphDef.FromString(graph.SerializeToString())
    hostile.library.function.add().signature.name = "Relu"
    with pytest.raises(ValueError, match=r"without functions.*1 function"):
        inception.network(hostile)


def test_a_graph_with_huge_constants_is_refused(graph):
    hostile = tf.compat.v1.GraphDef.FromString(graph.SerializeToString())
    hostile.node.add(name="huge", op="Const")
    hostile.node[-1].attr["value"].tensor.tensor_shape.dim.add(size=2**40)
    with pytest.raises(ValueError, match=r"at most 30,000,000 values.*1,099,511"):
        inception.network(hostile)


def test_no_address_in_the_instructions_is_plain_http():
    root = Path(__file__).parents[2]
    files = [*root.glob("*.md"), *root.glob("docs/**/*.md")]
    files += [
        path for room in ("zoo", "trainers", "benchmarks") for path in root.glob(f"{room}/**/*.py")
    ]
    assert len(files) > 50
    assert [str(path) for path in files if "http://" in path.read_text()] == []


@pytest.mark.parametrize("grid", ["half_pixel_centers", "align_corners"])
def test_another_grid_of_the_resize_is_detected(graph, grid):
    other = tf.compat.v1.GraphDef.FromString(graph.SerializeToString())
    (resize,) = (node for node in other.node if node.name == "ResizeBilinear")
    resize.attr[grid].b = True
    assert inception.structure(other)["half-pixel centres or aligned corners"]


def test_another_graph_is_refused(graph, written, monkeypatch):
    with pytest.raises(
        ValueError, match=r"is not the Inception graph.*size should be \[299, 299\]"
    ):
        zoo.features.get("inception-ttur", written)
    monkeypatch.setattr(inception, "STRUCTURE", TINY)
    extractor = zoo.features.get("inception-ttur", written)
    assert extractor.weights_sha256 == hashlib.sha256(written.read_bytes()).hexdigest()
    for what in TINY:
        monkeypatch.setattr(inception, "STRUCTURE", TINY | {what: "another"})
        with pytest.raises(ValueError, match=f"{what} should be another. Received: "):
            zoo.features.get("inception-ttur", written)


def test_a_graph_without_inceptions_nodes_is_refused(tmp_path):
    path = tmp_path / "other.pb"
    with tf.Graph().as_default() as other:
        tf.constant(1.0)
    path.write_bytes(other.as_graph_def().SerializeToString())
    with pytest.raises(ValueError, match=r"nodes of Inception.*ResizeBilinear"):
        zoo.features.get("inception-clean", path)


def test_a_file_without_a_graph_is_refused(tmp_path):
    path = tmp_path / "weights.pb"
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="a file that is not a graph"):
        zoo.features.get("inception-clean", path)


def test_a_missing_file_is_reported_and_not_replaced(monkeypatch, tmp_path):
    monkeypatch.delenv("ZOO_INCEPTION", raising=False)
    wanted = r"classify_image_graph_def.pb.*no file was named.*inception-2015-12-05.tgz.*`weights`"
    with pytest.raises(zoo.features.WeightsNotFound, match=wanted):
        zoo.features.get("inception-ttur")
    monkeypatch.setenv("ZOO_INCEPTION", str(tmp_path / "absent.pb"))
    with pytest.raises(zoo.features.WeightsNotFound, match=r"absent.pb' is not a file"):
        zoo.features.get("inception-clean")


def test_the_environment_names_the_file(monkeypatch, written):
    monkeypatch.setenv("ZOO_INCEPTION", str(written))
    monkeypatch.setattr(inception, "STRUCTURE", TINY)
    assert zoo.features.get("inception-clean").dim == CHANNELS


@pytest.fixture(scope="module")
def keras_inception(tmp_path_factory):
    """Keras's InceptionV3 with random weights, and their file."""
    keras.utils.set_random_seed(0)
    model = keras.applications.InceptionV3(weights=None, classifier_activation=None)
    path = tmp_path_factory.mktemp("keras") / "inception.weights.h5"
    model.save_weights(path)
    return model, path


@pytest.mark.slow
def test_the_keras_network_returns_its_last_average_and_its_logits(keras_inception):
    model, path = keras_inception
    images = np.random.default_rng(0).integers(0, 256, [2, 90, 90, 3], np.uint8)
    extractor = catalog._of_keras("keras-inceptionv3-imagenet", path)
    assert extractor.name_of("fid") == "classifier-FID[keras-inceptionv3-imagenet]"
    features, logits = extractor(images, batch_size=1)
    resized = zoo.features.preprocess(images, 299)
    scaled = keras.applications.inception_v3.preprocess_input(resized.copy())
    np.testing.assert_allclose(logits, model(scaled, training=False), rtol=1e-3, atol=1e-5)
    kernel, bias = model.layers[-1].get_weights()
    np.testing.assert_allclose(features @ kernel + bias, logits, rtol=1e-3, atol=1e-5)
    assert features.shape == (2, 2048) and extractor.dim == 2048


@pytest.mark.slow
def test_the_known_structure_has_the_convolutions_of_inception_v3(keras_inception):
    layers = [x for x in keras_inception[0].layers if isinstance(x, keras.layers.Conv2D)]
    assert inception.STRUCTURE["convolutions"] == len(layers)
    values = sum(layer.kernel.shape.num_elements() for layer in layers)
    assert inception.STRUCTURE["values in their kernels"] == values


def test_the_keras_network_accepts_only_keras_weights(tmp_path):
    (tmp_path / "other.weights.h5").write_bytes(b"other weights")
    with pytest.raises(ValueError, match=f"MD5 {catalog.KERAS_MD5}. Received: "):
        zoo.features.get("keras-inceptionv3-imagenet", tmp_path / "other.weights.h5")
    with pytest.raises(zoo.features.WeightsNotFound, match="is not a file"):
        zoo.features.get("keras-inceptionv3-imagenet", "absent.h5")


def test_the_checksum_matches_keras():
    source = Path(inspect.getsourcefile(keras.applications.InceptionV3)).read_text()
    assert catalog.KERAS_MD5 in source and catalog.KERAS_FILE in source


def test_a_failed_download_raises(monkeypatch):
    def no_network(*args, **kwargs):
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.utils, "get_file", no_network)
    with pytest.raises(zoo.features.WeightsNotFound, match=r"URL fetch failure.*Get https://"):
        zoo.features.get("keras-inceptionv3-imagenet")
