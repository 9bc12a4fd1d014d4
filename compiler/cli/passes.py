"""``optimize passes [NAME]``: every pass there is, and the options of one, read off its dataclass."""

from __future__ import annotations

import re
import sys
from dataclasses import MISSING, Field, dataclass, fields
from inspect import getdoc
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import click

from graphpress.cli.options import argument, debug_option, json_option
from graphpress.cli.text import echo, echo_json, joined, one_line, say, styled, table
from graphpress.errors import UsageError
from graphpress.plugins import OURS, NamedFile
from graphpress.validation import annotations_of

SAMPLES: dict[Any, Any] = {float: 0.5, int: 1, bool: True, str: "module:function"}
"""What an example gives an option that has no default to show; what must be text is the user's code."""


@dataclass(frozen=True)
class FieldDoc:
    """One option of a pass.

    Args:
        name: as in its dataclass.
        type: its annotation, words to choose from written out.
        default: its default as written in Python; None where it must be given.
        help: what its docstring says.
    """

    name: str
    type: str
    default: str | None
    help: str


@dataclass(frozen=True)
class PassDoc:
    """What there is to know about a pass before running it."""

    name: str
    summary: str
    lossless: bool
    recovers: bool
    needs_data: bool
    fields: tuple[FieldDoc, ...]


@click.command("passes")
@click.argument("name", required=False)
@json_option
@debug_option
def passes(name: str | None, as_json: bool) -> None:
    """List the passes, or the options of one; of a recipe, its passes."""
    from graphpress.manager.recipe_file import named_recipes
    from graphpress.manager.registry import load_pass, pass_names

    if name is None:
        _list(as_json)
        return
    if name in set(named_recipes()) - set(pass_names()):
        text = named_recipes()[name].file.read_text("utf-8")
        echo_json(yaml_table(text)) if as_json else echo(*text.rstrip("\n").split("\n"))
        return
    with argument("NAME"):
        kind = load_pass(name)
    doc = describe(name, kind)
    echo_json(doc) if as_json else say(_one(doc, kind))


def _list(as_json: bool) -> None:
    """Every pass and recipe; one that its package does not really bring is said to be broken."""
    docs, broken = _every_pass()
    if as_json:
        echo_json([*docs, *({"name": name, "error": why} for name, why in broken)])
        return
    say(table([(doc.name, _kind(doc), doc.summary) for doc in docs], head=("pass", "kind", "what it does")))
    say("", table(_recipes(), head=("recipe", "what it does")))
    if broken:
        say("", table(broken, head=("pass", "broken: it cannot be used")))


def _every_pass() -> tuple[list[PassDoc], list[tuple[str, str]]]:
    """What there is to know of each pass, and of those that cannot be loaded the name and why."""
    from graphpress.manager.registry import load_pass, pass_names

    docs, broken = [], []
    for name in pass_names():
        try:
            docs.append(describe(name, load_pass(name)))
        except UsageError as error:
            broken.append((name, one_line(error)))
    return docs, broken


def describe(name: str, kind: type[Any]) -> PassDoc:
    """A pass in words, from its fields, class attributes and docstring."""
    text = getdoc(kind) or ""
    helps, annotations = argument_docs(text), annotations_of(kind)
    options = tuple(
        FieldDoc(field.name, _type(annotations[field.name]), _default(field), helps.get(field.name, ""))
        for field in fields(kind)
        if field.init
    )
    return PassDoc(name, _summary(kind), kind.lossless, kind.recovers, kind.needs_data, options)


def _summary(kind: type[Any]) -> str:
    """The first paragraph of the docstring: the module's where the pass has a file of its own, else the class's."""
    own_file = kind.__module__.rpartition(".")[2] == kind.name
    text = (getdoc(sys.modules[kind.__module__]) if own_file else None) or getdoc(kind) or ""
    return " ".join(text.split("\n\n")[0].split())


def argument_docs(docstring: str) -> dict[str, str]:
    """Help by argument from the ``Args:`` section of a docstring whose indentation was cleaned."""
    section = re.search(r"^Args:\n((?:[ ]{4}.*\n?|\s*\n)+)", docstring, re.MULTILINE)
    helps = {}
    for names, help in re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {5,}.*)*)", section[1] if section else "", re.MULTILINE):
        helps.update(dict.fromkeys(re.split(r",\s*", names), " ".join(help.split())))
    return helps


def _recipes() -> list[tuple[str, str]]:
    from graphpress.manager.recipe_file import named_recipes

    return [(name, _recipe_words(source)) for name, source in named_recipes().items()]


def _recipe_words(source: NamedFile) -> str:
    """The description of a recipe, or why there is none."""
    from graphpress.manager.recipe_file import read_table

    try:
        description = str(read_table(source.file).get("description", ""))
    except UsageError as error:
        return f"broken: {one_line(error)}"
    return _with_origin(description, source)


def _with_origin(description: str, source: NamedFile) -> str:
    """The description, with the package that brings the recipe where that is not ours."""
    return description if source.origin == OURS else f"{description} (from {source.origin})"


def yaml_table(text: str) -> dict[str, Any]:
    """A recipe's text as the table it holds."""
    import yaml

    table: dict[str, Any] = yaml.safe_load(text)
    return table


def _type(annotation: Any) -> str:
    """The annotation as Python writes it; a choice of words as these words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (Union, UnionType):
        return " | ".join(map(_type, arguments))
    if annotation in (NoneType, Ellipsis):
        return "None" if annotation is NoneType else "..."
    inside = f"[{', '.join(map(_type, arguments))}]" if arguments else ""
    return f"{getattr(origin or annotation, '__name__', annotation)}{inside}"


def _default(field: Field[Any]) -> str | None:
    if field.default is not MISSING:
        return repr(field.default)
    return repr(field.default_factory()) if field.default_factory is not MISSING else None


def _kind(doc: PassDoc) -> str:
    words = ["lossless" if doc.lossless else "recovery" if doc.recovers else "lossy"]
    return ", ".join([*words, *(["needs data"] if doc.needs_data else [])])


def _one(doc: PassDoc, kind: type[Any]) -> str:
    head = [joined([styled(doc.name, bold=True), f" ({_kind(doc)})"], ""), doc.summary, ""]
    if not doc.fields:
        return joined([*head, "It has no options."])
    rows = [(option.name, option.type, option.default or "(required)", option.help) for option in doc.fields]
    options = table(rows, head=("option", "type", "default", "meaning"))
    return joined([*head, options, "", f"For example: --passes '{_example(doc.name, kind)}'"])


def _example(name: str, kind: type[Any]) -> str:
    """The pass as ``--passes`` takes it, with the options that it needs, or else its first, written out."""
    from graphpress.manager.syntax import PassCall, format_steps

    options = [field for field in fields(kind) if field.init]
    shown = [field for field in options if _default(field) is None] or options[:1]
    return format_steps([PassCall(name, {field.name: _sample(field, annotations_of(kind)) for field in shown})])


def _sample(field: Field[Any], annotations: dict[str, Any]) -> Any:
    """A value to show: the default where it says something, else one of the kind, or the name in capitals."""
    if field.default is not MISSING and field.default is not None:
        return field.default
    annotation = annotations[field.name]
    for kind in get_args(annotation) or (annotation,):
        if kind in SAMPLES:
            return SAMPLES[kind]
    return field.name.upper()
