"""Data files and their sources, made on the spot: what is read, and what is refused before work starts."""

import contextlib
import gzip
import io
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from graphpress.data import load_dataset
from graphpress.errors import DataError, UsageError
from graphpress.runtime import InputSpec


def image_input(*dims, dtype=np.float32):
    return [InputSpec("x", np.dtype(dtype), dims or ("N", 3, 8, 8))]


def jpeg(pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def pictures(count=5, size=8):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    """One set of pictures in every form."""
    x, y = pictures(), np.array([3, 1, 4, 1, 5])
    np.savez(tmp_path / "data.npz", images=x, y=y, short=y[:3])
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for at in (4, 2, 0, 1, 3):
            archive.writestr(f"part/{at:03d}_{y[at]}.png", jpeg(x[at]))
        archive.writestr("readme.txt", "not an image")
    (tmp_path / "images" / "deep").mkdir(parents=True)
    for at in range(5):
        (tmp_path / "images" / "deep" / f"{at:03d}_{y[at]}.png").write_bytes(jpeg(x[at]))
    header = struct.pack(">HBB3I", 0, 8, 3, 5, 8, 8)
    (tmp_path / "x-idx3-ubyte.gz").write_bytes(gzip.compress(header + x[..., 0].tobytes()))
    (tmp_path / "y-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, 5) + y.astype(np.uint8).tobytes())
    return tmp_path


def load(folder, text, inputs=None, **options):
    file = folder / "data.yaml"
    file.write_text(text)
    return load_dataset(file, inputs or image_input(), **options)


def all_of(samples, name="x"):
    return np.concatenate([batch.feed[name][: batch.count] for batch in samples.counted_batches()])


@pytest.mark.parametrize(
    "part",
    [
        "source: data.npz, inputs: {x: images}, labels: y",
        "source: x.npy, labels: {source: y.npy}",
        "source: x.npy, labels: {source: data.npz, array: y}",
        "source: x.npy, labels: {source: y-idx1-ubyte}",
        "source: images.zip, labels: {from_name: '_(\\d+)'}",
        "source: images, labels: {from_name: '^\\d+_(\\d+)'}",
    ],
)
def test_all_sources_read_alike(folder, part):
    dataset = load(folder, f"evaluation: {{{part}}}\npreprocess: {{x: {{layout: NHWC}}}}")
    np.testing.assert_array_equal(all_of(dataset.evaluation), pictures().transpose(0, 3, 1, 2).astype(np.float32))
    assert dataset.evaluation.labels.tolist() == [3, 1, 4, 1, 5]


def test_slice_applies_to_labels_too(folder):
    part = "source: images.zip, slice: [0, 5, 2], labels: {source: y.npy}"
    samples = load(folder, f"evaluation: {{{part}}}").evaluation
    assert samples.count == 3
    assert samples.labels.tolist() == [3, 4, 5]
    np.testing.assert_array_equal(all_of(samples), pictures()[::2].transpose(0, 3, 1, 2))


def test_a_slice_beyond_the_end_is_noted(folder):
    dataset = load(folder, "evaluation: {source: images.zip, slice: [1, 99]}")
    assert dataset.evaluation.count == 4
    assert "5 records" in dataset.notes[0]


def test_idx_gets_batch_and_channel_axes(folder):
    samples = load(folder, "evaluation: {source: x-idx3-ubyte.gz}", image_input(1, 1, 8, 8)).evaluation
    feeds = list(samples)
    assert [feed["x"].shape for feed in feeds] == [(1, 1, 8, 8)] * 5
    np.testing.assert_array_equal(feeds[2]["x"][0, 0], pictures()[2, ..., 0])


def test_grey_model_gets_grey_images(folder):
    feed = next(iter(load(folder, "evaluation: {source: images}", image_input("N", "H", "W", 1)).evaluation))
    assert feed["x"].shape == (5, 8, 8, 1)


def test_grey_model_without_a_channel_axis(folder):
    feed = next(iter(load(folder, "evaluation: {source: images}", image_input("N", 8, 8)).evaluation))
    assert feed["x"].shape == (5, 8, 8)


def test_a_model_without_a_batch_axis_runs_record_by_record(folder):
    text = "evaluation: {source: x-idx3-ubyte.gz}"
    batches = list(load(folder, text, image_input(8, 8)).evaluation.counted_batches())
    assert [(batch.feed["x"].shape, batch.count, batch.padding) for batch in batches] == [((8, 8), 1, 0)] * 5


def test_images_of_several_sizes_come_in_batches_of_one_size(tmp_path):
    sizes = [8, 8, 6, 8]
    (tmp_path / "images").mkdir()
    for at, size in enumerate(sizes):
        (tmp_path / "images" / f"{at}.png").write_bytes(jpeg(pictures(1, size)[0]))
    samples = load(tmp_path, "evaluation: {source: images}", image_input("N", 3, None, None)).evaluation
    assert [feed["x"].shape[0] for feed in samples] == [2, 1, 1]


def test_the_last_feed_of_a_fixed_batch_is_filled_up(folder):
    samples = load(folder, "evaluation: {source: images, labels: {source: y.npy}}", image_input(2, 3, 8, 8)).evaluation
    batches = list(samples.counted_batches())
    assert [(batch.feed["x"].shape[0], batch.count, batch.labels.size) for batch in batches] == [
        (2, 2, 2),
        (2, 2, 2),
        (2, 1, 1),
    ]
    np.testing.assert_array_equal(batches[2].feed["x"][0], batches[2].feed["x"][1])
    assert samples.count == 5


def test_tables_by_name_and_index(tmp_path):
    (tmp_path / "t.tsv").write_text("a\tb\tkind\n1\t2.5\tcat\n3\t4\tdog\n")
    inputs = [InputSpec("v", np.dtype(np.float32), (None, 2)), InputSpec("a", np.dtype(np.int64), (None, 1))]
    text = "evaluation: {source: t.tsv, inputs: {v: %s, a: %s}, labels: {column: %s, classes: [dog, cat]}}"
    for names in (("[a, b]", "a", "kind"), ("[0, 1]", "0", "2")):
        feed, labels = next(load(tmp_path, text % names, inputs).evaluation.batches())
        assert feed["v"].tolist() == [[1, 2.5], [3, 4]]
        assert feed["a"].tolist() == [[1], [3]]
        assert labels.tolist() == [1, 0]


CODE = """
import numpy as np
from helper import WIDTH
x = np.ones((4, 3, WIDTH, WIDTH), np.float32)
def array(): return x
def pair(): return x, np.arange(4)
def arrays(): return {"x": x, "labels": np.arange(4)}
def feeds(): return [{"x": x[:3]}, {"x": x[3:]}]
def generator(): return ({"x": x[at : at + 1]} for at in range(4))
def nothing(): return None
def broken(): raise KeyError("oops")
"""


@pytest.mark.parametrize(
    ("name", "labeled"), [("array", 0), ("pair", 1), ("arrays", 1), ("feeds", 0), ("generator", 0)]
)
def test_user_code_beside_the_data_file(tmp_path, name, labeled):
    (tmp_path / "helper.py").write_text("WIDTH = 8")
    (tmp_path / "mine.py").write_text(CODE)
    samples = load(tmp_path, f"evaluation: {{source: 'mine:{name}'}}").evaluation
    assert samples.count == 4
    assert all_of(samples).shape == all_of(samples).shape == (4, 3, 8, 8)
    assert (samples.labels is not None) == bool(labeled)


def test_user_code_takes_no_installed_module_from_its_folder(tmp_path):
    for name in ("wave", "yaml"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('hostile')")
    (tmp_path / "own.py").write_text(
        "import wave, yaml, numpy\ndef make(): import tomllib; return numpy.zeros((4, 3, 8, 8))"
    )
    assert load(tmp_path, "evaluation: {source: 'own:make'}").evaluation.count == 4
    assert sorted(file.name for file in tmp_path.iterdir()) == ["data.yaml", "own.py", "wave.py", "yaml.py"]


def test_the_module_that_is_named_is_the_one_in_the_folder(tmp_path):
    (tmp_path / "this.py").write_text("import numpy\ndef make(): return numpy.zeros((4, 3, 8, 8))")
    (tmp_path / "antigravity").mkdir()  # a folder that is no package
    assert load(tmp_path, "evaluation: {source: 'this:make'}").evaluation.count == 4


def test_preprocessing_keys_in_order(tmp_path):
    pixels = pictures(1, 12)
    np.save(tmp_path / "x.npy", pixels)
    keys = "layout: NHWC, crop: 8, color: BGR, scale: 0.5, mean: [1, 2, 3], std: [1, 2, 4]"
    sample = all_of(load(tmp_path, f"evaluation: {{source: x.npy}}\npreprocess: {{x: {{{keys}}}}}").evaluation)[0]
    expected = (pixels[0, 2:10, 2:10, ::-1] * 0.5 - [1, 2, 3]) / [1, 2, 4]
    np.testing.assert_allclose(sample, expected.transpose(2, 0, 1), rtol=1e-6)


@pytest.mark.parametrize(("resize", "shape"), [("8", (8, 16)), ("[4, 6]", (4, 6))])
def test_resize_shorter_side_or_exactly(tmp_path, resize, shape):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8)
    (tmp_path / "i").mkdir()
    (tmp_path / "i" / "a.png").write_bytes(jpeg(pixels))
    text = f"evaluation: {{source: i}}\npreprocess: {{x: {{resize: {resize}, interpolation: bicubic}}}}"
    sample = all_of(load(tmp_path, text, image_input("N", 3, "H", "W")).evaluation)[0]
    wanted = np.asarray(Image.fromarray(pixels).resize(shape[::-1], Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(sample, wanted.transpose(2, 0, 1))


def test_one_part_serves_for_both_with_a_note(folder):
    only_evaluation = load(folder, "evaluation: {source: images, labels: {source: y.npy}}")
    assert only_evaluation.calibration.count == 5
    assert "no calibration part" in only_evaluation.notes[0]
    only_calibration = load(folder, "calibration: {source: images}")
    assert only_calibration.evaluation is only_calibration.calibration
    assert "no evaluation part" in only_calibration.notes[0]
    assert only_calibration.evaluation.labels is None


def test_selection_part(folder):
    dataset = load(folder, "evaluation: {source: images, slice: [0, 3]}\nselection: {source: images, slice: [3, 5]}")
    assert (dataset.evaluation.count, dataset.selection.count) == (3, 2)


def test_fingerprint_follows_content_and_spec(folder):
    text = "evaluation: {source: %s, slice: [0, %d]}\npreprocess: {x: {scale: %s}}"
    values = [(f"images{kind}", stop, scale) for kind in ("", ".zip") for stop in (3, 4) for scale in (1.0, 0.5)]
    prints = [load(folder, text % value).evaluation.fingerprint() for value in values]
    assert len(set(prints)) == len(prints)
    again = load(folder, text % values[0]).evaluation
    assert again.fingerprint() == prints[0]
    (folder / "images" / "deep" / "000_3.png").write_bytes(jpeg(pictures(2)[1]))
    assert load(folder, text % values[0]).evaluation.fingerprint() != prints[0]


def test_short_form(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.ones((3, 3, 8, 8)), labels=np.arange(3)[:, None])
    dataset = load_dataset(tmp_path / "x.npz", image_input())
    assert dataset.evaluation.labels.tolist() == [0, 1, 2]
    assert next(iter(dataset.calibration))["x"].dtype == np.float32


PART = "evaluation: {source: %s}"
BAD_FILES = [
    ("evaluatoin: {source: images}", "did you mean 'evaluation'"),
    ("evaluation: {source: images, lables: y}", "did you mean 'labels'"),
    ("evaluation: {source: images, labels: {form_name: y}}", "did you mean 'from_name'"),
    (PART % "images" + "\npreprocess: {x: {sclae: 1}}", "did you mean 'scale'"),
    (PART % "images" + "\npreprocess: {xx: {scale: 1}}", "did you mean 'x'"),
    (PART % "images" + "\npreprocess: {x: {layout: HWC}}", "layout"),
    (PART % "images" + "\npreprocess: {x: {std: [1, 0, 1]}}", "no std of 0"),
    (PART % "images" + "\npreprocess: {x: {scale: .inf}}", "scale is inf"),
    (PART % "images" + "\npreprocess: {x: {resize: 0}}", "resize is 0"),
    (PART % "images" + "\npreprocess: {x: {crop: [8, -8]}}", "crop is (8, -8)"),
    (PART % "images" + "\npreprocess: {x: {crop: 99}}", "smaller than the crop"),
    (PART % "images" + "\npreprocess: {x: {mean: [1, 2]}}", "2 values for 3 channels"),
    (PART % "images" + "\nbatch: 0", "at least 1"),
    (PART % "nowhere.npz", "no such file"),
    (PART % "broken.npz", "cannot be read"),
    (PART % "broken.npy", "cannot be read"),
    (PART % "broken.zip", "cannot be read"),
    (PART % "broken-idx3-ubyte", "idx"),
    (PART % "short-idx3-ubyte", "truncated"),
    (PART % "objects.npz", "never unpickled"),
    (PART % "objects.npy", "never unpickled"),
    (PART % "empty", "no images"),
    (PART % "spoilt", "not a readable image"),
    (PART % "none.npy", "no samples"),
    (PART % "data.yaml", "no kind of source"),
    (PART % "data.npz", "its arrays are images, y, short"),
    (PART % "x.npy", "does not fit"),
    ("evaluation: {source: data.npz, inputs: {x: image}}", "did you mean 'images'"),
    ("evaluation: {source: data.npz, inputs: {z: images}}", "no input 'z'"),
    ("evaluation: {source: images, labels: y}", "no labels of its own"),
    ("evaluation: {source: images, labels: {source: data.npz, array: short}}", "3 labels for 5 samples"),
    ("evaluation: {source: images, labels: {source: nowhere.npy}}", "no such file of labels"),
    ("evaluation: {source: images, labels: {from_name: '^x(.)'}}", "does not match"),
    ("evaluation: {source: images, labels: {from_name: '('}}", "regular expression"),
    ("evaluation: {source: images, labels: {from_name: '.'}}", "no group"),
    ("evaluation: {source: images, labels: {from_name: '(png)'}}", "labels are text"),
    ("evaluation: {source: images, slice: [9, 12]}", "no samples"),
    ("evaluation: {source: images, slice: [0]}", "slice"),
    ("evaluation: {source: images, slice: [0, 2, 0]}", "slice"),
    ("evaluation: {source: 'mine:nothing'}", "NoneType is no data"),
    ("evaluation: {source: 'mine:broken'}", "KeyError"),
    ("evaluation: {source: 'mine:arrays', labels: z}", "no array 'z'"),
    ("evaluation: {source: 'mine:feeds', slice: [0, 1]}", "slice cannot be applied"),
    ("evaluation: {source: 'mine:arays'}", "did you mean 'array"),
    ("evaluation: {source: 'theirs:array'}", "cannot import"),
    ("evaluation: {source: images, labels: {classes: 3}}", "evaluation.labels.classes is 3"),
    ("evaluation: [1]", "evaluation is [1]"),
    ("preprocess: {}", "names no samples"),
    ("[1, 2]", "not a mapping"),
    ("a: [", "not YAML"),
]


@pytest.mark.parametrize(("text", "reason"), BAD_FILES)
def test_bad_data_is_refused_before_work(folder, text, reason):
    for name in ("broken.npz", "broken.npy", "broken.zip", "broken-idx3-ubyte"):
        (folder / name).write_bytes(b"PK\x03\x04 nonsense")
    (folder / "short-idx3-ubyte").write_bytes(struct.pack(">HBB3I", 0, 8, 3, 5, 8, 8) + b"12")
    np.savez(folder / "objects.npz", x=np.array([{}], object))
    np.save(folder / "objects.npy", np.array([{}], object))
    np.save(folder / "none.npy", np.zeros((0, 3, 8, 8)))
    for name in ("empty", "spoilt"):
        (folder / name).mkdir()
    (folder / "spoilt" / "a.jpg").write_bytes(jpeg(pictures()[0])[:60])
    (folder / "helper.py").write_text("WIDTH = 8")
    (folder / "mine.py").write_text(CODE)
    with pytest.raises(DataError) as caught:
        load(folder, text)
    assert reason in str(caught.value)
    assert "\n  fix: " in str(caught.value) or caught.value.where


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("no.yaml", None, "no.yaml: no such data file\n  fix: check the path"),
        ("no.npz", None, "no.npz: no such file or folder\n  fix: check the path"),
        ("binary.yaml", b"PK\x03\x04\xff\xfe", "is not text in UTF-8"),
        ("control.yaml", b"a\x00b", "is not YAML"),
        ("date.yaml", b"a: 2026-99-99", "is not YAML"),
    ],
)
def test_data_files_that_are_none(tmp_path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_dataset(tmp_path / name, image_input())
    assert reason in str(caught.value)
    assert name in caught.value.where
    assert caught.value.fix
    assert "Errno" not in str(caught.value)


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_not_the_working_directory(folder, name):
    with pytest.raises(UsageError, match="empty"):
        load_dataset(name, image_input())
    with pytest.raises(DataError, match="source is empty"):
        load(folder, f"evaluation: {{source: '{name}'}}")


def test_no_records_at_all_are_not_blamed_on_a_slice(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((0, 3, 8, 8)))
    with pytest.raises(DataError, match="no samples: 0 records") as caught:
        load_dataset(tmp_path / "x.npz", image_input())
    assert "slice" not in str(caught.value)
    assert str(caught.value).count("x.npz") == 1


def test_a_pattern_that_is_none_has_a_fix(folder):
    with pytest.raises(DataError, match="regular expression") as caught:
        load(folder, "evaluation: {source: images, labels: {from_name: '('}}")
    assert "from_name" in caught.value.fix


def test_suggestions_are_public_names(tmp_path):
    (tmp_path / "helper.py").write_text("WIDTH = 8")
    (tmp_path / "mine.py").write_text(CODE)
    with pytest.raises(DataError, match="has no 'zzz'") as caught:
        load(tmp_path, "evaluation: {source: 'mine:zzz'}")
    assert "generator" in caught.value.fix
    assert "__builtins__" not in caught.value.fix
    assert "np" not in caught.value.fix.split(": ")[1].split(", ")


@pytest.mark.parametrize("container", ["images", "images.zip"])
def test_an_image_of_another_size_is_named(folder, container):
    inputs = image_input("N", 3, 6, 6)
    with pytest.raises(DataError, match=r"000_3\.png.*does not fit"):
        load(folder, f"evaluation: {{source: {container}}}", inputs)


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_values_that_are_no_numbers_are_named(tmp_path, bad):
    x = np.ones((40, 3, 8, 8), np.float32)
    x[37, 0, 0, 0] = bad
    np.savez(tmp_path / "x.npz", x=x)
    with pytest.raises(DataError, match="NaN or infinities") as caught:
        list(load_dataset(tmp_path / "x.npz", image_input()).evaluation)
    assert "x.npz:x, record 37" in caught.value.where
    assert "check the file" in caught.value.fix
    meant = load(tmp_path, "evaluation: {source: x.npz}\npreprocess: {x: {finite: false}}").evaluation
    np.testing.assert_array_equal(all_of(meant), x)


@pytest.mark.parametrize(
    ("arrays", "notes"),
    [
        (["x", "labels"], []),
        (["x", "label"], ["array 'label' is not used; did you mean 'labels'?"]),
        (["x", "labels", "label"], ["array 'label' is not used; what is read: labels, x"]),
        (["x", "y"], ["array 'y' is not used; what is read: x"]),
        (["images"], ["array 'images' feeds input 'x'"]),
        (["images", "labels"], ["array 'images' feeds input 'x'"]),
    ],
)
def test_what_is_matched_unasked_or_left_over_is_noted(tmp_path, arrays, notes):
    contents = {"x": np.ones((3, 3, 8, 8)), "images": np.ones((3, 3, 8, 8))}
    np.savez(tmp_path / "x.npz", **{name: contents.get(name, np.arange(3)) for name in arrays})
    dataset = load_dataset(tmp_path / "x.npz", image_input())
    matched = [note for note in dataset.notes if "array" in note]
    assert len(matched) == len(notes)
    assert all(wanted in note and "x.npz" in note for wanted, note in zip(notes, matched, strict=True))
    assert (dataset.evaluation.labels is not None) == ("labels" in arrays)


def test_labels_that_a_data_file_does_not_take_are_noted_once(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.ones((3, 3, 8, 8)), labels=np.arange(3))
    notes = load(tmp_path, "calibration: {source: x.npz}\nevaluation: {source: x.npz}").notes
    assert notes == ("x.npz: array 'labels' is not used; `labels: labels` in the data file takes it",)


def test_an_input_that_no_array_is_named_like(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.ones((3, 3, 8, 8)), image=np.ones(3), y=np.ones(3))
    with pytest.raises(DataError, match="has no array 'input'") as caught:
        load_dataset(tmp_path / "x.npz", [InputSpec("input", np.dtype(np.float32), ("N", 3, 8, 8))])
    assert "images, image, y" in caught.value.fix


def test_text_for_a_numeric_input(tmp_path):
    (tmp_path / "t.tsv").write_text("one\n two\n")
    with pytest.raises(DataError, match="tokenizer"):
        load(tmp_path, "evaluation: {source: t.tsv, inputs: {x: 0}}", image_input("N", 1))


def test_values_that_an_integer_input_would_change(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[0.5]]))
    with pytest.raises(DataError, match="unchanged"):
        load(tmp_path, "evaluation: {source: x.npy}", image_input("N", 1, dtype=np.uint8))


def test_an_image_that_is_broken_later_is_named(folder):
    (folder / "images" / "zz_1.png").write_bytes(b"no image")
    samples = load(folder, "evaluation: {source: images}\nbatch: 2").evaluation
    with pytest.raises(DataError, match=r"zz_1\.png"):
        list(samples)


def test_images_are_decoded_as_they_are_read(tmp_path):
    import tracemalloc

    (tmp_path / "i").mkdir()
    for at in range(40):
        (tmp_path / "i" / f"{at}.png").write_bytes(jpeg(np.full((256, 256, 3), at, np.uint8)))
    peaks = []
    for stop in (16, 40):
        samples = load(
            tmp_path, f"batch: 4\nevaluation: {{source: i, slice: [0, {stop}]}}", image_input("N", 3, 256, 256)
        ).evaluation
        tracemalloc.start()
        for _ in samples:
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.05


@pytest.mark.parametrize("name", ["data.npz", "x.npy", "x-idx3-ubyte.gz", "images.zip"])
def test_spoilt_bytes_give_data_errors(folder, name):
    rng = np.random.default_rng(0)
    whole = (folder / name).read_bytes()
    for _ in range(100):
        spoilt = bytearray(whole)
        for at in rng.integers(0, min(len(whole), 200), 4):
            spoilt[at] = rng.integers(256)
        (folder / name).write_bytes(spoilt[: rng.integers(1, len(whole))] if rng.random() < 0.3 else spoilt)
        inputs = {"data.npz": "inputs: {x: images}"}.get(name, "slice: [0, 5]")
        text = f"evaluation: {{source: {name}, {inputs}}}\npreprocess: {{x: {{layout: NHWC}}}}"
        with contextlib.suppress(DataError):
            list(load(folder, text, image_input("N", None, 8, 8)).evaluation)
