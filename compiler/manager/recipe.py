"""Recipes: pipelines in a file, by built-in name, as ``--passes`` text or in Python; four forms of one thing.

A recipe file is YAML or JSON::

    description: prune, win back, quantize
    passes:
      - cleanup                       # a pass or a built-in recipe
      - prune: {ratio: 0.5}           # with fields
      - my_package.passes:Trim        # user code, by module:class
    hooks:
      after_pass: my_package.log:after_pass

``recipe.schema.json`` beside this module describes it for editors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from graphpress.errors import UsageError, did_you_mean
from graphpress.manager.contract import Pass
from graphpress.manager.registry import load_pass, pass_names, unknown_pass
from graphpress.manager.syntax import PassCall, format_steps, parse_steps
from graphpress.report.manifest import Manifest, read_manifest

T = TypeVar("T")

BUILT_IN = Path(__file__).parent.parent / "recipes"
HOOKS = ("before_pass", "after_pass", "on_transaction")
EXPLICIT = "explicit"
"""Key of the recorded decision that says which passes were asked for by name."""

MAX_NESTED = 8


@dataclass(frozen=True)
class Recipe:
    """A pipeline, ready to run.

    Args:
        passes: in the order in which they run.
        explicit: names of passes that were asked for by their own name rather than through a built-in recipe:
            they run even where the target's data says that they don't pay.
        hooks: the user's functions by the event that calls them.
        decisions: recorded choices to follow instead of measuring (a manifest is a recipe with decisions).
        manifest: the recorded run that this one replays, if it does.
    """

    passes: tuple[Pass, ...]
    explicit: frozenset[str] = frozenset()
    hooks: dict[str, Callable[..., None]] = field(default_factory=dict)
    decisions: dict[str, Any] = field(default_factory=dict)
    manifest: Manifest | None = None

    def text(self) -> str:
        """The canonical ``--passes`` text: every pass by name, with the fields that differ from their defaults."""
        return format_steps([PassCall(reference_of(one), options_of(one)) for one in self.passes])


def reference_of(one: Pass) -> str:
    """How recipes name a pass: by its registered name, or as ``module:class`` where it is the user's own."""
    kind = type(one)
    if one.name in pass_names() and load_pass(one.name) is kind:
        return one.name
    return f"{kind.__module__}:{kind.__qualname__}"


def options_of(one: Pass) -> dict[str, Any]:
    """The fields of a pass that differ from their defaults."""
    found = {}
    for item in fields(one):
        value = getattr(one, item.name)
        default = item.default_factory() if item.default_factory is not MISSING else item.default
        if value != default:
            found[item.name] = list(value) if isinstance(value, tuple) else value
    return found


def recipe_names() -> list[str]:
    """The built-in recipes, sorted."""
    return sorted(file.stem for file in BUILT_IN.glob("*.yaml"))


def from_text(text: str) -> Recipe:
    """From the ``--passes`` syntax.

    Raises:
        UsageError: unreadable text, an unknown pass or field.
    """
    return _recipe(_some(parse_steps(text)))


def from_passes(passes: Iterable[Pass]) -> Recipe:
    """From pass objects, in Python."""
    chosen = _some(list(passes))
    return Recipe(_with_required(chosen), frozenset(one.name for one in chosen))


def _some(steps: list[T]) -> list[T]:
    if not steps:
        raise UsageError("names no pass", where="--passes", fix="name at least one, or leave the option out")
    return steps


def from_name(name: str) -> Recipe:
    """A built-in recipe, or a recipe file (YAML or JSON), or a manifest to replay.

    Raises:
        UsageError: there is no such recipe, or the file does not hold one.
    """
    if name in recipe_names():
        return _recipe([PassCall(name, {})])
    file = Path(name)
    if not file.is_file():
        raise UsageError(
            f"no recipe {name!r}", where="--recipe", fix=f"give a file, or {did_you_mean(name, recipe_names())}"
        )
    table = _read(file)
    if "manifest_version" in table:
        manifest = read_manifest(file)
        explicit = frozenset(manifest.decisions.get(EXPLICIT, ()))
        return replace(from_text(manifest.recipe), explicit=explicit, decisions=manifest.decisions, manifest=manifest)
    unknown = set(table) - {"description", "passes", "hooks"}
    if unknown or not isinstance(table.get("passes"), list):
        word = sorted(unknown)[0] if unknown else "passes"
        raise UsageError(
            f"unknown key {word!r}" if unknown else "has no list of passes",
            where=str(file),
            fix=did_you_mean(word, ("description", "passes", "hooks")),
        )
    recipe = _recipe([_step_of(entry, file) for entry in table["passes"]])
    return Recipe(recipe.passes, recipe.explicit, _hooks(table.get("hooks") or {}, file))


def to_table(recipe: Recipe) -> dict[str, Any]:
    """The content of a recipe file for this pipeline (hooks left out: they are code)."""
    named = ((reference_of(one), options_of(one)) for one in recipe.passes)
    return {"passes": [{name: options} if options else name for name, options in named]}


def make_pass(step: PassCall) -> Pass:
    """One pass from its name and fields.

    Raises:
        UsageError: unknown pass, unknown field, or a value of the wrong kind.
    """
    from pydantic import TypeAdapter, ValidationError

    kind = _user_class(step.name) if ":" in step.name else load_pass(step.name)
    known = [item.name for item in fields(kind)]
    for key in step.fields:
        if key not in known:
            raise UsageError(
                f"the pass {step.name!r} has no field {key!r}",
                where="--passes",
                fix=did_you_mean(key, known) if known else "it has no fields",
            )
    try:
        made: Pass = TypeAdapter(kind).validate_python(dict(step.fields))
    except (ValidationError, ValueError, TypeError) as error:
        raise UsageError(
            f"the pass {step.name!r} cannot be made: {_first_fault(error)}",
            where="--passes",
            fix=f"see `optimize passes {step.name}`",
        ) from error
    return made


def _recipe(steps: Sequence[PassCall]) -> Recipe:
    passes = _with_required([make_pass(step) for step in _expand(steps)])
    named = {step.name for step in steps}
    return Recipe(passes, frozenset(one.name for one in passes if named & {one.name, reference_of(one)}))


def _with_required(passes: Sequence[Pass]) -> tuple[Pass, ...]:
    """Put before each pass what it requires, but for recipes of which a pass stands there already."""
    found: list[Pass] = []
    lossy = 0  # where the last lossy pass stands, or the beginning
    for one in passes:
        for name in one.requires:
            needed = [make_pass(step) for step in _expand([PassCall(name, {})])]
            there = found[lossy:] if one.recovers else found
            if not {type(other) for other in needed} & {type(other) for other in there}:
                found += needed
        if not one.lossless and not one.recovers:
            lossy = len(found)
        found.append(one)
    return tuple(found)


def _expand(steps: Sequence[PassCall], depth: int = 0) -> list[PassCall]:
    """Replace built-in recipes by their passes."""
    found: list[PassCall] = []
    for step in steps:
        if step.name not in recipe_names():
            if ":" not in step.name and step.name not in pass_names():
                raise unknown_pass(step.name, [*pass_names(), *recipe_names()])
            found.append(step)
            continue
        if step.fields or depth > MAX_NESTED:
            raise UsageError(
                f"the recipe {step.name!r} takes no fields",
                where="--passes",
                fix="name the passes that you want to set fields of",
            )
        file = BUILT_IN / f"{step.name}.yaml"
        found += _expand([_step_of(entry, file) for entry in _read(file)["passes"]], depth + 1)
    return found


def _step_of(entry: Any, file: Path) -> PassCall:
    if isinstance(entry, str):
        return PassCall(entry, {})
    if isinstance(entry, dict) and len(entry) == 1:
        name, given = next(iter(entry.items()))
        if isinstance(name, str) and (given is None or isinstance(given, dict)):
            return PassCall(name, given or {})
    raise UsageError(f"cannot read the entry {entry!r}", where=str(file), fix="write a name, or name: {field: value}")


def _read(file: Path) -> dict[str, Any]:
    import yaml

    try:
        text = file.read_text(encoding="utf-8")
        table = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError) as error:
        raise UsageError(
            f"not readable as a recipe ({str(error).splitlines()[0]})", where=str(file), fix="write it as YAML or JSON"
        ) from error
    if not isinstance(table, dict):
        raise UsageError("holds no table", where=str(file), fix="begin it with `passes:`")
    return table


def _hooks(table: Any, file: Path) -> dict[str, Callable[..., None]]:
    from graphpress.data.user_code import load_object

    if not isinstance(table, dict):
        raise UsageError("hooks is no table", where=str(file), fix="write event: module:function")
    for event in table:
        if event not in HOOKS:
            raise UsageError(f"unknown hook {event!r}", where=str(file), fix=did_you_mean(str(event), HOOKS))
    return {
        event: load_object(str(reference), folder=file.parent, error=UsageError) for event, reference in table.items()
    }


def _user_class(reference: str) -> type[Pass]:
    from graphpress.data.user_code import load_object

    found = load_object(reference, error=UsageError)
    if not (isinstance(found, type) and issubclass(found, Pass)):
        raise UsageError(f"{reference!r} is no pass", where="--passes", fix="name a subclass of graphpress.Pass")
    return found


def _first_fault(error: Exception) -> str:
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        fault = error.errors()[0]
        return f"{'.'.join(str(one) for one in fault['loc'])}: {fault['msg']}"
    return str(error)
