"""Tiles, PNG and GIF files, and the pictures of a run."""

import base64
import io

import imageio.v3 as iio
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from PIL import Image

from vae_lib import cli, figures, latent, pictures
from vae_lib.errors import UserError
from vae_lib.model import VAE, Encodings
from vae_lib.runs.store import load_run


def test_tiles_go_row_by_row():
    images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1) * np.ones([1, 2, 3, 1], np.uint8)
    picture = figures.tile(images, columns=3)
    assert picture.shape == (4, 9, 1)
    np.testing.assert_array_equal(picture[::2, ::3, 0], [[0, 1, 2], [3, 4, 0]])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_comes_back_as_written(tmp_path, channels):
    image = np.random.default_rng(0).integers(0, 256, (8, 9, channels), dtype=np.uint8)
    back = iio.imread(figures.write_image(tmp_path / "new" / "a.png", image))
    np.testing.assert_array_equal(back.reshape(image.shape), image)


@pytest.mark.parametrize("frame_ms", [20, 40])
def test_a_gif_keeps_its_frames_and_delays(tmp_path, frame_ms):
    frames = np.linspace(0, 1, 12).reshape(12, 1, 1, 1) * np.ones([1, 8, 8, 1])
    path = figures.write_gif(tmp_path / "a.gif", frames, frame_ms=frame_ms)
    with Image.open(path) as gif:
        assert gif.n_frames == 12
        assert gif.info["loop"] == 0
        for i in range(12):
            gif.seek(i)
            assert gif.info["duration"] == frame_ms
            assert np.abs(np.asarray(gif.convert("L")).astype(int) - round(i / 11 * 255)).max() <= 2
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]


@pytest.mark.parametrize("frame_ms", [0, 10, 25])
def test_delays_that_viewers_do_not_keep_are_refused(tmp_path, frame_ms):
    with pytest.raises(UserError):
        figures.write_gif(tmp_path / "a.gif", np.zeros([2, 4, 4, 1]), frame_ms=frame_ms)


def test_a_picture_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        figures.write_image(tmp_path / "file" / "a.png", np.zeros([2, 2, 1]))


def test_the_manifold_is_the_decoded_grid(small_run):
    run = load_run(small_run)
    values = latent.axis_values(5)
    picture = pictures.manifold(run.model, values)
    assert picture.shape == (140, 140, 1)
    corner = run.model.decode_arrays([[values[-1], values[-1]]])[0]  # the largest z_1 and z_2: top right
    assert np.abs(picture[:28, -28:].astype(int) - figures.to_bytes(corner)).max() <= 1


def test_the_spiral_shows_the_same_tiles(small_run):
    run = load_run(small_run)
    values = latent.axis_values(4)
    frames = pictures.spiral_frames(run.model, values)
    picture = pictures.manifold(run.model, values)
    tiles = {picture[r : r + 28, c : c + 28].tobytes() for r in range(0, 112, 28) for c in range(0, 112, 28)}
    assert {frame.tobytes() for frame in frames} == tiles
    assert len(frames) == 16
    np.testing.assert_array_equal(frames[0], picture[:28, :28])
    assert pictures.spiral_frames(run.model, values, scale=4).shape == (16, 112, 112, 1)


def test_planes_above_two_dimensions():
    model = VAE(4, num_filters=4, hidden_units=16)
    codes = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    encodings = Encodings(codes, codes, np.zeros(50, np.int64))
    values = latent.axis_values(3)
    principal = latent.principal_plane(latent.grid(values), codes)
    np.testing.assert_array_equal(pictures.plane_codes(model, values, encodings=encodings), principal)
    diagonal = latent.diagonal_plane(latent.grid(values), 4)
    chosen = pictures.plane_codes(model, values, encodings=encodings, plane="diagonal")
    np.testing.assert_array_equal(chosen, diagonal)
    np.testing.assert_array_equal(pictures.plane_codes(model, values), diagonal)
    with pytest.raises(UserError, match="diagonal"):
        pictures.plane_codes(model, values, plane="principal")


def test_plots_draw_on_the_axes_they_are_given():
    figure, axes = plt.subplots(2, 2)
    images = np.zeros([6, 4, 4, 1])
    history = [{"epoch": e, "train_elbo": -9.0 / e, "test_elbo": -10.0 / e} for e in (1.0, 2.0)]
    assert figures.show_images(images, 3, axes[0, 0]) is axes[0, 0]
    assert axes[0, 0].images[0].get_array().shape == (8, 12)
    figures.show_images(images, 3, axes[0, 0], rows=["upper", "lower"])
    assert [(t.get_text(), t.get_position()[1]) for t in axes[0, 0].texts] == [("upper", 1.5), ("lower", 5.5)]
    with pytest.raises(UserError, match="each of the 2 rows, not 1"):
        figures.show_images(images, 3, axes[0, 0], rows=["one"])
    figures.show_images(images, 3, axes[0, 0], tops=["a", "b", "c"])
    assert [text.get_text() for text in axes[0, 0].texts][-3:] == ["a", "b", "c"]
    with pytest.raises(UserError, match="each of the 3 columns, not 1"):
        figures.show_images(images, 3, axes[0, 0], tops=["one"])
    figures.show_manifold(np.zeros([40, 40, 1]), np.linspace(-2, 2, 5), axes[0, 1])
    assert [t.get_text() for t in axes[0, 1].get_xticklabels()] == ["-2.0", "-1.0", "0.0", "1.0", "2.0"]
    lines = figures.show_history(history, axes[1, 0]).lines
    np.testing.assert_array_equal(lines[1].get_ydata(), [10.0, 5.0])
    figures.show_codes(np.zeros([3, 2]), np.array([0, 1, 2]), ("a", "b", "c"), axes[1, 1])
    assert [t.get_text() for t in axes[1, 1].get_legend().get_texts()] == ["a", "b", "c"]
    plt.close(figure)


def test_reconstructions_stand_beside_what_the_model_sees(small_run, sample):
    run = load_run(small_run)
    images = sample.test_images[pictures.spread_indices(sample.test_labels, 20)]
    picture = pictures.reconstructions(run.model, images, columns=5)
    assert picture.shape == (4 * 28, 10 * 28, 1)
    np.testing.assert_array_equal(picture[:28, :28], np.where(images[0] >= 128, 255, 0))
    decoded = run.model.decode_arrays(run.model.encode_arrays(images, seed=20).z_mean)
    np.testing.assert_array_equal(picture[28:56, 28:56], figures.to_bytes(decoded[5]))


def test_test_images_take_turns_through_the_labels():
    images = np.arange(7, dtype=np.uint8).reshape(7, 1, 1, 1)
    labels = np.array([2, 0, 0, 2, 1, 0, 1])
    chosen = images[pictures.spread_indices(labels, 6)]
    assert chosen.ravel().tolist() == [1, 4, 0, 2, 6, 3]


def test_samples_follow_from_the_seed(small_run):
    run = load_run(small_run)
    first, again, other = (pictures.samples(run.model, 12, seed=seed, columns=4) for seed in (1, 1, 2))
    assert first.shape == (84, 112, 1)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("command", ["samples", "reconstruct"])
def test_the_commands_write_pictures(command, small_run, tmp_path):
    out = tmp_path / "picture.png"
    more = ["--source", "sample"] if command == "reconstruct" else []
    assert cli.main([command, str(small_run), "--count", "20", "--out", str(out), *more]) == 0
    width = 560 * (2 if command == "reconstruct" else 1)
    assert iio.imread(out).shape == (112, width)
    assert cli.main([command, str(small_run), "--count", "0", "--out", str(out), *more]) == 2


def test_a_large_gif_gets_fewer_levels_of_grey(tmp_path, monkeypatch):
    frames = np.random.default_rng(0).random([10, 32, 32, 1])
    sizes = [figures.write_gif(tmp_path / "fine.gif", frames).stat().st_size]
    monkeypatch.setattr(figures, "GIF_BYTES", sizes[0] - 1)
    sizes.append(figures.write_gif(tmp_path / "coarse.gif", frames).stat().st_size)
    assert sizes[1] < sizes[0]
    levels = [len(np.unique(iio.imread(tmp_path / name))) for name in ("fine.gif", "coarse.gif")]
    assert levels == [128, 64]


def test_each_class_has_its_own_colour_and_name_in_any_subset():
    names = tuple("0123456789")

    def drawn(labels):
        figure, ax = plt.subplots()
        figures.show_codes(np.zeros([len(labels), 2]), np.array(labels), names, ax)
        legend = ax.get_legend()
        named = {
            text.get_text(): to_rgba(handle.get_color())
            for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
        }
        dots = {names[label]: tuple(c) for label, c in zip(labels, ax.collections[0].get_facecolors(), strict=True)}
        plt.close(figure)
        assert named == dots
        return named

    whole = drawn(range(10))
    assert len(set(whole.values())) == 10
    for subset in ([3, 7], [2, 9, 4, 0], [3, 4, 5, 6, 7], [5]):
        assert drawn(subset) == {names[label]: whole[names[label]] for label in subset}


def test_a_figure_is_shown_with_a_text_for_those_who_cannot_see_it():
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    InteractiveShell.instance()
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    picture = np.zeros([8, 12], np.uint8)
    with capture_output() as shown:
        figures.show(figure, "a line that rises")
        figures.show(picture, "a black tile")
    InteractiveShell.clear_instance()
    first, second = shown.outputs
    assert first.metadata == {"image/png": {"alt": "a line that rises"}}
    assert first.data["text/plain"] == "a line that rises"
    with Image.open(io.BytesIO(base64.b64decode(second.data["image/png"]))) as image:
        assert image.size == (12, 8)
    assert not plt.fignum_exists(figure.number)  # or it would come twice
    with pytest.raises(UserError, match="what there is to see"):
        figures.show(picture, " ")


def test_what_cannot_be_shown_is_refused_in_a_sentence():
    picture = np.zeros([4, 4, 1], np.uint8)
    for figure, alt, words in (
        (picture, None, "what there is to see"), (picture, 3, "what there is to see"), ([1], "a list", "not list"),
        (picture[None], "four axes", "has the shape"), (picture[0, :, 0], "one axis", "has the shape"),
        (np.zeros([4, 4, 2]), "two channels", "has the shape"), (picture[:0], "nothing", "has the shape"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            figures.show(figure, alt)
