"""Command lines as data: golden per JetPack, each flag where it belongs."""

import os
from pathlib import Path

import pytest

from graphpress.backend import ShapeRange
from graphpress.backends.tensorrt.bundle.commands import Needs, command_line, missing, usual_command, ways_of
from graphpress.backends.tensorrt.platform import Platform

GOLDEN = Path(__file__).parents[3] / "golden"
PLATFORMS = {
    "jetpack-5.1": "jetson{jetpack=5.1}",
    "jetpack-6.0": "jetson{jetpack=6.0}",
    "jetpack-6.1": "jetson{jetpack=6.1}",
    "jetpack-6.2": "jetson{jetpack=6.2}",
    "jetpack-7.0": "jetson-thor{jetpack=7.0}",
    "jetpack-7.1": "jetson-thor{jetpack=7.1}",
    "jetpack-7.2": "jetson{jetpack=7.2}",
    "dla": "jetson{dla=on}",
    "dgpu": "dgpu",
    "rtx": "rtx",
}


@pytest.mark.parametrize("name", PLATFORMS)
def test_command_lines_are_as_recorded(bundles, name):
    """Set GRAPHPRESS_UPDATE_GOLDEN=1 to record them anew."""
    bundle = bundles(PLATFORMS[name])
    commands = [f"# {way.name}\n{usual_command(way, bundle.platform)}\n" for way in bundle.ways]
    text = "".join(commands).replace(" --", " \\\n    --")
    golden = GOLDEN / f"trtexec-{name}.txt"
    if os.environ.get("GRAPHPRESS_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def everything(_: str) -> bool:
    return True


def flags(platform: Platform, **needs) -> list[str]:
    return command_line(ways_of(platform, Needs(**needs))[0], "trtexec", everything)


WEAK, STRONG = Platform("8.5", typing=("weak",)), Platform("10.3", typing=("strong", "weak"))


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ([], []),
        (["float16"], ["--fp16"]),
        (["int8"], ["--int8", "--fp16"]),
        (["bfloat16", "float16"], ["--fp16", "--bf16"]),
        (["float8e4m3fn"], ["--fp8"]),
        (["weight-only"], []),
    ],
)
def test_weak_typing_allows_what_was_asked_for(types, expected):
    allowed = [flag for flag in flags(WEAK, types=types) if flag in {"--int8", "--fp16", "--bf16", "--fp8", "--int4"}]
    assert allowed == expected


def test_strong_typing_needs_no_permission():
    assert not {"--int8", "--fp16"} & set(flags(STRONG, types=["int8", "float16"]))
    assert "--stronglyTyped" in flags(STRONG)


def test_sparsity_and_memory_are_said_where_there_is_something_to_say():
    assert not [flag for flag in flags(STRONG) if flag.startswith(("--sparsity", "--memPoolSize", "--minShapes"))]
    assert {"--sparsity=enable", "--memPoolSize=workspace:2048"} <= set(flags(STRONG, sparse=True, workspace_mib=2048))


def test_the_profile_becomes_three_flags():
    profile = {"x": ShapeRange((1, 3), (2, 3), (8, 3)), "mask:0": ShapeRange((1,), (2,), (8,))}
    found = flags(STRONG, profile=profile)
    assert "--minShapes=x:1x3,'mask:0':1" in found
    assert "--optShapes=x:2x3,'mask:0':2" in found
    assert "--maxShapes=x:8x3,'mask:0':8" in found


def test_the_accelerator_takes_the_optimum_shape_only():
    platform = Platform("10.3", typing=("weak",), dla=True, dla_cores=2)
    found = flags(platform, profile={"x": ShapeRange((1, 3), (2, 3), (8, 3))})
    assert {"--minShapes=x:2x3", "--optShapes=x:2x3", "--maxShapes=x:2x3"} <= set(found)
    assert {"--minShapesCalib=x:2x3", "--optShapesCalib=x:2x3", "--maxShapesCalib=x:2x3"} <= set(found)


def test_open_shapes_need_a_run_for_the_list_of_layers():
    """TensorRT tells no types where they are open, but for those of a context."""
    assert {"--skipInference", "--buildOnly"} <= set(flags(STRONG))
    found = flags(STRONG, profile={"x": ShapeRange((1, 3), (2, 3), (8, 3))})
    assert "--iterations=1" in found
    assert not {"--skipInference", "--buildOnly"} & set(found)


def test_a_way_says_what_it_misses():
    weak = ways_of(WEAK, Needs(types=["int8"]))[0]
    assert missing(weak, lambda option: option != "--int8") == ["--int8"]
    assert missing(weak, everything) == []


def test_names_are_quoted_for_the_shell():
    way = ways_of(STRONG, Needs(profile={"a b": ShapeRange((1,), (1,), (2,))}))[0]
    assert "'--minShapes=a b:1'" in usual_command(way, STRONG)


@pytest.mark.parametrize(
    ("version", "present"), [("8.5", "--buildOnly"), ("8.6", "--skipInference"), ("10.3", "--skipInference")]
)
def test_only_to_build_is_said_in_the_words_of_the_release(version, present):
    platform = Platform(version, typing=("weak",))
    command = usual_command(ways_of(platform, Needs())[0], platform).split()
    assert [word for word in command if word in {"--buildOnly", "--skipInference"}] == [present]
