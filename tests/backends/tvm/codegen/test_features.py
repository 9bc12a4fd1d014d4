"""A library uses the instructions that it says it needs, whatever the processor has for which they are scheduled."""

from __future__ import annotations

import pytest

from graphpress.backends.tvm.codegen.features import OLDEST, extensions, llvm_attributes
from graphpress.backends.tvm.codegen.isa import ISAS, newest_isa

OF_A_CASCADE_LAKE = ("fma", "avx2", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "bmi1", "bmi2")


@pytest.mark.parametrize("isa", ISAS.values(), ids=ISAS)
def test_nothing_is_used_that_is_not_needed(isa):
    attributes = llvm_attributes(isa.family, isa.processor, isa.needs)
    needed = [word for word in attributes if word.startswith("+")]
    assert extensions(isa.family, isa.processor, attributes) == extensions(isa.family, OLDEST[isa.family], needed)


def test_processors_that_lack_what_the_newest_has_get_code_without():
    here, there = (newest_isa("x86_64", (*OF_A_CASCADE_LAKE, *more)) for more in (("avx512vbmi",), ()))
    assert (here.name, there.name) == ("avx512-vnni", "avx512-vnni")
    assert "avx512vbmi" in here.needs
    assert "avx512vbmi" not in there.needs
    for isa, has in ((here, True), (there, False)):
        attributes = llvm_attributes(isa.family, isa.processor, isa.needs)
        assert ("avx512vbmi" in extensions(isa.family, isa.processor, attributes)) == has


def test_the_runtime_knows_all_features():
    from graphpress.backends.tvm.codegen.features import OPTIONAL
    from graphpress.backends.tvm.emit import text

    source = text("runtime/graphpress_processor.h")
    needs = {name for isa in ISAS.values() for name in isa.needs}
    assert [name for name in (*needs, *OPTIONAL) if f'"{name}"' not in source] == []
