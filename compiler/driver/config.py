"""The first step of a run: what its options mean. Names are looked up and words are read; no model is opened yet."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from graphpress.backend import Backend
from graphpress.cache import ContentCache
from graphpress.data import data_files
from graphpress.deadline import NO_DEADLINE, Deadline
from graphpress.driver.input_shapes import parse_input_shapes
from graphpress.driver.options import Options
from graphpress.driver.output import check_folder, default_folder
from graphpress.driver.replay import check_manifest, replayed
from graphpress.driver.source import ModelFile
from graphpress.errors import BackendError, UsageError, did_you_mean
from graphpress.manager.manifest import Manifest
from graphpress.manager.recipe import Recipe, from_name, from_passes, named_recipe
from graphpress.manager.recipe_file import HOOKS
from graphpress.manager.registry import load_backend
from graphpress.targets import Target, load_target
from graphpress.targets.load import target_text

WINNER = "backend"
"""Under which the manifest records, where backends competed, whose artifact was delivered."""


@dataclass(frozen=True)
class RunConfig:
    """What the options of a run mean.

    Args:
        options: as given, or as recorded where a manifest is replayed and the call leaves them at their defaults.
        target, backend, recipe: as looked up.
        backend_name: how the backend is called.
        rivals: further backends by name, whose artifact is delivered where it is faster.
        exclude: nodes whose name matches stay as they are in lossy passes.
        shapes: input shapes that the user fixed.
        inputs: files and folders that the options name, which the run reads.
        output: folder to write, which may be written.
        threads: threads of the runtime.
        cache: keeps expensive results by content.
        deadline: when the run has to be through.
    """

    options: Options
    target: Target
    backend: Backend
    backend_name: str
    recipe: Recipe
    exclude: re.Pattern[str] | None
    shapes: Mapping[str, tuple[int, ...]]
    inputs: tuple[Path, ...]
    output: Path
    threads: int
    cache: ContentCache
    deadline: Deadline = NO_DEADLINE
    rivals: Mapping[str, Backend] = field(default_factory=dict)

    @property
    def checkpoints(self) -> Path:
        """Where long work keeps its state: in the cache where there is one, else beside the output."""
        if self.cache.folder is not None:
            return self.cache.folder / "training"
        return self.output.parent / f".{self.output.name}-checkpoint"


def resolve(file: ModelFile, options: Options, hooks: Mapping[str, Callable[..., None]]) -> RunConfig:
    """Look up everything that the options name.

    Args:
        file: the model, which is not opened.
        options: as given.
        hooks: the user's functions by event.

    Raises:
        UsageError: a name, a word or a folder that cannot be used.
        BackendError: the backend does not work here.
    """
    began = time.monotonic()
    recipe = _recipe(options, load_target(options.target), hooks)
    may_compete = options.backend is None and (recipe.manifest is None or WINNER in recipe.decisions)
    options = replayed(options, recipe)
    target = _target(options, recipe.manifest)
    backend_name = options.backend or target.backend
    called = target_text(options.target)
    output = default_folder(file.path, called) if options.output is None else Path(options.output)
    inputs = tuple(_files_read(file, options))
    backend = _available(backend_name, options, target)
    rivals = rivals_of(target) if may_compete else {}
    if options.tuning != "rules":
        _check_tuning(target, {backend_name: backend, **rivals})
    if options.weights != "beside":
        _check_placement(backend_name, backend)
    check_folder(output, options.force, inputs)
    return RunConfig(
        options=options,
        target=target,
        backend=backend,
        backend_name=backend_name,
        recipe=recipe,
        exclude=_pattern(options.exclude),
        shapes=parse_input_shapes(options.input_shape),
        inputs=inputs,
        output=output,
        threads=options.threads or os.cpu_count() or 1,
        cache=ContentCache(None if options.cache_dir is None else Path(options.cache_dir)),
        deadline=Deadline(began, options.time_limit),
        rivals=rivals,
    )


def _target(options: Options, manifest: Manifest | None) -> Target:
    """The target; that of a recorded run may be a file that is not where this one is started."""
    try:
        return load_target(options.target)
    except UsageError as error:
        if manifest is None or options.target != manifest.target:
            raise
        raise UsageError(
            f"its target cannot be used: {error.what}",
            where=f"{options.recipe}: target {manifest.target}",
            fix="a path counts from the folder in which the run was recorded: replay it there, or give --target FILE",
        ) from error


def _recipe(options: Options, target: Target, hooks: Mapping[str, Callable[..., None]]) -> Recipe:
    if options.recipe is not None and options.passes is not None:
        raise UsageError("both a recipe and passes were given", where="--passes", fix="give one of them")
    if options.passes is not None:
        recipe = from_passes(options.passes)
    elif options.recipe is not None:
        recipe = from_name(os.fspath(options.recipe), partial(check_manifest, options=options))
    else:
        with _said_by(target, "recipe", given=False):
            recipe = named_recipe(target.recipe)  # a file could name code, and a target is data
    for event in hooks:
        if event not in HOOKS:
            raise UsageError(f"unknown hook {event!r}", where="hooks", fix=did_you_mean(event, HOOKS))
    return replace(recipe, hooks={**recipe.hooks, **hooks})


@contextmanager
def _said_by(target: Target, key: str, *, given: bool) -> Iterator[None]:
    """A word that no option was given for stands in the target: an error about it names that, not the option."""
    try:
        yield
    except UsageError as error:
        if given or not error.where.startswith("--"):
            raise
        raise UsageError(f"{key}: {error.what}", where=target.called, fix=error.fix) from error


def _available(name: str, options: Options, target: Target) -> Backend:
    with _said_by(target, "backend", given=options.backend is not None):
        backend: Backend = load_backend(name)
    state = backend.available()
    if not state.works:
        raise BackendError(
            f"the backend {name!r} is not available: {state.detail}",
            where="--backend",
            fix=state.install or "see `optimize doctor`",
        )
    return backend


def rivals_of(target: Target) -> dict[str, Backend]:
    """The rivals of the target's own backend, by name; whether one works here shows when it competes.

    Raises:
        UsageError: the target names one that there is not.
    """
    with _said_by(target, "rivals", given=False):
        return {name: load_backend(name) for name in target.rivals if name != target.backend}


def _files_read(file: ModelFile, options: Options) -> Iterator[Path]:
    """The files and folders that the options name, as far as they are there: none may lie in what is replaced."""
    yield file.path
    yield from data_files(options.data)
    module = options.metric.partition(":")[0] if isinstance(options.metric, str) else ""
    named = (options.recipe or "", target_text(options.target).partition("{")[0], f"{module.replace('.', '/')}.py")
    yield from (path for path in map(Path, named) if path.is_file())
    if options.cache_dir is not None:
        yield Path(options.cache_dir)


def _check_tuning(target: Target, backends: Mapping[str, Backend]) -> None:
    """Somebody has to be there who measures kernels."""
    if not any(backend.tunes(target) and backend.available().works for backend in backends.values()):
        raise UsageError(
            f"nothing here measures kernels for the target {target.called!r} ({', '.join(backends)})",
            where="--tuning",
            fix="leave it out, or use --backend tvm for a target that is this machine",
        )


def _check_placement(name: str, backend: Backend) -> None:
    """The backend that delivers has to be one that places weights: its rival might win."""
    if not backend.places_weights():
        raise UsageError(
            f"the backend {name!r} does not put weights inside of a library",
            where="--weights",
            fix="leave it out, or use --backend tvm",
        )


def _pattern(text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text)
    except re.error as error:
        raise UsageError(
            f"not a regular expression ({error})", where="--exclude", fix="escape special characters"
        ) from error
