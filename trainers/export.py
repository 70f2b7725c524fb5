"""Writes a SavedModel for serving: `python -m trainers.export --run=runs/vae_mnist`."""

from absl import flags

from trainers import cli
from zoo import export

FLAGS = flags.FLAGS

cli.define_flags_of_users("The SavedModel's folder. Default: saved_model in the run's folder.")
flags.adopt_module_key_flags(cli)


def main() -> None:
    """Runs the program with the arguments of the command line."""
    cli.start(_export)


def _export():
    path = cli.output_path("saved_model")
    model, _ = cli.open_run()
    with cli.weights(model):
        signatures = export.export(model, path, overwrite=FLAGS.overwrite)
    print(f"SavedModel with the signatures {', '.join(signatures)}: {path}")


if __name__ == "__main__":
    main()
