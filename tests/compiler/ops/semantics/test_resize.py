"""Attributes of operators that read between pixels, from one operator set to another."""

import pytest

from graphpress.ops.semantics.resize import ResizeAttributes, RoiAlignAttributes, has_coordinates, resized


def test_older_operator_sets_have_one_transformation_of_coordinates(node):
    old = node("Resize", 10, coordinate_transformation_mode="half_pixel")
    assert not has_coordinates(old)
    assert (ResizeAttributes.of(old).coordinates, ResizeAttributes.of(old).nearest) == ("asymmetric", "simple")
    new = ResizeAttributes.of(node("Resize", 19))
    assert (new.coordinates, new.nearest, new.aspect) == ("half_pixel", "round_prefer_floor", "stretch")
    assert not has_coordinates(node("Upsample", 9))


def test_a_aspect_ratio_gives_all_axes_one_factor():
    assert resized([4, 9], [8, 6], "stretch") == ([4, 9], [0.5, 1.5])
    assert resized([4, 9], [8, 6], "not_larger") == ([4, 3], [0.5, 0.5])
    assert resized([4, 9], [8, 6], "not_smaller") == ([12, 9], [1.5, 1.5])


@pytest.mark.parametrize(
    ("opset", "given", "half_pixel"),
    [(16, {}, True), (16, {"coordinate_transformation_mode": "output_half_pixel"}, False), (10, {}, False)],
)
def test_regions_count_in_half_pixels_unless_they_are_older(node, opset, given, half_pixel):
    assert RoiAlignAttributes.of(node("RoiAlign", opset, **given)).half_pixel is half_pixel
