"""Scores a model on held-out images: `python -m trainers.evaluate --run=runs/vae_mnist`."""

from absl import flags

from trainers import cli
from zoo import metrics, runs, training

FLAGS = flags.FLAGS

cli.define_flags_of_users("A .json. Default: evaluation.json in the run's folder.")
flags.DEFINE_string("dataset", None, "Data set; needed with a .keras file, else the run's own.")
flags.DEFINE_string("data_dir", None, "Where it lies.")
flags.DEFINE_string("binarize", None, "How to binarise it; by default as in the run.")
flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "Which images.")
flags.DEFINE_integer("limit", None, "Use the first so many images for the NLL.", lower_bound=1)
flags.DEFINE_integer("batch_size", 500, "Images at a time.", lower_bound=1)
flags.DEFINE_integer("num_samples", 1000, "Importance samples for each image.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Of the importance samples.")


def main() -> None:
    path = cli.output_path("evaluation.json")
    if FLAGS.run.endswith(".keras") and not FLAGS.dataset:
        raise ValueError(
            "A .keras file does not say which data set it was trained on: give --dataset."
        )
    model, run = cli.open_run()
    data = training.load_data(
        run.read_config() if run else None,
        name=FLAGS.dataset,
        data_dir=FLAGS.data_dir,
        binarize=FLAGS.binarize,
        image_shape=model.image_shape,
    )
    with cli.weights(model):
        scores = training.evaluate(model, data, FLAGS.batch_size, FLAGS.split)
        x, _ = data.arrays(FLAGS.split, limit=FLAGS.limit)
        likelihood = metrics.negative_log_likelihood(
            model, x, FLAGS.num_samples, FLAGS.batch_size, FLAGS.seed
        )
    result = {
        "run": str(FLAGS.run),
        "model": type(model).__name__,
        "data": {"name": data.name, "split": FLAGS.split, "binarize": data.binarize},
        "scores": scores,
        "likelihood": likelihood,
        "versions": runs.versions(),
    }
    runs.write_json(path, result)
    print(f"{result['model']} on {data.name}, {FLAGS.split} split:")
    for name, value in scores.items():
        print(f"  {name:24} {value:.5g}")
    print(f"  {training.describe_likelihood(likelihood)}")
    print(f"Written to {path}")


if __name__ == "__main__":
    cli.start(main)
