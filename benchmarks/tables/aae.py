"""Errors on MNIST with few labels and without labels, after Makhzani et al., 2016."""

from benchmarks.tables.table import Row, Table
from zoo.evaluation import classification
from zoo.models.semi_supervised_aae import SemiSupervisedAAE

_SETTINGS = (
    "model.hidden=(300, 300)",
    "discriminator_hidden=(300, 300)",
    "learning_rate_decay=cosine",
)


def _score(trained):
    labelled = isinstance(trained.model, SemiSupervisedAAE)
    error = classification.error if labelled else classification.cluster_error
    return {"error": 100 * error(trained.model, trained.data)}


def _labels(number, paper):
    settings = (f"num_labels={number}", *_SETTINGS)
    return Row(f"{number:,} labels", "semi_supervised_aae_mnist", settings, {"error": paper})


def _clusters(number, paper):
    settings = (f"categories={number}", *_SETTINGS)
    return Row(f"{number} clusters, no labels", "clustering_aae_mnist", settings, {"error": paper})


TABLE = Table(
    name="aae",
    title="Adversarial autoencoders on MNIST: few labels, and clusters without",
    reference="Makhzani et al., 2016, tables 2 and 3. https://arxiv.org/abs/1511.05644",
    protocol=(
        "Labelled images chosen evenly over the classes, the others of the 50,000 without labels. "
        "784-300-300 and its mirror, ReLU, batch normalization of the encoder and noise of "
        "standard deviation 0.3 on its input, discriminators of two layers of 300; 10 dimensions "
        "of style with labels, 5 without. Adam: 1e-3 for autoencoder, encoder and classifier, 2e-4 "
        "for the discriminators, with a cosine fall to 0. Error on the 10,000 test images, in "
        "percent; each cluster has the label of the validation image that most probably belongs to "
        "it."
    ),
    differs=(
        "The paper uses layers of 1,000 units, SGD with momentum and thousands of epochs. Here the "
        "table states the epochs.",
        "The outputs of the encoder are batch-normalized too. Otherwise all images fall into one "
        "cluster at the start, where the gradient of the softmax vanishes.",
        "The paper reports the mean of ten runs. Here there is one run.",
    ),
    rows=(_labels(100, 1.90), _labels(1000, 1.60), _clusters(16, 9.55), _clusters(30, 4.10)),
    remarks=(
        "The error is 3.0 % with 1,000 labels (1.6 % in the paper) and 11.0 % with 100 labels (1.9 "
        "% in the paper).",
        "The errors of the clusters are at least ten percentage points above the paper's. Some "
        "clusters hold two classes: 4 and 9, or 3 and 5.",
    ),
    score=_score,
    unit="percent",
    scoring=0.05,
)
