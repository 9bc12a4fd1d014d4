"""Which instruction set a target gets: the newest that the features of its processor allow."""

from __future__ import annotations

import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from graphpress.backends.tvm import processor
from graphpress.backends.tvm.codegen.isa import ISAS, newest_isa
from graphpress.backends.tvm.processor import isa_of, runs_natively
from graphpress.errors import BackendError
from graphpress.targets import Processor, load_target, target_names

EXPECTED = {
    "x86-avx2": ("avx2", "haswell"),
    "x86-avx512-vnni": ("avx512-vnni", "icelake-server"),
    "arm64": ("neon-dotprod", "cortex-a76"),
    "raspberrypi4": ("neon", "cortex-a72"),
    "raspberrypi5": ("neon-dotprod", "cortex-a76"),
    "jetson-cpu": ("neon-dotprod", "cortex-a78ae"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_instruction_set_follows_from_the_features(name):
    isa = isa_of(load_target(name))
    assert (isa.name, isa.processor) == EXPECTED[name]


def test_every_target_that_says_its_processor_has_kernels():
    said = [name for name in target_names() if load_target(name).processor.architecture]
    assert all(isa_of(load_target(name)).name in ISAS for name in said)


@pytest.mark.parametrize("isa", ISAS.values(), ids=lambda isa: isa.name)
def test_what_an_instruction_set_needs_chooses_it(isa):
    assert newest_isa(isa.family, isa.needs) == isa


def test_weights_fit_the_integer_products_of_their_target():
    for name in EXPECTED:
        bits = 7 if load_target(name).quantization.reduced_range else 8
        assert isa_of(load_target(name)).dot.largest_weight >= 1 << bits - 1, name


def test_the_machine_at_hand_is_asked_for_its_features(monkeypatch):
    monkeypatch.setattr(
        processor, "this_processor", lambda: Processor("aarch64", features=("asimd", "asimddp", "i8mm"))
    )
    assert isa_of(load_target("cpu")) == ISAS["neon-i8mm"]
    assert runs_natively(ISAS["neon"])
    assert not runs_natively(ISAS["avx2"])


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('like = "dgpu"', "does not say which processor"),
        ('like = "arm64"\nprocessor.features = []', "no kernels for this aarch64 processor"),
        ('like = "arm64"\nprocessor.model = "cortex-a7x"', "LLVM knows no processor 'cortex-a7x'"),
    ],
)
def test_processors_without_kernels_are_refused(text, what, tmp_path):
    (tmp_path / "board.toml").write_text(text)
    with pytest.raises(BackendError, match=what):
        isa_of(load_target(tmp_path / "board.toml"))
