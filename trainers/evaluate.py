"""Scores a model, or two folders of images, or puts scores side by side.

python -m trainers.evaluate --run=runs/vae_mnist
python -m trainers.evaluate --run=runs/vae_mnist --metrics=fid,prdc --checkpoint=best
python -m trainers.evaluate --real=photos --fake=generated --extractor=inception-clean
python -m trainers.evaluate --compare runs/vae_mnist runs/dcgan_mnist
"""

import pathlib

import numpy as np
from absl import flags
from tqdm import tqdm

from trainers import cli
from zoo import evaluation, features, metrics, training
from zoo.datasets import read_images

FLAGS = flags.FLAGS

cli.define_model_flags(required=False)
flags.adopt_module_key_flags(cli)
flags.DEFINE_string("real", None, "A folder of images to compare with, in place of a data set.")
flags.DEFINE_string("fake", None, "A folder of generated images, in place of a run.")
flags.DEFINE_integer(
    "image_size", None, "Resize the folders' images; by default all are of a size."
)
flags.DEFINE_bool("compare", False, "Put the results of the runs that follow side by side.")
flags.DEFINE_enum("format", "text", ["text", "markdown", "csv"], "Of the comparison.")
flags.DEFINE_list("metrics", None, "Metrics or groups of them; --list_metrics shows all.")
flags.DEFINE_bool("list_metrics", False, "List the metrics and end.")
flags.DEFINE_integer("num_samples", 10_000, "Number of images to generate.", lower_bound=2)
flags.DEFINE_integer("num_real", None, "Use the first so many real images.", lower_bound=2)
flags.DEFINE_string(
    "extractor", None, "Feature network. Default: the zoo's own classifier of the data set."
)
flags.DEFINE_string("weights", None, "File with the weights of a network that is not shipped.")
flags.DEFINE_string(
    "cache", None, "Folder to keep features of real images in. Default: features in the run's."
)
flags.DEFINE_string("dataset", None, "Data set; needed with a .keras file, else the run's own.")
flags.DEFINE_string("data_dir", None, "Where it lies.")
flags.DEFINE_string("binarize", None, "How to binarise it, or none; by default as in the run.")
flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "Which real images.")
flags.DEFINE_integer("limit", 1000, "Use the first so many images for likelihoods.", lower_bound=2)
flags.DEFINE_integer("importance_samples", 1000, "For each image's likelihood.", lower_bound=1)
flags.DEFINE_integer("batch_size", 500, "Images at a time.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Of all draws.")
flags.DEFINE_string(
    "output",
    None,
    "A .jsonl file, to which a line for each metric is added. Default: evaluation.jsonl in the "
    "run's folder; for two folders none.",
)


def main() -> None:
    """Runs the program with the arguments of the command line."""
    cli.start(_evaluate, arguments=True)


def _evaluate(arguments):
    if FLAGS.list_metrics:
        _list_metrics()
    elif FLAGS.compare:
        _compare(arguments)
    elif arguments:
        raise ValueError(
            f"Only --compare takes runs without a flag. Received: {' '.join(arguments)!r}."
        )
    elif FLAGS.run and not (FLAGS.real or FLAGS.fake):
        _evaluate_run()
    elif FLAGS.real and FLAGS.fake and not FLAGS.run:
        _evaluate_folders()
    else:
        raise ValueError("Give --run, or both --real and --fake, or --compare and runs.")


def _output():
    """`--output`, which is only ever added to, and so must be what this program writes."""
    path = FLAGS.output and pathlib.Path(FLAGS.output)
    if path and (path.suffix != ".jsonl" or path.is_dir()):
        raise ValueError(f"--output must be a .jsonl file. Received: '{path}'.")
    return path


def _list_metrics():
    for group, keys in evaluation.GROUPS.items():
        print(f"{group}:")
        for key in keys:
            metric = evaluation.METRICS[key]
            print(f"  {key:18} {metric.about}{'' if metric.usual else ' On request.'}")


def _compare(places):
    if not places:
        raise ValueError("Name the runs to compare: --compare runs/vae_mnist runs/dcgan_mnist")
    # The models' own objectives are no common measure: only if asked for.
    keys = evaluation.resolve(FLAGS.metrics or [k for k in evaluation.METRICS if k != "losses"])
    kinds = {kind for key in keys for kind in evaluation.METRICS[key].gives}
    results = {}
    for name, path in _named(places).items():
        found = [
            result
            for result in metrics.read(path)
            if result.kind.partition(":")[0] in kinds and result.sampling.get("epoch") is None
        ]
        # A run may have been scored with several weights: a row for each.
        variants = {_weights_of(result) for result in found}
        for variant in sorted(variants):
            label = f"{name} ({variant})" if len(variants) > 1 or variant != "last" else name
            results[label] = [result for result in found if _weights_of(result) == variant]
    print(getattr(metrics.compare(results), FLAGS.format)(), end="")


def _named(places):
    """The files of results by the shortest names that tell them apart."""
    files = {}
    for place in places:
        path = pathlib.Path(place)
        files[path.resolve()] = (
            path if path.suffix == ".jsonl" else training.Run(path).evaluation_path
        )
    if len(files) < len(places):
        raise ValueError("Name each run once.")
    for n in range(1, 1 + max(len(path.parts) for path in files)):
        names = ["/".join(path.with_suffix("").parts[-n:]) for path in files]
        if len(set(names)) == len(names):
            break
    return dict(zip(names, files.values(), strict=True))


def _weights_of(result):
    checkpoint = result.sampling.get("checkpoint", "last")
    return checkpoint + (", averaged" if result.sampling.get("averaged_weights") else "")


def _evaluate_run():
    if FLAGS.run.endswith(".keras") and not (FLAGS.dataset and FLAGS.output):
        raise ValueError(
            "A .keras file does not say which data set it was trained on, nor where the results "
            "go: give --dataset and --output."
        )
    path = _output()
    keys = evaluation.resolve(FLAGS.metrics) if FLAGS.metrics else None
    model, run = cli.open_run()
    config = run.read_config() if run else None
    name = FLAGS.extractor or features.for_dataset(FLAGS.dataset or config.data.name)
    extractor = features.get(name, FLAGS.weights) if name else None
    data = training.load_data(
        config,
        name=FLAGS.dataset,
        data_dir=FLAGS.data_dir,
        binarize=FLAGS.binarize,
        image_shape=model.image_shape,
        seed=model.seed,
    )
    # The same draw of binary images for all runs, whatever seed they were trained with.
    data.seed = 0
    with cli.weights(model), cli.Progress() as progress:
        subject = evaluation.Evaluation.of_model(
            model,
            data,
            FLAGS.split,
            FLAGS.num_samples,
            extractor,
            cache=FLAGS.cache or (run and run.features_dir),
            num_real=FLAGS.num_real,
            seed=FLAGS.seed,
            batch_size=FLAGS.batch_size,
            progress=progress,
            importance_samples=FLAGS.importance_samples,
            limit=FLAGS.limit,
            sampling={
                "run": str(FLAGS.run),
                "preset": config.preset if config else None,
                "model": type(model).__name__,
                "checkpoint": FLAGS.checkpoint,
                "averaged_weights": cli.uses_averages(model),
            },
        )
        progress.say(f"{type(model).__name__} on {data.name}, {FLAGS.split} split:")
        if extractor is None and keys is None:
            progress.say(
                f"  The zoo has no feature network for '{data.name}', so fid, kid, score and prdc "
                f"are left out. With --extractor they use another: {', '.join(features.names())}."
            )
        path = path or run.evaluation_path
        done = _write(subject.run(keys), path)
        if "copying" in done:
            picture = path.with_name(f"{path.stem}_neighbours.png")
            subject.draw_neighbours(picture)
            print(f"Samples and the training images nearest to them: {picture}")


def _evaluate_folders():
    of_models = (
        "checkpoint",
        "averaged",
        "num_samples",
        "dataset",
        "data_dir",
        "binarize",
        "split",
    )
    of_models += ("limit", "importance_samples", "batch_size")
    if idle := [name for name in of_models if FLAGS[name].present]:
        raise ValueError(f"These flags are about models, not folders: {', '.join(idle)}.")
    if not FLAGS.extractor:
        raise ValueError(
            "Two folders of images are compared by a feature network: give --extractor, one of "
            f"{', '.join(features.names())}."
        )
    path = _output()
    keys = evaluation.resolve(FLAGS.metrics) if FLAGS.metrics else None
    extractor = features.get(FLAGS.extractor, FLAGS.weights)
    folders = (FLAGS.real, FLAGS.fake)
    real, fake = (read_images(folder, FLAGS.image_size) for folder in folders)
    if FLAGS.num_real and FLAGS.num_real < len(real):
        # Of a listing that may be sorted by label.
        real = real[np.random.default_rng(FLAGS.seed).permutation(len(real))[: FLAGS.num_real]]
    with cli.Progress() as progress:
        subject = evaluation.Evaluation.of_images(
            real,
            fake,
            extractor,
            cache=FLAGS.cache,
            names=folders,
            seed=FLAGS.seed,
            progress=progress,
        )
        progress.say(f"{FLAGS.fake} against {FLAGS.real}:")
        _write(subject.run(keys), path)


def _write(results, path):
    """Writes and says results as they come; returns the kinds of those that have a value."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
    kinds = set()
    for result in results:
        if path:
            metrics.append(path, result)
        tqdm.write(f"  {result}")
        kinds |= {result.kind} if result.value is not None else set()
    if path:
        print(f"Written to {path}")
    return kinds


if __name__ == "__main__":
    main()
