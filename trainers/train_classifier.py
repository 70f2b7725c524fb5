"""Trains a classifier for `zoo.features`, as shipped with the zoo.

python -m trainers.train_classifier --dataset=mnist --output=DIR

It writes the weights and a card that documents their origin.
"""

from absl import flags

from trainers import cli
from zoo import datasets
from zoo.features import training

FLAGS = flags.FLAGS

flags.DEFINE_enum("dataset", "mnist", sorted(training.RECIPES), "The data set to train on.")
flags.DEFINE_string("data_dir", None, "Folder of the sets that TFDS prepared (TFDS_DATA_DIR).")
flags.DEFINE_string("output", None, "Folder for the weights and the card.", required=True)
flags.DEFINE_integer(
    "epochs", None, "Passes over the training set. Default: the recipe's.", lower_bound=1
)
flags.DEFINE_integer("seed", 0, "Seed of weights, order, augmentation and dropout.")
flags.DEFINE_bool("overwrite", False, "Replace the files at --output.")


def main() -> None:
    data = datasets.load(FLAGS.dataset, data_dir=FLAGS.data_dir, seed=FLAGS.seed)
    weights = training.make(
        training.RECIPES[FLAGS.dataset],
        data,
        FLAGS.output,
        FLAGS.epochs,
        FLAGS.seed,
        FLAGS.overwrite,
    )
    print(f"Written: {weights} and its card.")


if __name__ == "__main__":
    cli.start(main)
