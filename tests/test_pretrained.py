"""Files of trained weights: saving, loading, and refusals of invalid files."""

import hashlib
import json
import pathlib
import shutil
import socket

import numpy as np
import pytest
import tensorflow as tf
from speed import slow_except

import zoo
from zoo import presets, pretrained, training
from zoo.model import GenerativeModel

DIGITS = ((8, 8, 1), 17)
# Half precision has 11 binary digits, and below its normal numbers steps of 2^-24.
HALF = {"rtol": 2.0**-11, "atol": 2.0**-25}


def weights(model):
    """Weights and state of layers by player, without seeds."""
    return {
        player: [v.numpy() for layer in layers for v in layer.weights]
        for player, layers in model.players().items()
    } | {"step": [model.step.numpy()]}


def assert_close(have, want, **tolerance):
    assert have.keys() == want.keys()
    for player in want:
        assert len(have[player]) == len(want[player])
        for a, b in zip(have[player], want[player], strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, **({"rtol": 0} | tolerance))


def sn_gan():
    """Batch normalization in the generator, spectral normalization in the discriminator."""
    config = presets.get("gan_digits")
    players = ("generator", "discriminator")
    presets.override(
        config,
        [
            *("generator_hidden=12", "discriminator_hidden=12", "spectral_norm=true"),
            *("loss=hinge", "real_label=1.0", "latent_dim=3", "steps_per_execution=1"),
            # SGD has no state, so training continues exactly.
            *(f"optimizers.{player}.name=sgd" for player in players),
            *(f"optimizers.{player}.learning_rate=0.05" for player in players),
        ],
    )
    config.data.data_dir = "/home/somebody"
    return config


@pytest.fixture
def trained(digits):
    config = sn_gan()
    model = presets.build(config, *DIGITS)
    model.fit(digits, batch_size=50, epochs=2, verbose=0)
    return model, config


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A file of the weights of a small GAN. Tests do not change it."""
    config, path = sn_gan(), tmp_path_factory.mktemp("written") / "gan_digits.npz"
    write(path, presets.build(config, *DIGITS), config)
    return path


@pytest.fixture
def file(written, tmp_path):
    """A copy of `written`."""
    return pathlib.Path(shutil.copy(written, tmp_path / "a.npz"))


def write(path, model, config, **more):
    return pretrained.save(model, config, *DIGITS, path, **more)


def changed(path, change):
    """Rewrites a file after `change(content, about)` has changed both in place."""
    with np.load(path) as file:
        content = dict(file)
    about = json.loads(str(content["about"]))
    change(content, about)
    np.savez(path, **(content | {"about": np.array(json.dumps(about))}))


@pytest.fixture
def shipped(tmp_path, monkeypatch, written):
    """A folder of shipped weights of two presets."""
    folder = tmp_path / "weights"
    monkeypatch.setattr(pretrained, "SHIPPED", folder)
    folder.mkdir()
    shutil.copy(written, folder)
    vae = presets.get("vae_digits")
    write(folder / "vae_digits.npz", presets.build(vae, *DIGITS), vae)
    index = {
        path.stem: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "zoo": "0.1.0"}
        for path in folder.glob("*.npz")
    }
    (folder / "index.json").write_text(json.dumps(index))
    return folder


# Saving and loading ---------------------------------------------------------------------------


def test_float32_weights_are_restored_exactly_with_the_same_samples(trained, tmp_path):
    model, config = trained
    kept, samples = weights(model), np.array(model.sample(20, seed=3))
    assert write(tmp_path / "a.npz", model, config, dtype="float32") == []
    loaded = pretrained.load(tmp_path / "a.npz")
    assert type(loaded) is zoo.GAN and loaded.image_shape == (8, 8, 1)
    assert_close(weights(loaded), kept)
    np.testing.assert_array_equal(loaded.sample(20, seed=3), samples)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_float16_weights_are_restored_within_their_precision(trained, tmp_path):
    model, config = trained
    kept = weights(model)
    write(tmp_path / "a.npz", model, config)
    loaded = pretrained.load(tmp_path / "a.npz")
    assert_close(weights(loaded), kept, **HALF)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        types = [str(file[name].dtype) for name in file.files if name != "about"]
    state = [v for v in model.weights if not v.trainable and v is not model.step]
    assert types.count("int64") == 1 and types.count("float32") == len(state) > 0
    assert types.count("float16") == len(model.trainable_variables)
    for old, new in zip(model.weights, loaded.weights, strict=True):
        if not old.trainable:
            np.testing.assert_array_equal(old.numpy(), new.numpy())


def test_the_state_of_layers_is_restored(trained, tmp_path):
    model, config = trained
    write(tmp_path / "a.npz", model, config)
    fresh, loaded = presets.build(config, *DIGITS), pretrained.load(tmp_path / "a.npz")
    state = {"moving_mean": 0, "moving_variance": 0, "u": 0}
    for own, old, new in zip(model.weights, fresh.weights, loaded.weights, strict=True):
        if old.name in state and old.shape != (1,):  # A direction of one dimension does not change.
            assert not np.allclose(old, new, atol=1e-3), new.path
            np.testing.assert_array_equal(own, new)  # State is not rounded to float16.
            state[old.name] += 1
    assert min(state.values()) > 0
    assert int(loaded.step) == 8  # Two epochs of 200 images, 50 at a time.


def test_training_continues_from_loaded_weights(trained, tmp_path, digits):
    model, config = trained
    write(tmp_path / "a.npz", model, config, dtype="float32")
    loaded = pretrained.load(tmp_path / "a.npz")
    before = weights(model)
    for one in (model, loaded):
        one.fit(digits, batch_size=50, verbose=0, shuffle=False)
    after = weights(loaded)
    assert_close(after, weights(model), atol=1e-6)
    assert np.abs(after["generator"][0] - before["generator"][0]).max() > 1e-3
    assert int(loaded.step) == 12


@pytest.mark.parametrize(
    "name", ["cgan_digits", "vae_flow_digits", "vae_vamp_digits", "clustering_aae_digits"]
)
def test_every_variable_is_restored(name, tmp_path):
    config = presets.get(name)
    model = presets.build(config, *DIGITS)
    rng = np.random.default_rng(0)
    for layer in {id(n): n for own in model.players().values() for n in own}.values():
        for variable in layer.weights:
            variable.assign(rng.uniform(0.01, 0.1, variable.shape))
    kept = weights(model)
    write(tmp_path / "a.npz", model, config)
    loaded = pretrained.load(tmp_path / "a.npz")
    assert_close(weights(loaded), kept, **HALF)
    y = None if model.condition is None else 3
    assert loaded.sample(2, y).shape == (2, 8, 8, 1)


@pytest.mark.parametrize(
    ("name", "attribute", "value"),
    [("m2_digits", "labelled_share", 0.1), ("beta_tcvae_digits", "dataset_size", 1000)],
)
def test_attributes_set_by_adapt_are_restored(name, attribute, value, tmp_path):
    config = presets.get(name)
    data = training.load_data(config)
    model = presets.build(config, data.image_shape, data.levels)
    model.adapt(data)
    names = model._argument_names()
    write(tmp_path / "a.npz", model, config)
    loaded = pretrained.load(tmp_path / "a.npz")
    assert getattr(loaded, attribute) == pytest.approx(value)
    plain = (int, float, str, type(None))
    have, want = (
        {n: getattr(m, n) for n in names if isinstance(getattr(m, n, ...), plain) and n != "name"}
        for m in (loaded, model)
    )
    assert have == want


def test_models_declare_the_attributes_that_adapt_sets():
    own = {cls for cls in vars(zoo).values() if isinstance(cls, type) and "adapt" in vars(cls)}
    own -= {GenerativeModel}
    # The others only check their data.
    checking = {"InverseGraphics", "LabelInformedAAE", "SemiSupervisedAAE"}
    assert {cls.__name__ for cls in own if not cls.adapted} <= checking


def test_within_best_weights_the_averages_are_saved(digits, tmp_path):
    config = sn_gan()
    presets.override(config, ["optimizers.generator.use_ema=true"])
    model = presets.build(config, *DIGITS)
    model.fit(digits, batch_size=50, verbose=0)
    with model.best_weights(tf.data.Dataset.from_tensor_slices(digits).batch(50)):
        kept = weights(model)
        write(tmp_path / "a.npz", model, config)
    assert not np.allclose(kept["generator"][0], weights(model)["generator"][0], atol=1e-4)
    loaded = pretrained.load(tmp_path / "a.npz")
    with loaded.best_weights():
        assert_close(weights(loaded), kept, **HALF)


def test_arrays_beyond_float16_stay_float32(trained, tmp_path):
    model, config = trained
    by_name = {v.path.rpartition("/")[2]: v for v in model.generator.weights}
    large, positive, kernel = (by_name[n] for n in ("beta", "gamma", "kernel"))
    large.assign(np.where(np.arange(large.shape[0]), 0.1, 1e5))
    positive.assign(np.where(np.arange(positive.shape[0]), 1.0, 1e-9))
    # An array with both signs may lose a small value.
    kernel.assign(np.where(np.eye(*kernel.shape), 1e-9, -0.1))
    kept = {id(v): v.numpy() for v in (large, positive, kernel)}
    written = write(tmp_path / "a.npz", model, config)
    assert sorted(written) == sorted([large.path, positive.path])
    loaded = pretrained.load(tmp_path / "a.npz")
    for old, new in zip(model.generator.weights, loaded.generator.weights, strict=True):
        if old is kernel:
            assert new.numpy()[0, 0] == 0
        elif id(old) in kept:
            np.testing.assert_array_equal(new.numpy(), kept[id(old)])


def test_non_finite_weights_are_not_saved(trained, tmp_path):
    model, config = trained
    model.generator.trainable_variables[0].assign_add([[np.nan]])
    with pytest.raises(ValueError, match=r"finite numbers\. Received: NaN or infinity in \["):
        write(tmp_path / "a.npz", model, config)
    assert not list(tmp_path.iterdir())


def test_a_file_does_not_name_the_folder_of_the_data(file):
    with np.load(file) as content:
        about = str(content["about"])
    assert "somebody" not in about
    assert json.loads(about)["config"]["model"]["latent_dim"] == 3


# By name -----------------------------------------------------------------------------------------


def test_a_preset_loads_its_weights(shipped):
    assert pretrained.names() == ["gan_digits", "vae_digits"]
    with np.load(shipped / "gan_digits.npz") as file:
        kernel = file["arr_1"]  # After the count of steps.
    np.testing.assert_array_equal(zoo.from_preset("gan_digits").generator.weights[0], kernel)
    assert isinstance(zoo.from_preset("vae_digits"), zoo.VAE)


def test_weights_load_after_a_change_of_their_preset(shipped, monkeypatch):
    monkeypatch.setitem(presets.PRESETS["gan_digits"]["model"], "latent_dim", 5)
    assert presets.get("gan_digits").model.latent_dim == 5
    assert zoo.from_preset("gan_digits").sample(2).shape == (2, 8, 8, 1)
    assert zoo.from_preset("gan_digits").latent_dim == 3


def test_unknown_presets_and_presets_without_weights_are_refused(shipped):
    with pytest.raises(ValueError, match=r"Unknown preset 'gan_digit'.*mean 'gan_digits'"):
        zoo.from_preset("gan_digit")
    command = (
        r"python -m trainers\.train --preset=autoencoder_digits --output=runs/autoencoder_digits"
    )
    with pytest.raises(
        ValueError,
        match=rf"'autoencoder_digits' has no .*: gan_digits, vae_digits\. .*=False.*{command}",
    ):
        zoo.from_preset("autoencoder_digits")
    shutil.rmtree(shipped)
    assert pretrained.names() == []
    with pytest.raises(ValueError, match=r"These have: none\."):
        zoo.from_preset("gan_digits")


def test_any_preset_builds_a_new_model():
    model = zoo.from_preset("beta_vae_digits", load_weights=False)
    assert model.compiled and model.image_shape == (8, 8, 1) and int(model.step) == 0
    assert model.latent_dim == presets.get("beta_vae_digits").model.latent_dim
    assert zoo.from_preset("vae_mnist", load_weights=False).image_shape == (28, 28, 1)
    shape = (16, 16, 3)
    assert zoo.from_preset("beta_vae_digits", False, image_shape=shape).image_shape == shape
    with pytest.raises(ValueError, match="fixed image shape"):
        zoo.from_preset("vae_mnist", image_shape=shape)


def test_a_new_model_has_the_grey_levels_of_its_data(monkeypatch):
    received = {}
    monkeypatch.setattr(presets, "build", lambda *args: received.update(args=args[1:]))
    zoo.from_preset("vae_digits", load_weights=False)
    assert received["args"] == ((8, 8, 1), 17)


def test_images_of_unknown_shape_need_an_image_shape(monkeypatch):
    config = presets.get("vae_digits")
    config.data.name = "folder"
    monkeypatch.setattr(presets, "get", lambda name: config)
    with pytest.raises(ValueError, match="'folder' have no known shape: pass `image_shape`"):
        zoo.from_preset("vae_digits", load_weights=False)
    monkeypatch.undo()


def test_a_file_with_a_wrong_checksum_is_not_opened(shipped, monkeypatch):
    path = shipped / "gan_digits.npz"
    want, content = pretrained.sha256(path), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("It was opened."))
    with pytest.raises(ValueError, match=rf"SHA-256 {want} .* Received: {pretrained.sha256(path)}"):
        zoo.from_preset("gan_digits")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"is missing.*install the zoo again"):
        zoo.from_preset("gan_digits")


# Files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "here", "newer"),
    [("0.10.0", "0.9.2", True), ("1.0.0", "1.0.0", False), ("1.2.3", "1.10.0", False)],
)
def test_weights_of_a_later_version_are_refused(file, monkeypatch, version, here, newer):
    changed(file, lambda _, about: about.update(zoo=version))
    monkeypatch.setattr(pretrained, "__version__", here)
    if newer:
        # Also if the format has changed.
        changed(file, lambda _, about: about.update(format=7, config=None))
        with pytest.raises(
            ValueError, match=rf"version {version} .*version {here}: update the zoo"
        ):
            pretrained.load(file)
    else:
        pretrained.load(file)


def drop(content, about):
    del content[f"arr_{len(about['variables']) - 1}"]
    about["variables"].pop()


def transpose(content, about):
    content["arr_1"] = content["arr_1"].T


def rename(content, about):
    about["variables"][1] = about["variables"][1].replace("kernel", "gamma")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, r"kernel' of shape \(12, 1\)\. Received: nothing"),
        (transpose, r"kernel' of shape \(3, 12\)\. Received: '\S+' of shape \(12, 3\)"),
        (rename, r"kernel' of shape \(3, 12\)\. Received: '\S+gamma' of shape \(3, 12\)"),
        (lambda _, about: about["config"]["model"].update(latent_dim=4), r"\(4, 12\).*\(3, 12\)"),
        (lambda _, about: about.update(format=2), "format 1 .* Received: format 2"),
        (lambda content, _: content.update(x=np.zeros(3)), "Expected trained weights"),
        (lambda _, about: about.pop("zoo"), "Expected trained weights"),
        (lambda _, about: about["variables"].pop(), "Expected trained weights"),
        (lambda content, _: content.update(arr_1=content["arr_1"] * np.nan), "finite numbers"),
        (lambda content, _: content.update(arr_1=np.array(["a"])), "finite numbers"),
        (lambda _, about: about.update(config={}), "no configuration that can be built"),
        (lambda _, about: about.update(config=None), "no configuration that can be built"),
        (lambda _, about: about.pop("levels"), "no configuration that can be built"),
        (lambda _, about: about["config"].update(builder="none"), "that can be built"),
        (lambda _, about: about["config"]["model"].update(first="a.keras"), "of another run"),
    ],
)
def test_a_file_that_does_not_match_its_model_is_refused(file, change, message):
    changed(file, change)
    with pytest.raises(ValueError, match=message):
        pretrained.load(file)


def test_pickles_and_damaged_files_are_refused(file):
    whole = file.read_bytes()

    class Trap:
        def __reduce__(self):
            return pytest.fail, ("It was unpickled.",)

    np.savez(file, about=np.array([Trap()], dtype=object))
    with pytest.raises(ValueError, match=r"Expected trained weights.*allow_pickle=False"):
        pretrained.load(file)
    for content in (b"", b"no archive", whole[:1000], whole[:600] + b"?" * 200 + whole[800:]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match="Expected trained weights"):
            pretrained.load(file)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        pretrained.load(file.with_name("b.npz"))


def test_a_model_that_cannot_be_saved_is_refused(tmp_path):
    config = presets.get("m1_m2_digits")
    with pytest.raises(ValueError, match=r"'m1_m2_digits' contains .* Received: model.first=None"):
        write(tmp_path / "a.npz", presets.build(config, *DIGITS), config)
    config = sn_gan()
    model = presets.build(config, *DIGITS)
    with pytest.raises(ValueError, match=r"'float16' or 'float32'\. Received: 'int8'"):
        write(tmp_path / "a.npz", model, config, dtype="int8")
    assert list(tmp_path.iterdir()) == []


# Shipped weights -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", slow_except(["vae_flow_mnist", "dcgan_mnist", "vaegan_mnist"], pretrained.names())
)
def test_shipped_weights_load_without_a_network_connection(name, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("A connection was opened.")

    monkeypatch.setattr(socket, "socket", refuse)
    model = zoo.from_preset(name)
    assert isinstance(model, GenerativeModel) and model.compiled
    for variable in model.weights:
        assert np.isfinite(variable.numpy()).all(), variable.path
    assert int(model.step) > 0
    card = (pretrained.SHIPPED / f"{name}.md").read_text(encoding="utf-8")
    assert card.startswith(f"# {name}\n")
    assert pretrained.sha256(pretrained.SHIPPED / f"{name}.npz") in card


def test_the_folder_of_shipped_weights_is_small_and_complete():
    folder = pathlib.Path(zoo.__file__).parent / "weights"
    files = list(folder.glob("*"))
    assert sum(path.stat().st_size for path in files) <= pretrained.MOST_BYTES
    wanted = {f"{name}.{end}" for name in pretrained.names() for end in ("npz", "md")}
    assert {path.name for path in files} == wanted | ({"index.json"} if wanted else set())
    assert set(pretrained.names()) <= set(presets.names())
