"""What other programs get: Keras files, SavedModels and TensorBoard's event files, each read back."""

import sys

import numpy as np
import onnxruntime
import pytest

from tests.conftest import run_python
from vae_lib import VAE, load_data, load_run, train
from vae_lib.backend import keras, tf
from vae_lib.config import RunConfig
from vae_lib.errors import UserError
from vae_lib.exporting import plain, write_keras, write_onnx, write_saved_model
from vae_lib.runs.lifecycle import train_run
from vae_lib.tensorboard import Board, TensorBoard

GREY = {"likelihood": "discretized_logistic", "image_shape": (32, 32, 3)}
KINDS = pytest.mark.parametrize("settings", [{}, GREY], ids=["bits", "colours"])


@KINDS
def test_keras_alone_reads_the_decoder_and_with_the_package_the_whole(settings, tmp_path):
    vae = VAE(latent_dim=2, num_filters=4, hidden_units=16, **settings)
    whole, decoder = write_keras(vae, tmp_path / "model.keras")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.keras", "model_decoder.keras"]
    codes = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    np.save(tmp_path / "codes.npy", codes)
    script = "import sys, keras, numpy as np; decoder = keras.saving.load_model(sys.argv[1]);"
    script += "np.save(sys.argv[2], decoder(np.load(sys.argv[2]))); assert 'vae_lib' not in sys.modules"
    result = run_python("-c", script, str(decoder), str(tmp_path / "codes.npy"), cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-500:]
    np.testing.assert_allclose(np.load(tmp_path / "codes.npy"), vae.decode_logits(codes), atol=1e-6)
    again = keras.saving.load_model(whole)
    np.testing.assert_array_equal(again.decode_arrays(codes), vae.decode_arrays(codes))
    with pytest.raises(UserError, match="cannot write"):
        write_keras(vae, tmp_path / "codes.npy" / "model.keras")
    with pytest.raises(UserError, match=r"ends in .keras, not '.h5'"):
        write_keras(vae, tmp_path / "model.h5")


@KINDS
def test_a_plain_copy_has_the_same_outputs(settings):
    vae = VAE(latent_dim=3, num_filters=4, hidden_units=16, **settings)
    x = tf.random.stateless_uniform([4, *vae.config.image_shape], [0, 1])
    np.testing.assert_allclose(plain(vae.encoder)(x), vae.encoder(x), atol=1e-6)


@KINDS
def test_tensorflow_alone_reads_the_saved_model(settings, tmp_path):
    vae = VAE(latent_dim=2, num_filters=4, hidden_units=16, **settings)
    folder = write_saved_model(vae, tmp_path / "saved")
    x = vae.prepare_arrays(np.random.default_rng(0).integers(0, 256, (6, *vae.config.image_shape), np.uint8))
    np.save(tmp_path / "x.npy", x)
    script = (
        "import sys, numpy as np, tensorflow as tf; model, x = tf.saved_model.load(sys.argv[1]), np.load(sys.argv[2]);"
    )
    script += "q = model.encode(x); np.savez(sys.argv[2] + 'z', image=model.decode(q['z_mean']), **q)"
    result = run_python("-c", script, str(folder), str(tmp_path / "x.npy"), cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-500:]
    found, posterior = np.load(tmp_path / "x.npyz.npz"), vae.encode(x)
    np.testing.assert_allclose(found["z_mean"], posterior.z_mean, atol=1e-5)
    np.testing.assert_allclose(found["z_log_var"], posterior.z_log_var, atol=1e-5)
    np.testing.assert_allclose(found["image"], vae.decode(posterior.z_mean), atol=1e-5)
    with pytest.raises(UserError, match="exists"):
        write_saved_model(vae, folder)


def test_a_model_without_an_encoder_only_decodes(tmp_path):
    folder = write_saved_model(load_run("mnist_2_exact").model, tmp_path / "saved")
    assert not hasattr(tf.saved_model.load(str(folder)), "encode")


@KINDS
def test_onnx_runs_without_tensorflow(settings, tmp_path):
    vae = VAE(latent_dim=3, num_filters=4, hidden_units=16, **settings)
    decoder, encoder = (onnxruntime.InferenceSession(path) for path in write_onnx(vae, tmp_path / "model.onnx"))
    assert [output.name for output in encoder.get_outputs()] == ["z_mean", "z_log_var"]
    rng = np.random.default_rng(0)
    for n in (1, 5):  # of any batch size
        codes = rng.normal(size=(n, 3)).astype(np.float32)
        np.testing.assert_allclose(decoder.run(["image"], {"z": codes})[0], vae.decode(codes), atol=1e-5)
        x = vae.prepare_arrays(rng.integers(0, 256, (n, *vae.config.image_shape), np.uint8))
        for found, right in zip(encoder.run(["z_mean", "z_log_var"], {"x": x}), vae.encode(x), strict=True):
            np.testing.assert_allclose(found, right, atol=1e-5)
    with pytest.raises(UserError, match=r"ends in .onnx, not '.onx'"):
        write_onnx(vae, tmp_path / "model.onx")


def test_onnx_without_its_package_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(UserError, match="pip install tf2onnx"):
        write_onnx(VAE(latent_dim=2, num_filters=4, hidden_units=16), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_commands(tmp_path):
    for flag, names in (
        ("--keras", ["mnist_2.keras", "mnist_2_decoder.keras"]),
        ("--savedmodel", ["mnist_2_savedmodel"]),
        ("--onnx", ["mnist_2.onnx", "mnist_2_encoder.onnx"]),
    ):
        place = tmp_path / flag.strip("-")
        place.mkdir()
        result = run_python("-m", "vae_lib", "export", "mnist_2", flag, cwd=place)
        assert result.returncode == 0, result.stderr
        assert sorted(path.name for path in place.iterdir()) == names
    result = run_python("-m", "vae_lib", "export", "mnist_2", "--keras", "--examples", "3", cwd=tmp_path)
    assert result.returncode == 2
    assert "for the HTML file" in result.stderr


def events(folder):
    """What TensorBoard would read: (tag, step) -> number or picture, and the names in the graph."""
    found, nodes = {}, set()
    (file,) = folder.glob("events.out.tfevents*")
    for record in tf.data.TFRecordDataset(str(file)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        if event.graph_def:
            nodes |= {node.name for node in tf.compat.v1.GraphDef.FromString(event.graph_def).node}
        for value in event.summary.value:
            if value.HasField("image"):
                found[value.tag, event.step] = tf.io.decode_png(value.image.encoded_image_string).numpy()
            elif value.HasField("simple_value"):
                found[value.tag, event.step] = value.simple_value
    return found, nodes


def test_a_training_in_tensorboard(tmp_path):
    data = load_data("mnist", source="sample")
    vae = VAE(latent_dim=2, num_filters=4, hidden_units=16)
    history = train(vae, data._replace(train_images=data.train_images[::20], train_labels=data.train_labels[::20]),
                    epochs=2, callbacks=TensorBoard(tmp_path, data))  # fmt: skip
    found, nodes = events(tmp_path)
    assert len(nodes) > 20
    for row in history:
        step = int(row["epoch"])
        assert found["nll", step] == pytest.approx(row["train_nll"], rel=1e-6)
        assert found["val_kl", step] == pytest.approx(row["test_kl"], rel=1e-6)
        assert found["plane/image/0", step].shape == (20 * 28, 20 * 28, 1)
        assert found["reconstructions/image/0", step].ndim == 3
    assert not np.array_equal(found["plane/image/0", 1], found["plane/image/0", 2])


@pytest.mark.slow
def test_training_from_the_command_line_in_tensorboard(tmp_path):
    command = ["train_VAE.py", "-l", "2", "--source", "sample", "--epochs", "1", "--num-filters", "4"]
    command += ["--hidden-units", "16", "--out", str(tmp_path / "run"), "--tensorboard", str(tmp_path / "board")]
    result = run_python(*command)
    assert result.returncode == 0, result.stderr
    found, _ = events(tmp_path / "board")
    row = load_run(tmp_path / "run").history[0]
    assert found["test/elbo", 1] == pytest.approx(row["test_elbo"], rel=1e-6)
    assert ("plane/image/0", 1) in found


def test_a_board_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        Board(tmp_path / "file" / "board", np.zeros([1, 28, 28, 1], np.uint8))


@pytest.mark.parametrize(("board", "reason"), [("file", "is a file"), ("run", "own folder"), ("run.partial/b", "own")])
def test_a_board_that_cannot_be_leaves_no_run_behind(tmp_path, sample, board, reason):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=reason):
        train_run(RunConfig.from_flat(latent_dim=2), sample, tmp_path / "run", tensorboard=tmp_path / board)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("write", "name", "beside"), [
    (write_keras, "m.keras", "m_decoder.keras"), (write_onnx, "m.onnx", "m_encoder.onnx"),
])  # fmt: skip
def test_of_two_files_none_is_written_where_one_cannot_be(tmp_path, write, name, beside):
    (tmp_path / beside).mkdir()
    with pytest.raises(UserError, match="it is a folder"):
        write(VAE(2, num_filters=4, hidden_units=8), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [beside]
