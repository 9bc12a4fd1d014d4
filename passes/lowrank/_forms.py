"""The forms by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphpress.passes.lowrank._form import Form
from graphpress.passes.lowrank.cp import Cp
from graphpress.passes.lowrank.spatial import Spatial
from graphpress.passes.lowrank.svd import Svd
from graphpress.passes.lowrank.tensor_train import TensorTrain
from graphpress.passes.lowrank.tucker import Tucker

FORMS: Mapping[str, Form] = {form.name: form for form in (Svd(), Tucker(), Spatial(), Cp(), TensorTrain())}


def fitting(names: Sequence[str], kernel: Sequence[int]) -> list[Form]:
    """Those of these forms that fit a kernel; where none does, a singular value decomposition."""
    return [FORMS[name] for name in names if FORMS[name].fits(kernel)] or [FORMS["svd"]]
