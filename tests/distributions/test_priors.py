"""Fixed priors: densities and draws against SciPy."""

import numpy as np
import pytest
import scipy.special
import scipy.stats

import zoo


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        (zoo.StandardNormal(3), scipy.stats.norm(0, 1)),
        (zoo.IsotropicNormal(3, scale=5.0), scipy.stats.norm(0, 5)),
        (zoo.Uniform(3), scipy.stats.uniform(-1, 2)),
        (zoo.Uniform(3, low=0.5, high=4.0), scipy.stats.uniform(0.5, 3.5)),
    ],
)
def test_priors_of_independent_values_match_scipys_density_and_draws(prior, expected):
    z = expected.rvs((5, 3), random_state=0).astype(np.float32)
    np.testing.assert_allclose(prior().log_prob(z), expected.logpdf(z).sum(-1), rtol=1e-5)
    samples = prior().sample(3000, seed=[1, 1]).numpy()
    assert samples.shape == (3000, 3)
    assert scipy.stats.kstest(samples.ravel(), expected.cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(samples.T) - np.eye(3)).max() < 0.08


@pytest.mark.parametrize(("dim", "radius"), [(2, None), (3, 1.0), (5, 2.5)])
def test_draws_on_a_sphere_have_its_radius_and_uniform_directions(dim, radius):
    p = zoo.UniformOnSphere(dim, radius)()
    z = p.sample(20_000, seed=(1, 2)).numpy()
    radius = np.sqrt(dim) if radius is None else radius
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), radius, rtol=1e-5)
    # (coordinate / radius)^2 has the distribution Beta(1/2, (D - 1) / 2).
    for column in z.T:
        share = scipy.stats.beta(0.5, (dim - 1) / 2)
        assert scipy.stats.kstest(column**2 / radius**2, share.cdf).pvalue > 1e-4
        assert abs((column > 0).mean() - 0.5) < 4 * 0.5 / np.sqrt(len(z))


def test_the_density_on_a_sphere_is_one_over_its_area():
    for dim, area in ((2, lambda r: 2 * np.pi * r), (3, lambda r: 4 * np.pi * r**2)):
        for radius in (0.5, 1.0, 3.0):
            p = zoo.UniformOnSphere(dim, radius)()
            z = p.sample([4, 5], seed=(1, 2))
            np.testing.assert_allclose(
                p.log_prob(z), np.full([4, 5], -np.log(area(radius))), rtol=1e-5
            )
    density = zoo.UniformOnSphere(7, 1.0)().log_prob(np.eye(7, dtype=np.float32))
    np.testing.assert_allclose(density, np.full(7, -np.log(16 * np.pi**3 / 15)), rtol=1e-5)


def test_invalid_spheres_raise():
    for arguments in ({"dim": 1}, {"dim": 3, "radius": 0.0}):
        with pytest.raises(ValueError, match="Received: "):
            zoo.UniformOnSphere(**arguments)


@pytest.mark.parametrize("prior", [zoo.NormalPetals(), zoo.SwissRoll(), zoo.Uniform(4)])
def test_draws_of_priors_depend_on_the_seed(prior):
    def draw(seed):
        return prior().sample(4, seed=seed).numpy()

    np.testing.assert_array_equal(draw([1, 2]), draw([1, 2]))
    assert np.abs(draw([1, 2]) - draw([1, 3])).max() > 1e-3
