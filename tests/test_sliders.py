"""Sliders: what they show and what moves them."""

import base64
import io
import re

import imageio.v3 as iio
import ipywidgets as widgets
import numpy as np
import pytest

from vae_lib.figures import to_bytes
from vae_lib.latent import axis_values
from vae_lib.runs.store import load_run
from vae_lib.sliders import PlaneMap, explore, png


@pytest.fixture
def explorer(small_run):
    run = load_run(small_run)
    return explore(run.model, encodings=run.encodings)


def shown(explorer):
    return iio.imread(io.BytesIO(explorer.image.value))


def test_no_picture_has_a_tooltip(explorer):
    """JupyterLab's view of an image fails on one, and shows an error in place of the picture."""

    def inside(widget):
        yield widget
        for child in getattr(widget, "children", ()):
            yield from inside(child)

    pictures = [w for w in inside(explorer) if isinstance(w, widgets.Image)]
    assert len(pictures) == 3
    assert [w.tooltip for w in pictures] == [None] * len(pictures)


def test_a_slider_moves_the_picture(explorer):
    before = shown(explorer)
    explorer.sliders[0].value = 1.5
    decoded = explorer.model.decode_arrays(explorer.z[None])[0]
    np.testing.assert_array_equal(shown(explorer), to_bytes(decoded)[..., 0])
    assert (shown(explorer) != before).any()


def test_sliders_are_ordered_by_kl_and_z_is_not(explorer):
    codes = explorer.encodings
    kl = 0.5 * (codes.z_mean**2 + np.exp(codes.z_log_var) - 1 - codes.z_log_var).mean(axis=0)
    assert [slider.description for slider in explorer.sliders] == [f"z_{i + 1}" for i in np.argsort(-kl)]
    explorer.z = [0.5, -1.0]
    np.testing.assert_allclose(explorer.z, [0.5, -1.0])
    assert dict(zip((s.description for s in explorer.sliders), (s.value for s in explorer.sliders), strict=True)) == {
        "z_1": 0.5,
        "z_2": -1.0,
    }


def test_the_buttons_do_what_they_say(explorer):
    explorer.random.click()
    drawn = explorer.z
    assert (drawn != 0).all()
    explorer.random.click()
    assert (explorer.z != drawn).any()
    explorer.reset.click()
    assert (explorer.z == 0).all()
    explorer.index.value = 7
    explorer.start.click()
    np.testing.assert_allclose(explorer.z, explorer.encodings.z_mean[7], atol=0.006)  # a slider's step


def test_setting_a_code_decodes_once(explorer, monkeypatch):
    calls = []
    decode = explorer._decode
    monkeypatch.setattr(explorer, "_decode", lambda z: calls.append(1) or decode(z))
    explorer.z = [1.0, 1.0]
    assert len(calls) == 1


def test_a_test_image_stands_beside_its_decoding(small_run, sample):
    run = load_run(small_run)
    explorer = explore(run.model, sample.test_images[:100], encodings=run.encodings)
    explorer.index.value = 3
    explorer.start.click()
    np.testing.assert_array_equal(iio.imread(io.BytesIO(explorer.original.value)), sample.test_images[3, ..., 0])


def test_the_ring_is_where_the_code_is(explorer):
    places = []
    for z in ([0, 0], [1, 0], [0, 1]):
        explorer.z = z
        top, _, _, left = explorer.map._ring.layout.margin.split()
        places.append((float(left[:-2]), float(top[:-2])))
    centre, right, up = places
    assert right[0] > centre[0]
    assert right[1] == centre[1]
    assert up[1] < centre[1]
    assert up[0] == centre[0]


def test_png_keeps_every_pixel():
    image = np.random.default_rng(0).random([5, 7, 3])
    np.testing.assert_array_equal(iio.imread(io.BytesIO(png(image))), to_bytes(image))


def test_a_code_beyond_the_sliders_is_decoded_as_it_is(explorer):
    """The code is the state, and the sliders show it as far as they reach."""
    explorer.z = [-11.6, 0.123]
    np.testing.assert_allclose(explorer.z, [-11.6, 0.123], rtol=1e-6)
    decoded = explorer.model.decode_arrays(np.array([[-11.6, 0.123]]))[0]
    np.testing.assert_array_equal(shown(explorer), to_bytes(decoded)[..., 0])
    moved = next(slider for slider in explorer.sliders if slider.description == "z_2")
    moved.value = 1.0
    np.testing.assert_allclose(explorer.z, [-11.6, 1.0], rtol=1e-6)


def test_sliders_reach_as_far_as_the_codes_of_the_run(small_run):
    run = load_run(small_run)
    far = run.encodings._replace(z_mean=np.add(run.encodings.z_mean, [9.0, 0.0]))
    explorer = explore(run.model, encodings=far)
    for image in range(0, len(far.z_mean), 7):
        explorer.index.value = image
        explorer.start.click()
        np.testing.assert_allclose(explorer.z, far.z_mean[image], rtol=1e-6)
        shown_codes = {slider.description: slider.value for slider in explorer.sliders}
        np.testing.assert_allclose([shown_codes["z_1"], shown_codes["z_2"]], far.z_mean[image], atol=0.006)


def test_without_a_kernel_there_is_a_picture(explorer):
    said = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in said
    pictures = re.findall(r'<img alt="([^"]+)"[^>]* src="data:image/png;base64,([^"]+)">', said["text/html"])
    assert [words for words, _ in pictures] == ["decoded at the code of the sliders", "the latent plane"]
    assert base64.b64decode(pictures[1][1]) == explorer.map.picture


def test_the_ring_lies_in_the_tile_of_its_code():
    plane = PlaneMap(200, tiles=4)
    for tile, value in enumerate(axis_values(4)):
        plane.move(value, value)
        up, _, _, left = (int(part.removesuffix("px")) for part in plane._ring.layout.margin.split())
        assert left + 8 == 25 + 50 * tile
        assert up + 8 == 175 - 50 * tile
