"""Recipes: pipelines in a file, by name, as ``--passes`` text or in Python; four forms of one thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from graphpress.errors import UsageError, did_you_mean
from graphpress.manager.contract import Pass, field_error
from graphpress.manager.manifest import MANIFEST_FILE, Manifest, read_manifest
from graphpress.manager.recipe_file import named_recipes, parse_recipe, read_recipe, read_table, recipe_names
from graphpress.manager.registry import load_pass, pass_names, unknown_pass
from graphpress.manager.syntax import PassCall, format_steps, parse_steps
from graphpress.validation import MismatchError, build, conform

T = TypeVar("T")

AnyPass: TypeAlias = str | Pass | type[Pass]
"""Passes as text, one made, or a class to be made with its defaults."""
Passes: TypeAlias = AnyPass | Sequence[AnyPass]
"""A pipeline, as Python gives it."""

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
        return format_steps([PassCall(reference_of(pass_), options_of(pass_)) for pass_ in self.passes])


def reference_of(pass_: Pass) -> str:
    """How recipes name a pass: by its registered name, or as ``module:class`` where it is the user's own."""
    kind = type(pass_)
    if pass_.name in pass_names() and load_pass(pass_.name) is kind:
        return pass_.name
    return f"{kind.__module__}:{kind.__qualname__}"


def options_of(pass_: Pass) -> dict[str, Any]:
    """The fields of a pass that differ from their defaults."""
    given = {}
    for item in fields(pass_):
        value = getattr(pass_, item.name)
        default = item.default_factory() if item.default_factory is not MISSING else item.default
        if value != default:
            given[item.name] = list(value) if isinstance(value, tuple) else value
    return given


def from_text(text: str) -> Recipe:
    """From the ``--passes`` syntax.

    Raises:
        UsageError: unreadable text, an unknown pass or field.
    """
    return _recipe(_some(parse_steps(text)))


def from_passes(passes: Passes) -> Recipe:
    """From Python: a pass, its class, the ``--passes`` syntax, or a list of such.

    Raises:
        UsageError: no pass, or a class of something else; else as ``from_text``.
    """
    items = [passes] if isinstance(passes, (str, type, Pass)) else list(passes)
    recipes = [_item(item) for item in _some(items)]
    chosen = [pass_ for recipe in recipes for pass_ in recipe.passes]
    return Recipe(_with_required(chosen), frozenset().union(*(recipe.explicit for recipe in recipes)))


def _item(item: AnyPass) -> Recipe:
    """One item of a pipeline, without what it requires."""
    if isinstance(item, str):
        return _named(_some(parse_steps(item)))
    if isinstance(item, type) and not issubclass(item, Pass):
        raise UsageError(f"{item.__name__} is no pass", where="passes", fix="name a subclass of graphpress.Pass")
    pass_ = item() if isinstance(item, type) else item
    return Recipe((pass_,), frozenset({pass_.name}))


def _some(steps: Sequence[T]) -> Sequence[T]:
    if not steps:
        raise UsageError("names no pass", where="--passes", fix="name at least one, or leave the option out")
    return steps


def from_name(name: str, check: Callable[[Manifest, Path], None] = lambda manifest, file: None) -> Recipe:
    """A recipe that has a name, or a recipe file (YAML or JSON), or a manifest to replay.

    Args:
        name: the name or the file.
        check: asked whether a manifest may be replayed, before anything that it names is loaded.

    Raises:
        UsageError: there is no such recipe, or the file does not hold one; or what ``check`` says.
    """
    file = Path(name)
    if name in recipe_names() or not file.is_file():
        return named_recipe(name, "give a file, or ")
    table = read_table(file)
    with _said_of(name):
        if file.name == MANIFEST_FILE or "manifest_version" in table:  # a recipe of that name would escape the check
            return _replay(read_manifest(file), file, check)
        content = parse_recipe(table, file)
        return replace(_recipe(_some(content.steps)), hooks=content.hooks)


def named_recipe(name: str, otherwise: str = "") -> Recipe:
    """A recipe that has a name, ours or another package's.

    Args:
        name: of the recipe.
        otherwise: what could be given as well, the first words of the remedy.

    Raises:
        UsageError: there is none.
    """
    if name not in recipe_names():
        passes = f'give passes with --passes "{name}", ' if _names_passes(name) else ""
        fix = f"{passes}{otherwise}{did_you_mean(name, recipe_names())}"
        raise UsageError(f"no recipe {name!r}", where="--recipe", fix=fix)
    return replace(_recipe([PassCall(name, {})], whole_run=True), hooks=read_recipe(named_recipes()[name].file).hooks)


def _names_passes(text: str) -> bool:
    """Whether the text is what ``--passes`` takes."""
    try:
        return bool(from_text(text).passes)
    except UsageError:
        return False


def _replay(manifest: Manifest, file: Path, check: Callable[[Manifest, Path], None]) -> Recipe:
    """A recorded run."""
    check(manifest, file)
    try:
        explicit = conform(manifest.decisions.get(EXPLICIT, ()), tuple[str, ...], f"decisions.{EXPLICIT}")
    except MismatchError as mismatch:
        raise UsageError(f"{mismatch.field} {mismatch.what}", where=str(file), fix=mismatch.fix) from mismatch
    return replace(
        from_text(manifest.recipe), explicit=frozenset(explicit), decisions=manifest.decisions, manifest=manifest
    )


@contextmanager
def _said_of(file: str) -> Iterator[None]:
    """An error about passes names the file in which they stand, not the option that takes them as text."""
    try:
        yield
    except UsageError as error:
        if error.where != "--passes":
            raise
        raise UsageError(error.what, where=file, fix=error.fix) from error


def make_pass(step: PassCall) -> Pass:
    """One pass from its name and fields.

    Raises:
        UsageError: unknown pass, unknown field, or a value of the wrong kind.
    """
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
        return build(kind, step.fields, from_text=True)
    except MismatchError as mismatch:
        raise field_error(kind, mismatch) from mismatch
    except (ValueError, TypeError) as error:  # what a third party's pass says about its own fields
        raise UsageError(
            f"the pass {step.name!r} cannot be made: {error}",
            where="--passes",
            fix=f"see `optimize passes {step.name}`",
        ) from error


def _recipe(steps: Sequence[PassCall], whole_run: bool = False) -> Recipe:
    recipe = _named(steps, whole_run)
    return replace(recipe, passes=_with_required(recipe.passes))


def _named(steps: Sequence[PassCall], whole_run: bool = False) -> Recipe:
    """The passes of these steps, without what they require."""
    passes = tuple(make_pass(step) for step in _expand(steps, whole_run))
    named = {step.name for step in steps}
    return Recipe(passes, frozenset(pass_.name for pass_ in passes if named & {pass_.name, reference_of(pass_)}))


def _with_required(passes: Sequence[Pass]) -> tuple[Pass, ...]:
    """Put before each pass what it requires, and behind it what it is followed by.

    Of what is required, a recipe of which a pass stands there already is left out; nothing follows where the next pass
    is a recovery of the user's choice. Two that share a goal are recovered from together.
    """
    passes = _with_shared_goals(passes)
    pipeline: list[Pass] = []
    lossy = 0  # where the last lossy pass stands, or the beginning
    recovery: list[str] = []  # what is to follow the passes of the transaction so far
    for pass_, following in zip_longest(passes, passes[1:]):
        for name in pass_.requires:
            needed = _passes_of(name)
            there = pipeline[lossy:] if pass_.recovers else pipeline
            if not {type(other) for other in needed} & {type(other) for other in there}:
                pipeline += needed
        if not pass_.lossless and not pass_.recovers:
            lossy = len(pipeline)
        pipeline.append(pass_)
        recovery += pass_.followed_by
        if following is not None and following.joined(pass_):
            continue
        if following is None or not following.recovers:
            pipeline += [follower for name in dict.fromkeys(recovery) for follower in _passes_of(name)]
        recovery = []
    return tuple(pipeline)


def _with_shared_goals(passes: Sequence[Pass]) -> list[Pass]:
    """The passes, of which neighbors that share a goal each have it."""
    shared = list(passes)
    for place, pass_ in enumerate(shared[1:]):
        shared[place : place + 2] = pass_.joined(shared[place]) or shared[place : place + 2]
    return shared


def _passes_of(name: str) -> list[Pass]:
    """The passes of a recipe with their defaults, or the one of that name."""
    return [make_pass(inner) for inner in _expand([PassCall(name, {})])]


def _expand(steps: Sequence[PassCall], whole_run: bool = False, depth: int = 0) -> list[PassCall]:
    """Replace recipes that have a name by their passes.

    Args:
        steps: passes and recipes.
        whole_run: they are all that runs, so that a recipe may bring hooks.
        depth: how many recipes stand around these steps.
    """
    expanded: list[PassCall] = []
    for step in steps:
        if step.name in recipe_names():
            expanded += _expand(_steps_of(step, whole_run, depth), False, depth + 1)
        elif ":" in step.name or step.name in pass_names():
            expanded.append(step)
        else:
            raise unknown_pass(step.name, [*pass_names(), *recipe_names()])
    return expanded


def _steps_of(step: PassCall, whole_run: bool, depth: int) -> tuple[PassCall, ...]:
    """What stands in a recipe that has a name."""
    content = read_recipe(named_recipes()[step.name].file)
    if step.fields or depth > MAX_NESTED:
        raise UsageError(
            f"the recipe {step.name!r} takes no fields" if step.fields else f"the recipe {step.name!r} holds itself",
            where="--passes",
            fix="name the passes that you want to set fields of" if step.fields else "take it out of its own file",
        )
    if content.hooks and not whole_run:
        raise UsageError(
            f"the recipe {step.name!r} has hooks, which are for whole runs",
            where="--passes",
            fix=f"run it alone with --recipe {step.name}, or name its passes",
        )
    return content.steps


def _user_class(reference: str) -> type[Pass]:
    from graphpress.data.user_code import load_object

    kind = load_object(reference, error=UsageError)
    if not (isinstance(kind, type) and issubclass(kind, Pass)):
        raise UsageError(f"{reference!r} is no pass", where="--passes", fix="name a subclass of graphpress.Pass")
    return kind
