"""PSNR, SSIM and MS-SSIM against closed forms and against the same windows applied by SciPy."""

import numpy as np
import pytest
from scipy import ndimage

from zoo.metrics import similarity
from zoo.metrics.similarity import diversity, ms_ssim, psnr, ssim

RANDOM = np.random.default_rng(0)
SMOOTH = ndimage.gaussian_filter(RANDOM.random((6, 44, 46, 3)), (0, 2, 2, 0))
SMOOTH = (SMOOTH - SMOOTH.min()) / np.ptp(SMOOTH)
NOISY = np.clip(SMOOTH + 0.1 * RANDOM.normal(size=SMOOTH.shape), 0, 1)


def structure(x, y):
    """SSIM and its part without brightness, of one channel, by the formulas of Wang et al."""
    weights = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    weights /= weights.sum()

    def mean(image):
        for axis in (0, 1):
            image = ndimage.correlate1d(image, weights, axis)
        return image[5:-5, 5:-5]

    covariance = mean(x * y) - mean(x) * mean(y)
    variances = mean(x**2) - mean(x) ** 2 + mean(y**2) - mean(y) ** 2
    contrast = (2 * covariance + 0.03**2) / (variances + 0.03**2)
    brightness = (2 * mean(x) * mean(y) + 0.01**2) / (mean(x) ** 2 + mean(y) ** 2 + 0.01**2)
    return (brightness * contrast).mean(), contrast.mean()


def by_channel(measure, a, b):
    return np.array(
        [
            np.mean([measure(x[..., c], y[..., c]) for c in range(x.shape[-1])])
            for x, y in zip(a, b, strict=True)
        ]
    )


def assert_is_mean_of(estimate, values, rel):
    assert float(estimate) == pytest.approx(np.mean(values), rel=rel)
    assert estimate.stderr == pytest.approx(np.std(values, ddof=1) / np.sqrt(len(values)), rel=1e-3)


# PSNR --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_value, delta", [(1.0, 0.1), (1.0, 1.0), (255.0, 3.0)])
def test_psnr_of_a_constant_offset_matches_the_closed_form(max_value, delta):
    dark = np.zeros((3, 5, 4, 2))
    score = psnr(dark, dark + delta, max_value)
    assert float(score) == pytest.approx(20 * np.log10(max_value / delta), abs=1e-12)
    assert score.stderr == pytest.approx(0, abs=1e-12)
    assert (score.n_real, score.n_fake) == (3, 3)


def test_psnr_averages_different_pairs_and_counts_identical_pairs():
    a = np.zeros((4, 2, 2, 1))
    b = a + np.array([0.1, 0, 0.01, 0]).reshape(4, 1, 1, 1)
    score = psnr(a, b)
    assert float(score) == pytest.approx((20 + 40) / 2)
    assert score.stderr == pytest.approx(10)
    assert score.details == {"num_identical": 2}


def test_psnr_of_identical_images_only_is_infinite():
    score = psnr(SMOOTH, SMOOTH)
    assert (float(score), score.stderr) == (np.inf, None)
    assert score.details == {"num_identical": 6}


def test_psnr_detects_differences_in_the_last_digit_of_float32():
    a = np.full((1, 1, 1, 1), 0.5, np.float32)
    b = np.nextafter(a, np.float32(1))
    assert float(psnr(a, b)) == pytest.approx(20 * np.log10(2**24), abs=1e-6)


# SSIM --------------------------------------------------------------------------------------------


def test_ssim_of_flat_images_compares_only_brightness():
    """Without structure brightness remains: (2 x 0.5 x 0.6 + 0.01²) / (0.5² + 0.6² + 0.01²)."""
    flat = np.full((2, 11, 12, 1), 0.5)
    assert float(ssim(flat, flat + 0.1)) == pytest.approx(0.6001 / 0.6101, abs=5e-4)


def test_ssim_matches_the_formulas():
    values = by_channel(lambda x, y: structure(x, y)[0], SMOOTH, NOISY)
    assert values.min() > 0.3 and values.max() < 0.9
    assert_is_mean_of(ssim(SMOOTH, NOISY), values, rel=1e-5)


def test_ssim_of_a_negative_is_negative_and_of_identical_images_one():
    assert float(ssim(NOISY, 1 - NOISY)) < -0.2
    assert float(ssim(NOISY, NOISY)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("measure", [psnr, ssim, lambda a, b: ms_ssim(a, b, 2)])
def test_the_block_size_does_not_change_the_result(measure, monkeypatch):
    whole = measure(SMOOTH, NOISY)
    for values_at_a_time in (1, 4 * SMOOTH[0].size):
        monkeypatch.setattr(similarity, "_VALUES_AT_A_TIME", values_at_a_time)
        parts = measure(SMOOTH, NOISY)
        assert float(parts) == pytest.approx(float(whole), rel=1e-6)
        assert parts.stderr == pytest.approx(whole.stderr, rel=1e-4)


# MS-SSIM -----------------------------------------------------------------------------------------


def test_one_scale_is_ssim():
    one, plain = ms_ssim(SMOOTH, NOISY, 1), ssim(SMOOTH, NOISY)
    assert float(one) == pytest.approx(float(plain), rel=1e-6)
    assert one.estimator["powers"] == [1.0]


def halved(x):
    return (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4


def test_two_scales_match_the_formulas():
    """Powers 0.0448 and 0.2856 over their sum; structure of the images, SSIM of their halves."""
    first = 0.0448 / (0.0448 + 0.2856)

    def measure(x, y):
        return structure(x, y)[1] ** first * structure(halved(x), halved(y))[0] ** (1 - first)

    score = ms_ssim(SMOOTH, NOISY, 2)
    assert_is_mean_of(score, by_channel(measure, SMOOTH, NOISY), rel=1e-5)
    assert score.estimator["scales"] == 2
    np.testing.assert_allclose(score.estimator["powers"], [first, 1 - first])


def test_five_scales_of_flat_images_have_brightness_to_the_last_power():
    flat = np.full((1, 176, 180, 1), 0.5)
    score = ms_ssim(flat, flat + 0.1)
    assert float(score) == pytest.approx((0.6001 / 0.6101) ** (0.1333 / 1.0001), abs=5e-4)
    assert (score.estimator["scales"], score.stderr) == (5, None)


def test_ms_ssim_of_identical_images_is_one():
    assert float(ms_ssim(NOISY, NOISY, 3)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("side, fitting", [(11, 1), (21, 1), (22, 2), (28, 2), (64, 3), (175, 4)])
def test_the_error_of_too_many_scales_contains_the_largest_number(side, fitting):
    images = np.zeros((1, side, side + 9, 1))
    assert float(ms_ssim(images, images, fitting)) == 1
    for scales, received in ((fitting + 1, fitting + 1), (0, 0), (None, 5)):
        with pytest.raises(ValueError, match=f"from 1 to {fitting}.*scales={received}"):
            ms_ssim(images, images, scales)


# Diversity ---------------------------------------------------------------------------------------


def test_diversity_of_copies_is_one():
    score = diversity(np.repeat(SMOOTH[:1], 10, axis=0), num_pairs=5)
    assert float(score) == pytest.approx(1, abs=1e-6)
    assert score.stderr == pytest.approx(0, abs=1e-6)


def test_diversity_is_the_mean_over_random_pairs_without_a_common_image():
    """Six images make 15 pairs, each of which can be drawn; any three pairs have no image twice."""
    images = (SMOOTH[:, 5:19, 5:19, :1] + 2 * SMOOTH[:1, 5:19, 5:19, 1:2]) / 3
    pairs = {
        (i, j): float(ms_ssim(images[[i]], images[[j]], 1)) for i in range(6) for j in range(i)
    }
    assert len(set(pairs.values())) == 15
    seen = [float(diversity(images, 1, seed=seed)) for seed in range(60)]
    found = {pair for pair, value in pairs.items() if np.isclose(seen, value, rtol=1e-5).any()}
    assert len(found) >= 13
    assert all(np.isclose(list(pairs.values()), value, rtol=1e-5).any() for value in seen)
    three = diversity(images, 3)
    matchings = [
        [p, q, r]
        for p in pairs
        for q in pairs
        for r in pairs
        if p < q < r and len({*p, *q, *r}) == 6
    ]
    means = [np.mean([pairs[p] for p in matching]) for matching in matchings]
    best = matchings[int(np.argmin(np.abs(np.array(means) - float(three))))]
    assert len(matchings) == 15
    assert_is_mean_of(three, [pairs[p] for p in best], rel=1e-5)


def test_diversity_of_collapsed_images_is_higher():
    varied = RANDOM.random((40, 24, 24, 1))
    alike = np.clip(varied[:1] + 0.05 * (varied - 0.5), 0, 1)
    low, high = diversity(varied, 20), diversity(alike, 20)
    assert float(low) < 0.1 and float(high) > 0.9
    assert low.estimator["scales"] == 2 and diversity(varied, 20, 1).estimator["scales"] == 1
    assert (low.n_real, low.n_fake, low.estimator["num_pairs"]) == (None, 40, 20)


def test_pairs_depend_on_the_seed():
    a, b, c = (diversity(NOISY, 2, 1, seed=seed) for seed in (0, 0, 1))
    assert float(a) == float(b) != float(c)


# Refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", [psnr, ssim, ms_ssim])
@pytest.mark.parametrize(
    "b, message",
    [
        (NOISY[0], r"`b` must be float images in \[0, 1\].*shape \(44, 46, 3\)"),
        (NOISY[:0], r"shape \(0, 44, 46, 3\)"),
        (np.zeros(NOISY.shape, np.uint8), "uint8; divide 8-bit images by 255"),
        (NOISY + 1, "values from 1"),
        (NOISY - 0.5, "values from -0.5"),
        (np.where(NOISY > 0.5, np.nan, NOISY), "values from nan"),
        (NOISY[:, :22], r"same shape.*\(6, 44, 46, 3\) and \(6, 22, 46, 3\)"),
        (NOISY[:1], "same shape"),
    ],
)
def test_invalid_or_different_images_are_refused(measure, b, message):
    with pytest.raises(ValueError, match=message):
        measure(SMOOTH, b)


def test_images_smaller_than_the_window_are_refused(digits):
    for measure in (ssim, ms_ssim, lambda a, b: diversity(a)):
        with pytest.raises(ValueError, match=r"at least 11 x 11.*\(8, 8, 1\)"):
            measure(digits, digits)


@pytest.mark.parametrize("num_pairs", [0, 4])
def test_invalid_numbers_of_pairs_are_refused(num_pairs):
    with pytest.raises(ValueError, match=f"from 1 to 3 for 6 images.*num_pairs={num_pairs}"):
        diversity(SMOOTH, num_pairs)
    with pytest.raises(ValueError, match=r"`images` must be float images"):
        diversity(SMOOTH[0])


@pytest.mark.parametrize("max_value", [0, -1, np.nan])
def test_max_value_must_be_positive(max_value):
    with pytest.raises(ValueError, match="must be positive"):
        psnr(SMOOTH, NOISY, max_value)
