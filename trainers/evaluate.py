"""Scores a model or two folders of images, or compares scores.

python -m trainers.evaluate --run=runs/vae_mnist
python -m trainers.evaluate --run=runs/vae_mnist --metrics=fid,prdc --checkpoint=best
python -m trainers.evaluate --real=photos --fake=generated --extractor=inception-clean
python -m trainers.evaluate --compare runs/vae_mnist runs/dcgan_mnist
"""

import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
from absl import flags

from trainers import cli
from zoo import evaluation, features, training
from zoo.datasets import read_images
from zoo.files import check_writable

FLAGS = flags.FLAGS

cli.define_model_flags(required=False)
flags.adopt_module_key_flags(cli)
flags.DEFINE_string("real", None, "A folder of real images, instead of a data set.")
flags.DEFINE_string("fake", None, "A folder of generated images, instead of a run.")
flags.DEFINE_integer(
    "image_size", None, "Resize the images of the folders; by default all must have one size."
)
flags.DEFINE_bool("compare", False, "Compare the results of the runs that follow.")
flags.DEFINE_enum("format", "text", ["text", "markdown", "csv"], "Format of the comparison.")
flags.DEFINE_list("metrics", None, "Metrics or groups of metrics; --list_metrics shows all.")
flags.DEFINE_bool("list_metrics", False, "List the metrics and exit.")
flags.DEFINE_integer("num_samples", 10_000, "Number of images to generate.", lower_bound=2)
flags.DEFINE_integer("num_real", None, "Number of real images. Default: all.", lower_bound=2)
flags.DEFINE_string(
    "extractor", None, "Feature network. Default: the zoo's own classifier for the data set."
)
flags.DEFINE_string("weights", None, "File with the weights of a network that is not shipped.")
flags.DEFINE_string(
    "cache", None, "Folder for features of real images. Default: `features` in the run's folder."
)
flags.DEFINE_string(
    "dataset", None, "Data set. Default: that of the run; required with a .keras file."
)
flags.DEFINE_string("data_dir", None, "Folder of the data set.")
flags.DEFINE_string(
    "binarize", None, "How to binarise the data set, or none. Default: as in the run."
)
flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "The split of the real images.")
flags.DEFINE_integer(
    "limit", 1000, "Number of images for likelihoods; the first ones are used.", lower_bound=2
)
flags.DEFINE_integer(
    "importance_samples", 1000, "Number of draws for the likelihood of each image.", lower_bound=1
)
flags.DEFINE_integer("batch_size", 500, "Number of images at a time.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of all draws.")
flags.DEFINE_string(
    "output",
    None,
    "A .jsonl file, to which one line for each value is appended. Default: evaluation.jsonl in the "
    "run's folder; none for two folders.",
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
        raise ValueError("Pass --run, or both --real and --fake, or --compare and runs.")


def _output() -> pathlib.Path | None:
    """`--output`. Results are appended to the file, so it must be a .jsonl file."""
    path = FLAGS.output and pathlib.Path(FLAGS.output)
    if path and (path.suffix != ".jsonl" or path.is_dir()):
        raise ValueError(f"--output must be a .jsonl file. Received: '{path}'.")
    if path:
        check_writable(path)
    return path


def _list_metrics():
    for group, keys in evaluation.GROUPS.items():
        print(f"{group}:")
        for key in keys:
            metric = evaluation.METRICS[key]
            print(f"  {key:18} {metric.about}{' On request.' if metric.on_request else ''}")


def _compare(places):
    if not places:
        raise ValueError("Name the runs to compare: --compare runs/vae_mnist runs/dcgan_mnist")
    # Objectives of different models are not comparable, so they are shown on request only.
    keys = evaluation.resolve(FLAGS.metrics or [k for k in evaluation.METRICS if k != "losses"])
    kinds = {kind for key in keys for kind in evaluation.METRICS[key].kinds}
    results = {}
    for name, path in _named(places).items():
        found = [
            result
            for result in evaluation.read(path)
            if result.kind.partition(":")[0] in kinds and result.sampling.get("epoch") is None
        ]
        # A run that was scored with several sets of weights has a row for each.
        variants = {_weights_of(result) for result in found}
        for variant in sorted(variants):
            label = f"{name} ({variant})" if len(variants) > 1 or variant != "last" else name
            results[label] = [result for result in found if _weights_of(result) == variant]
    print(getattr(evaluation.compare(results), FLAGS.format)(), end="")


def _named(places: Sequence[str]) -> dict[str, pathlib.Path]:
    """The files of results by the shortest distinct names."""
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


def _weights_of(result: evaluation.Result) -> str:
    checkpoint = result.sampling.get("checkpoint", "last")
    return checkpoint + (", averaged" if result.sampling.get("averaged_weights") else "")


def _evaluate_run():
    if FLAGS.run.endswith(".keras") and not (FLAGS.dataset and FLAGS.output):
        raise ValueError(
            "A .keras file does not record its data set or a folder for results: use --dataset and "
            "--output."
        )
    path = _output()
    keys = evaluation.resolve(FLAGS.metrics) if FLAGS.metrics else None
    model, run = cli.open_run()
    if path is None:
        path = run.evaluation_path
        check_writable(path)
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
    # All runs are scored on the same draw of binary images, for any training seed.
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
                f"are left out. Name one with --extractor: {', '.join(features.names())}."
            )
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
        raise ValueError(f"These flags apply to models, not to folders: {', '.join(idle)}.")
    if not FLAGS.extractor:
        raise ValueError(
            "Two folders of images are compared by a feature network. Name one with --extractor: "
            f"{', '.join(features.names())}."
        )
    path = _output()
    keys = evaluation.resolve(FLAGS.metrics) if FLAGS.metrics else None
    extractor = features.get(FLAGS.extractor, FLAGS.weights)
    folders = (FLAGS.real, FLAGS.fake)
    real, fake = (read_images(folder, FLAGS.image_size) for folder in folders)
    if FLAGS.num_real and FLAGS.num_real < len(real):
        # The images are chosen at random, because the files may be sorted by label.
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


def _write(results: Iterable[evaluation.Result], path: pathlib.Path | None) -> set[str]:
    """Writes and prints results one by one; returns the kinds of those that have a value."""
    from tqdm import tqdm

    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
    kinds = set()
    for result in results:
        tqdm.write(f"  {result}")  # First, because the write may fail.
        if path:
            evaluation.append(path, result)
        kinds |= {result.kind} if result.value is not None else set()
    if path:
        print(f"Written to {path}")
    return kinds


if __name__ == "__main__":
    main()
