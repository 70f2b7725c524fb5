"""Errors on MNIST with few labels, after Kingma et al., 2014."""

from benchmarks.tables.table import Row, Table
from zoo import presets, training
from zoo.evaluation import classification

_M1 = Row("M1, its codes", "m1_mnist", ("learning_rate_decay=cosine",), share=1.0)


def _score(trained):
    if trained.row.preset != "m1_mnist":
        return {"error": 100 * classification.error(trained.model, trained.data)}
    if trained.row is _M1:
        return {}
    config = trained.config.copy_and_resolve_references()
    presets.override(config, trained.row.settings)
    data = training.load_data(config)
    return {"error": 100 * classification.svm_on_codes(trained.model, data)}


def _rows(labels, m1, m2, both, hidden, shares):
    name = f"{labels:,} labels"
    settings = (f"num_labels={labels}", "learning_rate_decay=cosine")
    first = f"first={{runs}}/{_M1.slug}"
    sizes = (f"model.hidden=({hidden},)", f"classifier_hidden=({hidden},)")
    return (
        Row(
            f"M1 + SVM, {name}",
            "m1_mnist",
            settings[:1],
            {"error": m1},
            trained_as=_M1.name,
        ),
        Row(f"M2, {name}", "m2_mnist", settings, {"error": m2}, shares[0]),
        Row(
            f"M1+M2, {name}", "m1_m2_mnist", (*settings, first, *sizes), {"error": both}, shares[1]
        ),
    )


TABLE = Table(
    name="semi_supervised",
    title="Semi-supervised MNIST: M1, M2 and M1+M2",
    reference="Kingma et al., 2014, table 1. https://arxiv.org/abs/1406.5298",
    protocol=(
        "Labelled images chosen evenly over the classes, the others of the 50,000 without labels. "
        "M1: 784-500-500-50, softplus. M2: a convolutional q(y | x) with dropout, else 500 hidden "
        "units, 50 latents, alpha = 5. M1+M2: on samples of M1's codes, 300 hidden units for 100 "
        "labels, 500 for 1,000, 50 latents, alpha = 1. Adam from 1e-3 with a cosine fall to 0. "
        "Error on the 10,000 test images, in percent."
    ),
    differs=(
        "The paper trains for 3,000 epochs. Here the table states the epochs.",
        "The paper uses alpha = 0.1, which needs more epochs. Here larger values were chosen on "
        "validation images. M2's q(y | x) is a multilayer perceptron in the paper.",
        "The paper's SVM is transductive. Here scikit-learn's SVM uses only the labelled codes.",
        "The paper reports the mean over several draws of the labelled images. Here there is one "
        "draw.",
        "Weights are initialized as in Keras's Dense, without a prior on them.",
    ),
    rows=(
        _M1,
        *_rows(100, 11.82, 11.97, 3.33, 300, (0.5, 1.5)),
        *_rows(1000, 4.24, 3.60, 2.40, 500, (2.5, 1.5)),
    ),
    score=_score,
    unit="percent",
    scoring=0.05,
    remarks=(
        "The target for M2 was an error below 5 % with 1,000 labels. It is met: the error is 4.88 "
        "%. Within 12 epochs this needs a convolutional q(y | x).",
        "The target for M1+M2 was an error below 6 % with 100 labels. It is missed by 4.2 points: "
        "the error is 10.15 %. M1+M2 is still the best of the three models with 100 labels, as in "
        "the paper, but not with 1,000.",
        "One reason is the length of training: the paper trains for 3,000 epochs, and here M1 has "
        "120 and M1+M2 60. The accuracy on validation images rose until the learning rate was near "
        "0. The second reason is the codes of M1: the error of an SVM on these codes is above the "
        "paper's by 5.5 points with 100 labels and by 1.1 points with 1,000. The paper's SVM also "
        "learns from the unlabelled codes.",
    ),
)
