"""Ordinary misuse: each ends in the right result or in one sentence, never in a wrong number or a dead kernel."""

import copy
import json
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT, exit_status, run_python, small
from vae_lib import cli, figures, marginal, pictures, report, sliders
from vae_lib.backend import keras, tf
from vae_lib.config import ModelConfig, RunConfig
from vae_lib.data.loading import ImageData, as_image_data, fingerprint, load_data
from vae_lib.errors import Fault, UserError, notice
from vae_lib.evaluation import evaluate, evaluate_elbo
from vae_lib.files import user_path
from vae_lib.model import VAE, Encodings
from vae_lib.page.export import explorer_page, packed_network
from vae_lib.runs import checkpoints, places, store
from vae_lib.runs.distribution import check_tf_config, make_strategy
from vae_lib.runs.lifecycle import Interrupted, resume_run, train_run
from vae_lib.runs.store import load_run, save_run
from vae_lib.sliders import explore
from vae_lib.trainer import Trainer
from vae_lib.training import State, train

TINY = {"num_filters": 4, "hidden_units": 8}
CLI = ["--source", "sample", "--epochs", "1", "--num-filters", "2", "--hidden-units", "4", "--batch-size", "500"]


@pytest.fixture(scope="module")
def vae():
    return VAE(2, **TINY)


# ---- Arrays --------------------------------------------------------------------------------------------------

TAKE_IMAGES = {
    "encode_arrays": lambda vae, x: vae.encode_arrays(x).z_mean,
    "elbo_arrays": lambda vae, x: vae.elbo_arrays(x).elbo,
    "prepare_arrays": lambda vae, x: vae.prepare_arrays(x),
    "evaluate_elbo": lambda vae, x: evaluate_elbo(vae, x)["elbo"],
    "evaluate": lambda vae, x: evaluate(vae, x)["elbo"],
    "reconstructions": pictures.reconstructions,
    "explore": lambda vae, x: explore(vae, x).encodings.z_mean,
    "train": lambda vae, x: train(VAE(2, **TINY), x, epochs=1)[0]["train_elbo"],
    "explorer_page": lambda vae, x: explorer_page(vae, x, map_side=112),
    "save_run": lambda vae, x: None,
}
del TAKE_IMAGES["save_run"]


@pytest.mark.parametrize("name", TAKE_IMAGES)
def test_floats_from_0_to_1_are_the_images_that_they_look_like(vae, sample, name):
    images, function = sample.test_images[::50], TAKE_IMAGES[name]
    expected = function(vae, images)
    for floats in (images / 255.0, (images / 255.0).astype(np.float32), tf.constant(images / 255.0)):
        found = function(vae, floats)
        assert np.array_equal(found, expected) if isinstance(expected, np.ndarray) else found == expected


@pytest.mark.parametrize("name", TAKE_IMAGES)
def test_what_is_no_array_of_images_is_refused_in_a_sentence(vae, sample, name):
    x, function = sample.test_images[:3], TAKE_IMAGES[name]
    wrong = {
        "without its batch axis": x[0],
        "without channels": x[..., 0],
        "channels first": x.transpose(0, 3, 1, 2),
        "of another size": x[:, :20, :20],
        "RGB": np.repeat(x, 3, -1),
        "none at all": x[:0],
        "of a wider integer": x.astype(np.int64),
        "floats of bytes": x.astype(np.float32),
        "not a number": np.full(x.shape, np.nan),
        "negative": x / 255.0 - 0.5,
        "ragged": [[1, 2], [3]],
        "text": "images",
    }
    for what, images in wrong.items():
        with pytest.raises(UserError) as refusal:
            function(vae, images)
        assert "(N, 28, 28, 1)" in str(refusal.value) or "from 0 to 1" in str(refusal.value), what


def test_codes_are_finite_and_of_the_right_shape(vae):
    for codes in (np.zeros(2), np.zeros([4, 3]), np.zeros([0, 2]), [[np.inf, 0]], [[1e39, 0]], [["a", "b"]]):
        with pytest.raises(UserError, match="codes must"):
            vae.decode_arrays(codes)
    assert vae.decode_arrays([[0, 0]]).shape == (1, 28, 28, 1)
    explorer = explore(vae)
    for codes in (np.zeros(3), [np.nan, 0.0]):
        with pytest.raises(UserError, match="a code must"):
            explorer.z = codes


def test_prepared_images_are_told_from_bytes(vae, sample):
    x = sample.test_images[:2]
    for function in (
        lambda: marginal.importance_weighted_bound(vae, x, 2),
        lambda: marginal.exact_log_px(vae, x),
        lambda: marginal.best_gaussian(vae, x),
        lambda: marginal.log_joint(vae, x, np.zeros([1, 2])),
    ):
        with pytest.raises(UserError, match=r"make them with model\.prepare_arrays"):
            function()
    with pytest.raises(UserError, match="finite"):
        marginal.importance_weighted_bound(vae, np.full([1, 28, 28, 1], np.nan, np.float32), 2)


def test_a_seed_has_one_range_everywhere(vae, sample):
    x = sample.test_images[:2]
    for seed in (-1, 2**31, 2**40, 1.5, True, "0"):
        for function in (
            lambda seed=seed: vae.encode_arrays(x, seed=seed),
            lambda seed=seed: vae.elbo_arrays(x, seed=seed),
            lambda seed=seed: vae.prepare_arrays(x, seed=seed),
            lambda seed=seed: vae.sample(1, seed),
            lambda seed=seed: pictures.samples(vae, 1, seed=seed),
            lambda seed=seed: evaluate(vae, x, seed=seed),
            lambda seed=seed: marginal.importance_weighted_bound(vae, vae.prepare_arrays(x), 2, seed=seed),
        ):
            with pytest.raises(UserError, match=r"a seed must be a whole number from 0 to 2,147,483,647"):
                function()
    vae.encode_arrays(x, seed=np.int64(2**31 - 1))


def test_counts_are_whole_numbers_of_at_least_one(vae, sample):
    for count in (0, -1, 1.5, "3", True):
        with pytest.raises(UserError, match="whole number of at least 1"):
            vae.sample(count)
        with pytest.raises(UserError, match="whole number of at least 1"):
            pictures.samples(vae, count)
        with pytest.raises(UserError, match="whole number of at least 1"):
            marginal.importance_weighted_bound(vae, vae.prepare_arrays(sample.test_images[:1]), count)


def test_numpy_numbers_are_numbers(sample):
    config = ModelConfig(np.int64(2), num_filters=np.int32(4), seed=np.uint8(1))
    assert (config.latent_dim, type(config.latent_dim)) == (2, int)
    history = train(VAE(2, **TINY), sample.train_images[:50], epochs=np.int64(1), beta=np.float32(0.5))
    assert len(history) == 1
    assert load_data("mnist", np.int64(16), source="sample").train_images.shape[1:] == (16, 16, 1)


def test_a_model_can_be_copied_and_pickled(vae):
    for other in (copy.deepcopy(vae), pickle.loads(pickle.dumps(vae))):
        assert all(np.array_equal(a, b) for a, b in zip(other.get_weights(), vae.get_weights(), strict=True))


def test_keras_fit_takes_floats_for_what_they_are(sample):
    losses = []
    for images in (sample.train_images[::80], sample.train_images[::80] / 255.0):
        model = VAE(2, **TINY)
        model.compile("adam")
        losses.append(model.fit(images, epochs=2, verbose=0, shuffle=False).history["loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match="floats must lie from 0 to 1"):
        model.fit(sample.train_images[:50].astype(np.float32), verbose=0)
    with pytest.raises(UserError, match="not int64"):
        model.fit(sample.train_images[:50].astype(np.int64), verbose=0)
    with pytest.raises(UserError, match=r"\(B, 28, 28, 1\), not \(None, 28, 28\)"):
        model.fit(sample.train_images[:50, ..., 0], verbose=0)


def test_pictures_say_what_they_are_drawn_of(vae, small_run):
    for function in (pictures.manifold, pictures.spiral_frames):
        with pytest.raises(UserError, match=r"give its model, run\.model"):
            function(load_run(small_run))
        for values in (10, [], [[0.0]], [np.nan], ["a"]):
            with pytest.raises(UserError, match="finite coordinates"):
                function(vae, values)


def test_no_picture_is_made_of_what_is_none(tmp_path):
    for image in (np.full([4, 4, 1], 100), np.full([4, 4, 1], np.nan)):
        with pytest.raises(UserError, match="a picture is made of"):
            figures.write_image(tmp_path / "a.png", image)
    with pytest.raises(UserError, match="at least one frame"):
        figures.write_gif(tmp_path / "a.gif", np.zeros([0, 4, 4, 1]))
    assert not list(tmp_path.iterdir())


def test_a_great_many_samples_are_decoded_in_batches(vae, monkeypatch):
    seen, real = [], VAE.decode
    graph = vae.decode_graph()
    monkeypatch.setattr(vae, "decode_graph", lambda: lambda z: (seen.append(len(z)), graph(z))[1])
    picture = pictures.samples(vae, 1000)
    assert max(seen) <= 400
    np.testing.assert_array_equal(picture[:28, :28], figures.to_bytes(real(vae, _draw(1000))[0].numpy()))
    with pytest.raises(UserError, match="pixels"):
        pictures.samples(vae, 10**9)


def _draw(n):
    return tf.random.stateless_normal([n, 2], [0, 0])


def test_explorers_do_not_pile_up(vae):
    from ipywidgets.widgets.widget import _instances

    counts = []
    for _ in range(3 * sliders.MOST_ALIVE):
        explore(vae)
        counts.append(len(_instances))
    assert counts[-1] <= counts[sliders.MOST_ALIVE + 1]
    assert counts[-1] > counts[0]


def test_images_and_encodings_belong_together(vae, sample):
    run = load_run("mnist_2")
    with pytest.raises(UserError, match="1,000 images are not those of the 10,000 encodings"):
        explore(run.model, sample, encodings=run.encodings)
    other = sample._replace(label_names=("a", "b"))
    with pytest.raises(UserError, match="labels beyond the 2 names"):
        explorer_page(run.model, other, encodings=run.encodings, map_side=112)
    other = other._replace(train_labels=other.train_labels % 2, test_labels=other.test_labels % 2)
    with pytest.raises(UserError, match="of other images"):
        explorer_page(run.model, other, encodings=run.encodings, map_side=112)


def test_train_says_what_it_cannot_learn_from(vae, sample):
    x = sample.train_images[:10]
    for data in ((x, x), {"x": x}, tf.data.Dataset.from_tensor_slices(x)):
        with pytest.raises(UserError, match="data must be what load_data returns, or an array of images"):
            train(vae, data)
    assert len(train(VAE(2, **TINY), list(x), epochs=1)) == 1
    with pytest.raises(UserError, match="use train_run"):
        train(vae, x, checkpoint_every=5)


# ---- Networks of one's own ----------------------------------------------------------------------------------


def own_encoder(*layers):
    return keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), *layers, keras.layers.Dense(4)])


def test_own_networks_train_in_training_mode(sample):
    seen = []

    @keras.saving.register_keras_serializable("test")
    class Seen(keras.layers.Layer):
        def call(self, x, training=None):
            seen.append(training)
            return x

    vae = VAE(2, encoder=own_encoder(Seen(), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)), **TINY)
    before = [v.numpy() for v in vae.encoder.non_trainable_variables]
    seen.clear()
    train(vae, sample.train_images[:100], epochs=1)
    after = [v.numpy() for v in vae.encoder.non_trainable_variables]
    assert True in seen
    assert not all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    seen.clear()
    vae.encode_arrays(sample.test_images[:2])
    assert True not in seen


def test_regularizers_of_own_networks_count(sample):
    norms = []
    for strength in (0.0, 100.0):
        layer = keras.layers.Dense(8, kernel_regularizer=keras.regularizers.L2(strength))
        vae = VAE(2, encoder=own_encoder(layer), **TINY)
        train(vae, sample.train_images[:200], epochs=5)
        vae.compile("adam")
        vae.fit(sample.train_images[:50], verbose=0)
        norms.append(float(np.square(layer.kernel).sum()))
    assert norms[1] < 0.8 * norms[0]


def test_a_layer_that_nothing_uses_stops_no_training(sample):
    class Spare(keras.Model):
        def __init__(self):
            super().__init__()
            self.used, self.spare = keras.layers.Dense(784), keras.layers.Dense(3)
            self.spare.build((None, 2))

        def call(self, z):
            return tf.reshape(self.used(z), [-1, 28, 28, 1])

    assert len(train(VAE(2, decoder=Spare(), **TINY), sample.train_images[:50], epochs=1)) == 1


def test_networks_that_do_not_fit_are_told_why():
    two_heads = keras.Input((28, 28, 1))
    flat = keras.layers.Flatten()(two_heads)
    heads = keras.Model(two_heads, [keras.layers.Dense(2)(flat), keras.layers.Dense(2)(flat)])
    with pytest.raises(UserError, match="returns 2 tensors: join them"):
        VAE(2, encoder=heads)
    with pytest.raises(UserError, match=r"map \(B, 28, 28, 1\) to \(B, 4\), as a keras.Model; function is none"):
        VAE(2, encoder=lambda x: x)

    class Broken(keras.Model):
        def call(self, x):
            raise RuntimeError("no such luck")

    with pytest.raises(UserError, match="cannot be called so: no such luck"):
        VAE(2, encoder=Broken())


def test_the_page_refuses_a_decoder_that_it_would_compute_otherwise():
    layers = keras.layers

    def decoder(*middle):
        return keras.Sequential([keras.Input((2,)), layers.Dense(784), layers.Reshape((28, 28, 1)), *middle])

    packed_network(decoder(layers.Conv2D(1, 3, padding="same", activation="gelu")))
    for middle, reason in (
        (layers.Conv2D(1, 3, padding="same", activation="relu"), "gelu or no activation, not with relu"),
        (layers.Conv2D(1, 3, padding="same", strides=(1, 2)), "Conv2D"),
        (layers.Conv2D(1, 3), "Conv2D"),
        (layers.Conv2D(1, (3, 5), padding="same"), "Conv2D"),
        (layers.Conv2D(1, 3, padding="same", dilation_rate=2), "Conv2D"),
        (layers.Conv2D(1, 3, padding="same", use_bias=False), "Conv2D"),
        (layers.Dense(1, use_bias=False), "Dense"),
        (layers.BatchNormalization(), "BatchNormalization"),
    ):
        with pytest.raises(UserError, match=reason):
            packed_network(decoder(middle))
    image = keras.Input((2,))
    with pytest.raises(UserError, match=r"keras.Sequential, not a Functional"):
        packed_network(keras.Model(image, layers.Dense(3)(image)))


# ---- Training ------------------------------------------------------------------------------------------------


def test_learning_rate_callbacks_change_the_learning_rate(sample):
    ends = []
    for callbacks in ([], [keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.0)]):
        model = VAE(2, **TINY)
        start = model.get_weights()
        train(model, sample.train_images[:200], epochs=1, callbacks=callbacks)
        ends.append(all(np.array_equal(a, b) for a, b in zip(start, model.get_weights(), strict=True)))
    assert ends == [False, True]
    plateau = keras.callbacks.ReduceLROnPlateau(monitor="loss", min_delta=1e9, patience=0, factor=0.1)
    rates = []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda e, logs: rates.append(logs["learning_rate"]))
    train(VAE(2, **TINY), sample.train_images[:100], epochs=4, schedule="constant", callbacks=[plateau, watch])
    np.testing.assert_allclose(rates, [1e-3, 1e-3, 1e-4, 1e-5], rtol=1e-3)
    assert model.optimizer is None


def test_an_epoch_begins_before_its_first_step(sample):
    vae, seen = VAE(2, **TINY), []
    start = vae.get_weights()
    begin = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(vae.get_weights()))
    train(vae, sample.train_images[:100], epochs=1, callbacks=begin)  # one alone needs no list
    assert all(np.array_equal(a, b) for a, b in zip(start, seen[0], strict=True))


def test_training_can_be_watched(sample, capsys):
    train(VAE(2, **TINY), small(sample, 100, 20), epochs=2, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert "test ELBO" in lines[0]
    train(VAE(2, **TINY), sample.train_images[:100], epochs=1, verbose=True)
    assert "train ELBO" in capsys.readouterr().out


def test_validation_is_logged_whole(sample, tmp_path):
    log = keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    train(VAE(2, **TINY), sample.train_images[:100], epochs=1, patience=2, callbacks=[log])
    header = (tmp_path / "log.csv").read_text().splitlines()[0]
    assert header == "epoch,kl,loss,nll,val_kl,val_loss,val_nll"


def test_ctrl_c_leaves_a_model_that_goes_on_without_repeating(sample):
    def stop(*_, **__):
        raise KeyboardInterrupt

    vae = VAE(2, **TINY)
    with pytest.raises(KeyboardInterrupt):
        train(vae, sample.train_images[:500], epochs=3, callbacks=keras.callbacks.LambdaCallback(on_batch_end=stop))
    assert (vae.epochs_trained, vae.steps_trained) == (1, 10)
    assert vae.optimizer is None


def test_a_saved_run_knows_its_training(sample, tmp_path):
    vae = VAE(2, **TINY)
    history = train(vae, small(sample, 100, 20), epochs=2, learning_rate=2e-3)
    run = load_run(save_run(tmp_path / "run", vae, small(sample, 100, 20)))
    assert run.history == history
    assert (run.config.training.epochs, run.config.training.learning_rate) == (2, 2e-3)


def test_a_run_does_not_invent_its_images(sample, tmp_path, capsys):
    bare = save_run(tmp_path / "bare", VAE(2, **TINY))
    assert repr(load_run(bare)) == "Run('bare': images of your own, 2 latent dimensions)"
    own = ImageData(*sample[:4], sample.label_names, "array", "digits")
    named = save_run(tmp_path / "named", VAE(2, **TINY), own)
    alone = save_run(tmp_path / "alone", VAE(2, **TINY), sample.train_images[:20])
    for run in (bare, named, alone):
        for command in ("evaluate", "reconstruct"):
            assert exit_status(cli.main, [command, str(run)]) == 2
            assert "does not know where its images are" in capsys.readouterr().err


def test_a_name_with_a_slash_at_its_end_is_a_name(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_LIB_HOME", str(tmp_path))
    assert save_run("mine/", VAE(2, **TINY)) == tmp_path / "pickles" / "mine"
    assert load_run("mine").name == load_run("mine/").name == "mine"
    with pytest.raises(UserError, match="give the run another name, or overwrite it"):
        save_run("mine", VAE(2, **TINY))


@pytest.mark.parametrize("what", ["weights", "codes", "numbers"])
def test_a_diverged_model_replaces_nothing(sample, tmp_path, what):
    good, bad = VAE(2, **TINY), VAE(2, **TINY)
    path = save_run(tmp_path / "run", good)
    codes = np.zeros([2, 2], np.float32)
    encodings, metrics = Encodings(codes, codes, np.zeros(2, np.int64)), {"test": {"elbo": -1.0}}
    if what == "weights":
        bad.set_weights([np.full_like(w, np.inf) for w in bad.get_weights()])
    elif what == "codes":
        encodings = encodings._replace(z_mean=codes + np.inf)
    else:
        metrics = {"test": {"elbo": float("nan")}}
    with pytest.raises(Fault, match=f"diverged .its {what} are not finite"):
        save_run(path, bad, encodings=encodings, metrics=metrics, overwrite=True)
    assert np.array_equal(load_run(path).model.get_weights()[0], good.get_weights()[0])
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_training_that_diverges_in_its_last_step_keeps_the_good_run(tmp_path, capsys):
    words = ["-l", "2", *CLI, "--out", str(tmp_path / "run")]
    assert exit_status(cli.train_main, words) == 0
    before = (tmp_path / "run" / "config.json").read_bytes()
    wild = ["--batch-size", "5000", "--learning-rate", "1e5", "--schedule", "constant", "--overwrite"]
    assert exit_status(cli.train_main, [*words, *wild]) == 1
    assert "diverged" in capsys.readouterr().err
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    load_run(tmp_path / "run")


def test_far_codes_come_back(tmp_path):
    codes = np.array([[70_000.0, -1.0]], np.float32)
    path = save_run(tmp_path / "run", VAE(2, **TINY), encodings=Encodings(codes, codes * 0, np.zeros(1, np.int64)))
    np.testing.assert_array_equal(load_run(path).encodings.z_mean, codes)


def test_metrics_are_strict_json(small_run):
    def refuse(name):
        raise AssertionError(name)

    json.loads((small_run / "metrics.json").read_text(), parse_constant=refuse)
    with pytest.raises(UserError, match="not JSON compliant"):
        store.record_numbers(small_run, "test", {"elbo": float("nan")})


def test_ctrl_c_while_the_numbers_are_measured_says_how_to_go_on(sample, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    config = RunConfig.from_flat(2, epochs=1, **TINY)
    with monkeypatch.context() as patch:
        patch.setattr("vae_lib.evaluation.describe", stop)
        with pytest.raises(Interrupted) as stopped:
            train_run(config, small(sample, 60, 20), tmp_path / "run")
    run = load_run(resume_run(str(stopped.value.folder), small(sample, 60, 20)))
    assert len(run.history) == 1


def test_a_finished_run_is_not_resumed(small_run, sample):
    before = sorted(p.name for p in small_run.iterdir())
    with pytest.raises(UserError, match="is finished: there is nothing to resume"):
        resume_run(small_run, small(sample))
    assert sorted(p.name for p in small_run.iterdir()) == before


def test_only_the_run_that_is_named_is_resumed(tmp_path, monkeypatch, sample):
    monkeypatch.setenv("VAE_LIB_HOME", str(tmp_path))
    store.start_run(RunConfig.from_flat(2, **TINY), tmp_path / "pickles" / "mine")
    assert places.find_unfinished("mine") == tmp_path / "pickles" / "mine.partial"
    with pytest.raises(UserError, match="no unfinished run /nowhere/mine"):
        places.find_unfinished("/nowhere/mine")
    monkeypatch.chdir(tmp_path / "pickles" / "mine.partial")
    assert places.find_unfinished(".") == Path.cwd()


def test_an_odd_number_of_workers_leaves_nothing_behind(sample, tmp_path):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    monkey = type("Three", (), {"num_replicas_in_sync": 3, "scope": strategy.scope})()
    with pytest.raises(UserError, match="a batch of 50 cannot be shared evenly by 3 replicas"):
        train_run(RunConfig.from_flat(2, **TINY), small(sample), tmp_path / "run", strategy=monkey)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("spoil", ["compressed", "header", "losses", "history"])
def test_a_hostile_checkpoint_is_damaged_and_nothing_else(tmp_path, spoil):
    path = checkpoints.save(tmp_path, State(n_images=7, command="x"))
    header = {"format": 2, "n_images": 7, "history": [], "best_epoch": 0, "seconds": 0.0, "command": "", "variables": 0}
    losses = np.zeros([0, 2], np.float32)
    if spoil == "header":
        header |= {"n_images": [7]}
    elif spoil == "history":
        header |= {"history": [3]}
    elif spoil == "losses":
        losses = np.array(["x"])
    save = np.savez_compressed if spoil == "compressed" else np.savez
    big = {"a0000": np.zeros(10**7, np.float32)} if spoil == "compressed" else {}
    save(path, header=np.array(json.dumps(header)), losses=losses, **big)
    with pytest.raises(UserError, match=r"every checkpoint .* is damaged"):
        checkpoints.load(tmp_path)


# ---- Data ----------------------------------------------------------------------------------------------------


def picture(path, value=0, size=(12, 12), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path, **options)


def test_a_folder_says_what_it_holds(tmp_path, capsys):
    for i in range(3):
        picture(tmp_path / "own" / "dogs" / f"{i}.png")
        picture(tmp_path / "elsewhere" / f"{i}.png")
    (tmp_path / "own" / "cats").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "own" / "again").symlink_to(tmp_path / "own")  # a loop
    for name in ("a.heic", "b.heic", "Thumbs.db", ".hidden.png", "dogs/._0.png", "notes"):
        (tmp_path / "own" / name).write_bytes(b"")
    picture(tmp_path / "own" / ".ipynb_checkpoints" / "0.png")
    data = load_data(tmp_path / "own", 8)
    assert data.label_names == ("cats", "dogs")
    assert len(data.train_images) + len(data.test_images) == 6
    told = capsys.readouterr().err
    assert told == (
        f"vae_lib: {tmp_path}/own: 6 images in 2 classes; left out: 1 .db, 2 .heic, 3 hidden, 1 without an ending.\n"
    )
    assert repr(data).startswith(f"ImageData({tmp_path}/own, folder: ")
    assert "of 8 x 8 x 1, 2 classes)" in repr(data)


def test_photos_stand_upright(tmp_path):
    upright = np.zeros([16, 16], np.uint8)
    upright[:8] = 255
    lying = Image.fromarray(np.rot90(upright))
    tag = Image.Exif()
    tag[0x0112] = 6  # turn by a quarter to see it upright
    for i in range(3):
        lying.save(tmp_path / f"{i}.jpg", exif=tag, quality=100)
    image = load_data(tmp_path, 16).train_images[0][..., 0]
    assert image[:7].min() > 200
    assert image[9:].max() < 50


def test_palettes_are_read_and_what_moves_or_is_transparent_is_refused(tmp_path):
    colours = Image.new("RGB", (12, 12), (250, 20, 20))
    for i in range(2):
        colours.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / f"{i}.png")
    image = load_data(tmp_path, 12).train_images[0]
    np.testing.assert_allclose(image[0, 0], [250, 20, 20], atol=3)
    grey = Image.new("L", (12, 12), 77)
    for i in range(2):
        (tmp_path / "grey").mkdir(exist_ok=True)
        grey.save(tmp_path / "grey" / f"{i}.gif")
    assert (load_data(tmp_path / "grey", 12).train_images == 77).all()
    clear = colours.convert("P")
    clear.info["transparency"] = 0
    (tmp_path / "clear").mkdir()
    for i in range(2):
        clear.save(tmp_path / "clear" / f"{i}.png", transparency=0)
    with pytest.raises(UserError, match="transparent pixels"):
        load_data(tmp_path / "clear", 12)


def test_a_name_that_is_no_text_can_be_read(tmp_path):
    for name in (b"caf\xe9.png", b"b.png", b"c.png"):
        picture(Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)), format="PNG")
    assert len(load_data(tmp_path, 8).train_images) == 2


def test_paths_may_be_paths_and_hold_a_tilde_or_a_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PHOTOS", str(tmp_path / "own"))
    for i in range(3):
        picture(tmp_path / "own" / f"{i}.png")
    for name in ("~/own", "$PHOTOS", Path("~/own"), tmp_path / "own"):
        assert len(load_data(name, 8).train_images) == 2
    assert save_run("~/run", VAE(2, **TINY)) == tmp_path / "run"
    assert figures.write_image("~/a.png", np.zeros([4, 4, 1])) == tmp_path / "a.png"
    for path in ("", None, 3, "a\0b", b"bytes"):
        with pytest.raises(UserError):
            user_path(path)
    with pytest.raises(UserError, match="neither a data set nor a folder"):
        load_data(Path("nope"))
    for source in (None, 3):
        with pytest.raises(UserError, match=r"source .* is unknown"):
            load_data("mnist", source=source)


def test_a_fingerprint_notices_every_change(sample):
    data = small(sample, 50, 20)
    same = fingerprint(data._replace(train_images=data.train_images.copy()))
    assert same == fingerprint(data)
    changed = data.train_images.copy()
    changed[0, 0, 0, 0] ^= 1
    others = [
        data._replace(train_images=changed),
        data._replace(train_images=data.train_images[::-1]),
        data._replace(test_labels=data.test_labels + 1),
        data._replace(test_images=data.train_images[:20]),
    ]
    assert len({fingerprint(other) for other in [data, *others]}) == 5


def test_a_folder_that_has_moved_or_changed(tmp_path, capsys):
    for i in range(30):
        picture(tmp_path / "own" / f"{i}.png", 8 * i)
    words = ["-l", "2", *CLI[2:], "--im-dim", "8", "--data", str(tmp_path / "own"), "--out", str(tmp_path / "run")]
    assert exit_status(cli.train_main, words) == 0
    (tmp_path / "own").rename(tmp_path / "moved")
    assert exit_status(cli.main, ["evaluate", str(tmp_path / "run"), "--no-exact"]) == 2
    capsys.readouterr()
    moved = ["evaluate", str(tmp_path / "run"), "--no-exact", "--data-dir", str(tmp_path / "moved")]
    assert exit_status(cli.main, moved) == 0
    assert "not the images" not in capsys.readouterr().err
    picture(tmp_path / "moved" / "0.png", 255)
    assert exit_status(cli.main, moved) == 0
    assert "these are not the images that the run was trained with" in capsys.readouterr().err
    assert exit_status(cli.main, [*moved, "--source", "sample"]) == 2
    out = ["--out", str(tmp_path / "a.png"), "--data-dir", str(tmp_path / "moved")]
    assert exit_status(cli.main, ["reconstruct", str(tmp_path / "run"), *out]) == 0


def test_resume_asks_for_the_source_that_the_run_had(sample, tmp_path, monkeypatch):
    asked = []
    config = RunConfig.from_flat(2, epochs=1, **TINY)
    with pytest.raises(ZeroDivisionError):
        train_run(config, small(sample, 60, 20), tmp_path / "run", after_epoch=lambda row: 1 / 0)

    def load(name, im_dim, **options):
        asked.append(options["source"])
        return small(sample, 60, 20)

    monkeypatch.setattr("vae_lib.data.loading.load_data", load)
    assert exit_status(cli.train_main, ["--resume", str(tmp_path / "run")]) == 0
    assert asked == ["sample"]


def test_a_user_without_a_home(tmp_path):
    script = (
        "import os; os.environ.pop('HOME', None); import pathlib, pwd\n"
        "def nobody(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = nobody\n"
        "from vae_lib.data.loading import default_cache_dir, load_data\n"
        "print(len(load_data('mnist', source='sample').train_images), default_cache_dir())"
    )
    environment = {"VAE_LIB_CACHE": "", "XDG_CACHE_HOME": "", "TFDS_DATA_DIR": ""}
    result = run_python("-c", script, cwd=tmp_path, **environment)
    assert result.stdout.split() == ["4000", "None"], result.stderr
    assert not list(tmp_path.iterdir())


def test_few_images_have_a_plane(tmp_path):
    codes = np.ones([1, 3], np.float32)
    vae = VAE(3, **TINY)
    one = Encodings(codes, codes, np.zeros(1, np.int64))
    values = np.linspace(-1, 1, 3)
    diagonal = pictures.manifold(vae, values, plane="diagonal")
    np.testing.assert_array_equal(pictures.manifold(vae, values, encodings=one), diagonal)
    with pytest.raises(UserError, match="at least 2 codes"):
        pictures.manifold(vae, values, encodings=one, plane="principal")
    explorer_page(vae, encodings=one, map_side=112)


def test_data_of_other_shapes_is_refused_whole(sample):
    data = as_image_data(small(sample, 10, 5)._replace(test_images=sample.test_images[:5] / 255.0), (28, 28, 1))
    np.testing.assert_array_equal(data.test_images, sample.test_images[:5])
    with pytest.raises(UserError, match=r"test images must have the shape \(N, 28, 28, 1\)"):
        as_image_data(sample._replace(test_images=sample.test_images[..., 0]), (28, 28, 1))


# ---- Verdicts ------------------------------------------------------------------------------------------------


def test_one_image_is_too_few_for_a_verdict(vae, sample):
    found = evaluate(vae, sample.test_images[:1], exact=True)
    assert [key for key in found if key.endswith("_error") and found[key] is None] == [
        "elbo_error", "nll_error", "kl_error", "log_px_error",
    ]  # fmt: skip
    assert report.verdict(vae.config, found, {"elbo": 0.0}) == ["one image is too few to judge the model by."]
    assert "+- unknown" in report.evaluation_lines(vae.config, found)[0]
    json.dumps(found, allow_nan=False)


def test_a_verdict_needs_two_standard_errors():
    config = ModelConfig(2)
    test = {"kl_per_dimension": [3.0, 3.0], "kl": 6.0, "kl_error": 0.1, "pixel_calibration": [], "elbo": -140.0}
    for error, expected in ((1.0, 1), (10.0, 0)):
        found = report.verdict(config, test | {"elbo_error": error}, {"elbo": -130.0, "elbo_error": 0.1})
        assert len(found) == expected
    tiny = {"kl": 0.15, "kl_error": 0.1, "elbo_error": 1.0}
    assert report.verdict(config, test | tiny) == []
    assert len(report.verdict(config, test | tiny | {"kl_error": 0.01})) == 1


def test_more_bits_than_the_bytes_have_are_named():
    config = ModelConfig(2, likelihood="gaussian")
    test = {"kl_per_dimension": [3.0, 3.0], "kl": 6.0, "kl_error": 0.1, "pixel_calibration": [], "elbo": -140.0}
    for bits, expected in ((8.5, 1), (7.9, 0), (8.05, 0)):
        elbo = -(bits - 8) * 784 * np.log(2)
        found = report.verdict(config, test | {"elbo": elbo, "elbo_error": 30.0, "bits_per_pixel": bits})
        assert len(found) == expected, bits


def test_some_of_the_test_images_are_of_all_classes(tmp_path, capsys, monkeypatch, small_run):
    seen = []
    monkeypatch.setattr("vae_lib.evaluation.evaluate", lambda model, images, **_: seen.append(images) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["evaluate", str(small_run), "--source", "sample", "--images", "20"])
    data = load_data("mnist", source="sample")
    labels = [data.test_labels[(data.test_images == image).all(axis=(1, 2, 3)).argmax()] for image in seen[0]]
    assert sorted(labels) == sorted(list(range(10)) * 2)


# ---- Output and signals --------------------------------------------------------------------------------------


def shell(command, folder, **environment):
    script = command.replace("TRAIN", f"{sys.executable} {ROOT / 'train_VAE.py'} -l 2 {' '.join(CLI)}")
    script = script.replace("TOOL", f"{sys.executable} -m vae_lib")
    env = os.environ | {"PYTHONPATH": str(ROOT), "VAE_LIB_HOME": str(folder)} | environment
    return subprocess.run(["bash", "-c", script], cwd=folder, env=env, capture_output=True, timeout=300, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "set -o pipefail; TRAIN --epochs 3 --out run | head -0",
        "TRAIN --out run > /dev/full",
        "TRAIN --out run > /dev/full 2>&1",
        "TRAIN --out run 2>&-",
        "TRAIN --out run >&- 2>&-",
    ],
)
def test_what_is_printed_stops_no_training(tmp_path, command):
    result = shell(command, tmp_path)
    assert b"Traceback" not in result.stderr
    assert result.returncode == 0, result.stderr
    assert len(load_run(tmp_path / "run").history) in (1, 3)


@pytest.mark.slow
def test_an_ascii_terminal_and_foreign_settings_stop_nothing(tmp_path):
    keras_settings = tmp_path / ".keras" / "keras.json"
    keras_settings.parent.mkdir()
    keras_settings.write_text('{"image_data_format": "channels_first", "backend": "tensorflow"}')
    environment = {
        "PYTHONIOENCODING": "ascii", "MPLBACKEND": "bogus", "PYTHONWARNINGS": "error::DeprecationWarning",
        "HOME": str(tmp_path), "KERAS_HOME": str(tmp_path / ".keras"),
    }  # fmt: skip
    result = shell(
        "TRAIN --out ünï && TOOL manifold ünï --tiles 2 && VAE manifold mnist_2 --tiles 2", tmp_path, **environment
    )
    assert b"no runs" not in result.stderr
    assert b"saved \\xfcn\\xef" in result.stdout
    assert b"wrote" in result.stdout, result.stderr
    script = "from vae_lib import load_run; print(load_run('mnist_2').model.decode_arrays([[0, 0]]).shape)"
    environment["PYTHONWARNINGS"] = ""
    environment["MPLBACKEND"] = "agg"
    assert run_python("-c", script, **environment).stdout.strip() == "(1, 28, 28, 1)"


def test_a_list_ends_quietly(tmp_path):
    for command in ("TOOL list | head -0", "TOOL list | true"):
        result = shell(command, tmp_path)
        assert (result.returncode, result.stderr) == (0, b""), command


def test_names_that_the_shell_would_misread(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert exit_status(cli.train_main, ["-l", "2", *CLI, "--out=-dash"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("manifold ./-dash")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert exit_status(cli.train_main, ["-l", "2", *CLI, "--out=~/run"]) == 0
    assert load_run(tmp_path / "home" / "run").name == "run"
    assert not (tmp_path / "~").exists()
    monkeypatch.chdir(tmp_path / "home" / "run")
    monkeypatch.setenv("VAE_LIB_HOME", str(tmp_path))
    for command in (["manifold", ".", "--tiles", "2"], ["animate", ".", "--tiles", "2"], ["samples", "."]):
        assert exit_status(cli.main, command) == 0
    assert sorted(p.name for p in (tmp_path / "img").iterdir()) == ["run.gif", "run.png", "samples_run.png"]


def test_a_notice_needs_no_standard_error(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    notice("nobody hears this")
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        notice("nor this")
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space"):  # what is left in the buffer
            full.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


def test_an_interrupt_while_a_library_is_imported_is_an_interrupt(monkeypatch, capsys):
    def command(_args):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("PyCapsule_Import could not import module") from None

    monkeypatch.setitem(cli.commands.COMMANDS, "list", command)
    assert cli.main(["list"]) == 130
    assert capsys.readouterr().err.strip() == "vae list: interrupted."


@pytest.mark.parametrize(
    "config",
    [
        None, "nonsense", "null", "[]",
        {"cluster": {"worker": "localhost:2222"}, "task": {"type": "worker", "index": 0}},
        {"cluster": {"worker": [None]}, "task": {"type": "worker", "index": 0}},
        {"cluster": {"worker": ["localhost"]}, "task": {"type": "worker", "index": 0}},
        {"cluster": {"worker": ["localhost:99999"]}, "task": {"type": "worker", "index": 0}},
        {"cluster": {"worker": ["localhost:2222"]}, "task": {"type": "worker", "index": 1}},
        {"cluster": {"worker": ["localhost:2222"]}, "task": {"type": "worker", "index": "0"}},
        {"cluster": {"chief": ["localhost:1"], "worker": ["localhost:2222"]}, "task": {"type": "worker", "index": 0}},
    ],
)  # fmt: skip
def test_a_cluster_is_checked_to_the_end(monkeypatch, config):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(UserError, match="needs TF_CONFIG in the environment, such as"):
        check_tf_config()


def test_a_port_that_is_taken_is_named(monkeypatch):
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        cluster = {"cluster": {"worker": [f"localhost:{port}"]}, "task": {"type": "worker", "index": 0}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
        with pytest.raises(UserError, match=f"worker 1 of 1 cannot use its port {port}"):
            make_strategy("multi-worker")


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_that_waits_says_so_and_can_be_stopped(tmp_path, stop):
    with socket.socket() as one, socket.socket() as two:
        one.bind(("", 0)), two.bind(("", 0))
        ports = [s.getsockname()[1] for s in (one, two)]
    cluster = {"cluster": {"worker": [f"localhost:{p}" for p in ports]}, "task": {"type": "worker", "index": 0}}
    environment = os.environ | {"TF_CONFIG": json.dumps(cluster), "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        str(ROOT / "train_VAE.py"),
        "-l",
        "2",
        *CLI,
        "--strategy",
        "multi-worker",
        "--out",
        "run",
    ]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as worker:
        try:
            line = worker.stderr.readline()
            worker.send_signal(stop)
            status = worker.wait(10)
        finally:
            worker.kill()
    assert line == f"vae_lib: worker 1 of 2 waits for localhost:{ports[1]}; Ctrl-C ends it.\n"
    assert status == {signal.SIGINT: 130, signal.SIGTERM: -signal.SIGTERM}[stop]
    assert not (tmp_path / "run.partial").exists()


@pytest.mark.parametrize("text", ["\nno route to host\nand a long story", ""])
def test_a_cluster_that_cannot_be_joined_is_one_sentence(text, monkeypatch):
    def fails():
        raise RuntimeError(text)

    monkeypatch.setattr("vae_lib.runs.distribution.check_tf_config", lambda: ("worker 0", 1, []))
    monkeypatch.setattr("vae_lib.runs.distribution._wait_for", lambda *_: None)
    monkeypatch.setattr("tensorflow.distribute.MultiWorkerMirroredStrategy", fails)
    with pytest.raises(UserError) as refused:
        make_strategy("multi-worker")
    reason = "no route to host" if text else "RuntimeError"
    assert str(refused.value) == f"worker 0 cannot join the others: {reason}."


# ---- What a second reader of the library gave --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda vae, x: evaluate_elbo(x, vae), "this takes a VAE, not ndarray"),
        (lambda vae, x: Trainer(x, x), "this takes a VAE, not ndarray"),
        (lambda vae, x: Trainer(vae, x, 5), "config must be a TrainingConfig, not 5"),
        (lambda vae, x: train_run(RunConfig.from_flat(2, **TINY), x), "from RunConfig and ndarray"),
        (lambda vae, x: train_run(vae.config, x), "from ModelConfig and ndarray"),
        (lambda vae, x: vae.encode(np.zeros([2, 28, 28], np.float32)), r"floats \(B, 28, 28, 1\)"),
        (lambda vae, x: vae.encode(np.zeros([2, 1, 28, 28], np.float32)), r"floats \(B, 28, 28, 1\)"),
        (lambda vae, x: vae.decode(np.zeros([3, 3], np.float32)), r"codes, floats \(B, 2\), not float32 \(3, 3\)"),
        (lambda vae, x: vae.decode([[0, 0]]), r"codes, floats \(B, 2\), not int32"),
        (lambda vae, x: vae.encode_arrays(x.transpose(0, 3, 1, 2)), "move the channels last"),
        (lambda vae, x: vae.encode_arrays(x[0]), "for a single one add an axis"),
    ],
)
def test_what_does_not_fit_is_one_sentence(vae, call, said):
    with pytest.raises(UserError, match=said) as refusal:
        call(vae, np.zeros([4, 28, 28, 1], np.uint8))
    assert "\n" not in str(refusal.value)


def test_codes_may_be_a_list(vae):
    assert vae.decode([[0.0, 1.0]]).shape == (1, 28, 28, 1)


def test_a_network_that_is_assigned_must_fit(vae):
    own = VAE(2, **TINY)
    before = own.encoder
    with pytest.raises(UserError, match="the encoder must map"):
        own.encoder = own.decoder
    with pytest.raises(UserError, match="the decoder must map"):
        own.decoder = VAE(3, **TINY).decoder
    assert own.encoder is before
    assert not own.own_networks
    own.encoder = VAE(2, seed=1, **TINY).encoder
    assert own.own_networks


def test_colours_that_are_cut_to_two_levels_are_said(capsys):
    images = np.random.default_rng(0).integers(0, 256, [10, 8, 8, 3], np.uint8)
    for likelihood, said in (("bernoulli", True), ("discretized_logistic", False)):
        train(VAE(2, image_shape=(8, 8, 3), likelihood=likelihood, **TINY), images, epochs=1)
        assert ("cut to two levels" in capsys.readouterr().err) == said


def test_every_key_of_a_report_is_described(vae, sample):
    found = evaluate(vae, sample.test_images[:3], samples=[2], exact=True, refine=1)
    described = set(re.findall(r"``(\w+)``", evaluate.__doc__))
    for key in found:
        plain = re.sub(r"^iwae_\d+", "iwae_K", key)
        assert plain in described or plain.removesuffix("_error") in described, key
