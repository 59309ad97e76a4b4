"""What users of other systems, tools and habits do: names, permissions, links, copies, callbacks, dtypes."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT, exit_status, run_python, small
from vae_lib import pictures
from vae_lib.backend import keras, tf
from vae_lib.cli import main, train_main
from vae_lib.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from vae_lib.data.loading import ImageData, load_data
from vae_lib.errors import UserError
from vae_lib.evaluation import evaluate
from vae_lib.files import write_atomically
from vae_lib.model import VAE, Encodings
from vae_lib.page.export import explorer_page, write_page
from vae_lib.runs.lifecycle import Interrupted, resume_run, train_run
from vae_lib.runs.places import list_runs
from vae_lib.runs.store import load_run, save_run
from vae_lib.sliders import explore
from vae_lib.trainer import Trainer, plan_epoch
from vae_lib.training import train

TINY = {"num_filters": 4, "hidden_units": 8}
SMALL = ["--epochs", "0", "--num-filters", "2", "--hidden-units", "4", "-l", "2"]


@pytest.fixture
def vae():
    return VAE(2, **TINY)


@pytest.fixture
def few(sample):
    return small(sample, 60, 20)


def photos(folder, count=6, side=12):
    folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(np.full((side, side), 9 * i, np.uint8)).save(folder / f"{i}.png")
    return folder


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# ---- A folder is the folder that was named -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["./mnist", "mnist/", "faces/"])
def test_a_folder_called_like_a_data_set_is_the_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / name / "a")
    data = load_data(name)
    assert (data.source, len(data.train_images) + len(data.test_images)) == ("folder", 6)
    assert train_main([*SMALL, "--data", name, "--out", "r"]) == 0
    config = load_run("./r").config
    assert (config.data.name, config.data.found) == (str(tmp_path / name.strip("./")), "folder")


def test_a_moved_folder_is_asked_for_and_its_name_is_taken_as_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "$HOME" / "images" / "a")
    assert train_main([*SMALL, "--data", "$HOME/images", "--out", "r"]) == 0
    assert main(["reconstruct", "./r", "--out", "x.png"]) == 0
    (tmp_path / "$HOME" / "images").rename(tmp_path / "mnist")
    capsys.readouterr()
    assert main(["reconstruct", "./r", "--out", "x.png"]) == 2
    assert "--data-dir" in capsys.readouterr().err
    assert main(["reconstruct", "./r", "--out", "y.png", "--data-dir", "mnist"]) == 0
    assert files(tmp_path)["x.png"] == files(tmp_path)["y.png"]
    assert main(["reconstruct", "./r", "--data-dir", ""]) == 2


def test_linked_folders_are_entered_once(tmp_path):
    photos(tmp_path / "images" / "b")
    for name in ("a", "z"):
        (tmp_path / "images" / name).symlink_to("b")
    for name in ("out", "other"):
        photos(tmp_path / "elsewhere", 2) if name == "out" else None
        (tmp_path / "images" / name).symlink_to(tmp_path / "elsewhere")
    data = load_data(tmp_path / "images")
    assert (data.label_names, len(data.train_images) + len(data.test_images)) == (("b", "other"), 8)


@pytest.mark.parametrize("mode", [0o000, 0o744])
def test_a_folder_that_cannot_be_read_is_not_left_out_in_silence(mode):
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        photos(folder / "a"), photos(folder / "b")
        (folder / "b").chmod(mode)
        try:
            if root:  # who may read everything
                os.seteuid(12345)
            with pytest.raises(UserError, match=r"b.* cannot be read \(Permission denied\)"):
                load_data(folder)
        finally:
            if root:
                os.seteuid(0)
            (folder / "b").chmod(0o755)


def test_the_names_of_changed_classes_are_not_put_on_old_codes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "images" / "cat"), photos(tmp_path / "images" / "dog", 8)
    assert train_main([*SMALL, "--data", "images", "--out", "r"]) == 0
    assert main(["export", "./r", "--out", "before.html"]) == 0
    photos(tmp_path / "images" / "aaa")
    assert main(["export", "./r", "--out", "after.html"]) == 0
    assert '["cat", "dog"]' in (tmp_path / "before.html").read_text()
    assert '"names": []' in (tmp_path / "after.html").read_text()


def test_renamed_classes_are_other_data(few):
    from vae_lib.data.loading import fingerprint

    assert fingerprint(few) != fingerprint(few._replace(label_names=("nought", *few.label_names[1:])))


def test_an_image_with_strange_tags_or_transparency_is_refused_in_a_sentence(tmp_path):
    folder = photos(tmp_path / "images")
    exif = Image.Exif()
    exif[0x112], exif[0x11A] = 6, 72.0
    content = io.BytesIO()
    Image.new("L", (12, 12), 7).save(content, "JPEG", exif=exif)
    at = content.getvalue().index(b"\x01\x1a\x00\x05")
    (folder / "odd.jpg").write_bytes(content.getvalue()[: at + 3] + b"\x02" + content.getvalue()[at + 4 :])
    with pytest.raises(UserError, match=r"odd\.jpg cannot be read"):
        load_data(folder)
    (folder / "odd.jpg").unlink()
    Image.new("L", (12, 12), 7).save(folder / "hole.png", transparency=7)
    with pytest.raises(UserError, match=r"hole\.png has transparent pixels"):
        load_data(folder)


# ---- Paths ---------------------------------------------------------------------------------------------------

LONG = 300 * "x"


@pytest.mark.parametrize(
    "command",
    [
        ["manifold", LONG],
        ["train", *SMALL, "--data", LONG],
        ["train", *SMALL, "--source", "sample", "--out", LONG],
        ["resume", LONG],
        ["export", "RUN", "--out", f"{LONG}.html"],
        ["samples", "RUN", "--out", f"{LONG}.png"],
        ["train", *SMALL, "--data", "circle"],
        ["train", *SMALL, "--source", "sample", "--out", "nowhere/run"],
        ["manifold", "circle"],
        ["samples", "RUN", "--out", "pipe.png"],
        ["export", "RUN", "--out", "pipe.html"],
    ],
    ids=lambda command: " ".join(command).replace(LONG, "LONG"),
)
def test_a_path_that_cannot_be_used_is_one_sentence(small_run, tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "circle").symlink_to("circle"), (tmp_path / "nowhere").symlink_to("/nowhere/at/all")
    os.mkfifo("pipe.png"), os.mkfifo("pipe.html")
    before = sorted(os.listdir())
    assert exit_status(main, [str(small_run) if word == "RUN" else word for word in command]) in (1, 2)
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert sorted(os.listdir()) == before


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["VAE_LIB_HOME", "TFDS_DATA_DIR", "VAE_LIB_CACHE"])
def test_a_folder_in_the_environment_that_cannot_be(tmp_path, variable):
    code = "import sys; from vae_lib.cli import main; sys.exit(main(['manifold', 'mnist_9', '--tiles', '2']))"
    result = run_python("-c", code, cwd=tmp_path, **{variable: LONG})
    assert (result.returncode, "Traceback" in result.stderr) == (2, False)
    code = "from vae_lib import load_data; print(load_data('mnist').source)"
    result = run_python("-c", code, cwd=tmp_path, **{"TFDS_DATA_DIR": str(tmp_path), variable: LONG})
    assert "Traceback" not in result.stderr, result.stderr


def test_what_is_written_through_a_link_reaches_the_file_behind_it(tmp_path):
    (tmp_path / "real.html").write_text("old")
    (tmp_path / "real.html").chmod(0o600)
    (tmp_path / "link.html").symlink_to("real.html")
    write_atomically(tmp_path / "link.html", b"new")
    assert (tmp_path / "link.html").is_symlink()
    assert (tmp_path / "real.html").read_text() == "new"
    assert (tmp_path / "real.html").stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.html", "real.html"]
    with pytest.raises(UserError, match="not a regular file"):
        write_atomically(tmp_path, b"x")


def test_the_longest_name_that_a_disk_takes(tmp_path):
    write_page(tmp_path / (250 * "x" + ".html"), "page")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_page_of_a_run_whose_name_is_no_text(small_run, tmp_path, vae):
    write_page(tmp_path / "page.html", explorer_page(vae, name="bad\udcff", map_side=112))
    assert "bad?" in (tmp_path / "page.html").read_text()


def test_no_temporary_folder_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    code = "import tempfile; tempfile._candidate_tempdir_list = lambda: []\n"
    code += "from vae_lib.cli import main; main(['manifold', 'x'])"
    result = run_python("-c", code, cwd=tmp_path)
    assert "Traceback" not in result.stderr, result.stderr[-500:]


# ---- Nothing is deleted that the program did not make -----------------------------------------------------------


def unfinished(folder, data, **settings):
    """A run that was interrupted after its first epoch."""

    def interrupt(row):
        signal.raise_signal(signal.SIGINT)

    config = RunConfig.from_flat(2, epochs=2, num_filters=2, hidden_units=4, **settings)
    with pytest.raises(Interrupted):
        train_run(config, data, folder, after_epoch=interrupt)
    return folder.with_name(folder.name + ".partial")


def test_resuming_does_not_replace_a_run_that_came_meanwhile(few, tmp_path):
    partial = unfinished(tmp_path / "n", few)
    save_run(tmp_path / "other", VAE(2, **TINY), few).rename(tmp_path / "n")
    before = files(tmp_path / "n")
    with pytest.raises(UserError, match="is there by now"):
        resume_run(tmp_path / "n", few)
    assert files(tmp_path / "n") == before
    assert partial.is_dir()
    shutil.rmtree(tmp_path / "n")
    assert load_run(resume_run(tmp_path / "n", few)).history[-1]["epoch"] == 2


@pytest.mark.slow
def test_a_run_that_may_replace_another_still_may_after_an_interruption(few, tmp_path):
    save_run(tmp_path / "n", VAE(2, **TINY), few)
    config = RunConfig.from_flat(2, epochs=2, num_filters=2, hidden_units=4)
    with pytest.raises(Interrupted):
        train_run(config, few, tmp_path / "n", overwrite=True, after_epoch=lambda _: signal.raise_signal(signal.SIGINT))
    assert len(load_run(resume_run(tmp_path / "n", few)).history) == 2


OWN = ("checkpoints/mine-keep.npz", "checkpoints/.notes.txt", "checkpoints/.ipynb_checkpoints/x")


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_files_of_ones_own_survive_a_resumption(few, tmp_path, name):
    partial = unfinished(tmp_path / "n", few)
    (partial / name).parent.mkdir(exist_ok=True)
    (partial / name).write_text("mine")
    resume_run(tmp_path / "n", few)
    assert (tmp_path / "n" / name).read_text() == "mine"
    assert [p.name for p in (tmp_path / "n" / "checkpoints").iterdir()] == [name.split("/")[1]]


@pytest.mark.parametrize(
    "name", [".config.json.swp", ".backup.weights.h5", "checkpoints/.gitkeep", "checkpoints/data.npz", ".DS_Store"]
)
def test_a_run_with_files_of_ones_own_is_not_replaced(few, tmp_path, vae, name):
    save_run(tmp_path / "n", vae, few)
    (tmp_path / "n" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "n" / name).write_text("mine")
    before = files(tmp_path / "n")
    with pytest.raises(UserError, match="no part of a run"):
        save_run(tmp_path / "n", vae, few, overwrite=True)
    assert files(tmp_path / "n") == before


def test_two_runs_of_one_name_are_told_apart_by_their_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_LIB_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for path, dim in (("twin", 2), ("./twin", 3)):  # under pickles/, and here
        save_run(path, VAE(dim, num_filters=4, hidden_units=8))
    with pytest.raises(UserError, match=r"two runs of that name, \./twin and .*pickles/twin: give a path"):
        load_run("twin")
    assert load_run("./twin").model.config.latent_dim == 3
    assert load_run(tmp_path / "home" / "pickles" / "twin").model.config.latent_dim == 2


def test_an_unfinished_run_says_how_it_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "half.partial").mkdir()
    (tmp_path / "half.partial" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="run half is not finished: vae resume half goes on with it"):
        load_run("half")


@pytest.mark.slow
def test_two_unfinished_runs_of_one_name_are_told_apart_by_their_paths(few, tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_LIB_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    unfinished(tmp_path / "home" / "pickles" / "t", few), unfinished(tmp_path / "t", few)
    with pytest.raises(UserError, match="two unfinished runs of that name"):
        resume_run("t", few)
    assert resume_run("./t", few).resolve() == tmp_path / "t"


def test_a_path_with_a_separator_is_not_looked_for_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        load_run("./mnist_2")


# ---- A run that is saved can be loaded, and is the same model ------------------------------------------------------

UNLOADABLE = {
    "labels too short": lambda vae, d: {"data": d._replace(test_labels=d.test_labels[:5])},
    "labels as text": lambda vae, d: {"data": d._replace(test_labels=d.test_labels.astype(str))},
    "labels as fractions": lambda vae, d: {"data": d._replace(test_labels=d.test_labels + 0.5)},
    "labels below 0": lambda vae, d: {"data": d._replace(test_labels=d.test_labels - 1)},
    "a posterior": lambda vae, d: {"encodings": vae.encode_arrays(d.test_images)},
    "codes of other dimensions": lambda vae, d: {"encodings": Encodings(*np.zeros((2, 5, 5)), np.zeros(5, int))},
    "labels that are missing": lambda vae, d: {"encodings": Encodings(*np.zeros((2, 5, 2)), None)},
    "numbers that are none": lambda vae, d: {"metrics": {"test": 5}},
    "no ELBO": lambda vae, d: {"metrics": {"test": {"nll": 3.0}}},
    "a history of text": lambda vae, d: {"history": [{"epoch": 1.0, "train_elbo": "x"}]},
    "a history of nothing": lambda vae, d: {"history": [{"epoch": 1.0, "train_elbo": None}]},
    "Keras' history": lambda vae, d: {"history": {"loss": [1.0]}},
    "ragged rows": lambda vae, d: {"history": [{"epoch": 1.0}, {"epoch": 2.0, "x": 1.0}]},
    "training as text": lambda vae, d: {"training": "x"},
}


@pytest.mark.parametrize("name", UNLOADABLE)
def test_what_could_not_be_loaded_again_replaces_nothing(vae, few, tmp_path, name):
    save_run(tmp_path / "r", vae, few)
    before = files(tmp_path)
    with pytest.raises(UserError):
        save_run(tmp_path / "r", vae, **UNLOADABLE[name](vae, few), overwrite=True)
    assert files(tmp_path) == before


def test_wide_variances_and_numpys_numbers_are_kept(vae, tmp_path):
    codes = Encodings(np.zeros((5, 2)), np.full((5, 2), -7e4), np.arange(5, dtype=np.uint8))
    metrics = {"test": {"elbo": np.float32(-3), "kl_per_dimension": np.zeros(2)}}
    run = load_run(save_run(tmp_path / "r", vae, encodings=codes, metrics=metrics))
    assert np.array_equal(run.encodings.z_log_var, codes.z_log_var)
    assert run.metrics["test"] == {"elbo": -3.0, "kl_per_dimension": [0.0, 0.0]}


def test_a_history_that_a_spreadsheet_has_saved(vae, few, tmp_path):
    train(vae, few.train_images, epochs=1)
    path = save_run(tmp_path / "r", vae)
    text = (path / "history.csv").read_text()
    (path / "history.csv").write_text(text.replace("\n", "\r\n"), encoding="utf-8-sig")
    assert (
        load_run(path).history
        == load_run(path).history
        == [{key: float(value) for key, value in row.items()} for row in csv.DictReader(io.StringIO(text))]
    )


def test_another_network_is_used_everywhere_and_not_saved_as_the_first(vae, tmp_path):
    z = np.array([[1.0, -1.0]], np.float32)
    before = vae.decode_arrays(z)
    vae.decoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(784), keras.layers.Reshape((28, 28, 1))])
    assert np.allclose(vae.decode_arrays(z), vae.decode(z))
    assert not np.allclose(vae.decode_arrays(z), before)
    assert len(vae.trainable_variables) == len(vae.encoder.trainable_variables) + 2
    with pytest.raises(UserError, match="networks of this library"):
        save_run(tmp_path / "r", vae)

    class Other(VAE):
        def mean_of_logits(self, logits):
            return tf.ones_like(logits)

    with pytest.raises(UserError, match="networks of this library"):
        save_run(tmp_path / "r", Other(2, **TINY))
    with pytest.raises(UserError, match="in its own way"):
        explorer_page(Other(2, **TINY))


def test_a_layer_in_both_networks_is_refused():
    shared, flat = keras.layers.Dense(2), keras.layers.Flatten()
    layers = [flat, keras.layers.Dense(2), shared, keras.layers.Dense(4)]
    encoder = keras.Sequential([keras.Input((28, 28, 1)), *layers])
    decoder = keras.Sequential([keras.Input((2,)), shared, keras.layers.Dense(784), keras.layers.Reshape((28, 28, 1))])
    with pytest.raises(UserError, match="share a layer"):
        VAE(2, encoder=encoder, decoder=decoder)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_weights_of_another_type_are_refused(dtype):
    decoder = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(784, dtype=dtype), keras.layers.Reshape((28, 28, 1))]
    )
    with pytest.raises(UserError, match="weights in float32"):
        VAE(2, decoder=decoder, **TINY)


@pytest.mark.parametrize("policy", ["float64", "mixed_float16"])
def test_a_policy_of_keras_changes_nothing(few, policy):
    expected = train(VAE(2, likelihood="gaussian", **TINY), few.train_images, epochs=1)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        assert train(VAE(2, likelihood="gaussian", **TINY), few.train_images, epochs=1) == expected
    finally:
        keras.config.set_dtype_policy(before)


# ---- Images --------------------------------------------------------------------------------------------------


def test_booleans_are_black_and_white(vae, few):
    bits = few.test_images > 127
    assert np.array_equal(vae.encode_arrays(bits).z_mean, vae.encode_arrays(bits * np.uint8(255)).z_mean)


def test_keras_own_loop_refuses_what_train_refuses(vae, few):
    vae.compile("adam")
    for images in (few.train_images / 127.5 - 1, few.train_images.astype("f4")):
        with pytest.raises(tf.errors.InvalidArgumentError, match="floats must lie from 0 to 1"):
            vae.fit(images.astype("f4"), verbose=0)
        with pytest.raises(tf.errors.InvalidArgumentError, match="floats must lie from 0 to 1"):
            vae.predict(images.astype("f4"), verbose=0)
    for images in (few.test_images, few.test_images[..., 0] / 255.0):
        with pytest.raises(UserError, match="encode takes prepared images"):
            vae.encode(images)


def test_a_short_batch_is_filled_up_with_other_images():
    plan = plan_epoch(70, 50, 0, 0)
    last = plan.indices[1][plan.weights[1] == 0]
    assert len(set(last)) == 30
    assert sorted(plan.indices.ravel()[:70]) == list(range(70))


def test_batch_normalization_sees_the_images_of_the_set(sample):
    layer = keras.layers.BatchNormalization(momentum=0.0, scale=False, center=False)
    encoder = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), layer, keras.layers.Dense(4)])
    vae = VAE(2, encoder=encoder, **TINY)
    images = sample.train_images[::400]
    train(vae, images, epochs=1, mode="eager", batch_size=5 * len(images))
    x = vae.prepare_arrays(images).reshape(len(images), -1)
    np.testing.assert_allclose(layer.moving_mean.numpy(), x.mean(axis=0), atol=1e-6)


# ---- Callbacks, copies, debuggers -------------------------------------------------------------------------------


class Raises(keras.callbacks.Callback):
    def __init__(self, *where):
        super().__init__()
        for name in where:
            setattr(self, name, self.fail)

    def fail(self, *_, **__):
        raise RuntimeError(f"failure {len(self.params)}")


@pytest.mark.parametrize("where", [["on_train_begin"], ["on_train_end"], ["on_epoch_end", "on_train_end"]])
def test_a_callback_that_fails_leaves_the_optimizer_as_it_was(vae, few, where):
    vae.compile("adam")
    optimizer = vae.optimizer
    with pytest.raises(RuntimeError, match="failure"):
        train(vae, few.train_images, epochs=1, callbacks=Raises(*where))
    assert vae.optimizer is optimizer
    vae.fit(few.train_images, verbose=0)


def test_stopping_in_the_middle_ends_with_the_best_weights(few):
    class Stop(keras.callbacks.Callback):
        best, least, epochs = None, np.inf, 0

        def on_epoch_end(self, epoch, logs=None):
            self.epochs += 1
            if logs["val_loss"] < self.least:
                self.best, self.least = self.model.get_weights(), logs["val_loss"]

        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = self.epochs >= 2

    stop, vae = Stop(), VAE(2, **TINY)
    train(vae, few, epochs=9, patience=5, learning_rate=1.0, schedule="constant", callbacks=stop)
    assert all(np.array_equal(a, b) for a, b in zip(vae.get_weights(), stop.best, strict=True))


@pytest.mark.slow
def test_checks_of_every_number_find_none_of_ours(tmp_path):
    code = (
        "from vae_lib import VAE, load_data, train\nfrom vae_lib.backend import tf\n"
        "tf.debugging.enable_check_numerics()\n"
        "images = load_data('mnist', source='sample').train_images[::80]\n"
        "print(train(VAE(2, num_filters=2, hidden_units=4), images, epochs=1)[0]['epoch'])"
    )
    result = run_python("-c", code, cwd=tmp_path)
    assert result.stdout.strip().endswith("1.0"), result.stderr[-500:]


def test_a_saved_model_reconstructs_without_the_library(vae, few, tmp_path):
    vae.export(tmp_path / "saved", verbose=False)
    x = vae.prepare_arrays(few.test_images)
    code = "import sys, numpy as np, tensorflow as tf\n"
    code += "model, x = tf.saved_model.load(sys.argv[1]), np.load(sys.argv[2])\nnp.save(sys.argv[2], model.serve(x))"
    np.save(tmp_path / "x.npy", x)
    result = run_python("-c", code, str(tmp_path / "saved"), str(tmp_path / "x.npy"), cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-500:]
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), vae(x), atol=1e-5)


@pytest.mark.parametrize("rate", [float("nan"), -1.0, float("inf")])
def test_a_schedule_that_makes_no_sense_is_refused(vae, few, rate):
    with pytest.raises((UserError, ValueError), match="learning rate"):
        train(vae, few.train_images, epochs=1, callbacks=keras.callbacks.LearningRateScheduler(lambda *_: rate))


# ---- One sentence for small mistakes -----------------------------------------------------------------------------

NAN = Encodings(np.full((5, 2), np.nan), np.zeros((5, 2)), np.zeros(5, int))
MISTAKES = {
    "a run for its model: train": lambda v, d: train(Stub(), d),
    "a run for its model: evaluate": lambda v, d: evaluate(Stub(), d.test_images),
    "a run for its model: explore": lambda v, d: explore(Stub(), d),
    "a run for its model: page": lambda v, d: explorer_page(Stub(), d),
    "a run for its model: samples": lambda v, d: pictures.samples(Stub(), 4),
    "a run for its model: reconstructions": lambda v, d: pictures.reconstructions(Stub(), d.test_images),
    "a run for its model: save_run": lambda v, d: save_run("never", Stub(), d),
    "arguments the other way round": lambda v, d: train(d, v),
    "a function as a callback": lambda v, d: train(v, d, callbacks=print),
    "a class as a callback": lambda v, d: train(v, d, callbacks=[keras.callbacks.CSVLogger]),
    "a strategy by name": lambda v, d: train(v, d, strategy="mirrored"),
    "a tiny weight": lambda v, d: train(v, d, beta=1e-300, beta_start=1.0),
    "a batch of -1": lambda v, d: v.encode_arrays(d.test_images, batch_size=-1),
    "a batch of 1.5": lambda v, d: v.decode_arrays(np.zeros((3, 2)), batch_size=1.5),
    "no columns": lambda v, d: pictures.reconstructions(v, d.test_images, columns=0),
    "a broken scale": lambda v, d: pictures.spiral_frames(v, [0.0, 1.0], scale=1.5),
    "codes that are not numbers": lambda v, d: pictures.manifold(v, [0.0, 1.0], encodings=NAN),
    "encodings as a tuple": lambda v, d: pictures.manifold(v, [0.0, 1.0], encodings=tuple(NAN)),
    "encodings that are lists": lambda v, d: explore(v, encodings=[[0.0, 1.0]]),
    "rows beyond the images": lambda v, d: Trainer(v, d.train_images, rows=np.array([1000])),
    "rows as a mask": lambda v, d: Trainer(v, d.train_images, rows=np.ones(60, bool)),
    "a list of runs of 3": lambda v, d: list_runs(3),
    "half an example": lambda v, d: explorer_page(v, d, examples=1.5),
    "-1 examples": lambda v, d: explorer_page(v, d, examples=-1),
    "a side of text": lambda v, d: explorer_page(v, d, map_side="x"),
    "too few names": lambda v, d: explorer_page(v, d._replace(label_names=("a",), test_labels=d.test_labels + 1)),
    "labels below 0": lambda v, d: explorer_page(v, d._replace(test_labels=d.test_labels - 1)),
    "a decoder without weights": lambda v, d: explorer_page(VAE(2, decoder=no_weights(), **TINY)),
    "a layer that computes otherwise": lambda v, d: explorer_page(VAE(2, decoder=doubling(), **TINY)),
}


class Stub:
    encodings = None


def no_weights():
    layers = [keras.layers.RepeatVector(392), keras.layers.Reshape((28, 28, 1))]
    return keras.Sequential([keras.Input((2,)), *layers])


def doubling():
    class Twice(keras.layers.Dense):
        def call(self, x):
            return 2 * super().call(x)

    return keras.Sequential([keras.Input((2,)), Twice(784), keras.layers.Reshape((28, 28, 1))])


@pytest.mark.parametrize("name", MISTAKES)
def test_a_small_mistake_gets_a_sentence(vae, few, name):
    with pytest.raises(UserError) as raised:
        MISTAKES[name](vae, few)
    assert "\n" not in str(raised.value)


def test_a_model_of_nans_is_told_so(vae, few):
    vae.set_weights([weight * np.nan for weight in vae.get_weights()])
    for use in (lambda: train(vae, few), lambda: evaluate(vae, few.test_images, exact=True)):
        with pytest.raises(UserError, match="weights that are not finite"):
            use()


def test_what_one_may_leave_out(vae, few):
    assert train(vae, few.train_images, epochs=1, callbacks=None)
    assert "iwae_3" in evaluate(vae, few.test_images, samples=3)
    assert "iwae_1" not in evaluate(vae, few.test_images, samples=None)
    page = explorer_page(vae, few, card=[("a", float("nan"))], examples=0, map_side=112)
    assert '["a", "nan"]' in page
    assert isinstance(few, ImageData)
    assert json.loads(json.dumps(RunConfig(ModelConfig(2), TrainingConfig(), DataConfig()).to_dict()))


def test_output_that_is_lost_on_a_full_disk_is_a_failure(small_run):
    with open("/dev/full", "w") as full:
        for command in (["list"], ["evaluate", str(small_run), "--source", "sample", "--images", "5", "--no-exact"]):
            command = [sys.executable, "-m", "vae_lib", *command]
            result = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
            assert (result.returncode, "full disk" in result.stderr) == (1, True), result.stderr


@pytest.mark.slow
def test_an_interrupt_that_was_to_be_ignored_is_ignored(few, tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        config = RunConfig.from_flat(2, epochs=2, num_filters=2, hidden_units=4)
        path = train_run(config, few, tmp_path / "n", after_epoch=lambda _: signal.raise_signal(signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(load_run(path).history) == 2


@pytest.mark.parametrize("backend", [None, "svg"])
def test_a_command_leaves_the_environment_as_it_was(monkeypatch, tmp_path, small_run, backend):
    monkeypatch.delenv("MPLBACKEND", raising=False)
    if backend is not None:
        monkeypatch.setenv("MPLBACKEND", backend)
    before = dict(os.environ)
    assert main(["manifold", str(small_run), "--tiles", "2", "--out", str(tmp_path / "x.png")]) == 0
    assert exit_status(main, ["manifold", "nowhere"]) == 2
    assert dict(os.environ) == before
