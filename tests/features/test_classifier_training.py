"""The training of the shipped classifiers, on scikit-learn's digits in place of Fashion-MNIST."""

import types

import numpy as np
import pytest

from trainers import train_classifier
from zoo import datasets
from zoo.features import classifier, training


@pytest.fixture(scope="module")
def digits28():
    return datasets.load("digits", image_size=28)


@pytest.fixture(scope="module")
def trained(digits28, tmp_path_factory):
    """The path of the weights after two epochs, and the printed lines."""
    folder, printed = tmp_path_factory.mktemp("weights") / "new", []
    recipe = training.RECIPES["fashion_mnist"]
    weights = training.make(recipe, digits28, folder, epochs=2, seed=3, say=printed.append)
    assert weights == folder / "fashion-cnn-v1.npz"
    return weights, printed


@pytest.mark.slow
def test_training_lowers_the_loss_and_prints_accuracies(digits28, trained):
    weights, printed = trained
    network = classifier.load(weights)
    for split, line in zip(("validation", "test"), printed, strict=True):
        images, labels = digits28.arrays(split)
        logits = network(images, training=False)[1].numpy()
        accuracy = np.mean(logits.argmax(1) == labels)
        assert line == f"{split} accuracy: {accuracy:.2%}"
    # The moving averages need more steps than two epochs have: use the statistics of the images. The
    # cross-entropy of a uniform guess is log 10.
    logits = network(images, training=True)[1].numpy()
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    assert -log_p[np.arange(len(labels)), labels].mean() < np.log(10) - 0.3


@pytest.mark.slow
def test_the_card_documents_the_origin_of_the_weights(trained):
    weights, printed = trained
    card = weights.with_suffix(".md").read_text()
    assert "--epochs=2 --seed=3" in card and "half of them mirrored" in card
    accuracy = printed[1].removeprefix("test accuracy: ")
    assert f"test accuracy | {accuracy} of 447" in card
    assert "the first 1,000 of" in card


@pytest.mark.slow
def test_weights_are_replaced_only_on_request(digits28, trained, monkeypatch):
    weights, _ = trained
    before = weights.read_bytes()
    recipe = training.RECIPES["fashion_mnist"]
    with pytest.raises(FileExistsError, match=r"fashion-cnn-v1.npz' exists\. .*--overwrite"):
        training.make(recipe, digits28, weights.parent, epochs=1)
    assert weights.read_bytes() == before
    new = classifier.classifier()
    monkeypatch.setattr(training, "train", lambda *_: new)
    training.make(recipe, digits28, weights.parent, overwrite=True, say=lambda line: None)
    assert weights.read_bytes() != before
    assert not list(weights.parent.glob("*.partial*"))


def test_the_program_passes_its_flags(monkeypatch, capsys):
    flags = {"dataset": "mnist", "data_dir": "d", "output": "o", "epochs": 5, "seed": 7}
    monkeypatch.setattr(train_classifier, "FLAGS", types.SimpleNamespace(**flags, overwrite=True))
    monkeypatch.setattr(datasets, "load", lambda *args, **options: (args, options))
    monkeypatch.setattr(training, "make", lambda *args: args)
    train_classifier.main()
    data = (("mnist",), {"data_dir": "d", "seed": 7})
    expected = (training.RECIPES["mnist"], data, "o", 5, 7, True)
    assert capsys.readouterr().out == f"Written: {expected} and its card.\n"
