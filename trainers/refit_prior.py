"""Fits a new prior to the codes of a trained model, so that its samples resemble codes.

python -m trainers.refit_prior --run=runs/vae_mnist --output=runs/vae_mnist_mixture
python -m trainers.refit_prior --run=runs/autoencoder_mnist --prior=mixture,realnvp --output=new.keras

Of several priors, the one with the largest log density of the codes of validation images is kept.
The result is a run's folder or a .keras file, which the other programs open.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from absl import flags

from trainers import cli
from zoo import expost, training
from zoo.config import look_up
from zoo.files import check_writable, replacing, write_json
from zoo.model import GenerativeModel
from zoo.versions import versions

FLAGS = flags.FLAGS

cli.define_flags_of_users(
    "A new folder of a run, with the model and the configuration of --run; or a .keras file."
)
flags.mark_flag_as_required("output")
flags.DEFINE_list("prior", ["mixture"], f"One or several of: {', '.join(expost.PRIORS)}.")
flags.DEFINE_integer("components", 10, "Number of components of the mixture.", lower_bound=1)
flags.DEFINE_integer(
    "epochs", 500, "The largest number of epochs of realnvp, maf and two_stage.", lower_bound=1
)
flags.DEFINE_string("dataset", None, "Data set of a .keras file, which records none.")
flags.DEFINE_string("binarize", None, "How the data set of a .keras file is binarised.")
flags.DEFINE_string("data_dir", None, "Folder of the data set, if it has moved.")
flags.DEFINE_integer("seed", 0, "Seed of the draws of codes and of the fits.", lower_bound=0)
flags.adopt_module_key_flags(cli)


def main() -> None:
    """Runs the program with the arguments of the command line."""
    cli.start(_refit)


def _refit():
    path = pathlib.Path(FLAGS.output)
    target = None if path.suffix == ".keras" else training.Run(path)
    _check_flags(path)
    if target is None:
        cli.output_path("")
    else:
        target.check_free(FLAGS.overwrite)
        check_writable(path)
    model, run = cli.open_run()
    expost.check(model)
    data = training.load_data(
        run.read_config() if run else None,
        name=FLAGS.dataset,
        data_dir=FLAGS.data_dir,
        binarize=FLAGS.binarize,
        image_shape=model.image_shape,
        seed=model.seed,
    )
    with cli.weights(model):
        found = expost.compare(
            model,
            data,
            FLAGS.prior,
            components=FLAGS.components,
            epochs=FLAGS.epochs,
            seed=FLAGS.seed,
        )
        new = expost.with_prior(model, found[0].prior)
    if target is None or run is None:
        with replacing(path) as partial:
            new.save(partial)
    else:
        _write_run(target, run, new, found)
    for line in _table(found, data.sizes["validation"]):
        print(line)
    print(f"{type(new).__name__} with the prior {found[0].name}: {path}")


def _check_flags(path: pathlib.Path) -> None:
    """Checks the flags before the model is loaded."""
    for name in FLAGS.prior:
        look_up(dict.fromkeys(expost.PRIORS), name, "prior")
    if FLAGS["components"].present and "mixture" not in FLAGS.prior:
        raise ValueError(
            "--components is for the prior mixture. Received: --components with "
            f"--prior={','.join(FLAGS.prior)}."
        )
    if FLAGS["epochs"].present and set(FLAGS.prior) == {"mixture"}:
        raise ValueError(
            "--epochs is for the priors realnvp, maf and two_stage. Received: --epochs with "
            "--prior=mixture."
        )
    if FLAGS.run.endswith(".keras"):
        if not FLAGS.dataset:
            raise ValueError("A .keras file does not record its data set: use --dataset.")
        if path.suffix != ".keras":
            raise ValueError(
                "A .keras file has no configuration for the folder of a run: choose an --output that "
                f"ends in .keras. Received: --output={path}."
            )
    elif FLAGS.dataset or FLAGS.binarize:
        raise ValueError(
            "--dataset and --binarize are for a .keras file; a run has its own data set. Received: "
            f"--run={FLAGS.run}."
        )
    # With --overwrite, the result would replace the model that it is made of.
    run, output = pathlib.Path(FLAGS.run).resolve(), path.resolve()
    own = {run, *run.parents, training.Run(run).model_path, training.Run(run).best_path}
    if output in own:
        raise ValueError(
            "The result needs a place of its own: --output must not be --run, its models or a "
            f"folder around it. Received: --run={FLAGS.run}, --output={FLAGS.output}."
        )


def _write_run(
    target: training.Run,
    source: training.Run,
    model: GenerativeModel,
    found: Sequence[expost.Candidate],
) -> None:
    """Writes the folder: configuration and epochs of the source, the model, and the comparison."""
    config = source.read_config()
    content: dict[str, Any] = {
        "preset": config.preset,
        "model": type(model).__name__,
        "epochs": config.epochs,
        "refitted": {
            "run": str(source.path),
            "checkpoint": FLAGS.checkpoint,
            "averaged_weights": cli.uses_averages(model),
            "seed": FLAGS.seed,
            "prior": found[0].name,
            "components": FLAGS.components if found[0].name == "mixture" else None,
            "log_density": {c.name: [c.log_density, c.stderr] for c in found},
        },
        "versions": versions(),
    }
    with target.locked():
        target.begin(config)
        target.save_model(model)
        write_json(target.results_path, content)


def _table(found: Sequence[expost.Candidate], count: int):
    yield f"Log density of the codes of {count} validation images, nats:"
    for candidate in found:
        estimated = (
            ""
            if candidate.prior.has_density
            else (f" (estimate of a lower bound, {expost.IMPORTANCE_SAMPLES} draws)")
        )
        yield (
            f"  {candidate.name:10} {candidate.log_density:9.3f} +- {candidate.stderr:.3f}{estimated}"
        )


if __name__ == "__main__":
    main()
