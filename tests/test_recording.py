"""Trainings that are recorded: the same training, with its moments to look at afterwards."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.conftest import exit_status, random_images, small
from vae_lib import VAE, manifold, train, watch
from vae_lib.cli import main, train_main
from vae_lib.config import RunConfig
from vae_lib.data.loading import as_image_data
from vae_lib.recording import moments
from vae_lib.runs.lifecycle import resume_run, train_run
from vae_lib.runs.planes import Planes, read_planes


def tiny(**settings):
    return VAE(latent_dim=2, image_shape=(8, 8, 1), num_filters=4, hidden_units=16, **settings)


@pytest.mark.parametrize("total", [1, 2, 5, 60, 44_000])
def test_the_moments_of_a_training(total):
    found = moments(total)
    assert found[0] == 0
    assert found[-1] == total
    assert len(found) == len(set(found)) == min(total + 1, len(found))
    assert np.all(np.diff(np.diff(found)[1:]) >= -1)  # the gaps grow, but for rounding


def test_a_recorded_training_is_the_same_one(monkeypatch):
    monkeypatch.setattr("vae_lib.recording.MOMENTS", 8)
    images = random_images(95, 8)
    recorded, plain = tiny(), tiny()
    first = [w.numpy() for w in recorded.weights]
    history = train(recorded, images, epochs=2, batch_size=10, record=True)
    assert history == train(plain, images, epochs=2, batch_size=10)
    assert plain.recording is None
    frames = recorded.recording.frames
    assert [frame.step for frame in frames] == moments(20)
    assert [frame.images for frame in frames if frame.step in (1, 10, 11, 20)] == [
        n for step, n in ((1, 10), (10, 95), (11, 105), (20, 190)) if step in moments(20)
    ]
    assert np.isnan(frames[0].nll)
    for one, other in zip(frames[0].weights, first, strict=True):
        np.testing.assert_array_equal(one, other.astype(np.float16))
    for one, weight in zip(frames[-1].weights, recorded.weights, strict=True):
        np.testing.assert_array_equal(one, weight.numpy().astype(np.float16))
    last = history[-1]
    assert frames[-1].nll == pytest.approx(last["train_nll"], rel=0.05)
    train(recorded, images, epochs=1)
    assert recorded.recording is None  # its frames would be those of another training


def test_the_player_goes_back_through_a_recorded_training():
    images = as_image_data(random_images(100, 8), (8, 8, 1))
    vae = tiny()
    train(vae, images, epochs=3, batch_size=10, record=True)
    frames = vae.recording.frames
    live = watch(vae, images, play=False, batch_size=10)
    assert [frame.images for frame in live.frames] == [frame.images for frame in frames]
    assert len(live.points) == len(frames)
    assert all(np.isfinite([point.nll, point.kl]).all() for point in live.points)
    live.time.value = 0
    shown = np.asarray(Image.open(io.BytesIO(live.plane.picture)))
    first = tiny()
    first.set_weights([w.astype(np.float32) for w in frames[0].weights])
    np.testing.assert_array_equal(shown, manifold(first, live_axis())[..., 0])
    live._go(steps=1)
    assert live.wait(60)
    assert live.frames[-1].step == frames[-1].step + 1
    assert live.frames[-1].images == frames[-1].images + 10
    live.again.click()
    assert [frame.images for frame in live.frames] == [frame.images for frame in frames]
    live.close()


def live_axis():
    from vae_lib import latent, live

    return latent.axis_values(live.TILES)


def test_a_recorded_run_and_its_animation(sample, tmp_path, capsys):
    config = RunConfig.from_flat(latent_dim=2, epochs=2, num_filters=4, hidden_units=16, batch_size=40)
    folder = train_run(config, small(sample, 200, 20), tmp_path / "run", record=True)
    planes = read_planes(folder)
    assert planes.images == [min(step * 40, 400) for step in moments(10)]
    assert planes.pictures[0].shape == (448, 448, 1)
    assert exit_status(main, ["animate", str(folder), "--training", "--out", str(tmp_path / "t.gif")]) == 0
    with Image.open(tmp_path / "t.gif") as gif:
        assert gif.size == (448, 448)
        shown = []
        for i in range(gif.n_frames):
            gif.seek(i)
            shown.append(gif.info["duration"])
    assert sum(shown) == 150 * (len(planes.images) + 10)
    assert exit_status(main, ["animate", str(folder), "--training", "--tiles", "9"]) == 2
    assert "--tiles is not for --training" in capsys.readouterr().err


def test_a_run_that_was_not_recorded(small_run, capsys):
    assert read_planes(small_run) is None
    assert exit_status(main, ["animate", str(small_run), "--training"]) == 2
    assert "was not recorded: train a run with --record" in capsys.readouterr().err


def test_the_flag(tmp_path, capsys):
    words = [
        "--source",
        "sample",
        "-l",
        "2",
        "--epochs",
        "1",
        "--num-filters",
        "4",
        "--hidden-units",
        "16",
        "--record",
        "--out",
    ]
    assert exit_status(train_main, [*words, str(tmp_path / "run")]) == 0
    assert len(read_planes(tmp_path / "run").pictures) == len(moments(80))


def test_an_interrupted_recording_goes_on(sample, tmp_path):
    config = RunConfig.from_flat(
        latent_dim=2, epochs=2, num_filters=4, hidden_units=16, batch_size=20, checkpoint_every=3
    )
    data = small(sample, 200, 20)
    whole = train_run(config, data, tmp_path / "whole", record=True)

    def stop(epoch, done, steps, loss):
        if epoch == 1 and done >= 5:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train_run(config, data, tmp_path / "killed", record=True, report=stop)
    partial = tmp_path / "killed.partial"
    ahead = Planes([np.zeros([448, 448, 1], np.uint8)], [390])  # of a process that was killed between two writes
    kept = read_planes(partial)
    Planes(kept.pictures + ahead.pictures, kept.images + ahead.images).save(partial)
    again = resume_run(partial, data)
    one, other = read_planes(whole), read_planes(again)
    assert one.images == other.images
    np.testing.assert_array_equal(np.stack(one.pictures), np.stack(other.pictures))


@pytest.mark.parametrize("content", [b"nothing", b""])
def test_a_damaged_recording_is_named(small_run, tmp_path, capsys, content):
    import shutil

    copy = shutil.copytree(small_run, tmp_path / "run")
    (copy / "planes.npz").write_bytes(content)
    assert exit_status(main, ["animate", str(copy), "--training"]) == 2
    assert "planes.npz does not hold pictures of the plane" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pictures", "images"),
    [
        (np.zeros([2, 4, 4, 1], np.uint8), [0]),
        (np.zeros([2, 4, 4, 1]), [0, 1]),
        (np.zeros([1, 4, 4, 2], np.uint8), [0]),
    ],
)
def test_a_recording_of_other_things_is_refused(small_run, tmp_path, capsys, pictures, images):
    import shutil

    copy = shutil.copytree(small_run, tmp_path / "run")
    np.savez_compressed(copy / "planes.npz", pictures=pictures, images=np.array(images))
    assert exit_status(main, ["animate", str(copy), "--training"]) == 2
    assert "planes.npz holds no pictures" in capsys.readouterr().err
