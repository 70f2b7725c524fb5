"""The program that made the shipped weights, on scikit-learn's digits in the place of MNIST."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from zoo import datasets
from zoo.features import classifier

ROOT = Path(__file__).parents[2]
ON_DIGITS = """
import sys
from zoo import datasets
load = datasets.load
datasets.load = lambda name, data_dir, seed: load("digits", image_size=28, seed=seed)
sys.argv[0] = "train_classifier"
from trainers import cli, train_classifier
cli.start(train_classifier.main)
"""


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-c", ON_DIGITS, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    answer = run("--dataset=fashion_mnist", "--epochs=3", f"--output={folder}")
    assert answer.returncode == 0, answer.stderr[-3000:]
    return folder, answer.stdout


def test_the_weights_classify_as_the_program_says(trained):
    folder, printed = trained
    network = classifier.load(folder / "fashion-cnn-v1.npz")
    images, labels = datasets.load("digits", image_size=28).arrays("test")
    right = np.mean(network(images, training=False)[1].numpy().argmax(1) == labels)
    assert f"test accuracy: {right:.2%}" in printed


def test_it_learns(trained):
    losses = [float(loss) for loss in re.findall(r"loss: ([\d.]+)", trained[1])]
    assert len(losses) == 3 and losses[2] < losses[1] < losses[0] < 2.4  # by chance log 10


def test_the_card_says_where_the_weights_come_from(trained):
    folder, printed = trained
    card = (folder / "fashion-cnn-v1.md").read_text()
    assert "--epochs=3 --seed=0" in card and "half of them mirrored" in card
    accuracy = printed.split("test accuracy: ")[1].split()[0]
    assert f"test accuracy | {accuracy} of 447" in card
    assert "the first 1,000 of" in card


def test_weights_are_not_overwritten_unasked(trained):
    before = (trained[0] / "fashion-cnn-v1.npz").read_bytes()
    answer = run("--dataset=fashion_mnist", f"--output={trained[0]}")
    assert answer.returncode == 1 and "is there already" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert (trained[0] / "fashion-cnn-v1.npz").read_bytes() == before
