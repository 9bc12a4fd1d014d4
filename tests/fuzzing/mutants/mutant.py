"""A mutant: what a seed and an index say it is, always the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

import onnx

from mutants import annotations, declarations, external, interface, nodes, patterns, raw, tensors
from mutants.draft import Draft, InapplicableError, Link
from mutants.seeds import seeds

FAMILIES = {nodes: 5, patterns: 8, interface: 4, declarations: 4, tensors: 4, annotations: 3, external: 2, raw: 1}
"""How often a change is of each family."""
MODEL_FILE = "model.onnx"
_ATTEMPTS = 40


@dataclass(frozen=True)
class Mutant:
    """A model file, and what lies beside it.

    Args:
        seed: name of the model that it comes from.
        changes: what was done to that, in words.
        model: the file.
        files: those beside it.
    """

    seed: str
    changes: tuple[str, ...]
    model: bytes
    files: Mapping[str, bytes | Link]

    def write(self, folder: Path) -> Path:
        """Put all files into a folder, and return the model's."""
        for name, contents in self.files.items():
            if isinstance(contents, Link):
                (folder / name).symlink_to(contents.target)
            else:
                (folder / name).write_bytes(contents)
        (folder / MODEL_FILE).write_bytes(self.model)
        return folder / MODEL_FILE


def make_mutant(seed: int, index: int) -> Mutant:
    """The mutant of that number: one to three changes of one of the seeds; one in forty is the seed itself."""
    random = Random(f"{seed}/{index}")
    name = random.choice(sorted(seeds()))
    contents, files = seeds()[name]
    draft = Draft(onnx.ModelProto.FromString(contents), dict(files), random)
    wanted = random.choices((0, 1, 2, 3), (1, 26, 9, 4))[0]
    changes: list[str] = []
    for _ in range(_ATTEMPTS):
        if len(changes) == wanted:
            break
        family = random.choices(list(FAMILIES), list(FAMILIES.values()))[0]
        mutation = random.choice(family.MUTATIONS)
        try:
            changes.append(f"{mutation.__name__}: {mutation(draft)}")
        except InapplicableError:
            continue
    model = draft.model.SerializeToString()
    for change in draft.bytewise:
        model = change(model)
    return Mutant(name, tuple(changes), model, draft.files)
