"""The comparison with pythae, without PyTorch: likelihoods, files, sizes, and the record."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import zoo
from benchmarks.peers import compare, exchange, scoring, train_zoo
from benchmarks.peers.exchange import Settings
from benchmarks.peers.specification import ROWS, Row, parameters

TINY = Settings(seed=3, epochs=1, images=200, samples=6, scored=5, importance_samples=4)
SIDE = 8


def tiny(slug, **changes):
    row = ROWS[slug]
    sizes = {
        "latent_dim": 3,
        "hidden": (8,) * len(row.hidden),
        "discriminator_hidden": (8,) * len(row.discriminator_hidden),
        "components": 4 if row.components else 0,
        "flow_hidden": (8,) * len(row.flow_hidden),
    }
    return dataclasses.replace(row, **sizes | changes)


@pytest.fixture(scope="module")
def images():
    data = zoo.datasets.load("digits")
    grey = {split: data.pixels(split)[..., 0] for split in ("train", "test")}
    return {"grey": grey, "binary": {k: np.uint8(255) * (v > 127) for k, v in grey.items()}}


# Likelihoods --------------------------------------------------------------------------------


def arrays_of(base, loc, scale, outputs, components=1):
    d = loc.shape[-1]
    return {
        "loc": loc,
        "scale": scale,
        "base": base,
        "z": base,
        "log_det": np.zeros(base.shape[:2]),
        "outputs": outputs,
        "prior_loc": np.zeros((components, d)),
        "prior_scale": np.ones((components, d)),
    }


@pytest.fixture
def linear():
    """x = W z + b + noise, with orthogonal columns of W: the posterior is a diagonal normal."""
    rng = np.random.default_rng(0)
    w = np.linalg.qr(rng.normal(size=(6, 2)))[0] * [1.5, 0.5]
    b, x = rng.normal(size=6), rng.normal(size=(7, 6))
    precision = 1 + (w**2).sum(0)
    loc, scale = (x - b) @ w / precision, np.tile(precision**-0.5, (7, 1))
    exact = -stats.multivariate_normal(b, np.eye(6) + w @ w.T).logpdf(x)
    return x, lambda z: z @ w.T + b, loc, scale, exact


def test_a_linear_normal_model_has_its_exact_likelihood_for_every_draw(linear):
    x, decode, loc, scale, exact = linear
    z = exchange.draws(loc, scale, 3, seed=0)
    found = scoring.negative_log_likelihood(arrays_of(z, loc, scale, decode(z)), x, "unit_normal")
    np.testing.assert_allclose(found, exact, rtol=1e-5)


def test_a_wrong_proposal_converges_to_the_exact_likelihood(linear):
    x, decode, loc, scale, exact = linear
    loc, scale = loc + 0.1, 1.3 * scale
    z = exchange.draws(loc, scale, 4000, seed=0)
    found = scoring.negative_log_likelihood(arrays_of(z, loc, scale, decode(z)), x, "unit_normal")
    np.testing.assert_allclose(found, exact, atol=0.05)


def test_a_flow_counts_by_its_determinant(linear):
    x, decode, loc, scale, exact = linear
    base = exchange.draws(2 * loc - 6, 2 * scale, 3, seed=0)
    arrays = arrays_of(base, 2 * loc - 6, 2 * scale, decode(base / 2 + 3))
    arrays |= {"z": base / 2 + 3, "log_det": np.full((3, 7), -2 * np.log(2))}
    found = scoring.negative_log_likelihood(arrays, x, "unit_normal")
    np.testing.assert_allclose(found, exact, rtol=1e-5)


def test_independent_pixels_have_the_likelihood_of_a_bernoulli():
    rng = np.random.default_rng(0)
    x, logits = rng.integers(0, 2, (5, 9)), rng.normal(0, 3, 9)
    z = exchange.draws(np.zeros((5, 2)), np.ones((5, 2)), 3, seed=0)
    arrays = arrays_of(z, np.zeros((5, 2)), np.ones((5, 2)), np.broadcast_to(logits, (3, 5, 9)))
    exact = -stats.bernoulli(1 / (1 + np.exp(-logits))).logpmf(x).sum(-1)
    found = scoring.negative_log_likelihood(arrays, x, "bernoulli")
    np.testing.assert_allclose(found, exact, rtol=1e-10)


def test_a_mixture_has_the_mean_density_of_its_components():
    rng = np.random.default_rng(0)
    z, loc, scale = rng.normal(size=(5, 2)), rng.normal(size=(3, 2)), rng.uniform(0.5, 2, (3, 2))
    densities = [stats.norm(m, s).pdf(z).prod(-1) for m, s in zip(loc, scale, strict=True)]
    found = scoring.log_mixture(z, loc, scale)
    np.testing.assert_allclose(found, np.log(np.mean(densities, 0)))


@pytest.mark.parametrize(
    ("likelihood", "message"),
    [("bernoulli", "images with other values"), ("cauchy", "likelihood='cauchy'")],
)
def test_an_unsuitable_likelihood_is_refused(likelihood, message):
    with pytest.raises(ValueError, match=message):
        scoring.negative_log_likelihood({}, np.full((2, 4), 0.5), likelihood)


# The zoo's side -----------------------------------------------------------------------------


def test_both_libraries_have_the_networks_of_the_specification():
    """784-512-40 and its mirror; what differs are pythae's bias and the context of the zoo's flow."""
    networks = 784 * 512 + 512 + 512 * 40 + 40 + 20 * 512 + 512 + 512 * 784 + 784
    own = {"vampprior": (100 * 784, 101 * 784)}
    step = 20 * 128 + 128 + 128 * 40 + 40
    own["iaf_posterior"] = (2 * (step + 32 * 128) + 512 * 32 + 32, 2 * step)
    for slug in ("vae", "vae_squared_error", "iwae", "vampprior", "iaf_posterior"):
        for i, library in enumerate(("zoo", "pythae")):
            expected = networks + own.get(slug, (0, 0))[i]
            assert parameters(ROWS[slug], 784, library) == expected
    for slug in ("wae_mmd", "aae", "vae_gan"):
        assert parameters(ROWS[slug], 784, "zoo") == parameters(ROWS[slug], 784, "pythae")


@pytest.mark.parametrize("slug", ROWS)
def test_the_zoo_builds_and_exports_each_row(slug, images):
    row = tiny(slug)
    model = train_zoo.build(row, (SIDE, SIDE, 1))
    assert not model.start_at_mean or not model.mean_starts()  # As in pythae
    count = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert count == parameters(row, SIDE * SIDE, "zoo")
    test = images[row.data]["test"][: TINY.scored]
    arrays = train_zoo.export(model, row, TINY, test)
    exchange.check_result(arrays, row, TINY, SIDE)
    if row.scored:
        x = exchange.unit(test)
        q, z = model.posterior(x[..., None]), tf.constant(arrays["z"])
        p = model.likelihood(z).log_prob(x[..., None])
        weights = p + model.prior().log_prob(z) - q.log_prob(z)
        exact = np.log(len(z)) - tf.reduce_logsumexp(weights, 0)
        flat = x.reshape(len(x), -1)
        found = scoring.negative_log_likelihood(arrays, flat, row.likelihood)
        np.testing.assert_allclose(found, exact, atol=5e-3)


def test_the_players_have_the_settings_of_their_rows():
    row = ROWS["vae_gan"]
    model = train_zoo.build(tiny("vae_gan"), (SIDE, SIDE, 1))
    rates = {p: float(train_zoo._adam(row, p).learning_rate) for p in model.players()}
    expected = {"encoder": 5e-4, "generator": 5e-4, "discriminator": 1e-4}
    assert rates == pytest.approx(expected)
    assert (model.gamma, model.equilibrium.margin) == (0.01, 0.35)


# Files --------------------------------------------------------------------------------------


def test_a_file_keeps_facts_and_arrays(tmp_path):
    exchange.write(tmp_path / "a.npz", {"seconds": 1.5}, {"samples": np.arange(3)})
    about, arrays = exchange.read(tmp_path / "a.npz")
    assert about == {"seconds": 1.5} and arrays["samples"].tolist() == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_a_damaged_or_pickled_file_is_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04")
    np.savez(tmp_path / "b.npz", about=np.array([{}], object))
    np.savez(tmp_path / "c.npz", samples=np.zeros(3))
    for name in "abc":
        with pytest.raises(ValueError, match=f"{name}.npz.*train again"):
            exchange.read(tmp_path / f"{name}.npz")


def test_unsuitable_images_are_refused(images):
    grey = images["grey"]
    exchange.check_data(grey, ROWS["aae"], TINY)
    with pytest.raises(ValueError, match=r"binary images 'train'.*different values"):
        exchange.check_data(grey, ROWS["vae"], TINY)
    with pytest.raises(ValueError, match=r"at least 5000 images 'train'.*uint8 of shape"):
        exchange.check_data(grey, ROWS["aae"], dataclasses.replace(TINY, images=5000))
    with pytest.raises(ValueError, match=r"images 'test'.*Received: none"):
        exchange.check_data({"train": grey["train"]}, ROWS["aae"], TINY)


@pytest.fixture(scope="module")
def result():
    n, k, d = TINY.scored, TINY.importance_samples, 3
    loc, scale = np.zeros((n, d), np.float32), np.ones((n, d), np.float32)
    z = exchange.draws(loc, scale, k, 0)
    arrays = arrays_of(z, loc, scale, np.zeros((k, n, SIDE * SIDE), np.float16))
    return arrays | {"samples": np.zeros((TINY.samples, SIDE, SIDE), np.uint8)}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("outputs", lambda a: a[:, :-1], r"'outputs' of shape \(4, 5, 64\).*\(4, 4, 64\)"),
        ("samples", lambda a: a / 255, "'samples'.*Received: float64"),
        ("z", lambda a: a * np.inf, "finite values of 'z'"),
        ("scale", lambda a: a * 0, "deviations 'scale' above 0.*minimum of 0"),
        ("log_det", None, "Received: none for log_det"),
    ],
)
def test_unsuitable_arrays_are_refused(name, change, message, result):
    exchange.check_result(result, tiny("vae"), TINY, SIDE)
    changed = {k: v for k, v in result.items() if k != name}
    if change:
        with np.errstate(invalid="ignore"):
            changed[name] = change(result[name])
    with pytest.raises(ValueError, match=message):
        exchange.check_result(changed, tiny("vae"), TINY, SIDE)


# The comparison -----------------------------------------------------------------------------


def fake(about, arrays, calls):
    def train(row, settings, images, output):
        calls.append((row.name, settings.seed))
        exchange.write(output, {"versions": {"numpy": np.__version__}} | about, arrays)

    return train


@pytest.fixture
def scored(tmp_path, images, result):
    """Scores a training of made-up arrays, or the given ones."""
    exchange.write(tmp_path / "binary.npz", {}, images["binary"])
    row, calls = tiny("vae"), []
    count = parameters(row, SIDE * SIDE, "pythae")
    about = {"parameters": count, "seconds": 7.0, "seconds_of_all_cores": 3.0}

    def score(settings=TINY, library="pythae", about=about, arrays=result):
        train = fake(about, arrays, calls)
        return compare.score(
            tmp_path, row, library, settings, tmp_path / "binary.npz", train, lambda _: 9.0, str
        )

    score.calls, score.folder = calls, tmp_path
    return score


def test_a_scored_training_is_not_repeated_and_leaves_no_arrays(scored):
    first = scored()
    assert first["scores"]["distance"]["value"] == 9.0
    nll = SIDE * SIDE * np.log(2)  # All logits are 0, and the posterior is the prior.
    assert first["scores"]["NLL"]["value"] == pytest.approx(nll, abs=1e-3)
    assert scored() == first and len(scored.calls) == 1
    assert not list(scored.folder.glob("pythae*.npz"))
    with pytest.raises(ValueError, match="those of other settings"):
        scored(dataclasses.replace(TINY, epochs=2))


def test_another_number_of_parameters_is_refused(scored):
    with pytest.raises(ValueError, match=r"parameters in pythae\. Received: a model of 5"):
        scored(about={"parameters": 5})


def test_the_record_keeps_failed_seeds_and_means_over_the_others(scored):
    seeds = [3, 4, 5]
    of = [dataclasses.replace(TINY, seed=seed) for seed in seeds]
    scores = [scored(of[0]), scored(of[1]), scored(of[2], about={"failed": "NaN"}, arrays={})]
    scores[1]["scores"]["distance"]["value"] = 11.0
    record = json.loads(json.dumps(compare.record_of(scores, TINY, seeds, "python -m x")))
    [row] = record["rows"]
    assert row["scores"]["distance"] == {"value": 10.0, "stderr": 1.0, "values": [9.0, 11.0]}
    assert row["failed"] == ["NaN"] and row["seconds"] == [7.0, 7.0]
    page = compare.markdown(record)
    assert "| VAE | pythae | 1,182 | 44.36 ± 0.00 (1 failed) | 10.00 ± 1.00 | 7 | 3 |" in page
    assert "- WAE: squared error" in page and "not an FID" in page and "python -m x" in page


def test_a_page_of_failures_only_has_empty_cells(scored):
    scores = [scored(about={"failed": "NaN"}, arrays={})]
    page = compare.markdown(compare.record_of(scores, TINY, [3], "python -m x"))
    assert "| VAE | pythae |  |  (1 failed) |  |  |  |" in page


def test_a_program_that_cannot_run_is_reported(tmp_path):
    peer = compare.Peer(str(tmp_path / "no_python"))
    with pytest.raises(ValueError, match=r"failed on the row 'vae'.*\n.*No such file"):
        peer(ROWS["vae"], TINY, tmp_path / "a.npz", tmp_path / "b.npz")
    peer = compare.Peer(sys.executable)  # pythae is not installed here.
    with pytest.raises(ValueError, match="No module named"):
        peer(ROWS["vae"], TINY, tmp_path / "a.npz", tmp_path / "b.npz")


@pytest.mark.filterwarnings("ignore:Even though the .tf.config.experimental_run_functions_eagerly")
def test_the_zoo_trains_a_row(images):
    row = tiny("vae")
    tf.config.run_functions_eagerly(True)
    try:
        about, arrays = train_zoo.train(row, TINY, images["binary"], jit_compile=False)
    finally:
        tf.config.run_functions_eagerly(False)
    assert about["parameters"] == parameters(row, SIDE * SIDE, "zoo")
    assert about["seconds"] > 0 and about["seconds_of_all_cores"] > 0
    exchange.check_result(arrays, row, TINY, SIDE)


def test_rows_have_slugs_of_their_own():
    assert {row.slug: row for row in ROWS.values()} == ROWS
    assert Row("VAE/GAN, conv", "VAEGAN").slug == "vae_gan_conv"
