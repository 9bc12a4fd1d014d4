"""The forms by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphpress.passes.lowrank._form import Form
from graphpress.passes.lowrank._problem import LayerProblem
from graphpress.passes.lowrank.cp import Cp
from graphpress.passes.lowrank.monarch import Monarch
from graphpress.passes.lowrank.spatial import Spatial
from graphpress.passes.lowrank.svd import Svd
from graphpress.passes.lowrank.tensor_train import TensorTrain
from graphpress.passes.lowrank.tucker import Tucker

FORMS: Mapping[str, Form] = {form.name: form for form in (Svd(), Tucker(), Spatial(), Cp(), TensorTrain(), Monarch())}
AUTOMATIC = ("svd", "tucker", "spatial", "cp")
"""The forms to choose from by themselves, the usual one first."""


def fitting(names: Sequence[str], problem: LayerProblem) -> list[Form]:
    """Those of these forms that fit a problem; where none does, the singular value decomposition."""
    forms = [FORMS[name] for name in names]
    return [form for form in forms if form.fits(problem.kernel) and form.splits(problem)] or [FORMS["svd"]]
