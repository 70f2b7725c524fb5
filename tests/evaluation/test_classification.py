"""Errors of classifiers, SVMs and clusters, against scikit-learn and a brute-force search."""

import types

import numpy as np
import pytest
from sklearn.svm import SVC

from zoo import datasets, presets
from zoo.evaluation import classification


def toy(q, y, *abilities):
    """A model that returns its input, and a data set with these inputs and labels by split."""
    model = types.SimpleNamespace(
        abilities=lambda: abilities, **{name: lambda x: x for name in abilities}
    )
    data = types.SimpleNamespace(arrays=lambda split: (q[split], y and y[split]), name="toy")
    return model, data


def test_the_error_counts_labelled_images_only():
    q = {"test": np.float32([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3], [0.1, 0.9]])}
    model, data = toy(q, {"test": np.array([0, 0, 1, -1, 1])}, "classify")
    assert classification.error(model, data, batch_size=2) == 2 / 4


def test_the_svm_matches_scikit_learn_on_the_labelled_codes():
    data = datasets.load("digits", binarize="dynamic", num_labels=100)
    model = presets.build(presets.get("vae_digits"), (8, 8, 1))
    x, y = data.arrays("train")
    labelled = y >= 0
    svm = SVC(C=3.0).fit(model.encode(x[labelled]).numpy(), y[labelled])
    x, y = data.arrays("validation")
    expected = 1 - svm.score(model.encode(x).numpy(), y)
    assert 0 < expected < 0.9
    found = classification.svm_on_codes(model, data, "validation", penalty=3.0)
    assert found == pytest.approx(expected)


def test_a_cluster_gets_the_label_of_its_most_probable_example():
    q = [[0.6, 0.4, 0.0], [0.9, 0.1, 0.0], [0.3, 0.3, 0.4], [0.0, 0.99, 0.01]]
    # Cluster 0 from the second example, 1 from the last, 2 from the third.
    np.testing.assert_array_equal(classification.label_clusters(q, [5, 7, 1, 3]), [7, 3, 1])
    # Without the labels of the second and the last: from the first, the first and the third.
    np.testing.assert_array_equal(classification.label_clusters(q, [5, -1, 1, -1]), [5, 5, 1])
    with pytest.raises(ValueError, match="Received: 4 examples without a label"):
        classification.label_clusters(q, [-1] * 4)


def test_the_cluster_error_matches_a_brute_force_search():
    rng = np.random.default_rng(3)
    splits = ("validation", "test")
    q = {split: rng.dirichlet(np.ones(5), 40).astype(np.float32) for split in splits}
    y = {split: rng.integers(0, 3, 40) for split in splits}
    y["test"][:4] = -1
    wrong = total = 0
    for row, label in zip(q["test"], y["test"], strict=True):
        if label < 0:
            continue
        cluster = max(range(5), key=lambda k: row[k])
        best = max(range(40), key=lambda n: q["validation"][n][cluster])
        wrong += y["validation"][best] != label
        total += 1
    assert total == 36
    found = classification.cluster_error(*toy(q, y, "classify"), batch_size=7)
    assert found == pytest.approx(wrong / total)


@pytest.mark.parametrize("function", [classification.error, classification.cluster_error])
def test_data_without_labels_are_refused(function):
    model, data = toy(dict.fromkeys(("validation", "test"), np.ones([3, 2])), None, "classify")
    with pytest.raises(ValueError, match="of 'toy', which has none"):
        function(model, data)


def test_a_model_without_a_classifier_is_refused():
    data = datasets.load("digits")
    gan = presets.build(presets.get("gan_digits"), (8, 8, 1))
    with pytest.raises(ValueError, match=r"has `encode`. Received: a GAN, which has .*sample"):
        classification.svm_on_codes(gan, data)
    with pytest.raises(ValueError, match=r"has `classify`\. Received: a GAN"):
        classification.error(gan, data)
