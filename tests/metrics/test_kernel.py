"""Mean discrepancies against closed forms, whole matrices, and the spread of repeated draws."""

import numpy as np
import pytest
from scipy import integrate
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

from zoo.metrics import kernel
from zoo.metrics.kernel import kernel_distance, maximum_mean_discrepancy


def unbiased(xx, yy, xy):
    """The U-statistic from whole matrices of the kernel."""
    n, m = xy.shape
    return (
        (xx.sum() - np.trace(xx)) / (n * (n - 1))
        + (yy.sum() - np.trace(yy)) / (m * (m - 1))
        - 2 * xy.mean()
    )


def cubic_distance(x, y):
    def k(a, b):
        return polynomial_kernel(a, b, degree=3, gamma=1 / a.shape[1], coef0=1)

    return unbiased(k(x, x), k(y, y), k(x, y))


@pytest.fixture
def sets():
    rng = np.random.default_rng(0)
    return rng.normal(size=(57, 5)), rng.normal(size=(41, 5)) * 1.3 + 0.2


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(kernel, "_TILE", 13)


# Values ---------------------------------------------------------------------------------------


def test_the_kernel_distance_matches_whole_matrices(sets, small_tiles):
    x, y = sets
    assert kernel_distance(x, y).value == pytest.approx(cubic_distance(x, y), rel=1e-12)
    assert kernel_distance(y, x).value == pytest.approx(cubic_distance(x, y), rel=1e-12)


def test_the_kernel_distance_matches_a_hand_computed_example():
    # Kernel (xy + 1)³: k(0, 1) = 1; of the others k(1, 2) = 27, k(1, 0) = k(2, 0) = 1; across 1, 1,
    # 1 from 0, and 8, 27, 1 from 1.
    value = kernel_distance(np.float64([[0], [1]]), np.float64([[1], [2], [0]])).value
    assert value == pytest.approx(1 + 29 / 3 - 2 * 39 / 6)


@pytest.mark.parametrize("name", ["rbf", "imq"])
def test_mmd_matches_whole_matrices(sets, small_tiles, name):
    x, y = sets

    def k(a, b):
        if name == "rbf":
            return rbf_kernel(a, b, gamma=1 / (2 * 1.7**2))
        squared = ((a[:, None] - b) ** 2).sum(-1)
        constants = [2 * 1.7**2 * s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10)]
        return sum(c / (c + squared) for c in constants)

    matrices = k(x, x), k(y, y), k(x, y)
    full = maximum_mean_discrepancy(x, y, name, bandwidth=1.7)
    assert full.value == pytest.approx(unbiased(*matrices), rel=1e-10)
    assert full.bias == 0
    biased = maximum_mean_discrepancy(x, y, name, bandwidth=1.7, unbiased=False)
    xx, yy, xy = (matrix.mean() for matrix in matrices)
    assert biased.value == pytest.approx(xx + yy - 2 * xy, rel=1e-10)


@pytest.mark.parametrize("name", ["rbf", "imq"])
def test_the_biased_estimate_of_a_set_against_itself_is_0_with_its_bias(name):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(30, 2))
    itself = maximum_mean_discrepancy(x, x, name, unbiased=False)
    assert itself.value == pytest.approx(0, abs=1e-14)
    pairs = rng.normal(size=(300, 2, 30, 2))
    estimates = [maximum_mean_discrepancy(x, y, name, unbiased=False) for x, y in pairs]
    values, biases = (np.array([getattr(e, key) for e in estimates]) for key in ("value", "bias"))
    difference = values - biases
    assert values.mean() > 10 * values.std() / np.sqrt(300)
    assert abs(difference.mean()) < 3 * difference.std() / np.sqrt(300)


def test_mmd_does_not_depend_on_a_common_shift():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 40, 3)) * [[[1.0]], [[2.0]]]
    near, far = maximum_mean_discrepancy(x, y), maximum_mean_discrepancy(x + 1e6, y + 1e6)
    assert far.value == pytest.approx(near.value, rel=1e-7)
    assert near.estimator["bandwidth"] == pytest.approx(np.sqrt(3))


# Closed forms ---------------------------------------------------------------------------------

REPEATS = 200


def spread(distance, draw):
    """Values and standard errors over repeated draws."""
    estimates = [distance(*draw(np.random.default_rng(seed))) for seed in range(REPEATS)]
    return (np.array([getattr(e, key) for e in estimates]) for key in ("value", "stderr"))


def check_mean(values, expected):
    stderr = values.std(ddof=1) / np.sqrt(len(values))
    assert values.mean() == pytest.approx(expected, abs=3.5 * stderr)


def kernel_distance_of_scales(a, b, dim):
    return 3 * (a - b) ** 2 / dim


def kernel_distance_of_a_shift(mean, a):
    dim, square = len(mean), np.dot(mean, mean)
    cubes = square**3 + 6 * a * square**2 + 3 * a**2 * (dim + 2) * square
    return 3 * square / dim + 3 * square**2 / dim**2 + cubes / dim**3


def test_the_closed_form_of_a_shift_has_a_known_value():
    assert kernel_distance_of_a_shift(np.full(16, 0.5), 1) == 1.029296875


@pytest.mark.parametrize("n, m", [(60, 60), (40, 130)])
def test_the_kernel_distance_of_gaussians_of_other_scale_matches_the_closed_form(n, m):
    values, _ = spread(
        kernel_distance,
        lambda rng: (rng.normal(size=(n, 4)), rng.normal(size=(m, 4)) * np.sqrt(2)),
    )
    check_mean(values, kernel_distance_of_scales(1, 2, 4))


@pytest.mark.parametrize("n, m", [(100, 100), (40, 150)])
def test_the_kernel_distance_of_gaussians_of_other_mean_matches_the_closed_form(n, m):
    mean = np.full(16, 0.5)
    values, stderrs = spread(
        kernel_distance, lambda rng: (rng.normal(size=(n, 16)) + mean, rng.normal(size=(m, 16)))
    )
    check_mean(values, kernel_distance_of_a_shift(mean, 1))
    assert np.mean(stderrs**2) == pytest.approx(values.var(ddof=1), rel=0.3)


def mmd_of_gaussians(square, mean, scale):
    """The RBF's, for N(0, I) and N(mean, scale² I), with the squared bandwidth."""
    dim, variance = len(mean), scale**2
    return (
        (square / (square + 2)) ** (dim / 2)
        + (square / (square + 2 * variance)) ** (dim / 2)
        - 2
        * (square / (square + 1 + variance)) ** (dim / 2)
        * np.exp(-np.dot(mean, mean) / 2 / (square + 1 + variance))
    )


def mmd_of_gaussians_imq(square, mean, scale):
    # C / (C + r²) is the integral over t of exp(-t) exp(-t r² / C): RBFs of l² = C / 2t.
    def one(c):
        integrand = lambda t: np.exp(-t) * mmd_of_gaussians(c / (2 * t), mean, scale)  # noqa: E731
        return integrate.quad(integrand, 0, np.inf)[0]

    return sum(one(2 * square * s) for s in (0.1, 0.2, 0.5, 1, 2, 5, 10))


@pytest.mark.parametrize("name", ["rbf", "imq"])
@pytest.mark.parametrize("n, m", [(80, 80), (150, 40)])
def test_mmd_of_gaussians_matches_the_closed_form(name, n, m):
    mean, scale = np.array([0.6, -0.2, 0.0]), 0.7
    values, stderrs = spread(
        lambda x, y: maximum_mean_discrepancy(x, y, name),
        lambda rng: (rng.normal(size=(n, 3)) * scale + mean, rng.normal(size=(m, 3))),
    )
    closed_form = mmd_of_gaussians if name == "rbf" else mmd_of_gaussians_imq
    check_mean(values, closed_form(3, mean, scale))
    assert np.mean(stderrs**2) == pytest.approx(values.var(ddof=1), rel=0.3)


# Standard errors ------------------------------------------------------------------------------


def by_definition(xx, yy, xy):
    """The variance's terms, from doubly centred matrices and least squares by NumPy."""
    n, m = xy.shape

    def within(matrix):
        size = len(matrix)
        i, j = np.triu_indices(size, 1)
        design = np.zeros((len(i), size + 1))
        design[:, 0] = design[np.arange(len(i)), i + 1] = design[np.arange(len(i)), j + 1] = 1
        fit = np.linalg.lstsq(design, matrix[i, j], rcond=None)[0]
        rest = ((matrix[i, j] - design @ fit) ** 2).sum() / (len(i) - size)
        return fit[1:], rest

    (gx, rx), (gy, ry) = within(xx), within(yy)
    centred = xy - xy.mean(0) - xy.mean(1)[:, None] + xy.mean()
    r = (centred**2).sum() / ((n - 1) * (m - 1))
    g = np.var(gx - xy.mean(1), ddof=1) - rx / (n - 2) - r / m
    h = np.var(gy - xy.mean(0), ddof=1) - ry / (m - 2) - r / n
    return (
        4 * max(g, 0) / n
        + 4 * max(h, 0) / m
        + 2 * rx / (n * (n - 1))
        + 2 * ry / (m * (m - 1))
        + 4 * r / (n * m)
    )


def test_the_standard_error_matches_its_definition(sets, small_tiles):
    x, y = sets
    k = [rbf_kernel(a, b, gamma=0.1) for a, b in ((x, x), (y, y), (x, y))]
    result = maximum_mean_discrepancy(x, y, bandwidth=np.sqrt(5))
    assert result.stderr == pytest.approx(np.sqrt(by_definition(*k)), rel=1e-9)


@pytest.mark.parametrize("distance", [kernel_distance, maximum_mean_discrepancy])
def test_the_standard_error_of_equal_distributions_is_nearly_the_spread(distance):
    # The first-order term is 0; the standard error consists of the second-order term.
    values, stderrs = spread(
        distance, lambda rng: (rng.normal(size=(60, 16)), rng.normal(size=(90, 16)))
    )
    check_mean(values, 0)
    assert (values < 0).any()
    assert 0.75 < np.mean(stderrs**2) / values.var(ddof=1) < 1.8


def test_few_examples_have_a_value_and_no_standard_error():
    x = np.random.default_rng(0).normal(size=(9, 2))
    assert kernel_distance(x[:2], x[2:5]).stderr is None
    assert kernel_distance(x[:2], x[2:5]).value == pytest.approx(cubic_distance(x[:2], x[2:5]))
    assert kernel_distance(x[:4], x[4:8]).stderr > 0


def test_the_unbiased_estimate_of_a_set_against_itself_is_negative(sets):
    x, _ = sets
    matrix = polynomial_kernel(x, degree=3, gamma=1 / 5, coef0=1)
    others = (matrix.sum() - np.trace(matrix)) / (57 * 56)
    expected = 2 * (others - np.trace(matrix) / 57) / 57
    assert kernel_distance(x, x).value == pytest.approx(expected, rel=1e-10)
    assert expected < 0


def test_constant_sets_match_the_kernel_values():
    x, y = np.full((10, 3), 1.0), np.full((12, 3), 2.0)
    result = kernel_distance(x, y)
    # k(x, x) = 2³, k(y, y) = 5³, k(x, y) = 3³.
    assert result.value == pytest.approx(8 + 125 - 54)
    assert result.stderr == pytest.approx(0, abs=1e-5)
    assert kernel_distance(x, x).value == 0


# Subsets and blocks ---------------------------------------------------------------------------


def test_a_subset_of_all_examples_gives_the_full_estimate(sets):
    x, y = sets
    n = len(y)
    full, subsets = (
        kernel_distance(x[:n], y, e, subset_size=n, num_subsets=3) for e in ("full", "subsets")
    )
    assert subsets.value == pytest.approx(full.value, rel=1e-12)
    assert subsets.details["std_over_subsets"] == pytest.approx(0, abs=1e-12)
    assert subsets.stderr is None


def test_subsets_are_drawn_without_replacement_and_averaged(sets):
    x, y = sets
    result = kernel_distance(x, y, "subsets", subset_size=8, num_subsets=2000)
    full = kernel_distance(x, y).value
    # The mean over all subsets is the U-statistic of all; points drawn twice would change it.
    tolerance = 3.5 * result.details["std_over_subsets"] / np.sqrt(2000)
    assert tolerance < abs(full) and result.value == pytest.approx(full, abs=tolerance)


def test_one_block_gives_the_full_estimate(sets):
    x, y = sets
    result = kernel_distance(x, y, "blocks", block_size=57)
    assert result.value == pytest.approx(cubic_distance(x, y), rel=1e-12)
    assert result.stderr is None and result.estimator["num_blocks"] == 1


def test_blocks_are_disjoint_and_complete(sets, monkeypatch):
    calls = []

    def fake_discrepancy(x, y, _):
        calls.append((x, y))
        return kernel._Discrepancy(float(len(calls)), None, 0.0, 0.0)

    monkeypatch.setattr(kernel, "_discrepancy", fake_discrepancy)
    x, y = sets
    result = kernel_distance(x, y, "blocks", block_size=20)
    assert len(calls) == 3
    for which, whole in enumerate((x, y)):
        parts = [part[which] for part in calls]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        together = np.concatenate(parts)
        assert not np.array_equal(together, whole)
        np.testing.assert_array_equal(np.sort(together, 0), np.sort(whole, 0))
    assert result.value == 2 and result.stderr == pytest.approx(1 / np.sqrt(3))


def test_the_standard_error_over_blocks_is_the_spread_of_draws():
    values, stderrs = spread(
        lambda x, y: kernel_distance(x, y, "blocks", block_size=25),
        lambda rng: (rng.normal(size=(200, 3)) + 0.4, rng.normal(size=(160, 3))),
    )
    check_mean(values, kernel_distance_of_a_shift(np.full(3, 0.4), 1))
    assert np.mean(stderrs**2) == pytest.approx(values.var(ddof=1), rel=0.35)


@pytest.mark.parametrize("estimator", ["subsets", "blocks"])
def test_subsets_and_blocks_depend_on_the_seed(sets, estimator):
    settings = {"subset_size": 9, "num_subsets": 4, "block_size": 20}
    a, b, c = (kernel_distance(*sets, estimator, seed=s, **settings).value for s in (1, 1, 2))
    assert a == b != c


def test_all_pairs_do_not_depend_on_order_or_seed(sets):
    x, y = sets
    value = kernel_distance(x, y).value
    assert kernel_distance(x[::-1], y[::-1], seed=5).value == pytest.approx(value, rel=1e-12)


def test_float32_features_are_computed_in_float64(sets):
    x, y = (s.astype("float32") for s in sets)
    exact = cubic_distance(x.astype("float64"), y.astype("float64"))
    assert kernel_distance(x, y).value == pytest.approx(exact, rel=1e-12)


# Refusals -------------------------------------------------------------------------------------

GOOD = np.random.default_rng(0).normal(size=(10, 3))


@pytest.mark.parametrize("distance", [kernel_distance, maximum_mean_discrepancy])
@pytest.mark.parametrize(
    "x, y, message",
    [
        (GOOD, GOOD[:1], "at least 2"),
        (GOOD, GOOD[:, :2], "same features"),
        (GOOD.astype("int32"), GOOD, "int32"),
        (GOOD, np.where(GOOD > 1, np.nan, GOOD), "NaN"),
    ],
)
def test_invalid_sets_are_refused(distance, x, y, message):
    with pytest.raises(ValueError, match=message):
        distance(x, y)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"estimator": "half"}, "'half'"),
        ({"estimator": "subsets", "subset_size": 11}, "at most the number of examples, 10"),
        ({"estimator": "subsets", "subset_size": 1}, "at least 2"),
        ({"estimator": "subsets", "subset_size": 5, "num_subsets": 0}, "at least 1"),
        ({"estimator": "blocks", "block_size": 1}, "at least 2"),
        ({"estimator": "blocks", "block_size": 0}, "at least 2"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        kernel_distance(GOOD, GOOD, **settings)


def test_sets_that_are_too_small_for_the_blocks_are_refused():
    with pytest.raises(ValueError, match="2 blocks, of 10 and 3"):
        kernel_distance(GOOD, GOOD[:3], "blocks", block_size=5)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("scale", [1e100, 1e30])
def test_features_whose_cubes_overflow_are_refused(scale):
    with pytest.raises(ValueError, match="float64"):
        kernel_distance(GOOD * scale, GOOD)


@pytest.mark.parametrize(
    "kernel_name, bandwidth", [("cubic", None), ("rbf", 0), ("imq", np.nan), ("rbf", np.inf)]
)
def test_invalid_kernels_and_bandwidths_are_refused(kernel_name, bandwidth):
    with pytest.raises(ValueError, match="Received"):
        maximum_mean_discrepancy(GOOD, GOOD, kernel_name, bandwidth)
