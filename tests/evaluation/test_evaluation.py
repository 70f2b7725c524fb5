"""Evaluations: the images of each metric, records, the store, the cache, and refusals."""

import json

import keras
import numpy as np
import pytest

import zoo
from zoo import datasets, evaluation, metrics, presets
from zoo.evaluation import Evaluation, Images, Store
from zoo.features import Features
from zoo.training import Run
from zoo.training.callbacks import KeepBest


class Projection:
    """A feature network that is a fixed linear map of the pixels."""

    dim, classes, protocol, gray = 4, 3, None, "repeat"

    def __init__(self, seed=0):
        self.preprocessing = {"size": 8, "quantise": "uint8"}
        self.id, self.seed, self.sizes = f"projection-{seed}", seed, []

    def about(self):
        return {"id": self.id, "dim": self.dim, "weights_sha256": str(self.seed)}

    def name_of(self, kind):
        return f"{kind}[{self.id}]"

    def __call__(self, images, batch_size=256, progress=None):
        self.sizes.append(len(images))
        flat = images.reshape(len(images), -1) / 255.0
        matrix = np.random.default_rng(self.seed).normal(size=(flat.shape[1], 7))
        both = (flat @ matrix).astype("float32")
        return Features(both[:, :4], both[:, 4:])


@pytest.fixture(scope="module")
def data():
    return datasets.load("digits", binarize="dynamic")


def build(preset, *settings):
    """The compiled model of a preset with changed settings, for 8x8 images."""
    config = presets.get(preset)
    presets.override(config, ["jit_compile=false", *settings])
    return presets.build(config, (8, 8, 1), 17)


@pytest.fixture(scope="module")
def vae(data):
    model = build("vae_digits", "latent_dim=3", "hidden=(16,)")
    model.fit(data.batches("train", 50), epochs=5, verbose=0)
    return model


def of_model(model, data, **more):
    standard = {"num_samples": 60, "extractor": Projection(), "limit": 40, "importance_samples": 5}
    return Evaluation.of_model(model, data, **standard | more)


def only(results):
    (result,) = results
    return result


@pytest.mark.slow
def test_real_images_are_grey_even_if_the_model_is_trained_on_binary_images(vae, data):
    subject = of_model(vae, data)
    stored = datasets.load("digits").arrays("test")[0]
    np.testing.assert_array_equal(subject.real.pixels, np.round(stored * 255))
    assert set(np.unique(subject.x)) == {0, 1}
    assert len(subject.real) == 447 and len(subject.fake) == 60
    assert [len(images) for images in subject.floor_sets] == [447, 60]


def test_samples_of_the_model_are_rounded_to_8_bits(vae):
    drawn = evaluation.sample_images(vae, 7, seed=3, batch_size=4)
    first, second = vae.sample(4, seed=[3, 0]), vae.sample(4, seed=[3, 4])
    expected = np.round(np.concatenate([first, second])[:7] * 255)
    np.testing.assert_array_equal(drawn, expected)
    assert drawn.dtype == np.uint8


def test_the_floor_of_a_distance_is_its_value_on_other_real_images(vae, data):
    subject = of_model(vae, data)
    result = only(subject.run(["fid"]))
    project = Projection()
    real, fake, other = (
        project(i).features.astype("float64")
        for i in (data.pixels("test"), subject.fake.pixels, data.pixels("validation", 60))
    )
    assert result.value == pytest.approx(float(metrics.frechet_distance(real, fake)), rel=1e-6)
    floor = float(metrics.frechet_distance(real, other))
    assert result.floor == {
        "value": pytest.approx(floor, rel=1e-6),
        "stderr": None,
        "n_real": 447,
        "n_fake": 60,
        "source": "digits validation",
    }
    assert result.value > result.floor["value"]


def test_a_result_holds_the_whole_protocol(vae, data):
    result = only(of_model(vae, data, seed=5, sampling={"run": "r"}).run(["fid"]))
    assert result.metric == "fid[projection-0]" and result.kind == "fid"
    assert (result.n_real, result.n_fake, result.status) == (447, 60, "ok")
    assert result.extractor == Projection().about()
    assert result.preprocessing == Projection().preprocessing
    assert result.data["name"] == "digits" and result.data["split"] == "test"
    assert len(result.data["sha256"]) == 64 and "binarize" not in result.data
    about = {"run": "r", "seed": 5, "batch_size": 500, "images": "means of p(x | z)"}
    assert result.sampling == about | {"seconds": result.sampling["seconds"]}
    assert {"numpy", "tensorflow", "keras", "devices"} <= set(result.environment)
    assert result.seconds >= 0
    likelihood = only(of_model(vae, data).run(["nll"]))
    assert likelihood.data["binarize"] == "dynamic" and likelihood.extractor is None
    json.dumps(likelihood.details, allow_nan=False)


def test_the_usual_metrics_depend_on_the_model_and_the_images(vae, data):
    assert {"fid", "prdc", "nll", "rate", "psnr", "losses"} <= set(of_model(vae, data).usual())
    assert not {"ssim", "diversity", "nll_annealed"} & set(of_model(vae, data).usual())
    assert "fid" not in of_model(vae, data, extractor=None).usual()
    ae = build("autoencoder_digits", "latent_dim=3", "hidden=(8,)")
    assert not {"fid", "nll", "latent_mmd"} & set(of_model(ae, data).usual())


@pytest.mark.parametrize(
    ("name", "settings", "usual"),
    [
        ("aae_digits", (), True),
        ("aae_digits", ("latent_dim=2", "prior=swiss_roll"), False),  # The prior has no density.
        ("clustering_aae_digits", ("categories=3",), False),
        ("label_informed_aae_petals_digits", (), True),
        ("avb_digits", (), True),
        ("cvae_digits", (), False),
        ("gan_digits", (), False),
    ],
)
def test_annealing_is_a_usual_metric_only_without_another_likelihood(data, name, settings, usual):
    model = build(name, *settings)
    assert ("nll_annealed" in of_model(model, data).usual()) == usual
    if not usual:
        with pytest.raises(ValueError, match="Annealing"):
            metrics.annealed_nll(model, data.arrays("test", 2)[0])


def test_all_usual_metrics_of_a_vae_have_values(vae, data, tmp_path):
    results = list(of_model(vae, data).run())
    assert [r.metric for r in results if r.value is None] == []
    for result in results:
        evaluation.append(tmp_path / "r.jsonl", result)
    assert evaluation.read(tmp_path / "r.jsonl") == results


def test_an_inapplicable_metric_has_a_reason_and_does_not_stop_others(data):
    gan = build("gan_digits", "latent_dim=3")
    fid, nll = of_model(gan, data).run(["nll", "fid"])
    assert nll.value is None and nll.status == "failed" and "GAN" in nll.error
    assert fid.status == "ok"
    small = of_model(gan, data, num_samples=4)
    results = list(small.run(["prdc"]))
    assert [r.kind for r in results] == ["precision", "recall", "density", "coverage"]
    assert all(r.value is None and r.status == "failed" and r.error for r in results)


def test_few_images_give_a_warning(vae, data):
    small = only(of_model(vae, data, num_samples=39).run(["fid"]))
    assert "fewer than ten times the 4" in small.details["warning"] and "fewer" in str(small)
    assert "warning" not in only(of_model(vae, data, num_samples=40).run(["fid"])).details


@pytest.mark.parametrize(
    ("keys", "message"), [(["fit"], "Unknown metric 'fit'.*mean 'fid'"), (["kid"], "zoo.features")]
)
def test_invalid_requests_are_refused_before_any_computation(vae, data, keys, message):
    with pytest.raises(ValueError, match=message):
        of_model(vae, data, extractor=None).run(keys)


def test_likelihoods_are_comparable_only_on_the_same_images(vae):
    def nll(binarize, seed, **more):
        data = datasets.load("digits", binarize=binarize, seed=seed)
        return only(of_model(vae, data, **more).run(["nll"]))

    a = nll("fixed", 0)
    # Equal images are comparable, even if their descriptions differ.
    for same in (nll("dynamic", 0), nll("fixed", 0, num_real=50)):
        assert same.value == a.value and same.protocol() == a.protocol()
    # Different images are not, even if their descriptions are equal.
    for other in (nll("fixed", 1), nll("fixed", 0, limit=30)):
        assert other.protocol()["data.sha256"] != a.protocol()["data.sha256"]


def test_densities_and_probabilities_are_not_ranked_together():
    data = datasets.load("digits")
    results = {}
    for likelihood in ("unit_normal", "discretized_logistic"):
        model = build("vae_digits", "latent_dim=2", "hidden=(8,)", f"likelihood={likelihood}")
        results[likelihood] = list(of_model(model, data).run(["nll"]))
    comparison = evaluation.compare(results)
    assert not comparison.best and "estimator.of is a density" in comparison.notes["nll"]


def test_metrics_of_models_do_not_apply_to_sets_of_images():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
    subject = Evaluation.of_images(pixels, pixels[::-1], Projection())
    results = {result.kind: result for result in subject.run(["all"])}
    assert results["fid"].value is not None
    for kind in ("nll", "copying", "psnr", "mig", "objective"):
        assert results[kind].value is None and "needs a model" in results[kind].error
    assert "11x11" in results["diversity"].error


def test_a_set_of_one_image_is_refused():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
    for result in Evaluation.of_images(pixels[:1], pixels, Projection()).run(["fid", "prdc"]):
        assert result.value is None and result.error


def test_non_finite_samples_do_not_stop_other_metrics(data):
    model = build("vae_digits", "latent_dim=2", "hidden=(8,)")
    bias = model.likelihood.network.weights[-1]
    bias.assign(np.full(bias.shape, np.nan))
    subject = of_model(model, data)
    results = {result.kind: result for result in subject.run(["fid", "prdc", "active_units"])}
    assert all("samples are NaN" in results[kind].error for kind in ("fid", "precision"))
    assert results["active_units"].value is not None


def test_colour_images_are_refused_by_a_network_for_grey_images():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)
    extractor = Projection()
    extractor.gray = "keep"
    result = only(Evaluation.of_images(pixels, pixels, extractor).run(["fid"]))
    assert "takes grey images. Received: 3 channels" in result.error and not extractor.sizes


def test_metrics_without_samples_draw_none(vae, data, monkeypatch):
    monkeypatch.setattr(vae, "sample", None)
    assert only(of_model(vae, data).run(["nll"])).status == "ok"


def test_an_almost_black_set_is_scored(tmp_path):
    pixels = np.zeros((20, 28, 28, 1), np.uint8)
    pixels[:, 0] = 1
    extractor = zoo.features.get("mnist-cnn-v1")
    result = only(Evaluation.of_images(255 - pixels, pixels, extractor).run(["fid"]))
    assert result.value > 1


def test_halves_of_a_set_share_its_features():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
    extractor = Projection()
    list(Evaluation.of_images(pixels, pixels[::-1], extractor).run(["fid", "kid", "score", "prdc"]))
    assert extractor.sizes == [40, 40]


def test_sets_without_a_model_have_the_floor_of_two_halves():
    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, (100, 8, 8, 1), np.uint8)
    shifted = np.clip(real.astype(int) + 60, 0, 255).astype(np.uint8)
    far = only(Evaluation.of_images(real, shifted, Projection()).run(["fid"]))
    near = only(Evaluation.of_images(real, real[::-1], Projection()).run(["fid"]))
    assert near.value == pytest.approx(0, abs=1e-6) and far.value > 3 * far.floor["value"] > 0
    assert far.floor["n_real"] == far.floor["n_fake"] == 50


def test_the_channel_of_grey_images_is_repeated_against_colour_images():
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (20, 8, 8, 3), np.uint8)
    subject = Evaluation.of_images(colour, colour[..., :1], Projection())
    assert subject.fake.pixels.shape == (20, 8, 8, 3)
    assert (subject.fake.pixels == colour[..., :1]).all()


# Requests and the store ----------------------------------------------------------------------


def test_saving_preserves_the_checksum_of_the_weights(vae, tmp_path):
    checksum = Evaluation(real=None, model=vae).weights_sha256
    vae.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert Evaluation(real=None, model=loaded).weights_sha256 == checksum
    first = loaded.variables_of("vae")[0]
    first.assign(first + 1e-6)
    assert Evaluation(real=None, model=loaded).weights_sha256 != checksum


def test_a_request_is_equal_for_equal_measurements_only(vae, data):
    def request(key="fid", model=vae, **more):
        return of_model(model, data, **more).request(key)

    assert request() == request(sampling={"run": "elsewhere"}, cache="somewhere")
    for more in ({"num_samples": 59}, {"extractor": Projection(1)}, {"seed": 1}, {"num_real": 50}):
        assert request(**more) != request()
    assert request(split="validation") != request() != request("kid")
    assert request(model=build("vae_digits", "latent_dim=3", "hidden=(16,)")) != request()
    # Settings that a metric does not depend on do not change its request.
    assert request(importance_samples=6, limit=41) == request()
    assert request("nll", importance_samples=6) != request("nll") != request("nll", limit=41)
    assert request("nll", num_samples=59, extractor=Projection(1)) == request("nll")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 20, 8, 8, 1), np.uint8)
    a, b = (Evaluation.of_images(x, y, Projection()) for x, y in (pixels, pixels[::-1]))
    assert a.request("fid") != b.request("fid")


def test_results_in_a_store_are_not_computed_again(vae, data, tmp_path, monkeypatch):
    path, keys = tmp_path / "evaluation.jsonl", ["fid", "prdc", "nll"]
    first = list(of_model(vae, data).run(keys, Store(path)))
    assert [r.kind for r in first] == ["fid", "precision", "recall", "density", "coverage", "nll"]
    assert evaluation.read(path) == first
    with monkeypatch.context() as patched:
        patched.setattr(vae, "sample", None)
        patched.setattr(vae, "log_prob", None)
        assert list(of_model(vae, data).run(keys, Store(path))) == first
    assert evaluation.read(path) == first
    # Other settings are computed, and added.
    other = list(of_model(vae, data, num_samples=50).run(keys, Store(path)))
    assert [r.n_fake for r in other] == [50] * 5 + [None]
    assert evaluation.read(path) == first + other[:5] and other[5] == first[5]


def test_an_incompletely_written_metric_is_computed_again(vae, data, tmp_path):
    path = tmp_path / "evaluation.jsonl"
    for result in list(of_model(vae, data).run(["prdc"]))[:2]:
        evaluation.append(path, result)
    found = list(of_model(vae, data).run(["prdc"], Store(path)))
    assert [r.kind for r in found] == ["precision", "recall", "density", "coverage"]
    assert len(evaluation.read(path)) == 6


def test_weights_of_two_checkpoints_do_not_share_results(vae, data, tmp_path):
    path = tmp_path / "evaluation.jsonl"
    trained = only(of_model(vae, data).run(["psnr"], Store(path)))
    new = build("vae_digits", "latent_dim=3", "hidden=(16,)")
    untrained = only(of_model(new, data).run(["psnr"], Store(path)))
    assert untrained.value < trained.value
    assert only(of_model(vae, data).run(["psnr"], Store(path))) == trained


def test_an_inapplicable_metric_has_no_request(data, tmp_path):
    gan, path = build("gan_digits", "latent_dim=3"), tmp_path / "evaluation.jsonl"
    for _ in range(2):
        result = only(of_model(gan, data).run(["nll"], Store(path)))
        assert result.request == {} and "GAN" in result.error


# The cache of features -----------------------------------------------------------------------


def test_features_of_real_images_are_computed_once(vae, data, tmp_path):
    first, second = Projection(), Projection()
    a = only(of_model(vae, data, extractor=first, cache=tmp_path).run(["fid"]))
    b = only(of_model(vae, data, extractor=second, cache=tmp_path).run(["fid"]))
    # Only the generated images.
    assert sorted(first.sizes) == [60, 60, 447] and second.sizes == [60]
    assert a.value == b.value and a.floor == b.floor
    assert len(list(tmp_path.glob("projection-0-*.npz"))) == 2
    assert not list(tmp_path.glob("*.partial"))


def test_other_networks_or_images_do_not_share_a_file(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
    for seed, part in ((0, pixels), (1, pixels), (0, pixels[:10])):
        extractor = Projection(seed)
        images = Images(part, "", extractor, tmp_path)
        np.testing.assert_array_equal(images.features, Projection(seed)(part).features)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_of_other_features_is_refused(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
    _ = Images(pixels, "", Projection(0), tmp_path).features
    _ = Images(pixels, "", Projection(1), tmp_path).features
    a, b = sorted(tmp_path.iterdir())
    a.write_bytes(b.read_bytes())
    with pytest.raises(ValueError, match="never mixed: delete the file"):
        _ = Images(pixels, "", Projection(0), tmp_path).features
    a.write_bytes(b"")
    with pytest.raises(ValueError, match=r"cannot be read.*Delete the file"):
        _ = Images(pixels, "", Projection(0), tmp_path).features
    a.write_bytes(b.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"cannot be read.*Delete the file"):
        _ = Images(pixels, "", Projection(0), tmp_path).features


def test_a_file_with_pickled_objects_is_refused(tmp_path):
    pixels = np.zeros((5, 8, 8, 1), np.uint8)
    _ = Images(pixels, "", Projection(0), tmp_path).features
    (path,) = tmp_path.iterdir()
    with open(path, "wb") as file:
        np.savez(file, identity=np.array([{}], dtype=object), features=np.zeros(3))
    with pytest.raises(ValueError, match="cannot be read"):
        _ = Images(pixels, "", Projection(0), tmp_path).features


# The best model ------------------------------------------------------------------------------


class Scripted(Evaluation):
    """An evaluation whose results are known in advance."""

    def run(self, keys):
        (kind,) = keys
        yield evaluation.Result(f"{kind}[x]", kind, next(self.values), error="no reason")


def keep_best(tmp_path, vae, values, every=1, epochs=None, kind="fid", at=()):
    run = Run(tmp_path)
    values = iter(values)

    def subject(model):
        scripted = Scripted(real=None)
        scripted.values = values
        return scripted

    messages = []
    callback = KeepBest(run, subject, kind, f"{kind}[x]", every, at, messages.append)
    callback.messages = messages
    callback.set_model(vae)
    callback.set_params({"epochs": epochs or 100})
    return run, callback


def test_the_best_model_is_kept(vae, tmp_path):
    run, callback = keep_best(tmp_path, vae, [3.0, 1.0, 2.0, None, 1.0])
    bias = vae.variables_of("vae")[0]
    before, values = bias.numpy(), []
    try:
        for epoch in range(5):
            bias.assign(np.full(bias.shape, epoch))
            logs = {}
            callback.on_epoch_end(epoch, logs)
            values.append(logs["val_fid[x]"])
    finally:
        bias.assign(before)
    np.testing.assert_array_equal(values, [3, 1, 2, np.nan, 1])
    assert json.loads(run.best_result_path.read_text())["sampling"]["epoch"] == 2
    best = run.load_model("best")
    assert (best.variables_of("vae")[0].numpy() == 1).all()
    assert [r.value for r in evaluation.read(run.evaluation_path)] == [3.0, 1.0, 2.0, None, 1.0]


def test_the_highest_score_is_the_best(vae, tmp_path):
    run, callback = keep_best(tmp_path, vae, [2.0, 3.0, 1.0], kind="score")
    for epoch in range(3):
        callback.on_epoch_end(epoch, {})
    assert json.loads(run.best_result_path.read_text())["sampling"]["epoch"] == 2


def test_an_evaluation_without_a_value_is_reported(vae, tmp_path):
    run, callback = keep_best(tmp_path, vae, [None])
    callback.on_epoch_end(4, {})
    assert "Epoch 5" in callback.messages[0] and "no reason" in callback.messages[0]
    assert not run.best_path.exists()


def test_a_resumed_run_remembers_the_best(vae, tmp_path):
    run, callback = keep_best(tmp_path, vae, [1.0])
    callback.on_epoch_end(0, {})
    _, resumed = keep_best(tmp_path, vae, [2.0, 0.5])
    resumed.on_epoch_end(1, {})
    assert json.loads(run.best_result_path.read_text())["value"] == 1.0
    resumed.on_epoch_end(2, {})
    assert json.loads(run.best_result_path.read_text())["value"] == 0.5


def test_evaluations_run_every_n_epochs_and_at_the_end(vae, tmp_path):
    _, callback = keep_best(tmp_path, vae, [5.0, 4.0, 3.0], every=3, epochs=7)
    values = []
    for epoch in range(7):
        logs = {}
        callback.on_epoch_end(epoch, logs)
        values.append(logs["val_fid[x]"])
    np.testing.assert_array_equal(values, [np.nan, np.nan, 5, np.nan, np.nan, 4, 3])


def test_evaluations_run_at_chosen_epochs_only(vae, tmp_path):
    _, callback = keep_best(tmp_path, vae, [5.0, 4.0], every=0, epochs=5, at=(1, 4))
    values = []
    for epoch in range(5):
        logs = {}
        callback.on_epoch_end(epoch, logs)
        values.append(logs["val_fid[x]"])
    np.testing.assert_array_equal(values, [5, np.nan, np.nan, 4, np.nan])
