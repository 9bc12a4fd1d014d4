import numpy as np
import pytest

from graphpress.training.augment import Augmentation, find_images

IMAGES = np.random.default_rng(0).normal(size=(6, 3, 16, 24)).astype(np.float32)


def test_what_is_an_image():
    floats = dict.fromkeys(("x", "n"), True)
    assert find_images({"x": (2, 3, 8, 8), "n": (2,)}, floats) == Augmentation("x", channels_first=True)
    assert find_images({"x": (2, 32, 32, 1), "n": (2, 5)}, floats) == Augmentation("x", channels_first=False)
    assert find_images({"x": (2, 3, 8, 4), "n": (2,)}, floats) is None, "too small"
    assert find_images({"x": (2, 16, 8, 8), "n": (2,)}, floats) is None, "features, no image"
    assert find_images({"x": (2, 128), "n": (2,)}, floats) is None
    assert find_images({"x": (2, 3, 8, 8), "n": (2, 3, 8, 8)}, floats) is None, "which of the two?"
    assert find_images({"x": (2, 3, 8, 8), "n": (2,)}, {"x": False, "n": True}) is None, "integers are no image"


@pytest.mark.parametrize("channels_first", [True, False])
def test_shifts_stay_within_the_image(channels_first):
    images = IMAGES if channels_first else IMAGES.transpose(0, 2, 3, 1)
    changed = Augmentation("x", channels_first)({"x": images}, (0, 1))["x"]
    changed = changed if channels_first else changed.transpose(0, 3, 1, 2)
    assert changed.shape == IMAGES.shape
    inner = changed[:, :, 2:-2, 3:-3]
    matches = [
        any(
            np.array_equal(inner[at], IMAGES[at, :, 2 + down : 14 + down, 3 + right : 21 + right])
            for down in range(-2, 3)
            for right in range(-3, 4)
        )
        for at in range(len(IMAGES))
    ]
    assert all(matches)


def test_a_function_of_the_seed():
    vary = Augmentation("x", channels_first=True, flip=True)
    first, again, other = (vary({"x": IMAGES}, (0, step))["x"] for step in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_flips_are_a_matter_of_choice():
    def mirrored(flip):
        images = np.zeros((64, 1, 8, 8), np.float32)
        images[..., :4] = 1
        return (Augmentation("x", channels_first=True, flip=flip)({"x": images}, (0,))["x"][:, 0, 0, 0] == 0).sum()

    assert mirrored(False) == 0
    assert 16 < mirrored(True) < 48


def test_flipped_mirrors_all():
    flipped = Augmentation("x", channels_first=True).flipped({"x": IMAGES})["x"]
    np.testing.assert_array_equal(flipped, IMAGES[..., ::-1])


def test_a_mixture_lies_between_two_images_of_the_batch():
    images = np.repeat(np.arange(6, dtype=np.float32), 16 * 24 * 3).reshape(6, 3, 16, 24)
    mixed = Augmentation("x", channels_first=True, mix=True)({"x": images}, (0, 1))["x"]
    levels = mixed[:, 0, 0, 0]
    assert mixed.dtype == images.dtype
    np.testing.assert_allclose(mixed, np.broadcast_to(levels.reshape(-1, 1, 1, 1), mixed.shape), rtol=1e-6)
    assert 0 <= levels.min() <= levels.max() <= 5
    assert 0 < (levels != np.arange(6)).sum() < 6, "some stay alone"


def test_a_batch_of_one_has_nothing_to_be_mixed_with():
    alone, mixed = (Augmentation("x", True, mix=mix)({"x": IMAGES[:1]}, (0, 1))["x"] for mix in (False, True))
    np.testing.assert_allclose(mixed, alone, rtol=1e-6)


@pytest.mark.parametrize(
    ("flip", "mix", "label"),
    [(False, False, "shifted"), (True, False, "shifted and mirrored"), (True, True, "shifted, mirrored and mixed")],
)
def test_it_says_what_it_does(flip, mix, label):
    assert Augmentation("x", True, flip, mix).label == label
