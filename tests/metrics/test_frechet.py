"""The Fréchet distance against closed forms, SciPy's matrix root, and simulations."""

import numpy as np
import pytest
from scipy import linalg, stats

from zoo.metrics.frechet import Moments, frechet_bias, frechet_distance

METHODS = ["gram", "cholesky", "eigen"]


def sample_of(covariance, mean=0.0, n=64, seed=0):
    """Features whose sample mean and covariance are these exactly."""
    dim = len(covariance)
    noise = np.random.default_rng(seed).normal(size=(n, dim))
    orthonormal = np.linalg.qr(noise - noise.mean(0))[0]
    # QR of centred columns stays centred.
    return orthonormal @ linalg.sqrtm(covariance).real.T * np.sqrt(n - 1) + mean


def random_covariance(dim, seed):
    root = np.random.default_rng(seed).normal(size=(dim, dim))
    return root @ root.T / dim


def by_sqrtm(x, y):
    """The definition, by SciPy."""
    a, b = np.atleast_2d(np.cov(x.T)), np.atleast_2d(np.cov(y.T))
    root = linalg.sqrtm(a @ b)
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * root.real)


# Closed forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_two_dimensions_match_the_closed_form(method):
    a, b = random_covariance(2, 1), random_covariance(2, 2)
    root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a) * np.linalg.det(b)))
    expected = 3**2 + 4**2 + np.trace(a) + np.trace(b) - 2 * root
    x, y = sample_of(a, seed=1), sample_of(b, mean=[3.0, -4.0], n=40, seed=2)
    assert frechet_distance(x, y, method).value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "method, scale",
    [
        *((method, scale) for method in METHODS for scale in (1e-4, 0.999, 2.0, 1e5)),
        ("auto", 0.0),
    ],
)
def test_scaled_covariances_match_the_closed_form(method, scale):
    x = sample_of(random_covariance(7, 3))
    value = frechet_distance(x, scale * x, method).value
    trace = np.trace(np.cov(x.T))
    means = ((1 - scale) ** 2) * (x.mean(0) ** 2).sum()
    assert value == pytest.approx((1 - scale) ** 2 * trace + means, rel=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_commuting_covariances_of_a_wide_spectrum_match_the_closed_form(method):
    basis = np.linalg.qr(np.random.default_rng(4).normal(size=(20, 20)))[0]
    a, b = np.logspace(0, -9, 20), np.roll(np.logspace(-9, 0, 20), 3)
    x, y = (sample_of(basis * v @ basis.T, seed=s) for s, v in enumerate((a, b)))
    expected = ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet_distance(x, y, method).value == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_general_covariances_match_scipys_root(method):
    x, y = (sample_of(random_covariance(11, s), mean=s, seed=s) for s in (5, 6))
    assert frechet_distance(x, y, method).value == pytest.approx(by_sqrtm(x, y), rel=1e-10)


def test_one_dimension_compares_means_and_standard_deviations():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 1)), 3 + 2 * rng.gamma(2.0, size=(30, 1))
    expected = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    assert frechet_distance(x, y).value == pytest.approx(expected, rel=1e-12)


def test_the_distance_is_the_optimal_transport_between_gaussians_on_a_line():
    # Of two normals on a line: the mean squared difference of their quantiles.
    u = (np.arange(200_000) + 0.5) / 200_000
    quantiles = stats.norm(1, 2).ppf(u) - stats.norm(-0.5, 0.7).ppf(u)
    x, y = sample_of([[4.0]], 1.0), sample_of([[0.49]], -0.5)
    assert frechet_distance(x, y).value == pytest.approx((quantiles**2).mean(), rel=1e-4)


# Singular covariances -------------------------------------------------------------------------


def test_covariances_of_rank_one_match_the_closed_form():
    # C = u uᵀ and v vᵀ: the root of C₁C₂ has the one eigenvalue |u·v|.
    u, v = np.random.default_rng(0).normal(size=(2, 6))
    x, y = np.stack([u, -u]) / np.sqrt(2), np.stack([v, -v, v, -v]) * np.sqrt(3) / 2
    expected = u @ u + v @ v - 2 * abs(u @ v)
    for method in ("auto", "eigen"):
        assert frechet_distance(x, y, method).value == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(x, y).value == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("sizes", [(2, 2), (5, 12), (12, 200), (200, 12)])
def test_fewer_examples_than_features_match_the_small_product(sizes):
    rng = np.random.default_rng(1)
    x, y = (rng.normal(size=(n, 40)) * np.linspace(0.1, 2, 40) for n in sizes)
    # The root's nonzero eigenvalues are those of the small product X₁X₂ᵀX₂X₁ᵀ of centred features.
    a, b = (z - z.mean(0) for z in (x, y))
    cross = a @ b.T / np.sqrt((len(a) - 1) * (len(b) - 1))
    roots = np.sqrt(np.maximum(linalg.eigvals(cross @ cross.T).real, 0)).sum()
    spread = x.var(0, ddof=1).sum() + y.var(0, ddof=1).sum()
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + spread - 2 * roots
    auto, eigen = frechet_distance(x, y), frechet_distance(x, y, "eigen")
    assert auto.value == pytest.approx(expected, rel=1e-6)
    assert eigen.value == pytest.approx(auto.value, rel=1e-6)
    assert auto.estimator["rank_deficient"] and eigen.estimator["rank_deficient"]
    assert "gram" in auto.estimator["method"] and auto.bias is None
    moments = frechet_distance(Moments.of(x), Moments.of(y))
    assert moments.value == pytest.approx(auto.value, rel=1e-6)


def test_inactive_features_do_not_change_the_distance():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(100, 5)), rng.normal(size=(90, 5)) + 1
    dead = np.zeros((100, 3))
    result = frechet_distance(np.hstack([x, dead]), np.hstack([y, dead[:90]]))
    assert result.value == pytest.approx(frechet_distance(x, y).value, rel=1e-9)
    assert result.estimator["method"] == "eigen" and result.estimator["rank_deficient"]
    with pytest.raises(ValueError, match="full rank"):
        frechet_distance(np.hstack([x, dead]), np.hstack([y, dead[:90]]), "cholesky")


def test_a_repeated_feature_doubles_the_distance():
    # The second pivot is rounding error of either sign: Cholesky may succeed with a wrong result.
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(200, 1)), 2 * rng.normal(size=(300, 1)) + 1
    result = frechet_distance(np.hstack([x, x]), np.hstack([y, y]))
    assert result.value == pytest.approx(2 * frechet_distance(x, y).value, rel=1e-9)
    assert result.estimator["rank_deficient"]


def test_negative_eigenvalues_are_counted_as_0():
    rng = np.random.default_rng(4)
    flat = rng.normal(size=(50, 3)) @ rng.normal(size=(3, 30))
    covariance = np.cov(flat.T)
    assert np.linalg.eigvalsh(covariance)[0] < 0
    result = frechet_distance(flat, flat + 1, "eigen")
    assert result.estimator["clipped"] > 0
    assert result.value == pytest.approx(30, rel=1e-6)


@pytest.mark.parametrize("n", [2, 3, 9, 50])
@pytest.mark.parametrize("offset", [0.0, 0.3, 1e6])
def test_collapsed_sets_match_the_closed_form(n, offset):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 8)) + offset
    point = np.full((n, 8), offset + 0.1)
    expected = ((x.mean(0) - point[0]) ** 2).sum() + x.var(0, ddof=1).sum()
    assert frechet_distance(x, point).value == pytest.approx(expected, rel=1e-7)
    assert frechet_distance(point, point + 2).value == pytest.approx(8 * 4, rel=1e-9)
    assert frechet_distance(point, point).value == 0
    moments = frechet_distance(Moments.of(point), Moments.of(np.concatenate([point, point])))
    assert 0 <= moments.value <= 1e-12 * (1 + offset**2)


# Invariances ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 5, 31, 32, 33, 500])
@pytest.mark.parametrize("method", ["auto", "eigen"])
def test_a_set_has_distance_0_from_itself(n, method):
    x = np.random.default_rng(n).normal(size=(n, 32)) * np.logspace(0, -6, 32)
    result = frechet_distance(x, x, method)
    assert result.value == 0 and result.details["rounded_to_zero"]
    assert frechet_distance(x, x[::-1], method).value == pytest.approx(0, abs=1e-14)


def test_small_distances_above_rounding_are_kept():
    x = np.random.default_rng(0).normal(size=(500, 4))
    result = frechet_distance(x, x * (1 + 1e-5))
    moved = (x.mean(0) ** 2).sum() + x.var(0, ddof=1).sum()
    assert result.value == pytest.approx(1e-10 * moved, rel=1e-3)
    assert not result.details["rounded_to_zero"]


def test_the_distance_is_symmetric_and_invariant_to_shift_order_and_rotation():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(80, 6)) * 2, rng.normal(size=(60, 6)) + 0.5
    value = frechet_distance(x, y).value
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    assert frechet_distance(y, x).value == pytest.approx(value, rel=1e-12)
    assert frechet_distance(x[::-1], rng.permutation(y)).value == pytest.approx(value, rel=1e-12)
    assert frechet_distance(x @ basis + 3, y @ basis + 3).value == pytest.approx(value, rel=1e-11)
    assert frechet_distance(10 * x, 10 * y).value == pytest.approx(100 * value, rel=1e-12)


def test_a_distance_splits_into_means_and_covariances():
    x = np.random.default_rng(6).normal(size=(80, 3))
    result = frechet_distance(x, 3 * (x - x.mean(0)) + x.mean(0) + [1.0, 2.0, 2.0])
    assert result.details["between_means"] == pytest.approx(9)
    spread = x.var(0, ddof=1).sum()
    assert result.details["between_covariances"] == pytest.approx(4 * spread)
    assert result.value == pytest.approx(9 + 4 * spread)


# Moments --------------------------------------------------------------------------------------


def test_moments_match_numpy():
    x = np.random.default_rng(0).normal(size=(103, 5)).astype("float32") * [1, 2, 3, 4, 5] + 2
    moments = Moments.of(x, block=10)
    assert moments.n == 103 and moments.dim == 5
    np.testing.assert_allclose(moments.mean, x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(moments.covariance, np.cov(x.T), rtol=1e-11, atol=1e-12)


def test_moments_of_parts_add_up():
    x = np.random.default_rng(1).normal(size=(100, 4))
    parts = Moments.of(x[:13]) + Moments.of(x[13:14]) + Moments.of(x[14:])
    whole = Moments.of(x)
    assert parts.n == whole.n
    np.testing.assert_allclose(parts.sum, whole.sum, rtol=1e-12)
    np.testing.assert_allclose(parts.outer, whole.outer, rtol=1e-12, atol=1e-12)
    y = x * 2 + 1
    expected = frechet_distance(x, y).value
    for a, b in ((x, Moments.of(y)), (parts, y), (parts, Moments.of(y, block=7))):
        assert frechet_distance(a, b).value == pytest.approx(expected, rel=1e-11)


def test_features_far_from_the_origin_keep_their_precision():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 3000, 16))
    y *= np.linspace(0.5, 2, 16)
    expected = frechet_distance(x, y).value
    assert frechet_distance(x + 1e3, y + 1e3).value == pytest.approx(expected, rel=1e-11)
    # Raw sums lose 6 of 16 digits.
    far = frechet_distance(Moments.of(x + 1e3), Moments.of(y + 1e3))
    assert far.value == pytest.approx(expected, rel=1e-8)


def test_float32_features_are_summed_in_float64():
    x = (np.random.default_rng(3).normal(size=(5000, 8)) + 30).astype("float32")
    y = x[::2]
    exact = frechet_distance(x.astype("float64"), y.astype("float64")).value
    assert frechet_distance(x, y).value == pytest.approx(exact, rel=1e-9)


def test_moments_are_immutable():
    x = np.ones((3, 2))
    moments = Moments.of(x)
    with pytest.raises(ValueError, match="read-only"):
        moments.sum[0] = 5
    with pytest.raises(AttributeError):
        moments.n = 5
    total = np.ones(2)
    moments = Moments(1, total, np.ones((2, 2)))
    total[0] = 7
    assert moments.sum[0] == 1


# The bias -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "eigenvalues, n, m",
    [
        (np.ones(16), 400, 400),
        (1 / np.arange(1, 17), 300, 150),
        (np.r_[np.ones(3), np.full(9, 1e-3)], 60, 500),
    ],
)
def test_the_bias_is_the_mean_distance_of_two_sets_of_one_gaussian(eigenvalues, n, m):
    rng = np.random.default_rng(0)
    scale = np.sqrt(eigenvalues)
    values = [
        frechet_distance(*(rng.normal(size=(k, len(scale))) * scale for k in (n, m))).value
        for _ in range(300)
    ]
    expected = frechet_bias(np.diag(eigenvalues), n, m)
    stderr = np.std(values, ddof=1) / np.sqrt(len(values))
    assert stderr < 0.03 * expected
    assert np.mean(values) == pytest.approx(expected, abs=3 * stderr + 0.01 * expected)


def test_the_bias_in_one_dimension_matches_the_approximation():
    # E (m₁ - m₂)² = λ (1/n + 1/m); Var of a standard deviation is about λ / 2(n - 1).
    expected = 3 * (1 / 10 + 1 / 20) + 3 / 2 * (1 / 9 + 1 / 19)
    assert frechet_bias([[3.0]], 10, 20) == pytest.approx(expected)


def test_the_bias_depends_neither_on_the_basis_nor_on_constant_features():
    covariance = random_covariance(5, 0)
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    value = frechet_bias(covariance, 100, 50)
    assert frechet_bias(basis @ covariance @ basis.T, 100, 50) == pytest.approx(value)
    assert frechet_bias(linalg.block_diag(covariance, 0, 0), 100, 50) == pytest.approx(value)


def test_the_estimate_has_the_bias_of_the_real_covariance():
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(300, 5)), 9 * rng.normal(size=(200, 5))
    result = frechet_distance(x, y)
    assert result.bias == pytest.approx(frechet_bias(np.cov(x.T), 300, 200))
    assert (result.n_real, result.n_fake) == (300, 200)
    assert result.estimator == {
        "method": "cholesky",
        "ddof": 1,
        "dtype": "float64",
        "rank_deficient": False,
        "clipped": 0,
    }


# Refusals -------------------------------------------------------------------------------------

GOOD = np.random.default_rng(0).normal(size=(10, 3))


@pytest.mark.parametrize(
    "real, fake, message",
    [
        (GOOD, GOOD[:1], "`fake`.*at least 2"),
        (Moments.of(GOOD[:1]), GOOD, "`real`.*at least 2"),
        (GOOD, GOOD[:, :2], "3 and 2"),
        (GOOD, Moments.of(GOOD[:, :2]), "3 and 2"),
        (GOOD[0], GOOD, r"\[N, d\]"),
        ((GOOD * 9).astype("int32"), GOOD, "int32"),
        (np.where(GOOD > 1, np.nan, GOOD), GOOD, "NaN"),
        (GOOD * 1e200, GOOD, "float64"),
        (GOOD, GOOD * 1e200, "float64"),
    ],
)
def test_invalid_sets_are_refused(real, fake, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(real, fake)


def test_unknown_methods_and_gram_of_moments_are_refused():
    with pytest.raises(ValueError, match="'sqrtm'"):
        frechet_distance(GOOD, GOOD, "sqrtm")
    with pytest.raises(ValueError, match="not Moments"):
        frechet_distance(GOOD, Moments.of(GOOD), "gram")


@pytest.mark.parametrize(
    "n, total, outer, message",
    [
        (-1, np.ones(2), np.ones((2, 2)), "n = -1"),
        (3, np.ones((2, 2)), np.ones((2, 2)), "shape"),
        (3, np.ones(2), np.ones((2, 3)), "shape"),
        (3, np.array([np.nan, 0]), np.ones((2, 2)), "NaN"),
        (3, np.ones(2), np.full((2, 2), np.inf), "infinity"),
    ],
)
def test_invalid_moments_are_refused(n, total, outer, message):
    with pytest.raises(ValueError, match=message):
        Moments(n, total, outer)


def test_moments_of_other_features_and_of_too_few_examples_are_refused():
    with pytest.raises(ValueError, match="3 and 2"):
        Moments.of(GOOD) + Moments.of(GOOD[:, :2])
    with pytest.raises(ValueError, match="at least 2"):
        _ = Moments.of(GOOD[:1]).covariance
    with pytest.raises(ValueError, match="at least 1"):
        _ = Moments(0, np.zeros(2), np.zeros((2, 2))).mean


@pytest.mark.parametrize(
    "covariance, n, message", [(np.ones(3), 5, "d, d"), (np.eye(2), 1, "2 ex")]
)
def test_invalid_covariances_are_refused(covariance, n, message):
    with pytest.raises(ValueError, match=message):
        frechet_bias(covariance, n, 5)
