"""Models of the zoo and of pythae, trained with the same settings and scored by one protocol.

pythae (Chadebec et al., "Pythae: Unifying Generative Autoencoders in Python", 2022,
https://arxiv.org/abs/2206.08309) needs PyTorch and an environment of its own:

    python3 -m venv PEERS && PEERS/bin/pip install -r benchmarks/peers/requirements.txt
    python -m benchmarks.peers.compare --peers_python=PEERS/bin/python

Any Python that has wheels of the pinned versions will do, such as 3.11. The second command runs in
the environment of the zoo. For each seed and row it trains the model of each library, one after the
other, and scores it. It writes peers.json and peers.md to --results. An interrupted comparison
continues where it stopped; --output has a file of scores for each training.

Both libraries build their networks from one specification, `benchmarks.peers.specification.ROWS`,
and draw initial weights from the same distribution. They have the same images, numbers of epochs,
batch sizes, settings of Adam and seeds, no schedule of the learning rate and no validation. The last
weights are scored. Equal seeds do not give equal weights, orders or noise in both libraries.

- NLL: estimated by importance samples from the posterior, in nats. One estimator in NumPy,
  `benchmarks.peers.scoring`, reads the posterior's parameters and the decoder's outputs of both
  libraries. Both have the same noise in the draws. The WAE, the AAE and the VAE/GAN have no NLL: the
  first has no likelihood, the second no density of the posterior, the third no likelihood of pixels.
- Distance: the Fréchet distance of samples to the grey test images of MNIST, in the features of the
  zoo's classifier mnist-cnn-v1. It is not an FID. Samples are draws of the model's prior, decoded to
  means. Models of binary images are compared with the grey images, too.
- Seconds: the time of training on the CPU, without scoring. The zoo's time contains the compilation
  of the step; pythae's contains its progress bar, copies of the best model and the saved model.
  Seconds of all cores are processor time divided by the number of cores.

Notes:
    - Losses of both libraries are sums over pixels and latents, and means over images. The
      objectives of VAE, IWAE and VampPrior are the same. pythae's IWAE reports a weighted mean of
      the log weights as its loss, but its gradient is that of the bound.
    - VampPrior: pythae computes the pseudo-inputs by a dense layer with a bias from the identity
      matrix, and clips them to [0, 1]; a clipped value has no gradient. The zoo's pseudo-inputs start
      uniform on [0, 1] and are clipped after each update. pythae's sampler applies tanh to the log
      variances of the pseudo-inputs, which its training does not; samples here are draws of the
      prior that was trained.
    - IAF: a step of pythae is z <- exp(s) z + m, without a context from the encoder, and its
      networks start at random. A step of Kingma et al., 2016, and of the zoo has a context and a
      sigmoid gate.
    - WAE: squared error, kernel and U-statistic are the same. pythae's default weight of the
      discrepancy is 0.03. Here both have 200, which is the paper's weight of 10 in its public code,
      because the code multiplies the squared error by 0.05.
    - AAE: pythae updates encoder and decoder once, by the distortion plus 0.5 times the adversarial
      loss, at the same time as the discriminator. The paper and the zoo update encoder and decoder by
      the distortion, then the discriminator, then the encoder by the adversarial loss.
    - VAE/GAN: pythae's discriminator classifies images and samples, but no reconstructions. The
      equilibrium has the same margin. pythae does not separate the gradients of the players. If all
      are updated, the encoder also gets the gradient of the decoder's distortion, and the decoder
      that of the discriminator's loss L. The decoder then follows (1 - w) (distortion + L), for an
      `adversarial_loss_scale` of w, and so helps the discriminator. Here w = 1 / (1 + gamma), so that
      the decoder's own loss is proportional to the zoo's, apart from the reconstructions.
    - pythae returns the weights with the lowest training loss. Here its last weights are scored.
"""

import dataclasses
import datetime
import os
import pathlib
import shlex
import subprocess
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks.machine import machine
from benchmarks.peers import exchange, scoring, train_zoo
from benchmarks.peers.exchange import Settings
from benchmarks.peers.specification import ROWS, Row, parameters
from trainers import cli
from zoo import datasets, features
from zoo.config import look_up
from zoo.evaluation import Evaluation
from zoo.features import Extractor
from zoo.files import check_writable, lock, read_json, write_json, write_text

FLAGS = flags.FLAGS
LIBRARIES = ("zoo", "pythae")
_SCRIPT = pathlib.Path(__file__).with_name("train_pythae.py")
_DATA = {"binary": "binarized_mnist", "grey": "mnist"}

Trainer = Callable[[Row, Settings, pathlib.Path, pathlib.Path], None]
"""Trains a row on the file of its images, and writes the file of its arrays."""


def main() -> None:
    rows = [look_up(ROWS, name, "row") for name in FLAGS.rows or ROWS]
    seeds = [int(seed) for seed in FLAGS.seeds]
    settings = Settings(**{f.name: FLAGS[f.name].value for f in _of_flags()})
    folder, results = pathlib.Path(FLAGS.output), pathlib.Path(FLAGS.results)
    check_writable(results)
    python = os.path.abspath(os.path.expanduser(FLAGS.peers_python))
    if tf.config.list_physical_devices("GPU"):
        raise ValueError(
            "Both libraries are compared on the CPU: set CUDA_VISIBLE_DEVICES to an empty string. "
            "Received: a machine with a GPU."
        )
    _run_peer(python, ["--help"], "cannot start")
    trainers = {"zoo": train_with_zoo, "pythae": Peer(python)}
    with lock(folder, "comparison"):
        images = {row.data: prepare(folder, row.data, FLAGS.data_dir) for row in rows}
        real = datasets.load("mnist", data_dir=FLAGS.data_dir).pixels("test")
        distance = Distance(real, features.get("mnist-cnn-v1"), folder / "features")
        scores = [
            score(
                folder,
                row,
                library,
                dataclasses.replace(settings, seed=seed),
                images[row.data],
                trainers[library],
                distance,
            )
            for seed in seeds
            for row in rows
            for library in LIBRARIES
        ]
    record = record_of(scores, settings, seeds, command())
    page = markdown(record)
    write_json(results / "peers.json", record)
    write_text(results / "peers.md", page)
    print(page)


def prepare(folder: pathlib.Path, kind: str, data_dir: str | None = None) -> pathlib.Path:
    """Writes the training and test images, "binary" or "grey", for both libraries."""
    path = folder / f"{kind}.npz"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        data = datasets.load(_DATA[kind], data_dir=data_dir)
        images = {split: data.pixels(split)[..., 0] for split in ("train", "test")}
        exchange.write(path, {"data": _DATA[kind]}, images)
    return path


def train_with_zoo(
    row: Row, settings: Settings, images: pathlib.Path, output: pathlib.Path
) -> None:
    """The zoo's `Trainer`."""
    exchange.write(output, *train_zoo.train(row, settings, exchange.read(images)[1]))
    keras.backend.clear_session()


@dataclasses.dataclass(frozen=True)
class Peer:
    """pythae's `Trainer`, a program in the environment of the given Python."""

    python: str

    def __call__(
        self, row: Row, settings: Settings, images: pathlib.Path, output: pathlib.Path
    ) -> None:
        words = [f"--row={row.slug}", f"--data={images}", f"--output={output}"]
        words += [f"--{name}={value}" for name, value in dataclasses.asdict(settings).items()]
        _run_peer(self.python, words, f"failed on the row '{row.slug}'")


def _run_peer(python, words, failed):
    # The path of the zoo's modules is for another Python. PyTorch's waiting threads sleep instead
    # of spinning, because other programs would slow down spinning threads many times.
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment = inherited | {"OMP_WAIT_POLICY": "PASSIVE"}
    try:
        done = subprocess.run(
            [python, str(_SCRIPT), *words], capture_output=True, text=True, env=environment
        )
    except OSError as error:
        done = subprocess.CompletedProcess(words, 1, "", str(error))
    if done.returncode:
        raise ValueError(
            f"The program of pythae {failed}. Make the environment as the docstring of "
            f"benchmarks/peers/compare.py says, and pass its Python as --peers_python. Received "
            f"from '{python}':\n{done.stderr[-2000:]}"
        )


class Distance:
    """The Fréchet distance to real images in a classifier's features.

    Args:
        real: The real images, uint8 `[N, H, W, 1]`.
        extractor: The feature network.
        cache: Folder for the features of the real images.
    """

    def __init__(self, real: np.ndarray, extractor: Extractor, cache: pathlib.Path):
        self.real, self.extractor, self.cache = real, extractor, cache

    def __call__(self, samples: np.ndarray) -> float:
        """The distance of samples, uint8 `[S, H, W]`.

        Raises:
            ValueError: If the distance cannot be computed.
        """
        evaluation = Evaluation.of_images(
            self.real, samples[..., None], self.extractor, cache=self.cache
        )
        [result] = evaluation.run(["fid"])
        if result.value is None:
            raise ValueError(str(result))
        return result.value


def score(
    folder: pathlib.Path,
    row: Row,
    library: str,
    settings: Settings,
    images: pathlib.Path,
    train: Trainer,
    distance: Callable[[np.ndarray], float],
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """The scores of a training, which are kept in `folder`; a finished training is not repeated.

    Raises:
        ValueError: If the scores in the folder are those of other settings, or if the arrays of the
            training are not as they should be.
    """
    path = folder / f"{library}_{row.slug}_{settings.seed}.json"
    wanted = {"library": library, "row": row.name, "specification": _plain(row)}
    wanted |= {"settings": _plain(settings)}
    if path.is_file():
        found = read_json(path, {"scores": dict})
        if {key: found.get(key) for key in wanted} != wanted:
            raise ValueError(
                f"The scores in '{path}' are those of other settings. Choose another --output, or "
                "delete the file."
            )
        return found
    arrays_path = path.with_suffix(".npz")
    train(row, settings, images, arrays_path)
    about, arrays = exchange.read(arrays_path)
    scores = {}
    if "failed" not in about:
        test = exchange.read(images)[1]["test"][: settings.scored]
        exchange.check_result(arrays, row, settings, test.shape[1])
        if about["parameters"] != parameters(row, test[0].size, library):
            raise ValueError(
                f"The specification of the row '{row.name}' has "
                f"{parameters(row, test[0].size, library):,} parameters in {library}. "
                f"Received: a model of {about['parameters']:,}."
            )
        scores["distance"] = {"value": distance(arrays["samples"]), "stderr": None}
        if row.scored:
            x = exchange.unit(test).reshape(len(test), -1)
            nll = scoring.negative_log_likelihood(arrays, x, row.likelihood)
            error = float(nll.std(ddof=1) / np.sqrt(len(nll)))
            scores["NLL"] = {"value": float(nll.mean()), "stderr": error}
    found = wanted | about | {"scores": scores}
    write_json(path, found)
    arrays_path.unlink()  # Hundreds of megabytes.
    outcome = about.get("failed") or ", ".join(f"{k} {v['value']:.2f}" for k, v in scores.items())
    say(f"{row.name}, {library}, seed {settings.seed}: {outcome}")
    return found


def _plain(fields):
    """The fields of a dataclass as JSON has them."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(fields).items()
    }


def record_of(
    scores: Sequence[Mapping[str, Any]], settings: Settings, seeds: Sequence[int], command: str
) -> dict[str, Any]:
    """The record: a row for each model and library, with means over the seeds that did not fail."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for one in scores:
        groups.setdefault((one["row"], one["library"]), []).append(one)
    about = _plain(settings)
    del about["seed"]
    return {
        "title": "The zoo's models and pythae's, trained with the same settings",
        "settings": about,
        "seeds": list(seeds),
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "versions": {one["library"]: one["versions"] for one in scores},
        "command": command,
        "rows": [_over_seeds(group) for group in groups.values()],
    }


def _over_seeds(group):
    done = [one for one in group if "failed" not in one]
    row = {key: group[0][key] for key in ("row", "library", "specification")}
    row |= {"parameters": done[0]["parameters"] if done else None, "scores": {}}
    for name in done[0]["scores"] if done else ():
        values = [one["scores"][name]["value"] for one in done]
        error = done[0]["scores"][name]["stderr"]
        if len(values) > 1:
            error = float(np.std(values, ddof=1) / np.sqrt(len(values)))
        row["scores"][name] = {"value": float(np.mean(values)), "stderr": error, "values": values}
    for key in ("seconds", "seconds_of_all_cores"):
        row[key] = [round(one[key], 1) for one in done]
    return row | {"failed": [one["failed"] for one in group if "failed" in one]}


def markdown(record: Mapping[str, Any]) -> str:
    """The record as a page of Markdown."""
    settings, several = record["settings"], len(record["seeds"]) > 1
    names = ["NLL", "distance", "seconds", "seconds of all cores"]
    lines = [f"# {record['title']}", "", _PROTOCOL.format(**settings), ""]
    lines += [f"| row | library | parameters | {' | '.join(names)} |", "|" + "---|" * 7]
    for row in record["rows"]:
        cells = [row["row"], row["library"], _or_empty(row["parameters"], "{:,}")]
        for name in names[:2]:
            cells.append(_value(row["scores"].get(name)))
        cells += [_mean(row["seconds"]), _mean(row["seconds_of_all_cores"])]
        if row["failed"]:
            cells[3] += f" ({len(row['failed'])} failed)"
        lines.append(f"| {' | '.join(cells)} |")
    over = f"{len(record['seeds'])} seeds" if several else "the test images"
    lines += ["", f"± is one standard error over {over}. NLL in nats."]
    lines += ["A seed whose loss became NaN or infinite is counted as failed and left out."]
    lines += ["", "How the libraries differ:", "", *_notes()]
    about = record["machine"] | {"seeds": record["seeds"], "date": record["date"]}
    lines += ["", _listed(about), ""]
    lines += [f"- {library}: {_listed(found)}" for library, found in record["versions"].items()]
    return "\n".join([*lines, "", "```sh", record["command"], "```"]) + "\n"


_PROTOCOL = (
    "{epochs} epochs of the first {images:,} training images of MNIST, static binary or grey, without "
    "a schedule. NLL of the first {scored:,} test images by {importance_samples} importance samples "
    "from the posterior. Distance: the Fréchet distance of {samples:,} samples to the 10,000 grey test "
    "images in the features of the zoo's classifier mnist-cnn-v1, which is not an FID. Seconds are "
    "those of training. The docstring of benchmarks/peers/compare.py has the details."
)


def _notes():
    """The notes of the module's docstring, one paragraph a line."""
    text = textwrap.dedent((__doc__ or "").partition("Notes:\n")[2])
    return ["- " + " ".join(note.split()) for note in ("\n" + text).split("\n- ")[1:]]


def _listed(facts):
    return ", ".join(f"{key} {value}" for key, value in facts.items())


def _value(score):
    if score is None:
        return ""
    error = score["stderr"]
    return f"{score['value']:.2f}" + ("" if error is None else f" ± {error:.2f}")


def _mean(values):
    return f"{np.mean(values):.0f}" if values else ""


def _or_empty(value, form):
    return "" if value is None else form.format(value)


def command() -> str:
    """The command that repeats the comparison, in the folder of the repository."""
    words = ["--peers_python=PEERS/bin/python"]
    for name in ("rows", "seeds", *(f.name for f in _of_flags())):
        if FLAGS[name].present:
            value = FLAGS[name].value
            value = ",".join(value) if isinstance(value, list) else value
            words.append(f"--{name}={shlex.quote(str(value))}")
    return " ".join(["python", "-m", "benchmarks.peers.compare", *words, "--results=repeated"])


def _of_flags():
    """The settings that are flags: all but the seed, of which there are several."""
    return [field for field in dataclasses.fields(Settings) if field.name != "seed"]


def _define_flags() -> None:
    flags.DEFINE_string("peers_python", None, "The Python of pythae's environment.", required=True)
    flags.DEFINE_list("rows", None, f"Rows, of {', '.join(ROWS)}; all by default.")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds; each trains all rows.")
    for field in _of_flags():
        flags.DEFINE_integer(field.name, field.default, _HELP[field.name], lower_bound=1)
    flags.DEFINE_string("data_dir", None, "Folder of the data sets.")
    flags.DEFINE_string("output", "runs/peers", "Folder of images and scores.")
    flags.DEFINE_string("results", "benchmarks/results", "Folder of the record.")


_HELP = {
    "epochs": "Number of epochs.",
    "images": "Number of training images.",
    "samples": "Number of samples of each model.",
    "scored": "Number of test images for the likelihood.",
    "importance_samples": "Number of draws for the likelihood of each image.",
}


if __name__ == "__main__":
    _define_flags()
    cli.start(main)
