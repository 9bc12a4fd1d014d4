"""NVIDIA's targets: what each has, what may be chosen, and what does not go together."""

import os
from pathlib import Path

import pytest

from graphpress import optimize
from graphpress.backends.tensorrt.platform import platform_of
from graphpress.backends.tensorrt.toolchain import find_toolchain
from graphpress.errors import UsageError
from graphpress.manager.registry import backend_names
from graphpress.ops import lookup
from graphpress.targets import load_target, options_of, target_names

NVIDIA = [name for name in target_names() if load_target(name).backend == "tensorrt"]

CHOICES = [
    f"{name}{{{option}={choice}}}"
    for name in NVIDIA
    for option, one in options_of(name).items()
    for choice in one.choices
    if choice != one.default and not (name == "dgpu" and option == "tensorrt")
]


def test_the_family_is_whole():
    names = {"jetson", "jetson-orin", "jetson-orin-nano", "jetson-agx-orin", "jetson-xavier", "jetson-thor"}
    assert names | {"rtx", "rtx-ada", "rtx-blackwell", "dgpu"} <= set(NVIDIA)
    assert load_target("jetson") == load_target("jetson-orin")


@pytest.mark.parametrize("text", [*NVIDIA, *CHOICES, "dgpu{tensorrt=10.3}", "dgpu{tensorrt=11.4}"])
def test_every_choice_is_whole(text):
    target = load_target(text)
    platform = platform_of(target)
    assert target.backend in backend_names()
    assert {"float32", "float16", "int8"} <= set(target.kernels) & set(target.peak_gmacs)
    assert target.memory_bytes >= 8 << 30
    assert 50 < target.bandwidth_gbs < 10_000
    assert target.peak_gmacs["float32"] < target.peak_gmacs["float16"] < target.peak_gmacs["int8"]
    assert target.channel_multiple == 32
    assert 17 <= target.opset_max <= 25
    assert platform.capabilities
    assert platform.proxies
    assert platform.typing[0] == ("weak" if platform.tensorrt.startswith("8.") or platform.dla else "strong")
    policy = target.quantization
    assert policy.symmetric_activations
    assert policy.activations == policy.weights == "int8"
    assert policy.bias == "float32"
    assert set(policy.float_results) <= set(policy.compute_ops)
    assert all(lookup(name).quantization.moves_data for name in policy.pass_through_ops)
    assert all(lookup(name).quantization.weight is not None for name in policy.compute_ops)
    assert not set(policy.quantizable_neighbors) & {*policy.compute_ops, *policy.pass_through_ops}


@pytest.mark.parametrize(
    ("text", "tensorrt", "opset", "typing"),
    [
        ("jetson{jetpack=5.1}", "8.5", 17, ("weak",)),
        ("jetson{jetpack=6.0}", "8.6", 17, ("weak",)),
        ("jetson{jetpack=6.1}", "10.3", 20, ("strong", "weak")),
        ("jetson", "10.3", 20, ("strong", "weak")),
        ("jetson-orin-nano{jetpack=7.2}", "11.4", 25, ("strong",)),
        ("jetson-xavier", "8.5", 17, ("weak",)),
        ("jetson-thor", "10.13", 24, ("strong", "weak")),
        ("jetson-thor{jetpack=7.2}", "11.4", 25, ("strong",)),
        ("dgpu", "10.13", 24, ("strong", "weak")),
        ("dgpu{tensorrt=10.3}", "10.3", 20, ("strong", "weak")),
    ],
)
def test_jetpack_and_tensorrt_say_what_can_be_read(text, tensorrt, opset, typing):
    target = load_target(text)
    platform = platform_of(target)
    assert (platform.tensorrt, target.opset_max, platform.typing) == (tensorrt, opset, typing)
    assert platform.built_on_device
    assert target.recipe == ("int8" if typing == ("weak",) else "int8-float16")


@pytest.mark.parametrize("name", NVIDIA)
def test_rates_are_of_types_that_it_has(name):
    target = load_target(name)
    assert set(target.peak_gmacs) <= set(target.kernels)


def test_cards_run_engines_that_were_built_here():
    for name in ("rtx", "rtx-ada", "rtx-blackwell"):
        platform = platform_of(load_target(name))
        assert (platform.product, platform.built_on_device, platform.strong) == ("tensorrt_rtx", False, True)
        assert platform.proxies == platform.capabilities


@pytest.mark.parametrize(
    ("text", "has", "lacks"),
    [
        ("jetson", ["bfloat16", "int4"], ["float8e4m3fn", "float4e2m1"]),
        ("jetson{jetpack=5.1}", [], ["bfloat16", "int4", "float8e4m3fn"]),
        ("jetson-xavier", [], ["bfloat16", "int4", "float8e4m3fn"]),
        ("jetson-thor", ["float8e4m3fn", "float4e2m1"], []),
        ("rtx", ["bfloat16", "int4"], ["float8e4m3fn"]),
        ("rtx-ada", ["float8e4m3fn"], ["float4e2m1"]),
        ("dgpu", ["bfloat16"], ["float8e4m3fn"]),
        ("dgpu{generation=hopper}", ["float8e4m3fn"], ["float4e2m1"]),
        ("dgpu{generation=blackwell}", ["float8e4m3fn", "float4e2m1"], []),
    ],
)
def test_types_that_the_processor_has(text, has, lacks):
    kernels = set(load_target(text).kernels)
    assert set(has) <= kernels
    assert not set(lacks) & kernels


@pytest.mark.parametrize(("name", "cores"), [("jetson", 2), ("jetson-agx-orin", 2), ("jetson-xavier", 2)])
def test_the_accelerator_takes_every_layer_it_can(name, cores):
    target = load_target(f"{name}{{dla=on}}")
    platform = platform_of(target)
    assert (platform.dla, platform.dla_cores, platform.strong) == (True, cores, False)
    assert not target.quantization.residual_adds
    assert "ConvTranspose" in target.quantization.compute_ops
    assert "dla" not in load_target(name).settings


@pytest.mark.parametrize("name", ["jetson-orin-nano", "jetson-thor", "rtx", "dgpu"])
def test_devices_without_an_accelerator_have_no_option_for_it(name):
    with pytest.raises(UsageError, match="there is no option 'dla'"):
        load_target(f"{name}{{dla=on}}")
    assert platform_of(load_target(name)).dla_cores == 0


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("jetson{jetpack=9}", "jetpack cannot be '9'", "choose one of: 5.1, 6.0, 6.1, 6.2, 7.2"),
        ("jetson{jetpak=6.2}", "there is no option 'jetpak'", "did you mean 'jetpack'?"),
        ("jetson{dla=onn}", "dla cannot be 'onn'", "did you mean 'on'?"),
        ("jetson{jetpack=default}", "jetpack cannot be 'default'", "choose one of"),
        ("jetson{dla=on,jetpack=7.2}", "dla=on does not go with jetpack=7.2", "from: 5.1, 6.0, 6.1, 6.2"),
        ("dgpu{tensorrt=10.3,generation=blackwell}", "generation=blackwell does not go with tensorrt=10.3", "10.13"),
        ("rtx{jetpack=6.2}", "there is no option 'jetpack'", "choose one of: route"),
        ("cpu{threads=4}", "there is no option 'threads'", "give the name alone"),
        ("jetson{jetpack=6.2", "cannot read", "NAME{option=choice"),
        ("jetson{jetpack}", "cannot read", "NAME{option=choice"),
        ("jetson{jetpack=}", "cannot read", "NAME{option=choice"),
        ("jetson{jetpack=6.1,jetpack=6.2}", "cannot read", "NAME{option=choice"),
        ("jetson{jetpack=6.1}x", "cannot read", "NAME{option=choice"),
        ("jetson{}", "cannot read", "NAME{option=choice"),
        ("jetsonn{jetpack=6.2}", "unknown target 'jetsonn'", "did you mean 'jetson'?"),
        ("jetsonjetpack=6.2", "unknown target", "put it in quotes"),
        ("", "unknown target ''", "choose one of"),
    ],
)
def test_what_cannot_be_chosen_says_what_can(text, what, fix):
    with pytest.raises(UsageError) as raised:
        load_target(text)
    assert what in raised.value.what
    assert fix in raised.value.fix
    assert raised.value.exit_code == 2


def test_space_around_words_does_not_matter():
    assert load_target(" jetson{ jetpack = 5.1 , dla = off } ") == load_target("jetson{jetpack=5.1}")


@pytest.mark.parametrize("text", ["jetson-orin", "jetson-orin{jetpack=5.1}", "dgpu{route=network,generation=ada}"])
def test_a_target_knows_how_to_express_itself(text):
    target = load_target(text)
    assert load_target(target.canonical_name) == target
    assert target.canonical_name == text


def test_options_are_listed_with_their_default():
    options = options_of("jetson")
    assert (options["jetpack"].default, options["dla"].choices) == ("6.2", ("off", "on"))
    assert list(options_of("rtx")) == ["route"]
    with pytest.raises(UsageError, match="unknown target"):
        options_of("jetsonn")


def test_proxies_compute_in_integers_what_the_device_does():
    """SM75 builds Q/DQ in float32 networks without one integer kernel: it would show nothing."""
    assert platform_of(load_target("jetson-xavier")).proxies == ("8.0",)
    assert all("7.5" not in platform_of(load_target(text)).proxies for text in (*NVIDIA, *CHOICES))


@pytest.mark.skipif("GRAPHPRESS_DATA" not in os.environ, reason="GRAPHPRESS_DATA is not set: no real models here")
@pytest.mark.skipif(find_toolchain("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
@pytest.mark.parametrize("text", ["jetson-xavier", "jetson-thor{jetpack=7.0}", "jetson{dla=on}"])
def test_the_default_recipe_keeps_its_expected_precisions_on_the_proxy(tmp_path, text):
    folder = Path(os.environ["GRAPHPRESS_DATA"])
    out = tmp_path / "out"
    report = optimize(
        folder / "mnist_opt.onnx", target=text, data=folder / "mnist.yaml", eval_limit=200, output=out, threads=1
    ).report
    assert report.status == "delivered"
    assert report.verdict.drop <= 0.01
    assert {(one.op, one.asked, one.became) for one in report.layers if one.op in ("Conv", "Gemm")} == {
        ("Conv", "int8", "int8"),
        ("Gemm", "int8", "int8"),
    }
    assert report.unverified
    assert report.refusals == ()
    assert (out / "calibration.cache").exists() is ("dla" in text)
