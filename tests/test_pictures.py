"""Pictures: the exact pixels of grids, and the contents of charts."""

import keras
import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image
from sklearn.decomposition import PCA

import zoo
from zoo import pictures, resizing

TILE = 48  # 8 pixels, six times as large
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.random((25, 8, 8, 1), np.float32)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return zoo.models.vae((8, 8, 1), latent_dim=2, hidden=(16,))


def read(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.mode == "RGB" or image.mode == "RGBA"
        return np.asarray(image.convert("RGB"))


def shown(images):
    """The expected tiles of a picture."""
    pixels = np.round(np.clip(np.asarray(images), 0, 1) * 255).astype(np.uint8)
    return np.kron(pixels, np.ones((1, 6, 6, 3 // pixels.shape[-1]), np.uint8))


def close(picture, images):
    """Equality up to one level: networks round differently for batches of different sizes."""
    return np.abs(picture.astype(int) - shown(images)[0].astype(int)).max() <= 1


# Grids ------------------------------------------------------------------------------------------


def test_grid_has_the_exact_pixels():
    images = np.array([0.0, 0.2, 1.0], np.float32).reshape(3, 1, 1, 1) * np.ones((3, 24, 1, 1))
    expected = np.full((2 * 48 + 1, 2 * 2 + 1, 3), 255, np.uint8)
    expected[:48, :2] = 0
    expected[:48, 3:] = 51
    # The third image and the empty place are white.
    np.testing.assert_array_equal(pictures.grid(images, columns=2, padding=1), expected)


def test_grid_fills_row_by_row():
    picture = pictures.grid(IMAGES[:6], columns=3, padding=2)
    assert picture.shape == (2 * TILE + 2, 3 * TILE + 4, 3)
    for k, tile in enumerate(shown(IMAGES[:6])):
        top, left = k // 3 * (TILE + 2), k % 3 * (TILE + 2)
        np.testing.assert_array_equal(picture[top : top + TILE, left : left + TILE], tile)
    assert (picture[TILE : TILE + 2] == 255).all()
    assert (picture[:, TILE : TILE + 2] == 255).all()


@pytest.mark.parametrize("side, tile", [(8, 48), (28, 56), (32, 64), (48, 48), (64, 64), (1, 48)])
def test_grid_enlarges_by_integer_factors(side, tile):
    assert pictures.grid(np.zeros((1, side, side, 1))).shape == (tile, tile, 3)


@pytest.mark.parametrize("n, columns", [(1, 1), (2, 2), (4, 2), (5, 3), (10, 4)])
def test_the_default_grid_is_nearly_square(n, columns):
    assert pictures.grid(np.zeros((n, 48, 48, 1)), padding=0).shape[1] == columns * 48


def test_grid_keeps_colours_and_repeats_a_single_channel():
    colour = np.array([1.0, 0.0, 0.4]) * np.ones((1, 48, 48, 3))
    assert (pictures.grid(colour) == [255, 0, 102]).all()
    assert (pictures.grid(np.full((1, 48, 48, 1), 0.4)) == [102, 102, 102]).all()


@pytest.mark.parametrize(
    "images, received",
    [
        (np.zeros((8, 8, 1)), r"shape \(8, 8, 1\)"),
        (np.zeros((2, 8, 8, 0)), r"shape \(2, 8, 8, 0\)"),
        (np.zeros((0, 8, 8, 1)), r"shape \(0, 8, 8, 1\)"),
        (np.zeros((2, 8, 8, 1), np.uint8), "uint8"),
        (np.full((2, 8, 8, 1), 1.5), "from 1.5 to 1.5"),
        (np.full((2, 8, 8, 1), -0.5), "from -0.5 to -0.5"),
        (np.full((2, 8, 8, 1), np.nan), "from nan to nan"),
    ],
)
def test_grid_refuses_invalid_images(images, received):
    with pytest.raises(ValueError, match=rf"Expected float images in \[0, 1\].*{received}"):
        pictures.grid(images)


@pytest.mark.parametrize("arguments", [{"columns": 0}, {"padding": -1}])
def test_grid_refuses_impossible_layouts(arguments):
    with pytest.raises(ValueError, match=r"`(columns|padding)` must be at least (1|0)\. Received"):
        pictures.grid(IMAGES, **arguments)


# Files ------------------------------------------------------------------------------------------


def test_save_writes_the_exact_pixels_and_no_other_file(tmp_path):
    path = tmp_path / "new" / "picture.png"
    for _ in range(2):  # the second call replaces an older file
        array = RANDOM.integers(0, 256, (5, 7, 3), np.uint8)
        pictures.save(path, array)
        np.testing.assert_array_equal(read(path), array)
    assert [p.name for p in path.parent.iterdir()] == ["picture.png"]


def test_a_failed_save_keeps_the_older_picture(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    older = np.zeros((2, 2, 3), np.uint8)
    pictures.save(path, older)

    def write_half(self, file, **kwargs):
        file.write(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", write_half)
    with pytest.raises(OSError, match="disk full"):
        pictures.save(path, older + 1)
    monkeypatch.undo()
    np.testing.assert_array_equal(read(path), older)
    assert list(tmp_path.iterdir()) == [path]


def test_arrays_are_written_atomically(tmp_path, monkeypatch):
    path = tmp_path / "drawn.NPY"
    pictures.write_images(IMAGES, path)
    np.testing.assert_array_equal(np.load(path), IMAGES)

    def write_half(file, *args, **kwargs):
        file.write(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(np, "save", write_half)
    with pytest.raises(OSError, match="disk full"):
        pictures.write_images(IMAGES + 1, path)
    np.testing.assert_array_equal(np.load(path), IMAGES)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("names", [["$", "a$b", "_c"], [r"$\x$", "$x^$", "\\"]])
def test_names_of_labels_are_shown_as_they_are(names, tmp_path):
    codes, labels = RANDOM.normal(size=(30, 2)), np.arange(30) % 3
    figure = pictures._scatter(codes, labels, names, title="$\\x$")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
    pictures.latent_scatter(codes, labels, tmp_path / "a.png", label_names=names, title=r"$\x$")
    pictures.learning_curves({"$a$_b^": [1.0, 2.0]}, tmp_path / "b.png", title="$x^$")
    runs = {r"$\x$": {"epoch": [0, 1], "loss": [1.0, 2.0]}, "_b": {"epoch": [0], "loss": [1.0]}}
    pictures.compared_curves(runs, tmp_path / "c.png")
    assert len(list(tmp_path.iterdir())) == 3


def test_save_refuses_other_arrays_and_other_formats(tmp_path):
    for array in (np.zeros((2, 2, 3)), np.zeros((2, 2), np.uint8)):
        with pytest.raises(ValueError, match="uint8 of shape"):
            pictures.save(tmp_path / "picture.png", array)
    with pytest.raises(ValueError, match=r"end in \.png"):
        pictures.save(tmp_path / "picture.jpg", np.zeros((2, 2, 3), np.uint8))
    assert not list(tmp_path.iterdir())


# Models -----------------------------------------------------------------------------------------


def test_samples_are_the_decoded_latents(model, tmp_path):
    latents = RANDOM.normal(size=(12, 2)).astype(np.float32)
    pictures.samples(model, latents, tmp_path / "p.png")
    expected = pictures.grid(np.asarray(model.decode(keras.ops.array(latents))), 10)
    np.testing.assert_array_equal(read(tmp_path / "p.png"), expected)


def test_samples_of_few_latents_leave_no_empty_columns(tmp_path):
    model = zoo.models.gan(
        (8, 8, 1), latent_dim=3, generator_hidden=(8,), discriminator_hidden=(8,)
    )
    pictures.samples(model, model.prior().sample(3, seed=0), tmp_path / "p.png")
    assert read(tmp_path / "p.png").shape == (TILE, 3 * TILE + 4, 3)


def test_samples_of_a_normal_likelihood_are_clipped(tmp_path):
    model = zoo.models.vae((8, 8, 1), latent_dim=2, hidden=(16,), likelihood="unit_normal")
    latents = np.full((4, 2), 20, np.float32)
    assert np.min(model.likelihood(latents).mean()) < 0
    pictures.samples(model, latents, tmp_path / "p.png")
    assert read(tmp_path / "p.png").min() == 0


def test_samples_refuse_latents_of_another_size(model, tmp_path):
    for shape in ((4, 3), (2,), (0, 2)):
        with pytest.raises(ValueError, match="have 2 dimensions"):
            pictures.samples(model, np.zeros(shape), tmp_path / "p.png")


def test_reconstructions_show_each_input_above_its_reconstruction(model, tmp_path):
    pictures.reconstructions(model, IMAGES, tmp_path / "p.png")
    picture = read(tmp_path / "p.png")
    # Three pairs of rows, 10 pixels between them.
    assert picture.shape == (6 * TILE + 3 * 2 + 2 * 10, 10 * TILE + 9 * 2, 3)
    for k, (tile, made) in enumerate(zip(shown(IMAGES), model.reconstruct(IMAGES), strict=True)):
        top, left = k // 10 * (2 * TILE + 2 + 10), k % 10 * (TILE + 2)
        np.testing.assert_array_equal(picture[top : top + TILE, left : left + TILE], tile)
        top += TILE + 2
        assert close(picture[top : top + TILE, left : left + TILE], made[None])
    assert (picture[2 * TILE + 2 : 2 * TILE + 12] == 255).all()


def test_reconstructions_refuse_invalid_images_and_models_without_an_encoder(model, tmp_path):
    with pytest.raises(ValueError, match="values from 2"):
        pictures.reconstructions(model, IMAGES + 2, tmp_path / "p.png")
    gan = zoo.models.gan((8, 8, 1), generator_hidden=(8,), discriminator_hidden=(8,))
    with pytest.raises(NotImplementedError, match="no encoder"):
        pictures.reconstructions(gan, IMAGES, tmp_path / "p.png")
    assert not list(tmp_path.iterdir())


def test_nearest_neighbours_stand_right_of_their_sample(tmp_path):
    samples, neighbours = IMAGES[:2], IMAGES[2:8].reshape(2, 3, 8, 8, 1)
    pictures.nearest_neighbours(samples, neighbours, tmp_path / "p.png")
    picture = read(tmp_path / "p.png")
    assert picture.shape == (2 * TILE + 2, 4 * TILE + 10 + 2 * 2, 3)
    lefts = [0, TILE + 10, 2 * TILE + 12, 3 * TILE + 14]
    for row in range(2):
        tiles = shown(np.concatenate([samples[row : row + 1], neighbours[row]]))
        for left, tile in zip(lefts, tiles, strict=True):
            top = row * (TILE + 2)
            np.testing.assert_array_equal(picture[top : top + TILE, left : left + TILE], tile)
    assert (picture[:, TILE : TILE + 10] == 255).all()
    assert (picture[TILE : TILE + 2] == 255).all()


@pytest.mark.parametrize(
    "samples, neighbours, message",
    [
        (IMAGES[:2], IMAGES[:6], r"neighbours \[N, k, H, W, C\].*\(6, 8, 8, 1\)"),
        (IMAGES[:2], IMAGES[:6].reshape(3, 2, 8, 8, 1), r"\(3, 2, 8, 8, 1\)"),
        (IMAGES[:2], IMAGES[:4].reshape(2, 2, 4, 16, 1), r"\(2, 2, 4, 16, 1\)"),
        (IMAGES[:2], np.zeros((2, 0, 8, 8, 1)), "k at least 1"),
        (IMAGES[:1] + 1, IMAGES[None, :2], r"in \[0, 1\]"),
    ],
)
def test_nearest_neighbours_refuse_invalid_arrays(tmp_path, samples, neighbours, message):
    with pytest.raises(ValueError, match=message):
        pictures.nearest_neighbours(samples, neighbours, tmp_path / "p.png")
    assert not list(tmp_path.iterdir())


def test_queries_stand_left_of_the_samples_of_each_model(tmp_path):
    x, first, second = IMAGES[:2], IMAGES[2:8].reshape(2, 3, 8, 8, 1), IMAGES[8:10, None]
    pictures.queries(x, [first, second], tmp_path / "p.png")
    picture = read(tmp_path / "p.png")
    assert picture.shape == (2 * TILE + 2, 5 * TILE + 2 * 10 + 2 * 2, 3)
    lefts = [0, TILE + 10, 2 * TILE + 12, 3 * TILE + 14, 4 * TILE + 24]
    for row in range(2):
        tiles = shown(np.concatenate([x[row : row + 1], first[row], second[row]]))
        for left, tile in zip(lefts, tiles, strict=True):
            top = row * (TILE + 2)
            np.testing.assert_array_equal(picture[top : top + TILE, left : left + TILE], tile)
    assert (picture[:, 4 * TILE + 14 : 4 * TILE + 24] == 255).all()


@pytest.mark.parametrize(
    "samples",
    [[], [IMAGES[:6]], [IMAGES[:6].reshape(3, 2, 8, 8, 1)], [np.zeros((2, 0, 8, 8, 1))]],
)
def test_queries_refuse_samples_of_other_shapes(tmp_path, samples):
    with pytest.raises(ValueError, match=r"samples \[N, K, H, W, C\]"):
        pictures.queries(IMAGES[:2], samples, tmp_path / "p.png")
    assert not list(tmp_path.iterdir())


def test_interpolations_of_latents_connect_the_ends_on_line_and_arc(model, tmp_path):
    ends = RANDOM.normal(size=(3, 2, 2)).astype(np.float32) * 2
    pictures.interpolations([tuple(pair) for pair in ends], model, tmp_path / "p.png", n=5)
    picture = read(tmp_path / "p.png")
    assert picture.shape == (6 * TILE + 3 * 2 + 2 * 10, 5 * TILE + 4 * 2, 3)
    for row in range(6):
        top = row * (TILE + 2) + row // 2 * 8
        strip = picture[top : top + TILE]
        first, last = model.decode(keras.ops.array(ends[row // 2]))
        assert close(strip[:, :TILE], first[None])
        assert close(strip[:, -TILE:], last[None])
        images = model.interpolate(*ends[row // 2], n=5, spherical=bool(row % 2))
        assert close(strip[:, 2 * (TILE + 2) : 2 * (TILE + 2) + TILE], images[2:3])


def test_interpolations_of_images_show_the_images_at_the_outside(model, tmp_path):
    pairs = [(IMAGES[0], IMAGES[1]), (IMAGES[2], IMAGES[3])]
    pictures.interpolations(pairs, model, tmp_path / "p.png", n=4)
    picture = read(tmp_path / "p.png")
    assert picture.shape == (2 * TILE + 2, 6 * TILE + 2 * 10 + 3 * 2, 3)
    for row in range(2):
        strip = picture[row * (TILE + 2) :][:TILE]
        ends = IMAGES[2 * row : 2 * row + 2]
        np.testing.assert_array_equal(strip[:, :TILE], shown(ends)[0])
        np.testing.assert_array_equal(strip[:, -TILE:], shown(ends)[1])
        assert (strip[:, TILE : TILE + 10] == 255).all()
        first, last = model.reconstruct(ends)
        assert close(strip[:, TILE + 10 :][:, :TILE], first[None])
        assert close(strip[:, : -TILE - 10][:, -TILE:], last[None])


@pytest.mark.parametrize(
    "ends, message",
    [
        ([], "pairs of ends"),
        ([(np.zeros(2), IMAGES[0])], "pairs of ends"),
        ([(np.zeros(3), np.zeros(3))], "have 2 dimensions"),
        ([(IMAGES[0], 2 * np.ones((8, 8, 1)))], "values from 2.0"),
    ],
)
def test_interpolations_refuse_invalid_ends(model, tmp_path, ends, message):
    with pytest.raises(ValueError, match=message):
        pictures.interpolations(ends, model, tmp_path / "p.png")


def test_traversal_changes_one_dimension_in_each_row(model, tmp_path):
    centre = np.array([0.5, -1], np.float32)
    pictures.traversal(model, tmp_path / "p.png", centre, span=2, n=5)
    picture = read(tmp_path / "p.png")
    assert picture.shape == (2 * TILE + 2, 5 * TILE + 4 * 2, 3)
    for row, column, latent in [(0, 0, [-1.5, -1]), (0, 2, [0.5, -1]), (1, 4, [0.5, 1])]:
        tile = picture[row * (TILE + 2) :, column * (TILE + 2) :][:TILE, :TILE]
        assert close(tile, model.decode(keras.ops.array([latent], "float32")))


def test_traversal_accepts_an_image_and_chosen_dimensions(tmp_path):
    model = zoo.models.autoencoder((8, 8, 1), latent_dim=4, hidden=(8,))
    pictures.traversal(model, tmp_path / "p.png", IMAGES[0], dims=[3], n=3)
    picture = read(tmp_path / "p.png")
    assert picture.shape == (TILE, 3 * TILE + 4, 3)
    assert close(picture[:, TILE + 2 :][:, :TILE], model.reconstruct(IMAGES[:1]))
    for dims in ([4], [-1], 0):
        with pytest.raises(ValueError, match="dimensions from 0 to 3"):
            pictures.traversal(model, tmp_path / "p.png", dims=dims)
    with pytest.raises(ValueError, match="have 4 dimensions"):
        pictures.traversal(model, tmp_path / "p.png", centre=np.zeros(3))


@pytest.fixture(scope="module")
def scene():
    """A model of layers, and two images with their annotations."""
    keras.utils.set_random_seed(0)
    model = zoo.models.dis_cvae((8, 8, 3), condition_size=2, network="mlp", hidden=(6,))
    x = RANDOM.random((2, 8, 8, 3), np.float32)
    mask = RANDOM.random((2, 8, 8, 1), np.float32)
    return model, x, {"attributes": np.array([[0.0, 1.0], [0.5, 0.2]], np.float32), "mask": mask}


def tile(picture, row, column, gaps=2):
    """A tile, right of `gaps` pixels for each seam and eight more for a gap after the first column."""
    left = column * (TILE + gaps) + (8 if column else 0)
    return picture[row * (TILE + gaps) :][:TILE, left : left + TILE]


def test_layers_stand_right_of_their_image(scene, tmp_path):
    model, x, y = scene
    pictures.layers(model, x, y, tmp_path / "layers.png")
    picture = read(tmp_path / "layers.png")
    z = model.encode(x, y)
    front, gate, back = model.decode_layers(z, y)
    columns = [x, front, 1 - np.repeat(gate, 3, -1), back, model.decode(z, y)]
    assert picture.shape == (2 * TILE + 2, 5 * TILE + 4 * 2 + 8, 3)
    for column, images in enumerate(columns):
        for row in range(2):
            assert close(tile(picture, row, column), np.asarray(images)[row : row + 1])


def test_recompositions_have_the_foreground_of_the_row_and_the_background_of_the_column(
    scene, tmp_path
):
    model, x, y = scene
    pictures.recompositions(model, x, y, tmp_path / "r.png")
    picture = read(tmp_path / "r.png")
    z = np.asarray(model.encode(x, y))
    top = TILE + 10
    for row in range(2):
        front = {name: values[[row]] for name, values in y.items()}
        for column in range(2):
            expected = model.recompose(z[[row]], z[[column]], front)
            left = TILE + 10 + column * (TILE + 2)
            below = top + row * (TILE + 2)
            assert close(picture[below:, left:][:TILE, :TILE], expected)
        assert close(picture[top + row * (TILE + 2) :][:TILE, :TILE], x[[row]])
        assert close(picture[:TILE, TILE + 10 + row * (TILE + 2) :][:, :TILE], x[[row]])


class Swapping:
    """Half of each image is its structure, the other half its texture."""

    def swap(self, structure, texture):
        return np.concatenate([structure[:, :4], texture[:, 4:]], 1)

    def mix(self, x, other, alpha):
        return (1 - alpha) * x + alpha * self.swap(x, other)


def test_swaps_have_the_structure_of_the_row_and_the_texture_of_the_column(tmp_path):
    structures, textures = (RANDOM.random((n, 8, 8, 3), np.float32) for n in (2, 3))
    pictures.swaps(Swapping(), structures, textures, tmp_path / "s.png")
    picture = read(tmp_path / "s.png")
    assert picture.shape == (3 * TILE + 10 + 2, 4 * TILE + 10 + 2 * 2, 3)
    assert (picture[:TILE, :TILE] == 255).all()
    for row in range(2):
        below = picture[TILE + 10 + row * (TILE + 2) :]
        assert close(below[:TILE, :TILE], structures[[row]])
        for column in range(3):
            left = TILE + 10 + column * (TILE + 2)
            expected = Swapping().swap(structures[[row]], textures[[column]])
            assert close(below[:TILE, left:][:, :TILE], expected)
            assert close(picture[:TILE, left:][:, :TILE], textures[[column]])


def test_mixes_go_from_one_texture_to_the_other(tmp_path):
    x, others = (RANDOM.random((2, 8, 8, 3), np.float32) for _ in range(2))
    pictures.mixes(Swapping(), x, others, tmp_path / "m.png", n=3)
    picture = read(tmp_path / "m.png")
    assert picture.shape == (2 * TILE + 2, 5 * TILE + 2 * 10 + 2 * 2, 3)
    columns = [x, *(Swapping().mix(x, others, alpha) for alpha in (0, 0.5, 1)), others]
    lefts = np.cumsum([0, TILE + 10, TILE + 2, TILE + 2, TILE + 10])
    for column, left in zip(columns, lefts, strict=True):
        for row in range(2):
            shown = picture[row * (TILE + 2) :, left:][:TILE, :TILE]
            assert close(shown, column[row : row + 1])
    with pytest.raises(ValueError, match="`n` must be at least 2"):
        pictures.mixes(Swapping(), x, others, tmp_path / "m.png", n=1)


def test_progressions_change_one_attribute_in_each_row_and_keep_the_latents(scene, tmp_path):
    model, _, y = scene
    z = np.full(24, 0.3, np.float32)
    pictures.progressions(model, z, y["attributes"][1], tmp_path / "p.png", n=3)
    picture = read(tmp_path / "p.png")
    for row in range(2):
        for column, value in enumerate([0.0, 0.5, 1.0]):
            own = y["attributes"][1].copy()
            own[row] = value
            shown_tile = picture[row * (TILE + 2) :, column * (TILE + 2) :][:TILE, :TILE]
            assert close(shown_tile, model.decode(z[None], own))


def test_rerenderings_stand_below_the_true_scenes(tmp_path):
    images = RANDOM.random((2, 3, 8, 8, 1), np.float32)
    pictures.rerenderings(images, 1 - images, tmp_path / "r.png")
    picture = read(tmp_path / "r.png")
    assert picture.shape == (4 * TILE + 2 + 10 + 2, 3 * TILE + 4, 3)
    for row, top in enumerate([0, 2 * TILE + 12]):
        for column in range(3):
            left = column * (TILE + 2)
            scene = images[row, column][None]
            assert close(picture[top:, left:][:TILE, :TILE], 1 - scene)
            assert close(picture[top + TILE + 2 :, left:][:TILE, :TILE], scene)
    pictures.rerenderings(images, None, tmp_path / "alone.png")
    assert read(tmp_path / "alone.png").shape[0] == 2 * TILE + 10


def test_enlargements_stand_right_of_their_small_image(tmp_path):
    x = RANDOM.random((2, 8, 8, 1), np.float32)
    small, images = resizing.box_average(x, 2).numpy(), np.stack([1 - x, x / 2])
    pictures.enlargements(small, images, tmp_path / "e.png", x)
    picture = read(tmp_path / "e.png")
    columns = [resizing.nearest(small, 2), resizing.bicubic(small, 2), *images, x]
    assert picture.shape == (2 * TILE + 2, 5 * TILE + 2 * 2 + 2 * 10, 3)
    for left, column in zip((0, 50, 108, 158, 216), columns, strict=True):
        for row in range(2):
            assert close(picture[row * 50 :, left:][:TILE, :TILE], column[row][None])
    pictures.enlargements(small, images, tmp_path / "alone.png")
    assert read(tmp_path / "alone.png").shape[1] == 4 * TILE + 2 * 2 + 10
    with pytest.raises(ValueError, match=r"\[n, B, H, W, C\]. Received: shape \(2, 8, 8, 1\)"):
        pictures.enlargements(small, x, tmp_path / "no.png")


def test_samples_stand_right_of_the_small_image_of_their_row(tmp_path):
    model = zoo.models.cvae(
        (8, 8, 1), latent_dim=2, hidden=(4,), condition="image", condition_size=2
    )
    y = RANDOM.random((2, 4, 4, 1), np.float32)
    pictures.samples(model, np.zeros([6, 2]), tmp_path / "s.png", columns=3, y=y.repeat(3, 0))
    picture = read(tmp_path / "s.png")
    assert picture.shape == (2 * TILE + 2, 4 * TILE + 10 + 2 * 2, 3)
    for row in range(2):
        head = picture[row * 50 :, :][:TILE, :TILE]
        assert close(head, resizing.nearest(y[row : row + 1], 2))


def test_the_chart_of_factors_shows_squared_correlations_and_the_best_latents(tmp_path):
    values = RANDOM.normal(size=(200, 2))
    codes = np.stack([RANDOM.normal(size=200), -values[:, 1], values[:, 0] ** 3, np.ones(200)], 1)
    figure = pictures._factors(codes, values, ["one", "two"])
    heat, _, first, second = figure.axes[0], figure.axes[1], *figure.axes[2:]
    found = heat.images[0].get_array()
    expected = np.corrcoef(codes[:, 2], values[:, 0])[0, 1] ** 2
    assert found.shape == (2, 4)
    np.testing.assert_allclose([found[0, 2], found[1, 1]], [expected, 1.0])
    np.testing.assert_array_equal(found[:, 3], 0)
    assert [a.get_ylabel() for a in (first, second)] == ["latent 2", "latent 1"]
    pictures.factors(codes, values, ["one", "two"], tmp_path / "f.png")
    assert read(tmp_path / "f.png").size
    with pytest.raises(ValueError, match=r"shapes \(200, 4\) and \(200, 2\), and 3 names"):
        pictures.factors(codes, values, ["one", "two", "three"], tmp_path / "f.png")


def test_categories_stand_left_of_a_gap_and_their_members_right_of_it(tmp_path):
    members = [IMAGES[2:5], IMAGES[5:5], IMAGES[5:6]]
    pictures.categories(IMAGES[:3], members, tmp_path / "c.png", columns=2)
    picture = read(tmp_path / "c.png")
    assert picture.shape == (3 * TILE + 2 * 2, 3 * TILE + 10 + 2, 3)
    expected = {(0, 0): 0, (0, 1): 2, (0, 2): 3, (1, 0): 1, (2, 0): 2, (2, 1): 5}
    for row in range(3):
        for column in range(3):
            top, left = row * (TILE + 2), column * (TILE + 2) + (8 if column else 0)
            tile = picture[top : top + TILE, left : left + TILE]
            if (row, column) in expected:
                np.testing.assert_array_equal(tile, shown(IMAGES[expected[row, column]][None])[0])
            else:
                assert (tile == 255).all()
    assert (picture[:, TILE : TILE + 10] == 255).all()


def test_categories_require_members_of_the_image_shape_for_each_category(tmp_path):
    for members in ([IMAGES[:1]], [IMAGES[:1], IMAGES[:1, :4]]):
        with pytest.raises(ValueError, match=r"for each of 2 categories.*Received"):
            pictures.categories(IMAGES[:2], members, tmp_path / "c.png")


# Scatter ----------------------------------------------------------------------------------------


def legend(figure: Figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_scatter_projects_and_states_the_explained_variance():
    codes = RANDOM.normal(size=(200, 5)) * [3, 2, 1, 1, 1]
    prior = RANDOM.normal(size=(30, 5))
    figure = pictures._scatter(codes, np.arange(200) % 3, None, prior)
    pca = PCA(2).fit(codes)
    axes = figure.axes[0]
    first, second = pca.explained_variance_ratio_
    assert axes.get_xlabel() == f"first principal component ({100 * first:.0f} % of variance)"
    assert axes.get_ylabel() == f"second principal component ({100 * second:.0f} % of variance)"
    behind, dots = (np.asarray(c.get_offsets()) for c in axes.collections)
    # The sign of a component is arbitrary.
    np.testing.assert_allclose(np.abs(behind), np.abs(pca.transform(prior)), rtol=1e-5)
    shown = np.sort(np.abs(dots), axis=0)
    np.testing.assert_allclose(shown, np.sort(np.abs(pca.transform(codes)), axis=0), rtol=1e-5)
    assert legend(figure) == ["prior", "0", "1", "2"]


def test_scatter_shows_planar_codes_without_projection():
    codes = RANDOM.normal(size=(40, 2))
    labels = np.array([0, 2] * 20)
    figure = pictures._scatter(codes, labels, ["cat", "dog", "cow"])
    axes = figure.axes[0]
    assert axes.get_xlabel() == "first latent dimension"
    assert axes.get_aspect() == 1
    dots = axes.collections[0]
    for code, label in zip(codes, labels, strict=True):
        at = np.flatnonzero((np.asarray(dots.get_offsets()) == code).all(1)).item()
        np.testing.assert_allclose(dots.get_facecolors()[at, :3], pictures._colours(3)[label])
    assert legend(figure) == ["cat", "cow"]


@pytest.mark.parametrize("classes", [1, 10, 20, 60])
def test_scatter_has_a_colour_for_each_class(classes):
    labels = np.arange(120) % classes
    figure = pictures._scatter(RANDOM.normal(size=(120, 2)), labels)
    assert len(np.unique(figure.axes[0].collections[0].get_facecolors(), axis=0)) == classes


def test_scatter_writes_a_picture(tmp_path):
    codes = RANDOM.normal(size=(50, 3))
    for labels in (None, np.arange(50) % 10, np.arange(50)):
        pictures.latent_scatter(codes, labels, tmp_path / "p.png", prior_samples=codes)
        height, width, _ = read(tmp_path / "p.png").shape
        assert 600 < height < 1000 and 700 < width < 2000
    pictures.latent_scatter(np.ones((5, 3)), None, tmp_path / "p.png")  # a collapsed posterior
    for codes in (np.ones((2, 2)), np.ones((2, 5)), RANDOM.normal(size=(2, 5))):
        for labels in (None, [0, 1]):
            prior = RANDOM.normal(size=(30, codes.shape[1]))
            pictures.latent_scatter(codes, labels, tmp_path / "p.png", prior_samples=prior)


def test_scatter_preserves_the_distance_of_two_codes():
    codes = RANDOM.normal(size=(2, 5))
    axes = pictures._scatter(codes, None).axes[0]
    dots = np.asarray(axes.collections[0].get_offsets())
    assert np.linalg.norm(dots[0] - dots[1]) == pytest.approx(np.linalg.norm(codes[0] - codes[1]))
    assert "100 %" in axes.get_xlabel() and "(0 %" in axes.get_ylabel()


@pytest.mark.parametrize(
    "codes, labels, more, message",
    [
        (np.zeros((5, 1)), np.zeros(5, int), {}, r"two dimensions.*shape \(5, 1\)"),
        (np.full((5, 2), np.nan), np.zeros(5, int), {}, "NaN or infinite"),
        (np.zeros((5, 2)), np.zeros(4, int), {}, "a label for each code"),
        (np.zeros((5, 2)), np.zeros(5), {}, "ints"),
        (np.zeros((5, 2)), np.arange(5), {"label_names": "abc"}, "from 0 to 2.*from 0 to 4"),
        (np.zeros((5, 2)), None, {"prior_samples": np.zeros((3, 3))}, r"shape \[M, 2\]"),
    ],
)
def test_scatter_refuses_invalid_codes_and_labels(tmp_path, codes, labels, more, message):
    with pytest.raises(ValueError, match=message):
        pictures.latent_scatter(codes, labels, tmp_path / "p.png", **more)
    assert not list(tmp_path.iterdir())


# Curves -----------------------------------------------------------------------------------------

NAN = float("nan")


@pytest.mark.parametrize(
    "history",
    [
        {"loss": [1.0]},
        {"loss": [1.0], "val_loss": [2.0]},
        {"val_loss": [3.0, 2.0]},
        {"loss": [NAN, 2.0, NAN, 1.0], "val_loss": [NAN, NAN, NAN, 5.0]},
        {"loss": [NAN, NAN], "rate": [1.0, float("inf")]},
        {"loss": [2.0] * 30, "rate": [1e30, *[1.0] * 29]},
        {f"{name}_loss": list(range(40)) for name in "abcdefghijk"},
    ],
    ids=["one", "both", "validation", "gaps", "nothing", "constant", "many"],
)
@pytest.mark.filterwarnings("error")
def test_curves_write_a_picture(tmp_path, history):
    pictures.learning_curves(history, tmp_path / "p.png", units="nats")
    height, width, _ = read(tmp_path / "p.png").shape
    assert 300 < height < 2000 and 500 < width < 2000
    assert [p.name for p in tmp_path.iterdir()] == ["p.png"]


def test_training_and_validation_curves_share_a_panel():
    history = {
        "encoder_loss": [3.0, 2.0],
        "rate": [1.0, NAN],
        "real_logit": [0.0, 1.0],
        "learning_rate": [0.1, 0.1],
        "val_encoder_loss": [4.0, 3.0],
    }
    figure = pictures._curves(history, epochs=[5, 10], units="nats")
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert list(panels) == ["encoder loss", "rate", "real logit", "learning rate"]
    assert [p.get_ylabel() for p in panels.values()] == ["nats", "nats", "logit", ""]
    train, validation = panels["encoder loss"].lines
    assert (train.get_linestyle(), validation.get_linestyle()) == ("-", "--")
    np.testing.assert_array_equal(train.get_xydata(), [[5, 3], [10, 2]])
    np.testing.assert_array_equal(validation.get_xydata(), [[5, 4], [10, 3]])
    np.testing.assert_array_equal(panels["rate"].lines[0].get_xydata(), [[5, 1]])
    assert legend(figure) == ["training", "validation"]


def test_curves_clip_a_huge_first_value_and_state_it():
    history = {"loss": [1e6, *np.linspace(5, 1, 19)]}
    figure = pictures._curves(history)
    low, high = figure.axes[0].get_ylim()
    assert 0.5 < low < 1 and 5 < high < 5.5
    curve, mark = figure.axes[0].lines
    np.testing.assert_array_equal(mark.get_xdata(), [1])
    assert curve.get_ydata()[0] == 1e6
    assert legend(figure) == ["training", "beyond the panel"]


def test_curves_show_a_divergence_at_the_end():
    figure = pictures._curves({"loss": [*np.linspace(5, 1, 40), 1000]})
    assert figure.axes[0].get_ylim()[1] > 1000


def test_curves_show_all_of_an_ordinary_decay():
    values = 20 + 20 * np.exp(-np.arange(30) / 4)
    low, high = pictures._curves({"loss": values}).axes[0].get_ylim()
    assert low < values.min() and high > values.max()


@pytest.mark.parametrize(
    "history, epochs",
    [({}, None), ({"loss": []}, None), ({"a": [1], "b": [1, 2]}, None), ({"a": [1]}, [1, 2])],
)
def test_curves_refuse_unequal_lists(tmp_path, history, epochs):
    with pytest.raises(ValueError, match="a value for each epoch and quantity"):
        pictures.learning_curves(history, tmp_path / "p.png", epochs)


def test_charts_do_not_change_the_global_state_of_matplotlib(tmp_path):
    before = dict(matplotlib.rcParams)
    pictures.learning_curves({"loss": [2, 1]}, tmp_path / "curves.png")
    pictures.latent_scatter(np.eye(2), None, tmp_path / "scatter.png")
    assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == []


def test_a_folder_of_images_keeps_other_files_and_replaces_older_images(tmp_path):
    folder = tmp_path / "drawn"
    large, small = IMAGES[:12], IMAGES[20:23]
    pictures.write_images(large, folder)
    names = ["notes.txt", "0004.png", "cat.png", "00005.jpg", "012345.png", "x00001.png"]
    for name in names:
        (folder / name).touch()
    (folder / "00007.png").unlink()
    (folder / "00007.png").mkdir()
    pictures.write_images(small, folder)
    kept = {"00000.png", "00001.png", "00002.png", "00007.png", *names}
    assert {path.name for path in folder.iterdir()} == kept
    for i, image in enumerate(small):
        pixels = np.asarray(Image.open(folder / f"{i:05}.png"))
        np.testing.assert_array_equal(pixels[..., :1], np.round(image * 255).astype(np.uint8))


# Videos -----------------------------------------------------------------------------------------


def strip(video):
    """The expected film strip of a video `[H, W, T]`: frames of 8 pixels, enlarged four times."""
    parts = []
    for frame in np.moveaxis(np.round(video * 255).astype(np.uint8), -1, 0):
        parts += [np.full([32, 1], 128, np.uint8), np.kron(frame, np.ones([4, 4], np.uint8))]
    return np.repeat(np.concatenate(parts[1:], 1)[..., None], 3, -1)


def test_videos_are_film_strips():
    videos = RANDOM.random((3, 8, 8, 4), np.float32)
    picture = pictures.grid(videos, columns=2)
    width = 4 * 32 + 3
    assert picture.shape == (2 * 32 + 2, 2 * width + 2, 3)
    np.testing.assert_array_equal(picture[:32, :width], strip(videos[0]))
    np.testing.assert_array_equal(picture[34:, :width], strip(videos[2]))


def test_an_animation_shows_the_frames_one_after_the_other(tmp_path):
    videos = np.round(RANDOM.random((3, 8, 8, 4), np.float32))
    pictures.write_images(videos, tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as file:
        assert (file.format, file.n_frames, file.info["loop"]) == ("GIF", 4, 0)
        times = []
        for t in range(4):
            file.seek(t)
            times.append(file.info["duration"])
            frame = np.asarray(file.convert("RGB"))
            np.testing.assert_array_equal(frame, pictures.grid(videos[..., t : t + 1]))
    assert times == [250, 250, 250, 1000]
    colour = RANDOM.random((2, 8, 8, 6), np.float32)
    pictures.animation(colour, tmp_path / "b.gif", channels=3)
    with Image.open(tmp_path / "b.gif") as file:
        assert file.n_frames == 2


def test_other_images_than_videos_are_not_animated(tmp_path):
    with pytest.raises(ValueError, match=r"\.gif file shows videos.*Received: .* \(8, 8, 1\)"):
        pictures.write_images(IMAGES, tmp_path / "a.gif")
    for videos, channels in ((np.zeros([2, 8, 8]), 1), (np.zeros([2, 8, 8, 4]), 3)):
        with pytest.raises(ValueError, match="frames of C = 1 or 3 channels"):
            pictures.animation(videos, tmp_path / "a.gif", channels=channels)
    with pytest.raises(ValueError, match=r"end in \.gif"):
        pictures.animation(np.zeros([2, 8, 8, 4]), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_a_folder_of_videos_has_strips_of_their_size(tmp_path):
    videos = RANDOM.random((2, 8, 8, 4), np.float32)
    pictures.write_images(videos, tmp_path)
    pixels = read(tmp_path / "00001.png")
    assert pixels.shape == (8, 32, 3)
    np.testing.assert_array_equal(pixels[:, 8:16, 0], np.round(videos[1, ..., 1] * 255))


def test_a_continuation_stands_below_the_video_with_a_gap_after_the_seen_frames(tmp_path):
    x, extended = RANDOM.random((2, 2, 8, 8, 3), np.float32)
    pictures.extensions(x, extended, 2, tmp_path / "p.png")
    picture = read(tmp_path / "p.png")
    lefts, tops = (0, TILE + 2, 2 * TILE + 12), (0, TILE + 2, 2 * TILE + 12, 3 * TILE + 14)
    assert picture.shape == (4 * TILE + 14, 3 * TILE + 12, 3)
    for top, video in zip(tops, (x[0], extended[0], x[1], extended[1]), strict=True):
        for t, left in enumerate(lefts):
            have = picture[top : top + TILE, left : left + TILE]
            np.testing.assert_array_equal(have, shown(video[None, ..., t : t + 1])[0])
    for other, seen in ((extended[:1], 2), (extended, 3), (extended, 0)):
        with pytest.raises(ValueError, match="of the same shape, with more than"):
            pictures.extensions(x, other, seen, tmp_path / "p.png")
