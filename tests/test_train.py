"""The training loop: modes, batches, traces, learning, repeatability."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.conftest import small
from vae_lib import figures
from vae_lib.augment import altered_copies, mirrored_at_random
from vae_lib.backend import keras, tf
from vae_lib.config import RunConfig, TrainingConfig
from vae_lib.data.loading import ImageData, load_data
from vae_lib.errors import UserError
from vae_lib.model import VAE
from vae_lib.optimization import Adam, kl_weight, learning_rate
from vae_lib.runs.lifecycle import train_run
from vae_lib.runs.store import load_run
from vae_lib.trainer import Batch, Trainer, plan_epoch
from vae_lib.training import State, prepare_training, run_epochs, split_validation, train

SMALL = {"num_filters": 4, "hidden_units": 16}


def trained(sample, *, binarize=None, likelihood="bernoulli", precision="float32", **settings):
    model = VAE(2, binarize=binarize, likelihood=likelihood, precision=precision, **SMALL)
    return train(model, small(sample, 430, 50), **({"epochs": 2} | settings)), model.get_weights()


def test_a_plan_holds_every_image_once_and_fills_up_with_weight_zero():
    plan = plan_epoch(103, 10, seed=1, epoch=0)
    assert plan.indices.shape == plan.weights.shape == (11, 10)
    assert sorted(plan.indices[plan.weights == 1]) == list(range(103))
    assert plan.weights.sum() == 103
    same, other = plan_epoch(103, 10, 1, 0), plan_epoch(103, 10, 1, 1)
    np.testing.assert_array_equal(plan.indices, same.indices)
    assert not np.array_equal(plan.indices, other.indices)


@pytest.mark.parametrize("binarize", ["threshold", "dynamic"])
def test_eager_graph_and_xla_give_the_same_losses(sample, binarize):
    histories = [trained(sample, mode=mode, binarize=binarize)[0] for mode in ("eager", "graph", "xla")]
    for key in histories[0][0]:
        values = np.array([[row[key] for row in history] for history in histories])
        np.testing.assert_allclose(values[1:], values[[0, 0]], rtol=1e-4, err_msg=key)


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous_bernoulli", "gaussian"])
def test_two_runs_from_one_seed_are_bit_identical(sample, likelihood):
    (first, a), (second, b) = (trained(sample, likelihood=likelihood) for _ in range(2))
    assert first == second
    assert all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_a_graph_is_traced_once_odd_last_batch_included(sample, mode):
    trainer = Trainer(VAE(2, **SMALL), sample.train_images[:430], TrainingConfig(mode=mode))
    assert trainer.steps_per_epoch * 50 != 430
    for epoch in range(2):
        for _ in trainer.epoch_losses(epoch, np.empty([0, 2], np.float32), pause_every=4):
            pass
    assert trainer.traces == 1


def test_the_filled_up_batch_counts_its_real_images_only(sample):
    """A batch filled up with weight 0 takes the same step as the images alone."""
    images = sample.train_images[:10]
    steps = []
    for size, weights in ((10, np.ones(10)), (16, np.r_[np.ones(10), np.zeros(6)])):
        trainer = Trainer(VAE(2, **SMALL), images, TrainingConfig(batch_size=size, mode="eager"))
        epsilon, _ = trainer.model.noise(16, tf.constant([0, 0]))
        batch = tf.gather(tf.constant(images), np.arange(size) % 10)
        share = tf.constant(weights / weights.sum(), tf.float32)
        losses = trainer.train_step(Batch(batch, share, epsilon[:size], None), tf.constant(0))
        steps.append((losses.numpy(), trainer.model.get_weights()))
    np.testing.assert_allclose(steps[0][0], steps[1][0], rtol=1e-5)
    for a, b in zip(steps[0][1], steps[1][1], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_streamed_images_train_to_the_same_bits(sample, mode):
    weights, losses = [], []
    for limit in (0, 2**40):
        trainer = Trainer(VAE(2, **SMALL), sample.train_images[:430], TrainingConfig(mode=mode), stream_above=limit)
        assert trainer.streaming == (limit == 0)
        *_, (last, _) = trainer.epoch_losses(0, np.empty([0, 2], np.float32))
        losses.append(last)
        weights.append([w.tobytes() for w in trainer.model.get_weights()])
    np.testing.assert_array_equal(*losses)
    assert weights[0] == weights[1]


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_adam_takes_the_steps_of_keras_adam(decay):
    rng = np.random.default_rng(0)
    starts = [rng.normal(size=size).astype(np.float32) for size in ((4, 3), (3,))]
    ours, theirs = ([make(start) for start in starts] for make in (tf.Variable, keras.Variable))
    adam, reference = Adam(ours, decay), keras.optimizers.AdamW(0.01, weight_decay=decay)
    reference.exclude_from_weight_decay(theirs[1:])  # a bias
    for step in range(20):
        gradients = [tf.constant(rng.normal(size=start.shape), tf.float32) for start in starts]
        adam.apply(gradients, tf.constant(0.01), tf.constant(step))
        reference.apply_gradients(zip(gradients, theirs, strict=True))
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, atol=2e-5)


def test_bfloat16_keeps_float32_losses_and_weights(sample):
    histories = {p: trained(sample, precision=p, epochs=4) for p in ("float32", "bfloat16")}
    assert all(w.dtype == np.float32 for w in histories["bfloat16"][1])
    last = {p: history[-1]["test_elbo"] for p, (history, _) in histories.items()}
    assert last["bfloat16"] == pytest.approx(last["float32"], rel=0.02)
    assert last["bfloat16"] != last["float32"]


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous_bernoulli", "gaussian"])
def test_training_raises_the_test_elbo(sample, likelihood):
    history, _ = trained(sample, likelihood=likelihood, epochs=6, learning_rate=3e-3)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]
    assert history[-1]["test_elbo"] > history[0]["test_elbo"] + 50
    assert history[-1]["test_elbo"] == pytest.approx(-(history[-1]["test_nll"] + history[-1]["test_kl"]))


def test_beta_zero_lets_the_kl_grow(sample):
    kl = [trained(sample, beta=beta, epochs=5)[0][-1]["train_kl"] for beta in (0.0, 1.0)]
    assert kl[0] > 2 * kl[1]


def test_the_cosine_schedule_ends_at_zero():
    config = TrainingConfig(learning_rate=0.5)
    rates = [float(learning_rate(config, tf.constant(step), 100)) for step in (0, 50, 100)]
    np.testing.assert_allclose(rates, [0.5, 0.25, 0], atol=1e-7)
    assert float(learning_rate(TrainingConfig(learning_rate=0.5, schedule="constant"), tf.constant(99), 100)) == 0.5


def test_the_kl_weight_moves_geometrically_over_the_first_half():
    config = TrainingConfig(beta=2.0, beta_start=32.0)
    weights = [float(kl_weight(config, "bernoulli", tf.constant(step), 100)) for step in (0, 25, 50, 100)]
    np.testing.assert_allclose(weights, [32, 8, 2, 2], rtol=1e-5)


def test_a_loss_that_blows_up_stops_with_a_hint(sample):
    model = VAE(2, likelihood="gaussian", **SMALL)
    with pytest.raises(UserError, match="the learning rate is too high for this data; lower it"):
        train(model, small(sample), learning_rate=1e6)


def gradients_of(trainer, images, **changes):
    share = tf.fill([len(images)], 1.0 / len(images))
    epsilon, uniform = trainer.model.noise(len(images), tf.constant([0, 0]))
    parts = {"images": tf.constant(images), "share": share, "epsilon": epsilon, "uniform": uniform, "copies": None}
    gradients, _ = trainer.gradients(tf.constant(1.0), Batch(**(parts | changes)))
    return {v.path: g.numpy() for v, g in zip(trainer.model.trainable_variables, gradients, strict=True)}


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_only_the_encoder_learns_from_copies(sample, likelihood):
    vae = VAE(2, num_filters=4, hidden_units=8, likelihood=likelihood)
    trainer = Trainer(vae, sample.train_images[:20], TrainingConfig(augment_encoder=True))
    batch, others = sample.train_images[:20], sample.train_images[20:40]
    plain = gradients_of(trainer, batch)
    both = gradients_of(trainer, batch, copies=tf.cast(others, tf.float32))
    alone = gradients_of(trainer, others)
    encoder = {variable.path for variable in trainer.model.encoder.trainable_variables}
    assert encoder < set(plain)
    if likelihood == "bernoulli":  # no pixel noise: the copies' gradient is that of the same images by themselves
        for path in encoder:
            assert np.allclose(both[path], plain[path] + alone[path], atol=1e-4), path
    for path in set(plain) - encoder:
        assert np.array_equal(both[path], plain[path]), path


def test_copies_are_alike_and_follow_from_the_seed(sample):
    images = tf.constant(sample.train_images[:200])
    copies = altered_copies(images, tf.constant([3, 4]), bits=False).numpy()
    assert copies.min() >= 0
    assert copies.max() <= 255
    again = altered_copies(images, tf.constant([3, 4]), bits=False).numpy()
    other = altered_copies(images, tf.constant([3, 5]), bits=False).numpy()
    assert np.array_equal(copies, again)
    assert not np.array_equal(copies, other)
    flat, originals = copies.reshape(200, -1), images.numpy().reshape(200, -1).astype(float)
    alike = np.corrcoef(flat, originals)[:200, 200:]
    assert (alike.argmax(axis=1) == np.arange(200)).mean() > 0.5  # most are closest to their own original
    assert 0.8 < np.diag(alike).mean() < 0.99
    flipped = altered_copies(images, tf.constant([3, 4]), bits=True).numpy() != copies
    assert flipped.mean() == pytest.approx(0.03, abs=0.005)


def test_half_of_the_images_are_mirrored_and_the_seed_says_which(sample):
    images = sample.train_images[:400]
    seen = mirrored_at_random(tf.constant(images), tf.constant([3, 4])).numpy()
    same = (seen == images).all(axis=(1, 2, 3))
    assert np.array_equal(seen[~same], images[~same, :, ::-1])
    assert 0.4 < same.mean() < 0.6
    assert np.array_equal(seen, mirrored_at_random(tf.constant(images), tf.constant([3, 4])))
    assert not np.array_equal(seen, mirrored_at_random(tf.constant(images), tf.constant([3, 5])))


def test_training_shows_both_networks_the_mirror_images(sample):
    halves = np.zeros([2, 8, 8, 1], np.uint8)
    halves[:, :, :4] = 255  # the left half is white in every image
    data = np.repeat(halves, 50, axis=0)
    means = {}
    for mirror in (False, True):
        vae = VAE(2, image_shape=(8, 8, 1), num_filters=4, hidden_units=8)
        train(vae, data, epochs=8, batch_size=10, learning_rate=0.01, mirror=mirror)
        means[mirror] = vae.sample(200).numpy().mean(axis=(0, 1, 3))
    assert (means[False][:4] > 0.9).all()
    assert (means[False][4:] < 0.1).all()
    assert (np.abs(means[True] - 0.5) < 0.25).all()


def test_training_with_copies_is_repeatable_and_the_same_in_every_mode(sample):
    images = sample.train_images[:200]
    losses = []
    for mode in ("graph", "graph", "eager", "xla"):
        config = TrainingConfig(epochs=1, augment_encoder=True, mode=mode)
        trainer = Trainer(VAE(2, num_filters=4, hidden_units=8), images, config)
        *_, (last, _) = trainer.epoch_losses(0, np.empty([0, 2], np.float32))
        losses.append(last)
    assert np.array_equal(losses[0], losses[1])
    assert np.allclose(losses[0], losses[2], rtol=2e-3)
    assert np.allclose(losses[0], losses[3], rtol=2e-3)


def test_training_in_a_thread_leaves_the_signals_alone(sample, tmp_path):
    config = RunConfig.from_flat(2, num_filters=2, hidden_units=4, epochs=1)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(train_run, config, small(sample, 60, 20), tmp_path / "run").result()
    assert len(load_run(run).history) == 1


def test_early_stopping_needs_images_to_spare(sample):
    with pytest.raises(UserError, match="at least 2 training images"):
        train(VAE(2, num_filters=2, hidden_units=4), small(sample, 1, 1), patience=1)


def test_a_checkpoint_of_another_architecture_is_refused(sample):
    state = State(n_images=60, variables=[np.zeros(3)])
    trainer, held_out = prepare_training(VAE(2, **SMALL), small(sample, 60, 20), TrainingConfig())
    with pytest.raises(UserError, match="another architecture"):
        run_epochs(trainer, small(sample, 60, 20), held_out, state=state)


def test_the_kl_weight_can_start_at_nothing():
    config = TrainingConfig(beta_start=0.0)
    weights = [float(kl_weight(config, "bernoulli", tf.constant(step), 8)) for step in range(5)]
    np.testing.assert_allclose(weights, [0.0, 0.25, 0.5, 0.75, 1.0])


def test_images_of_another_shape_or_type_are_refused():
    model = VAE(2, num_filters=4, hidden_units=8)
    for images in (np.zeros([4, 28, 28], np.uint8), np.zeros([4, 32, 32, 1], np.uint8)):
        with pytest.raises(UserError, match=r"must have the shape \(N, 28, 28, 1\), not"):
            Trainer(model, images)
    with pytest.raises(UserError, match=r"uint8.* or floats from 0 to 1, not int64"):
        Trainer(model, np.zeros([4, 28, 28, 1], np.int64))


def test_a_folder_named_from_here_is_found_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(4):
        figures.write_image(tmp_path / "images" / f"{i}.png", np.full([8, 8, 1], i, np.uint8))
    config = RunConfig.from_flat(2, data="images", im_dim=8, epochs=0, num_filters=2, hidden_units=4)
    run = train_run(config, load_data("images", 8), tmp_path / "run")
    assert load_run(run).config.data.name == str(tmp_path / "images")


def test_training_on_an_array_alone(sample):
    history = train(VAE(2, **SMALL), sample.train_images[:100], epochs=2, mode="eager")
    assert [sorted(row) for row in history] == [["epoch", "train_elbo", "train_kl", "train_nll"]] * 2
    assert history[1]["train_elbo"] > history[0]["train_elbo"]


def test_a_second_training_goes_on(sample, monkeypatch):
    """Neither the noise nor the order of the first is repeated, and one seed still gives one end."""
    ends = []
    for _ in range(2):
        vae, seen = VAE(2, **SMALL), []

        def noise(n, seed, seen=seen, real=vae.noise):
            seen.append(tuple(seed.numpy()))
            return real(n, seed)

        monkeypatch.setattr(vae, "noise", noise)
        for _ in range(2):
            train(vae, sample.train_images[:100], epochs=2, batch_size=50, mode="eager")
        assert seen == [(0, step) for step in range(8)]
        assert (vae.epochs_trained, vae.steps_trained) == (4, 8)
        ends.append(vae.get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(*ends, strict=True))
    first, again = VAE(2, **SMALL), VAE(2, **SMALL)
    train(first, sample.train_images[:100], epochs=1)
    train(again, sample.train_images[:100], epochs=1, seed=1)
    assert not np.array_equal(first.get_weights()[0], again.get_weights()[0])


def test_keras_callbacks_are_told_and_can_stop(sample, tmp_path):
    class Told(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.calls = []

        def on_train_begin(self, logs=None):
            self.calls.append("train")

        def on_epoch_begin(self, epoch, logs=None):
            self.calls.append(("begin", epoch))

        def on_epoch_end(self, epoch, logs=None):
            self.calls.append(("end", epoch, sorted(logs)))

        def on_train_end(self, logs=None):
            self.calls.append("over")

    told, data, path = Told(), small(sample, 200, 20), tmp_path / "log.csv"
    vae = VAE(2, **SMALL)
    history = train(vae, data, epochs=2, callbacks=[told, keras.callbacks.CSVLogger(str(path))])
    logs = ["kl", "loss", "nll", "val_kl", "val_loss", "val_nll"]
    assert told.calls == ["train", ("begin", 0), ("end", 0, logs), ("begin", 1), ("end", 1, logs), "over"]
    rows = path.read_text().splitlines()
    assert rows[0] == "epoch,kl,loss,nll,val_kl,val_loss,val_nll"
    assert float(rows[2].split(",")[5]) == pytest.approx(-history[1]["test_elbo"])
    assert told.model is vae
    assert told.model.optimizer is None  # which TensorBoard looks at

    impatient = keras.callbacks.EarlyStopping(monitor="val_loss", patience=1, min_delta=1e9)
    assert len(train(vae, data, epochs=9, callbacks=[impatient])) == 2
    saver = keras.callbacks.ModelCheckpoint(str(tmp_path / "best.keras"), monitor="val_loss")
    train(vae, data, epochs=1, callbacks=[saver])
    again = keras.saving.load_model(tmp_path / "best.keras")
    assert all(np.array_equal(a, b) for a, b in zip(vae.get_weights(), again.get_weights(), strict=True))


def test_an_unknown_setting_is_refused():
    with pytest.raises(UserError, match=r"train takes no such setting.*'epoch'"):
        train(VAE(2, **SMALL), np.zeros([4, 28, 28, 1], np.uint8), epoch=3)


def test_validation_copies_no_training_images():
    """A set too large for the memory is streamed with early stopping as well: only its tenth is copied."""

    class Counted(np.ndarray):
        taken = 0

        def __getitem__(self, key):
            part = super().__getitem__(key)
            if isinstance(part, np.ndarray) and part.base is None:
                Counted.taken += part.nbytes
            return part

    images = np.zeros([1000, 28, 28, 1], np.uint8)
    data = ImageData(images.view(Counted), np.zeros(1000), images[:5], np.zeros(5), (), "array")
    rows, held_out = split_validation(1000, TrainingConfig(patience=1))
    assert sorted([*rows, *held_out]) == list(range(1000))
    assert len(held_out) == 100
    train(VAE(2, **SMALL), data, epochs=1, patience=1)
    assert Counted.taken <= images.nbytes / 10
