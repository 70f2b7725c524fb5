"""Random input: flags, settings, configurations, results, images, folders, arrays and labels.

Whatever the input, a program succeeds or ends in a sentence: one of the errors that the programs
turn into a message. A failure leaves no run that blocks the next, and no file outside of the folder
that the input names. The input is the same in each run of the tests.
"""

import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from programs import run

import zoo
from trainers.cli import MISTAKES
from zoo import datasets, evaluation, presets, training
from zoo.training import Run

COLD = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


def fuzz(examples):
    """Settings of a test with a fixed number of examples, the same in each run."""
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # Without a search for simpler failures, which takes minutes.
        report_multiple_bugs=False,
        suppress_health_check=COLD,
    )


def one_of(*values):
    return st.sampled_from(values)


@contextlib.contextmanager
def a_sentence_or_success():
    """Fails for an error that a program would show as a traceback, or that explains nothing."""
    try:
        yield
    except MISTAKES as error:
        text = str(error)
        assert len(text.split()) > 3, repr(error)
        # Sentences of Keras that name no argument of the caller, or print whole arrays.
        assert not text.startswith(("Unrecognized data type", "Invalid dtype")), repr(error)


@contextlib.contextmanager
def new_folder():
    """A folder within a folder that must stay empty otherwise, which is also the working folder."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as outside:
        folder = Path(outside) / "named"
        folder.mkdir()
        os.chdir(outside)
        try:
            yield folder
        finally:
            os.chdir(before)
        assert os.listdir(outside) == ["named"]


# Settings -----------------------------------------------------------------------------------------

PRESETS = ("vae_digits", "gan_digits", "vaegan_digits", "m2_digits", "vae_flow_digits")
KEYS = ("latent_dim", "hidden", "prior", "posterior", "network", "loss", "epochs", "seed")
KEYS += ("batch_size", "learning_rate", "optimizers.vae.learning_rate", "optimizers.vae.name")
KEYS += ("evaluation.every", "evaluation.at", "evaluation.metric", "learning_rate_decay")
KEYS += ("data.binarize", "num_labels", "seen", "image_size", "jit_compile", "free_bits")
KEYS += ("preset", "builder", "model", "data.name", "strategy", "name", "a.b.c", "", " ", "model.")
VALUES = (
    "0",
    "1",
    "2",
    "-1",
    "3.5",
    "1e309",
    "-1e309",
    "1e-400",
    "9" * 30,
    "9" * 5000,
    "0x10",
    "1j",
)
VALUES += ("true", "None", "NONE", "nan", "inf", "", " ", "()", "(4,)", "(4, 4)", "(4, -1)", "(0,)")
VALUES += ("[4]", "(4, 2.5)", "(True,)", "((4,),)", "{'a': 1}", "{1}", "b'x'", "'mlp'", "...", "\0")
VALUES += (
    "mlp",
    "conv",
    "realnvp",
    "iaf",
    "vamp",
    "hinge",
    "adam",
    "sgd",
    "Adam",
    "cosine",
    "fixed",
)
VALUES += (
    "__import__('os').remove('x')",
    "1 if",
    "lambda: 0",
    "\n",
    "é",
    "\ud800",
    "a=b",
    "=",
    "4",
)
VALUES += ("(" * 150, "(" * 100_000, "-" * 100_000 + "1", "[" * 90 + "]" * 90, "1" + "+1" * 5000)


@fuzz(300)
@given(
    one_of(*PRESETS),
    st.lists(st.tuples(one_of(*KEYS), one_of("=", "=", "=", ""), one_of(*VALUES)), max_size=3),
)
def test_a_setting_is_applied_or_refused_without_a_trace(preset, given_settings):
    config = presets.get(preset)
    before = presets.to_dict(config)
    try:
        presets.override(config, ["".join(parts) for parts in given_settings])
    except MISTAKES as error:
        assert len(str(error).split()) > 3
        assert presets.to_dict(config) == before
        return
    text = json.dumps(presets.to_dict(config))
    assert json.dumps(presets.to_dict(presets.from_dict(json.loads(text)))) == text
    with a_sentence_or_success():
        training.check_config(config)


SMALL = {
    "vae_digits": (
        "prior",
        "posterior",
        "network",
        "likelihood",
        "free_bits",
        "num_samples",
        "seed",
    ),
    "gan_digits": (
        "loss",
        "r1",
        "gradient_penalty",
        "dropout",
        "real_label",
        "prior",
        "prior_scale",
    ),
    "vaegan_digits": ("gamma", "beta", "margin", "condition", "condition_size", "batch_norm"),
}
OF_MODELS = ("0", "1", "2", "-1", "0.5", "1e309", "-0.5", "true", "mlp", "conv", "realnvp", "vamp")
OF_MODELS += ("hinge", "wasserstein", "label", "uniform", "normal", "implicit", "full_covariance")


@fuzz(25)
@given(st.data())
def test_a_model_is_built_or_refused(data):
    preset = data.draw(one_of(*SMALL))
    config = presets.get(preset)
    pairs = st.tuples(one_of(*SMALL[preset], "latent_dim"), one_of(*OF_MODELS))
    chosen = data.draw(st.lists(pairs, min_size=1, max_size=2))
    with a_sentence_or_success():
        presets.override(config, ["jit_compile=false", *(f"{k}={v}" for k, v in chosen)])
        training.check_config(config)
        assert presets.build(config, (8, 8, 1), 17).sample(2).shape == (2, 8, 8, 1)


# Files of a run -----------------------------------------------------------------------------------

ODD = (
    None,
    True,
    0,
    -1,
    1.5,
    1e308,
    10**30,
    "",
    "x",
    "../x",
    "/",
    [],
    [1],
    ["x"],
    [[1]],
    {},
    {"a": 1},
)
TEXTS = (
    b"",
    b"{",
    b"[]",
    b"null",
    b"1",
    b'"x"',
    b"{}",
    b"\xff\xfe",
    b"NaN",
    b"[" * 100_000,
    b"\0" * 9,
)


def places(content, place=()):
    """The paths of all values in nested dicts."""
    if not isinstance(content, dict):
        return [place]
    return [p for key, value in content.items() for p in places(value, (*place, key))]


def changed(content, data):
    """A copy of nested dicts, one of whose values or dicts is replaced, removed or renamed."""
    content = json.loads(json.dumps(content))
    place = data.draw(st.sampled_from(places(content)))
    place = place[: data.draw(st.integers(1, len(place)))]
    holder = content
    for key in place[:-1]:
        holder = holder[key]
    change = data.draw(one_of("replace", "replace", "remove", "rename"))
    value = holder.pop(place[-1])
    if change == "replace":
        holder[place[-1]] = data.draw(one_of(*ODD))
    elif change == "rename":
        holder[f"{place[-1]}_"] = value
    return content


def written(content, data):
    """The bytes of a JSON file of changed content, or of no JSON."""
    whole = json.dumps(changed(content, data)).encode()
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    return data.draw(one_of(whole, whole, whole, cut, *TEXTS))


@fuzz(200)
@given(one_of("vae_digits", "vaegan_digits"), st.data())
def test_a_configuration_is_read_or_refused(preset, data):
    content = presets.to_dict(presets.get(preset)) | {"versions": {"keras": "3"}}
    with new_folder() as folder, a_sentence_or_success():
        (folder / "config.json").write_bytes(written(content, data))
        training.check_config(Run(folder).read_config())


RESULT = {"preset": "vae_digits", "epochs": 1, "test": {"loss": 1.0}, "versions": {"keras": "3"}}


@fuzz(60)
@given(st.data())
def test_results_of_a_run_are_read_or_refused(data):
    with new_folder() as folder, a_sentence_or_success():
        run = Run(folder)
        run.begin(presets.get("vae_digits"))
        run.model_path.write_bytes(data.draw(one_of(b"", b"PK\5\6" + bytes(18), b"x" * 99)))
        run.results_path.write_bytes(written(RESULT, data))
        run.load_model()


CELLS = ("0", "1", "2", "0.5", "", "nan", "x", "-1", "1e999", '"', "a,b", "\0", "loss", "epoch")


@fuzz(80)
@given(st.lists(st.lists(one_of(*CELLS), max_size=4), max_size=4), st.integers(0, 3))
def test_metrics_of_a_run_are_read_or_refused(rows, epochs):
    with new_folder() as folder, a_sentence_or_success():
        run = Run(folder)
        lines = [",".join(row) for row in [["epoch", "loss", "val_loss"], *rows]]
        run.metrics_path.write_text("\n".join(lines))
        for name, values in run.read_metrics().items():
            assert isinstance(name, str) and all(isinstance(v, float) for v in values)
        run.truncate_metrics(epochs)


SCORE = evaluation.Result("nll", "nll", 94.1, stderr=0.3, n_real=9, sampling={"checkpoint": "last"})


@fuzz(120)
@given(st.data())
def test_results_of_evaluations_are_compared_or_refused(data):
    content = json.loads(json.dumps(SCORE.__dict__))
    lines = [written(content, data) for _ in range(data.draw(st.integers(1, 2)))]
    with new_folder() as folder, a_sentence_or_success():
        (folder / "evaluation.jsonl").write_bytes(b"\n".join(lines))
        found = evaluation.read(folder / "evaluation.jsonl")
        table = evaluation.compare({"A": found, "B": [SCORE]})
        assert table.text() and table.markdown() and table.csv()


# Images -------------------------------------------------------------------------------------------


def encoded(kind, size=9):
    """The bytes of a small file."""
    image = Image.fromarray(np.arange(3 * size**2, dtype=np.uint8).reshape(size, size, 3))
    out = io.BytesIO()
    if kind in ("png", "jpeg", "gif", "bmp"):
        image.save(out, kind)
    elif kind == "grey":
        image.convert("L").save(out, "png")
    elif kind == "alpha":
        image.convert("RGBA").save(out, "png")
    elif kind == "palette":
        image.quantize(4).save(out, "png")
    elif kind == "deep":
        Image.fromarray(np.zeros((size, size), np.uint16)).save(out, "png")
    elif kind == "line":
        image.crop((0, 0, 1, size)).save(out, "png")
    elif kind == "cut":
        return encoded("jpeg")[:-40]
    elif kind == "flipped":
        content = bytearray(encoded("png"))
        content[40] ^= 1
        return bytes(content)
    elif kind == "text":
        return b"<html>"
    return out.getvalue()


FILES = ("png", "png", "png", "jpeg", "grey", "alpha", "palette", "deep", "line", "gif", "bmp")
FILES += ("cut", "flipped", "text", "empty")
NAMES = ("a.png", "b.png", "c.PNG", "d.jpg", "e.jpeg", ".hidden.png", "é.png", "$x$.png", "a b.png")
OTHERS = (
    "Thumbs.db",
    "a.txt",
    "a.gif",
    "x.png/a.png",
    "0/a.png",
    "1/b.png",
    "0/0/a.png",
    "$x$/a.png",
)
TREE = ("train", "test", "validation", "Train", "val", "photos", ".git")


@fuzz(80)
@given(st.data())
def test_a_folder_of_images_is_read_or_refused(data):
    tops = data.draw(st.lists(one_of("", "", *TREE), min_size=1, max_size=3, unique=True))
    with new_folder() as folder:
        for top in tops:
            names = data.draw(st.lists(one_of(*NAMES, *NAMES, *OTHERS), max_size=6, unique=True))
            for name in names:
                path = folder / top / name
                # A name may be a file in one place and a folder in another.
                with contextlib.suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(encoded(data.draw(one_of(*FILES))))
        with a_sentence_or_success():
            listing = datasets.folder.listing(str(folder))
            paths = [path for split in listing.values() for path, _ in split]
            assert len(set(paths)) == len(paths) and set(listing) == set(datasets.images.SPLITS)
        with a_sentence_or_success():
            images = datasets.read_images(folder, data.draw(one_of(None, 1, 8)))
            assert images.dtype == np.uint8 and images.shape[-1] in (1, 3)


@fuzz(8)
@given(st.lists(one_of(*FILES), min_size=3, max_size=5), one_of(None, 1, 8))
def test_a_data_set_of_images_is_read_or_refused(kinds, size):
    with new_folder() as folder:
        for i, kind in enumerate(kinds):
            (folder / f"{i}.png").write_bytes(encoded(kind))
        with a_sentence_or_success():
            data = datasets.load("folder", data_dir=str(folder), image_size=size)
            x, _ = data.arrays("train")
            assert x.min() >= 0 and x.max() <= 1 and sum(data.sizes.values()) == len(kinds)


# Arrays -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models():
    """A model without and a model with a condition, whose steps run eagerly."""
    vae = zoo.models.vae((8, 8, 1), latent_dim=2, hidden=(4,))
    conditional = zoo.models.cvae((8, 8, 1), latent_dim=2, hidden=(4,), condition="label")
    for model in (vae, conditional):
        model.compile("adam", run_eagerly=True)
    return {"vae": vae, "cvae": conditional}


SHAPES = (
    (3, 8, 8, 1),
    (3, 8, 8, 1),
    (1, 8, 8, 1),
    (0, 8, 8, 1),
    (8, 8, 1),
    (3, 8, 8, 3),
    (3, 64),
    (),
)
DTYPES = (
    "float32",
    "float32",
    "float64",
    "float16",
    "uint8",
    "int64",
    "bool",
    "complex64",
    "U1",
    "O",
)
PIXELS = (0, 1, 0.5, 0.25, -1, 255, float("nan"), float("inf"), 1e300)
OF_LABELS = ((3,), (3,), (1,), (0,), (), (3, 1), (3, 10), (2,))
LABELS = (0, 1, 9, 10, -1, 2**40, 0.5, float("nan"))
OF_TYPES = ("int32", "int64", "uint8", "float32", "bool", "U1", "S1", "O", "M8[D]", "complex64")
NO_ARRAYS = (1, "a", "", [0, 1, 2], (0, 1, 2), ["a", "b", "c"], [], {1, 2}, iter([1, 2, 3]))


def filled(shape, value, dtype):
    with np.errstate(all="ignore"), contextlib.suppress(ValueError, OverflowError):
        return np.full(shape, value).astype(dtype)
    return np.zeros(shape, dtype)


@pytest.mark.slow
@fuzz(160)
@given(st.data())
def test_arrays_are_taken_or_refused(models, data):
    name = data.draw(one_of("vae", "cvae"))
    model = models[name]
    dtype = data.draw(one_of(*DTYPES))
    x = filled(data.draw(one_of(*SHAPES)), data.draw(one_of(*PIXELS)), dtype)
    y = filled(
        data.draw(one_of(*OF_LABELS)),
        data.draw(one_of(*LABELS)),
        data.draw(one_of(*OF_TYPES)),
    )
    y = data.draw(one_of(y, y, y, None, data.draw(one_of(*NO_ARRAYS))))
    method = data.draw(one_of("encode", "reconstruct", "log_prob", "fit", "evaluate"))
    before = [v.numpy() for v in model.trainable_variables]
    with a_sentence_or_success():
        if method == "fit":
            model.fit(x, y, batch_size=3, verbose=0)
        elif method == "evaluate":
            model.evaluate(x, y, batch_size=3, verbose=0)
        else:
            assert np.isfinite(getattr(model, method)(x, y=y)).all()
        # What is taken is what the contract says.
        assert x.dtype.kind == "f" and x.shape[1:] == (8, 8, 1) and 0 <= x.min() <= x.max() <= 1
        return
    after = [v.numpy() for v in model.trainable_variables]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


# Flags --------------------------------------------------------------------------------------------

TEXT = (
    "",
    " ",
    "x",
    "-1",
    "0",
    "1",
    "3",
    "nan",
    "1e9",
    "true",
    "none",
    "../x",
    "run",
    "run/x",
    "\0",
)
TEXT += (
    "~",
    "vae_digits",
    "digits",
    "é",
    "'",
    "a,b",
    "=",
    "--",
    "1,2",
    "best",
    "last",
    "text",
    "x.png",
)
TEXT += ("x.npy", "x.jsonl", "run/config.json", "run/model.keras", "9" * 30)
OF_TRAIN = (
    "preset",
    "config",
    "dataset",
    "data_dir",
    "epochs",
    "batch_size",
    "seed",
    "set",
    "strategy",
)
OF_TRAIN += (
    "resume",
    "overwrite",
    "jit_compile",
    "deterministic",
    "mixed_precision",
    "unknown",
    "help",
)


def program(name, flags):
    """The answer of a program. It must not be a traceback."""
    answer = run(name, *flags)
    assert "Traceback" not in answer.err, answer.err
    assert not answer.status or answer.err.strip() or "--help" in flags[-3:], flags
    return answer


@fuzz(60)
@given(st.lists(st.tuples(one_of(*OF_TRAIN), one_of(*TEXT)), max_size=3), st.booleans())
def test_a_training_starts_or_is_refused_and_the_next_one_starts(pairs, begun):
    # Everything before the first step: the folder is written, and nothing is trained.
    small = ["--set=hidden=4", "--nojit_compile", "--noprogress"]
    stopped = mock.patch.object(sys.modules["zoo.training.train"], "_train", lambda *_: {})
    with new_folder() as folder, stopped:
        place = Run(folder / "run")
        if begun:
            place.begin(presets.get("vae_digits"))
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        flags = [f"--{name}={text}" for name, text in pairs]
        answer = program("train", [*small, *flags, f"--output={place.path}"])
        if answer.status:
            after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            assert before == after
        if not place.exists:
            place.check_free()
