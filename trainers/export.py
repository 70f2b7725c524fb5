"""Exports a model for serving: `python -m trainers.export --run=runs/vae_mnist`.

For other runtimes: `--format=tflite --signatures=decode,encode`, or `--format=onnx`.
"""

from absl import flags

from trainers import cli
from zoo import export

FLAGS = flags.FLAGS

cli.define_flags_of_users("The new folder. Default: the folder of the format's name in the run.")
flags.DEFINE_enum("format", "saved_model", export.FORMATS, "The format; onnx needs the extra onnx.")
flags.DEFINE_list(
    "signatures",
    None,
    "The abilities to export, such as decode,encode. Default: all that the format supports.",
)
flags.adopt_module_key_flags(cli)


def main() -> None:
    """Runs the program with the arguments of the command line."""
    cli.start(_export)


def _export():
    path = cli.output_path(FLAGS.format)
    export.check_place(path, FLAGS.overwrite)
    model, _ = cli.open_run()
    with cli.weights(model):
        about = export.export(
            model,
            path,
            overwrite=FLAGS.overwrite,
            signatures=FLAGS.signatures,
            format=FLAGS.format,
        )
    print(f"{FLAGS.format} with the signatures {', '.join(about['signatures'])}: {path}")


if __name__ == "__main__":
    main()
