"""Every source of images, the cache, and what happens without a network."""

import hashlib
import os
import re
import shutil
import threading
import time
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.conftest import run_python
from vae_lib.data import cache, decoding, folders, loading, sources
from vae_lib.data.loading import fingerprint, load_data, prepare_sample
from vae_lib.errors import UserError

SAMPLE_SHA256 = {  # of the arrays; samples/SOURCES.md lists the same
    "mnist": "730f698b4ed778506f90482a6c7d58de81dd3ef49162ca4b6b2634755ab62063",
    "fashion_mnist": "d831ea0dd5204de38c437e451d981cee2262f90dec28ff9a52472a9e5e37a986",
    "faces": "87582764d799b89e4f3d0fd614ca28473cbc154de13d662c3aa1f6b6fb5a7903",
}


def folder_of(tmp_path, modes, size=(20, 30), suffix=".png"):
    for i, mode in enumerate(modes):
        shape = size[::-1] if mode == "L" else (*size[::-1], 3)
        pixels = np.full(shape, 40 * i % 256, np.uint8)
        (tmp_path / f"class{i % 2}").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"class{i % 2}" / f"{i}{suffix}")
    return tmp_path


@pytest.mark.parametrize("name", list(SAMPLE_SHA256))
def test_samples_are_the_same_bytes_everywhere(name):
    with np.load(loading.__file__.replace("loading.py", f"samples/{name}.npz")) as arrays:
        digest = hashlib.sha256(b"".join(arrays[key].tobytes() for key in sorted(arrays))).hexdigest()
    assert digest == SAMPLE_SHA256[name]
    sample = load_data(name, im_dim=25 if name == "faces" else 28, source="sample")
    assert sample.source == "sample"
    assert sample.train_images.dtype == np.uint8
    assert len(sample.train_images) == len(sample.train_labels)
    known = {image.tobytes() for image in sample.train_images}
    assert not any(image.tobytes() in known for image in sample.test_images)


def test_the_sources_page_lists_the_checksums():
    page = (loading.Path(loading.__file__).parent / "samples" / "SOURCES.md").read_text()
    assert all(digest in page for digest in SAMPLE_SHA256.values())


@pytest.mark.parametrize("im_dim", [8, 28, 33, 64])
def test_images_are_resized_to_any_size(im_dim):
    faces = load_data("faces", im_dim=im_dim, source="sample")
    assert faces.train_images.shape == (80, im_dim, im_dim, 1)
    original = load_data("faces", im_dim=25, source="sample")
    assert faces.test_images.mean() == pytest.approx(original.test_images.mean(), abs=2)


def test_without_a_network_the_sample_comes_within_five_seconds(offline, capsys):
    began = time.perf_counter()
    found = load_data("mnist")
    assert time.perf_counter() - began < 5
    assert found.source == "sample"
    notice = capsys.readouterr().err
    assert notice.count("\n") == 1
    assert "sample" in notice


def test_a_host_that_hangs_is_given_three_seconds(offline, monkeypatch):
    def hang(*args, **options):
        time.sleep(5)
        raise OSError("gave up")

    monkeypatch.setattr(sources.urllib.request, "urlopen", hang)
    began = time.perf_counter()
    assert not sources.host_answers("mnist")
    assert time.perf_counter() - began < 4


def test_a_forced_source_that_is_not_there_is_refused(offline, tmp_path):
    with pytest.raises(UserError, match="sample"):
        load_data("mnist", source="tfds")
    with pytest.raises(UserError, match="not prepared"):
        load_data("mnist", source=str(tmp_path))
    with pytest.raises(UserError, match="did you mean 'sample'"):
        load_data("mnist", source="sampel")


@pytest.mark.parametrize(("name", "hint"), [("mnits", "did you mean 'mnist'"), ("/no/such", "or a folder")])
def test_unknown_data_is_refused(name, hint):
    with pytest.raises(UserError, match=hint):
        load_data(name)


@pytest.mark.parametrize("im_dim", [7, 0, -1, 1025, 28.0])
def test_impossible_sizes_are_refused(im_dim):
    with pytest.raises(UserError):
        load_data("mnist", im_dim)


# ---- folders -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_a_folder_of_images(tmp_path, mode, channels):
    found = load_data(str(folder_of(tmp_path, [mode] * 40)), im_dim=16)
    assert found.source == "folder"
    assert found.label_names == ("class0", "class1")
    assert found.train_images.shape[1:] == (16, 16, channels)
    assert len(found.train_images) + len(found.test_images) == 40
    assert len(found.test_images) > 0
    again = load_data(str(tmp_path), im_dim=16)
    np.testing.assert_array_equal(found.test_images, again.test_images)


def test_two_images_are_enough_for_a_folder(tmp_path):
    found = load_data(str(folder_of(tmp_path, ["L", "L"])))
    assert len(found.train_images) == len(found.test_images) == 1


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda p: folder_of(p, []), "holds too few images .*: 0 of at least 2"),
        (lambda p: folder_of(p, ["L"]), "holds too few images .*: 1 of at least 2"),
        (lambda p: folder_of(p, ["L", "RGB"]), "mixes kinds"),
        (lambda p: (folder_of(p, ["L"]) / "x.png").write_bytes(b"no image"), "cannot be read"),
        (lambda p: Image.new("RGBA", (9, 9)).save(folder_of(p, ["L"]) / "x.png"), "RGBA"),
        (lambda p: Image.new("I;16", (9, 9)).save(folder_of(p, ["L"]) / "x.png"), "8-bit"),
    ],
)
def test_folders_that_cannot_be_used_are_refused(tmp_path, spoil, reason):
    spoil(tmp_path)
    with pytest.raises(UserError, match=reason):
        load_data(str(tmp_path))


# ---- the cache ---------------------------------------------------------------------------------------------


@pytest.fixture
def prepared(monkeypatch, tmp_path):
    """A stand-in for TFDS that counts how often it decodes."""
    folder = tmp_path / "tfds" / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("VAE_LIB_CACHE", str(tmp_path / "cache"))
    calls = []

    def read(name, im_dim, data_dir, channels=None, *, download=False):
        calls.append((name, im_dim))
        train, test, label_names = sources.read_sample(name, im_dim)

        def examples():
            for split in (train, test):
                for pixels, label in zip(*split, strict=True):
                    yield sources.Example(pixels, int(label), split is test)

        return sources.Images(len(train.images) + len(test.images), examples, label_names)

    monkeypatch.setattr(sources, "read_tfds", read)
    return calls


def test_decoded_images_are_kept_and_memory_mapped(prepared, tmp_path):
    first, second = load_data("mnist"), load_data("mnist")
    assert prepared == [("mnist", 28)]
    assert isinstance(second.train_images, np.memmap)
    assert first.source == second.source == "tfds"
    np.testing.assert_array_equal(first.train_images, sources.read_sample("mnist", 28).train.images)
    assert not [p for p in (tmp_path / "cache").iterdir() if p.name.startswith(".")]


def test_four_that_fill_the_same_cache_at_once(prepared, tmp_path, monkeypatch):
    """All decode, one is first, and the others take what it wrote."""
    together, read = threading.Barrier(4), sources.read_tfds

    def wait_and_read(*args, **options):
        splits = read(*args, **options)
        together.wait(30)
        return splits

    monkeypatch.setattr(sources, "read_tfds", wait_and_read)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: load_data("mnist"), range(4)))
    assert len(prepared) == 4
    assert all(isinstance(data.train_images, np.memmap) for data in found)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_the_cache_is_keyed_by_size_and_by_the_prepared_data(prepared, tmp_path):
    load_data("mnist")
    load_data("mnist", 16)
    (tmp_path / "tfds" / "mnist" / "3.0.1" / "dataset_info.json").write_text('{"other": 1}')
    load_data("mnist")
    assert prepared == [("mnist", 28), ("mnist", 16), ("mnist", 28)]


def test_the_cache_serves_when_the_prepared_data_is_gone_but_never_for_a_folder_that_was_named(
    prepared, tmp_path, monkeypatch
):
    load_data("mnist")
    shutil.rmtree(tmp_path / "tfds")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"not prepared under .*empty"):
        load_data("mnist", source=tmp_path / "empty")
    assert load_data("mnist").source == "sample"  # TFDS_DATA_DIR names the folder that is gone
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_data("mnist").source == "tfds"
    assert len(prepared) == 1


@pytest.mark.parametrize("spoil", ["truncate", "remove", "garbage", "flip", "names"])
def test_a_damaged_cache_is_made_again(prepared, tmp_path, spoil, capsys):
    load_data("mnist")
    (file,) = (tmp_path / "cache").glob("*/train_images.npy")
    if spoil == "truncate":
        file.write_bytes(file.read_bytes()[:1000])
    elif spoil == "remove":
        file.unlink()
    elif spoil == "flip":
        content = bytearray(file.read_bytes())
        content[-1000] ^= 1
        file.write_bytes(content)
    elif spoil == "names":
        file.with_name("contents.json").write_text("[]")
    else:
        file.write_bytes(b"garbage")
    assert len(load_data("mnist").train_images) == 4000
    assert len(prepared) == 2
    assert "damaged" in capsys.readouterr().err


def test_files_that_are_not_the_caches_own_stay(prepared, tmp_path):
    load_data("mnist")
    (entry,) = (tmp_path / "cache").iterdir()
    (entry / "letter.txt").write_text("mine")
    (entry / "contents.json").write_text("[]")
    assert len(load_data("mnist").train_images) == 4000
    assert (entry / "letter.txt").read_text() == "mine"


def test_a_cache_that_cannot_be_written_is_done_without(prepared, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VAE_LIB_CACHE", str(tmp_path / "file" / "cache"))
    assert len(load_data("mnist").train_images) == 4000
    assert "going on without" in capsys.readouterr().err


def test_the_cache_follows_xdg_and_can_be_overridden(monkeypatch, tmp_path):
    monkeypatch.delenv("VAE_LIB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert str(loading.default_cache_dir()) == "/xdg/vae_lib"
    monkeypatch.setenv("VAE_LIB_CACHE", "/own")
    assert str(loading.default_cache_dir()) == "/own"


def test_a_download_that_fails_half_way_ends_in_the_sample(offline, monkeypatch, capsys):
    monkeypatch.setattr(sources, "host_answers", lambda name: True)
    monkeypatch.setattr(sources, "HOSTS", {})

    def fail(name, im_dim, data_dir, channels=None, *, download=False):
        assert download
        raise UserError("TensorFlow Datasets cannot read mnist: connection reset")

    monkeypatch.setattr(sources, "read_tfds", fail)
    assert load_data("mnist").source == "sample"
    lines = capsys.readouterr().err.splitlines()
    assert ["downloading" in lines[0], "connection reset" in lines[1], "bundled sample" in lines[2]] == [True] * 3
    with pytest.raises(UserError, match="cannot be downloaded"):
        load_data("mnist", source="tfds")


def test_the_sample_of_faces_names_nobody():
    """What is shipped are hashes: names cannot be read from them, and a given name can be found."""
    assert len(sources.sample_people()) == 95
    assert all(re.fullmatch("[0-9a-f]{64}", line) for line in sources.sample_people())
    assert sources.hashed_name("Hugh_Grant") in sources.sample_people()


def test_the_sample_cannot_be_held_out_of_itself(offline):
    for source in ("sample", "auto"):
        with pytest.raises(UserError, match="sample"):
            load_data("mnist", source=source, hold_out_sample=True)


def test_photos_are_shrunk_as_they_are_read(tmp_path, monkeypatch):
    """Only a photo for each core is held at its full size."""
    alive = []
    real = decoding.open_image

    def opened(file, im_dim, *, name):
        picture = real(file, im_dim, name=name)
        alive.append(weakref.ref(picture))
        assert sum(ref() is not None for ref in alive) <= 2 * (os.cpu_count() or 1)
        return picture

    monkeypatch.setattr(decoding, "open_image", opened)
    count = 6 * (os.cpu_count() or 1)
    for i in range(count):
        Image.new("L", (64, 64), i).save(tmp_path / f"{i}.png")
    assert load_data(str(tmp_path), 8).train_images.shape[1:] == (8, 8, 1)
    assert len(alive) == count


def test_the_sample_can_be_held_out_of_the_full_set(prepared):
    assert len(load_data("mnist").train_images) == 4000
    assert len(load_data("mnist", hold_out_sample=True).train_images) == 0


# ---- the full data sets ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_full_sets_through_tfds(full_data, name):
    found = load_data(name)
    assert found.train_images.shape == (60_000, 28, 28, 1)
    assert found.test_images.shape == (10_000, 28, 28, 1)
    assert np.bincount(found.test_labels, minlength=10).min() > 800
    began = time.perf_counter()
    load_data(name)
    assert time.perf_counter() - began < 0.5


@pytest.mark.slow
def test_the_sample_is_held_out_of_the_full_sets(full_data):
    assert len(load_data("mnist", hold_out_sample=True).train_images) == 55_000
    whole, held = load_data("faces", 25), load_data("faces", 25, hold_out_sample=True)
    people = {sources.hashed_name(held.label_names[label]) for label in held.train_labels}
    assert not people & sources.sample_people()
    assert {sources.hashed_name(whole.label_names[label]) for label in whole.train_labels} - people <= (
        sources.sample_people()
    )
    assert len(whole.train_images) - len(held.train_images) > 1000
    assert np.array_equal(whole.test_images, held.test_images)


def test_the_fashion_sample_is_part_of_the_test_set(full_data):
    assert len(load_data("fashion_mnist", hold_out_sample=True).train_images) == 60_000
    known = {image.tobytes() for image in load_data("fashion_mnist").test_images}
    assert all(image.tobytes() in known for image in load_data("fashion_mnist", source="sample").test_images)


@pytest.mark.slow
def test_faces_hold_people_out(full_data):
    faces = load_data("faces", 32)
    train, test = set(faces.train_labels), set(faces.test_labels)
    assert not train & test
    assert len(train) + len(test) == len(faces.label_names) == 5749
    assert len(faces.train_images) + len(faces.test_images) == 13_233
    assert 0.08 < len(test) / 5749 < 0.12
    assert sources.in_test_set(faces.label_names[faces.test_labels[0]])


def test_without_the_full_set_tensorflow_is_not_imported(offline):
    script = "import sys; from vae_lib import load_data; load_data('mnist', source='sample');"
    result = run_python("-c", script + "print('tensorflow' in sys.modules)")
    assert result.stdout.strip() == "False", result.stderr


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_sample_can_be_had_from_tfds_itself(name, tmp_path, capfd):
    import tensorflow_datasets as tfds

    folder = prepare_sample(name, tmp_path / "prepared")
    assert folder == tmp_path / "prepared"
    assert capfd.readouterr() == ("", "")
    train, info = tfds.load(name, split="train[:50%]", data_dir=folder, with_info=True, download=False)
    sample = load_data(name, source="sample")
    sizes = (info.splits["train"].num_examples, info.splits["test"].num_examples)
    assert sizes == (len(sample.train_images), len(sample.test_images))
    assert info.features["image"].shape == (28, 28, 1)
    test = list(tfds.as_numpy(tfds.load(name, split="test", data_dir=folder, as_supervised=True, download=False)))
    assert [info.features["label"].int2str(i) for i in range(10)] == list(sample.label_names)
    found = sorted((label, image.tobytes()) for image, label in test)
    assert found == sorted(
        (label, image.tobytes()) for image, label in zip(sample.test_images, sample.test_labels, strict=True)
    )
    assert len(train) == len(sample.train_images) // 2
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    prepare_sample(name, folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_sample_is_prepared_in_the_cache_unless_told_otherwise(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_LIB_CACHE", str(tmp_path / "cache"))
    assert prepare_sample() == tmp_path / "cache" / "tfds_sample"
    with pytest.raises(UserError, match="the sample 'faces' is unknown"):
        prepare_sample("faces")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the sample"):
        prepare_sample("mnist", tmp_path / "file" / "x")


def test_what_is_left_when_the_sample_is_held_out_keeps_its_labels():
    sample = load_data("mnist", source="sample")
    others = np.random.default_rng(0).integers(0, 256, (30, 28, 28, 1), dtype=np.uint8)
    order = np.random.default_rng(1).permutation(60)
    images = np.concatenate([sample.train_images[:30], others])[order]
    labels = np.concatenate([np.full(30, 99), np.arange(30)])[order]
    whole = sample._replace(train_images=images, train_labels=labels)
    left = loading._without_sample(whole, "mnist")
    found = {image.tobytes(): label for image, label in zip(left.train_images, left.train_labels, strict=True)}
    assert found == {image.tobytes(): i for i, image in enumerate(others)}


def test_a_download_goes_where_it_is_wanted(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    asked = []

    class Builder:
        def download_and_prepare(self):
            raise ConnectionError("nobody answers")

    monkeypatch.setattr(tfds, "builder", lambda *names, **options: asked.append((*names, options)) or Builder())
    with pytest.raises(UserError, match=rf"cannot read mnist under {tmp_path}: nobody answers"):
        sources.read_tfds("mnist", 28, tmp_path, download=True)
    assert asked == [("mnist:3.0.1", {"data_dir": tmp_path})]


def test_where_neither_disk_nor_memory_has_room_nothing_is_decoded(prepared, monkeypatch, capsys):
    needed = 5000 * 28 * 28
    monkeypatch.setattr(loading.shutil, "disk_usage", lambda path: SimpleNamespace(free=needed - 1))
    monkeypatch.setattr(loading, "memory", lambda: 2.0 * needed)
    data = load_data("mnist")
    assert "No space left" in capsys.readouterr().err
    assert not isinstance(data.train_images, np.memmap)
    monkeypatch.setattr(loading, "memory", lambda: 2.0 * needed - 1)
    with pytest.raises(UserError, match=r"5,000 images of 28 x 28 pixels .* set VAE_LIB_CACHE to a folder with room"):
        load_data("mnist")


def test_a_prepared_sample_is_not_taken_for_the_full_set(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(sources, "host_answers", lambda name: False)
    prepare_sample("mnist", tmp_path)
    assert sources.prepared_folder("mnist", tmp_path) is None
    assert load_data("mnist", cache_dir=tmp_path / "cache").source == "sample"
    with pytest.raises(UserError):
        load_data("mnist", source="tfds", cache_dir=tmp_path / "cache")
    (tmp_path / "other" / "mnist" / "3.0.1").mkdir(parents=True)
    with pytest.raises(UserError, match="holds something else than the sample"):
        prepare_sample("mnist", tmp_path / "other")


def many_jpegs(folder, count=500, side=40):
    folder.mkdir()
    for i in range(count):
        pixels = np.full([side, side, 3], i % 251, np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:05d}.jpg", quality=95)
    return folder


def test_a_large_folder_is_decoded_once(tmp_path, monkeypatch, capsys):
    folder = many_jpegs(tmp_path / "many")
    first = load_data(folder, 16, cache_dir=tmp_path / "cache")
    assert "500 images in 1 class" in capsys.readouterr().err
    levels = np.concatenate([first.train_images, first.test_images]).mean(axis=(1, 2, 3))
    assert sorted(levels.round().astype(int)) == sorted(i % 251 for i in range(500))  # none is lost or doubled

    def decode(*_, **__):
        raise AssertionError("decoded again")

    with monkeypatch.context() as patch:
        patch.setattr(folders, "decode", decode)
        again = load_data(folder, 16, cache_dir=tmp_path / "cache")
        assert "500 images in 1 class" in capsys.readouterr().err
        assert again.source == "folder"
        assert fingerprint(again) == fingerprint(first)
        with pytest.raises(AssertionError):  # another size
            load_data(folder, 12, cache_dir=tmp_path / "cache")
        os.utime(folder / "00007.jpg", (1, 1))
        with pytest.raises(AssertionError):
            load_data(folder, 16, cache_dir=tmp_path / "cache")
    before = list(warnings.filters)
    load_data(folder, 16, cache_dir=tmp_path / "cache")
    assert warnings.filters == before  # threads share them
    (entry,) = (tmp_path / "cache").iterdir()  # what was kept before the folder changed is gone
    umask = os.umask(0)
    os.umask(umask)
    assert entry.stat().st_mode & 0o777 == 0o777 & ~umask
    Image.fromarray(np.zeros([40, 40], np.uint8)).save(folder / "00007.jpg")
    with pytest.raises(UserError, match=r"mixes kinds of images, RGB \(00000.jpg\) and grey \(00007.jpg\)"):
        load_data(folder, 16, cache_dir=tmp_path / "cache")


def test_large_photos_are_decoded_small(tmp_path):
    rows, columns = np.mgrid[:1200, :1600] / 1200
    photo = np.uint8(127 + 120 * np.sin(9 * rows)[..., None] * np.cos([[[5, 8, 3]]] * columns[..., None]))
    for i in range(2):
        Image.fromarray(photo).save(tmp_path / f"{i}.jpg", quality=95)
    data = load_data(tmp_path, 32)
    whole = decoding.resize(Image.open(tmp_path / "0.jpg"), 32)
    assert np.abs(data.train_images[0].astype(int) - whole).max() <= 4


def test_few_images_wait_for_whoever_takes_them():
    begun = []
    results = decoding.in_order(lambda item: begun.append(item) or item, range(10_000))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(begun) < 100
    results.close()
    assert list(decoding.in_order(lambda item: -item, range(100))) == [-item for item in range(100)]


def test_broken_files_are_named_and_can_be_left_out(tmp_path, capsys):
    folder = folder_of(tmp_path, ["L"] * 30)
    for i in range(7):
        (folder / "class0" / f"broken{i}.png").write_bytes(b"no image")
    with pytest.raises(
        UserError, match=r"broken0.png cannot be read .*; skip_broken \(--skip-broken\) leaves such files out"
    ):
        load_data(folder)
    data = load_data(folder, skip_broken=True)
    assert len(data.train_images) + len(data.test_images) == 30
    told = capsys.readouterr().err
    assert all(f"broken{i}.png" in told for i in range(5))
    assert "2 more files" in told
    assert "30 images in 2 classes; left out: 7 that cannot be used." in told
    for file in folder.glob("*/[0-9]*.png"):
        file.unlink()
    with pytest.raises(UserError, match="holds 0 images that can be used"):
        load_data(folder, skip_broken=True)
    with pytest.raises(UserError, match="for the files of a folder"):
        load_data("mnist", skip_broken=True)


def test_where_one_side_of_a_folder_is_broken_the_other_gives_an_image(tmp_path, monkeypatch):
    for held_out in (True, False):
        folder = tmp_path / f"{held_out}"
        folder.mkdir()
        for name in "abc":
            Image.new("L", (9, 9)).save(folder / f"{name}.png")
        (folder / "d.png").write_bytes(b"no image")
        monkeypatch.setattr(folders, "in_test_set", lambda name, held_out=held_out: (name == "d.png") == held_out)
        data = load_data(folder, skip_broken=True)
        sizes = (len(data.train_images), len(data.test_images))
        assert sizes == ((2, 1) if held_out else (1, 2))


def test_grey_and_colour_can_be_mixed_where_they_are_converted(tmp_path):
    folder_of(tmp_path, ["L", "RGB", "RGB", "L"])
    grey, colour = load_data(tmp_path, channels=1), load_data(tmp_path, channels=3)
    assert grey.train_images.shape[-1] == 1
    assert colour.train_images.shape[-1] == 3
    levels = sorted(int(image.mean().round()) for data in (colour.train_images, colour.test_images) for image in data)
    assert levels == [0, 40, 80, 120]
    with pytest.raises(UserError, match="channels must be 1"):
        load_data(tmp_path, channels=2)
    with pytest.raises(UserError, match="images of mnist are grey"):
        load_data("mnist", channels=3)


def test_what_was_decoded_without_a_conversion_serves_where_none_is_needed(tmp_path, monkeypatch):
    folder = many_jpegs(tmp_path / "many")
    first = load_data(folder, 16)
    monkeypatch.setattr(folders, "decode", lambda *_, **__: pytest.fail("decoded again"))
    assert fingerprint(load_data(folder, 16, channels=3)) == fingerprint(first)
    with pytest.raises(pytest.fail.Exception):
        load_data(folder, 16, channels=1)


def examples(count, held_out=lambda i: i % 3 == 0):
    for i in range(count):
        yield sources.Example(np.full([8, 8, 1], i % 256, np.uint8), f"{i % 5}", held_out(i))


@pytest.mark.parametrize("held_out", [lambda i: i % 3 == 0, lambda i: True, lambda i: False])
def test_what_is_written_piece_by_piece_is_what_is_held_in_memory(tmp_path, held_out):
    whole = cache.in_memory(examples(1500, held_out), None)
    cache.write(tmp_path / "entry", examples(1500, held_out), None)
    kept = cache.read(tmp_path / "entry")
    assert kept.label_names == whole.label_names == tuple("01234")
    for one, other in zip(kept[:4], whole[:4], strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_array_equal(one, other)


def test_a_writer_that_fails_leaves_nothing_and_what_was_killed_is_cleared_up(tmp_path):
    def failing():
        yield from examples(1000)
        raise UserError("the thousandth")

    (tmp_path / ".writing-old").mkdir()
    (tmp_path / ".writing-old" / "train_images.npy").write_bytes(b"x")
    (tmp_path / ".writing-new").mkdir()
    for path in (tmp_path / ".writing-old" / "train_images.npy", tmp_path / ".writing-old"):
        os.utime(path, (1, 1))
    with pytest.raises(UserError, match="the thousandth"):
        cache.write(tmp_path / "entry", failing(), None)
    assert [path.name for path in tmp_path.iterdir()] == [".writing-new"]


def test_a_large_file_is_checked_in_places(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "BLOCK", 100)
    monkeypatch.setattr(cache, "BLOCKS", 4)
    path, content = tmp_path / "large", bytearray(np.random.default_rng(0).bytes(1000))
    sums = []
    for change in (None, 0, 333, 999):
        spoilt = bytearray(content)
        if change is not None:
            spoilt[change] ^= 1
        path.write_bytes(spoilt)
        sums.append(cache._crc32(path))
    assert len(set(sums)) == 4
    path.write_bytes(content + b"x")
    assert cache._crc32(path) not in sums


def test_a_set_that_is_streamed_can_have_the_sample_held_out(prepared, monkeypatch, tmp_path):
    whole, sample = load_data("mnist"), sources.read_sample("mnist", 28)
    short = sample._replace(train=sources.Split(*(array[:1500] for array in sample.train)))
    monkeypatch.setattr(sources, "read_sample", lambda name, im_dim: short)  # of which 2,500 are then not known
    in_memory = load_data("mnist", hold_out_sample=True)
    monkeypatch.setattr(loading, "memory", lambda: 1000.0)
    streamed, again = (load_data("mnist", hold_out_sample=True) for _ in range(2))
    assert isinstance(streamed.train_images, np.memmap)
    assert 0 < len(streamed.train_images) < len(whole.train_images)
    assert fingerprint(streamed) == fingerprint(in_memory) == fingerprint(again)
    assert len(list((tmp_path / "cache").iterdir())) == 2
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(load_data("mnist").train_images) == len(whole.train_images)  # not what is kept without the sample


# ---- any data set of TFDS ------------------------------------------------------------------------------------


def write_builder(folder, name, features, splits):
    """A prepared data set, as TFDS writes it."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    tfds.dataset_builders.store_as_tfds_dataset(
        name,
        version="1.2.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={
            part: tf.data.Dataset.from_generator(
                lambda rows=rows: iter(rows),
                output_signature=tfds.features.FeaturesDict(features).get_tensor_spec(),
            )
            for part, rows in splits.items()
        },
        data_dir=folder,
    )


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("VAE_LIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "tfds"


def squares_of(count, shape, **further):
    return [{"image": np.full(shape, 10 * i, np.uint8)} | {k: f(i) for k, f in further.items()} for i in range(count)]


def test_a_data_set_with_labels_and_a_test_split(here):
    import tensorflow_datasets as tfds

    features = {
        "label": tfds.features.ClassLabel(names=["cat", "dog"]),
        "image": tfds.features.Image(shape=(12, 12, 3)),
        "id": tfds.features.Text(),
    }
    rows = squares_of(12, (12, 12, 3), label=lambda i: i % 2, id=str)
    write_builder(here, "pets", features, {"train": rows[:8], "test": rows[8:]})
    data = load_data("tfds:pets", 8)
    assert (data.source, data.name, data.label_names) == ("tfds", "tfds:pets", ("cat", "dog"))
    assert data.train_images.shape == (8, 8, 8, 3)
    levels = data.test_images[:, 0, 0, 0].tolist()  # TFDS has an order of its own
    assert sorted(zip(levels, data.test_labels.tolist(), strict=True)) == [(80, 0), (90, 1), (100, 0), (110, 1)]
    grey = load_data("tfds:pets:1.2.0", 8, channels=1)
    assert grey.train_images.shape == (8, 8, 8, 1)
    for wrong, reason in (
        ({"source": "sample"}, "no sample|samples of"),
        ({"hold_out_sample": True}, "samples of"),
        ({"skip_broken": True}, "folder"),
    ):
        with pytest.raises(UserError, match=reason):
            load_data("tfds:pets", 8, **wrong)


def test_a_data_set_of_one_split_without_labels_and_of_any_size(here):
    """Each image is resized as it is decoded; a tenth is held out, by its number."""
    import tensorflow_datasets as tfds

    features = {"picture": tfds.features.Image(shape=(None, None, 1), encoding_format="jpeg")}
    rows = [{"picture": np.full([20 + i, 30, 1], i, np.uint8)} for i in range(60)]
    write_builder(here, "plain", features, {"everything": rows})
    data = load_data("tfds:plain", 16)
    assert len(data.train_images) + len(data.test_images) == 60
    assert 0 < len(data.test_images) < 20
    assert data.label_names == ()
    levels = np.concatenate([data.train_images, data.test_images])[:, 8, 8, 0]
    assert sorted(levels.tolist()) == list(range(60))
    np.testing.assert_array_equal(load_data("tfds:plain", 16).test_images, data.test_images)
    with pytest.raises(UserError, match=r"tfds:plain:9.9.9|knows no 'plain'"):
        load_data("tfds:plain:9.9.9", 16)


def test_a_grey_file_in_a_data_set_of_colours(here, tmp_path):
    import tensorflow_datasets as tfds

    grey, colour = (tmp_path / f"{kind}.jpg" for kind in ("grey", "colour"))
    Image.new("L", (20, 30), 90).save(grey)
    Image.new("RGB", (30, 20), (200, 0, 0)).save(colour)

    class Mixed(tfds.core.GeneratorBasedBuilder):
        """A data set whose files are not all what its features say, as happens in large ones."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            image = tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict({"image": image}))

        def _split_generators(self, _):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield from enumerate({"image": file} for file in (grey, colour) * 10)

    tfds.disable_progress_bar()
    Mixed(data_dir=here).download_and_prepare()
    data = load_data("tfds:mixed", 8)
    assert data.train_images.shape[1:] == data.test_images.shape[1:] == (8, 8, 3)
    assert len(data.train_images) + len(data.test_images) == 20


def test_data_sets_that_have_no_usable_image(here):
    import tensorflow_datasets as tfds

    write_builder(here, "words", {"text": tfds.features.Text()}, {"train": [{"text": "a"}, {"text": "b"}]})
    with pytest.raises(UserError, match="words has no images"):
        load_data("tfds:words")
    two = {name: tfds.features.Image(shape=(8, 8, 1)) for name in ("left", "right")}
    row = {name: np.zeros([8, 8, 1], np.uint8) for name in two}
    write_builder(here, "pairs", two, {"train": [row, row]})
    with pytest.raises(UserError, match=r"several images \(left, right\)"):
        load_data("tfds:pairs")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("tfds:", "is no data set"), ("tfds:../mnist", "is no data set"), ("tfds:kmnits", "did you mean 'tfds:kmnist'")],
)
def test_names_that_tfds_does_not_know(here, name, reason):
    with pytest.raises(UserError, match=reason):
        load_data(name)


def test_a_known_data_set_needs_the_network_or_the_disk(here, monkeypatch):
    monkeypatch.setattr(sources, "host_answers", lambda name: False)
    with pytest.raises(UserError, match=r"tfds:kmnist is not prepared under .* and cannot be downloaded"):
        load_data("tfds:kmnist")
