"""The exported page without a browser: what is written, and that it is complete. tests/browser opens it."""

import base64
import json
import re
import zlib

import numpy as np
import pytest

from tests.conftest import ROOT, exit_status, small
from vae_lib import losses
from vae_lib.backend import keras, tf
from vae_lib.cli import main
from vae_lib.data.loading import load_data
from vae_lib.errors import UserError
from vae_lib.model import VAE
from vae_lib.page import export
from vae_lib.page.lab import lab_page
from vae_lib.runs.store import load_run, save_run

KEPT = ("mnist_2",)  # in docs/; `make site` writes those of other runs


def content(page):
    return json.loads(re.search(r'<script type="application/json" id="content">(.*?)</script>', page, re.DOTALL)[1])


def unpacked(text, dtype):
    return np.frombuffer(base64.b64decode(text), dtype)


def whole_numbers(stored, bits):
    """Bits in the order of their weight, least first; 12 of them make numbers from 0, with 2048 in the middle."""
    bits_of = np.unpackbits(stored, bitorder="little").reshape(-1, bits).astype(np.int64)
    values = bits_of @ (1 << np.arange(bits))
    return values - 2048 if bits == 12 else values - (values >= 2**15) * 2**16


def decoded(packed, z):
    """The packed decoder's logits for one code, in NumPy: what the page's JavaScript does, written independently."""
    weights, columns = unpacked(packed["weights"], np.uint8), unpacked(packed["columns"], "<f4").reshape(-1, 2)
    x = np.asarray(z, np.float64)[None, None]  # (H, W, C)
    for layer in packed["layers"]:
        kind = layer["kind"]
        if kind in ("dense", "conv"):
            K, N = layer["K"], layer["N"]
            stored, weights = np.split(weights, [K * N * layer["bits"] // 8])
            kernel = whole_numbers(stored, layer["bits"]).reshape(K, N) * columns[:N, 0]
            size = layer.get("size", 1)
            height, width = x.shape[:2]
            padded = np.pad(x, [(size // 2, size // 2)] * 2 + [(0, 0)])
            rows = [padded[dy : dy + height, dx : dx + width] for dy in range(size) for dx in range(size)]
            x = np.concatenate(rows, axis=-1) @ kernel + columns[:N, 1]
            columns = columns[N:]
            if layer["gelu"]:
                x = tf.nn.gelu(x, approximate=False).numpy()
        elif kind == "reshape":
            x = x.reshape(layer["height"], layer["width"], layer["channels"])
        elif kind == "depth_to_space":
            b, (height, width, channels) = layer["block"], x.shape
            x = x.reshape(height, width, b, b, channels // b**2).transpose(0, 2, 1, 3, 4)
            x = x.reshape(height * b, width * b, channels // b**2)
        else:
            top, left = layer["top"], layer["left"]
            x = x[top : top + layer["height"], left : left + layer["width"]]
    assert not weights.size
    assert not columns.size
    return x


@pytest.mark.parametrize(("im_dim", "channels"), [(28, 1), (64, 1), (33, 3), (8, 1)])
def test_the_packed_network_is_the_decoder(im_dim, channels):
    model = VAE(3, image_shape=(im_dim, im_dim, channels), num_filters=4, hidden_units=10, likelihood="gaussian")
    for weight in model.decoder.weights:  # biases start at zero, where nothing could be missed
        weight.assign_add(tf.random.stateless_normal(weight.shape, [1, 2], stddev=0.1))
    z = np.array([0.3, -1.2, 2.0], np.float32)
    expected = model.decode_logits(z[None])[0].numpy()
    np.testing.assert_allclose(decoded(export.packed_network(model.decoder), z), expected, atol=2e-3)


def test_a_large_matrix_takes_12_bits_a_weight_and_decodes_alike():
    model = VAE(2, num_filters=8, hidden_units=1280)
    packed = export.packed_network(model.decoder)
    assert [layer["bits"] for layer in packed["layers"] if "bits" in layer] == [16, 12, 12, 16, 16]
    z = np.array([0.3, -1.2], np.float32)
    expected = model.decode_arrays(z[None])[0]
    np.testing.assert_allclose(tf.sigmoid(decoded(packed, z)), expected, atol=0.5 / 255)


def test_unknown_layers_are_refused():
    decoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), keras.layers.LeakyReLU()])
    with pytest.raises(UserError, match="LeakyReLU"):
        export.packed_network(decoder)


def test_the_page_is_complete_in_itself(small_run, sample):
    page = export.run_page(load_run(small_run), small(sample), examples=12)
    assert "{{" not in page.replace("{{x", "")
    assert "default-src 'none'" in page
    addresses = re.findall(r'(?:src|href)\s*=\s*["\']?([^"\'>\s]+)', page)
    assert all(address.startswith(("data:", "run.map")) for address in addresses), addresses
    assert not re.search(r"https?://|\bimport\b\s*\(|fetch\(|XMLHttpRequest", page)
    inside = content(page)
    assert len(inside["examples"]["codes"]) == len(inside["examples"]["labels"]) == 12
    assert len(unpacked(inside["examples"]["pixels"], np.uint8)) == 12 * 28 * 28
    assert inside["points"]["names"] == [str(i) for i in range(10)]
    assert sorted(inside["order"]) == [0, 1]
    assert inside["kl"][inside["order"][0]] >= inside["kl"][inside["order"][1]]


def test_text_from_a_run_cannot_become_markup(tmp_path):
    run = load_run(save_run(tmp_path / "<b>x", VAE(2, num_filters=4, hidden_units=8)))
    run.metrics["test"] = {"elbo": 1.0, "images": 3}  # incomplete: left out
    run.metrics["made_by"] = {"command": "</script><script>alert(1)</script>{{script}}"}
    page = export.run_page(run)
    assert "alert(1)</script>" not in page
    assert "<title>&lt;b&gt;x" in page
    assert content(page)["card"][-1][1] == run.metrics["made_by"]["command"]


def test_a_run_without_encodings_or_test_images(tmp_path):
    run = load_run(save_run(tmp_path / "plain", VAE(5, num_filters=4, hidden_units=8)))
    inside = content(export.run_page(run))
    assert inside["points"]["codes"] == ""
    assert inside["examples"]["codes"] == []
    assert inside["plane"]["x"] == [1, 1, 1, 0, 0]


def test_the_mean_of_the_likelihood_is_named():
    """The page has two formulas: the one for continuous Bernoulli pixels is checked here at a few points."""
    script = (export.PAGE / "network.js").read_text()
    assert "0.5 + 0.5 / Math.tanh(0.5 * l) - 1 / l" in script
    logits = np.array([-30.0, -2.0, 0.5, 7.0], np.float32)
    formula = 0.5 + 0.5 / np.tanh(0.5 * logits) - 1 / logits
    np.testing.assert_allclose(losses.continuous_bernoulli_mean(logits), formula, atol=1e-6)


def test_the_commands_write_pages(small_run, tmp_path, capsys):
    assert main(["export", str(small_run), "--out", str(tmp_path / "small.html"), "--examples", "3"]) == 0
    export.write_page(tmp_path / "index.html", export.index_page({"small.html": load_run(small_run)}))
    assert len(content((tmp_path / "small.html").read_text())["examples"]["codes"]) == 3
    assert 'href="small.html"' in (tmp_path / "index.html").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["index.html", "small.html"]
    capsys.readouterr()
    assert exit_status(main, ["export", str(small_run), "--out", str(tmp_path / "small.html" / "x.html")]) == 2
    assert exit_status(main, ["export", str(small_run), "--examples", "0"]) == 2
    assert capsys.readouterr().err.count("\n") == 2


@pytest.mark.parametrize("name", KEPT)
def test_the_kept_pages_hold_the_shipped_weights(name):
    page = (ROOT / "docs" / f"{name}.html").read_text()
    run = load_run(ROOT / "pickles" / name)
    inside = content(page)
    assert inside["decoder"] == export.packed_network(run.model.decoder)
    assert inside["card"] == [list(row) for row in export.run_card(run)]
    for asset in ("style.css", *export.SCRIPTS):
        assert (export.PAGE / asset).read_text() in page, f"make explorers: {asset} has changed"
    assert f'href="{name}.html"' in (ROOT / "docs" / "index.html").read_text()


def test_the_shipped_lab_is_made_of_its_sources():
    page = (ROOT / "docs" / "lab.html").read_text()
    shared = [export.PAGE / name for name in ("simd.js", "arrays.js", "pad.js", "style.css")]
    for asset in [*(export.PAGE / "lab").glob("*.js"), *(export.PAGE / "lab").glob("*.css"), *shared]:
        assert asset.read_text() in page, f"make explorers: {asset.name} has changed"
    made = content(lab_page())
    for name, data in (("digits", "mnist"), ("garments", "fashion_mnist")):
        shipped = content(page)["sets"][name]
        assert shipped["labels"] == made["sets"][name]["labels"]
        images = load_data(data, source="sample").test_images[::5]
        for found in (shipped, made["sets"][name]):
            bits, stored = found["test"]["bits"], zlib.decompress(base64.b64decode(found["test"]["packed"]))
            levels = np.unpackbits(np.frombuffer(stored, np.uint8)).reshape(-1, bits) @ (1 << np.arange(bits)[::-1])
            assert np.array_equal(levels, images.ravel() >> (8 - bits))


def test_what_the_kept_pages_link_is_there():
    for path in (ROOT / "docs").glob("*.html"):
        for target in re.findall(r'href="([^"#:]+)"', path.read_text()):
            assert (path.parent / target).is_file(), f"{path.name}: {target}"
    assert {f"{name}.html" for name in ("lab", *KEPT)} <= set(
        re.findall(r'href="([^"]+)"', (ROOT / "docs" / "index.html").read_text())
    )


def test_a_page_inside_a_notebook():
    frame = export.EmbeddedPage('<p class="a">1 & 2</p>', height=300)
    assert 'srcdoc="&lt;p class=&quot;a&quot;&gt;1 &amp; 2&lt;/p&gt;"' in frame._repr_html_()
    assert 'height="300"' in frame._repr_html_()
    assert repr(frame) == "EmbeddedPage(22 characters)"


SEEN = {  # by people with all cones, and by those without the ones for long or for middle waves (Machado et al. 2009)
    "all": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}


@pytest.mark.parametrize("kind", SEEN)
def test_the_classes_have_different_colours_for_everybody(kind):
    rgb = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in export.COLOURS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ np.transpose(SEEN[kind])
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    share = np.clip(linear, 0, 1) @ to_xyz.T / [0.95047, 1, 1.08883]
    f = np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16 / 116)
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=-1)
    distances = np.linalg.norm(lab[:, None] - lab, axis=-1)[~np.eye(len(lab), dtype=bool)]
    assert distances.min() > 30  # one is about the smallest difference that is seen
    assert lab[:, 0].min() > 35  # light enough for a black map
