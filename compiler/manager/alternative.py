"""What would run where a pass does not: itself with another word in one of its fields, or the target's own recipe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, get_args, get_origin

from graphpress.errors import GraphpressError, reraise_resource_fault
from graphpress.ir import Model
from graphpress.manager.contract import Context, Pass
from graphpress.manager.recipe import Recipe, named_recipe, options_of, reference_of
from graphpress.manager.syntax import PassCall, format_steps
from graphpress.validation import annotations_of


def alternative(pass_: Pass, model: Model, context: Context) -> str:
    """What this model and target take in place of a lossy pass that they do not.

    Args:
        pass_: it refused.
        model: that it refused, not changed.
        context: what the pass may know.

    Returns:
        It as an option of the command line; empty where nothing of the kind would run either.
    """
    for other in _variants(pass_):
        if _is_accepted(other, model, context):
            return f"--passes 'cleanup,fuse,{format_steps([PassCall(reference_of(other), options_of(other))])}'"
    own = context.target.recipe
    heads = [head for head in named_recipe(own).passes if head.is_goal]
    is_other = all(type(head) is not type(pass_) or options_of(head) != options_of(pass_) for head in heads)
    return f"--recipe {own}" if is_other and any(_is_accepted(head, model, context) for head in heads) else ""


def are_accepted(recipe: Recipe, model: Model, context: Context) -> bool:
    """Whether this model and target take all that a recipe is for."""
    return all(_is_accepted(pass_, model, context) for pass_ in recipe.passes if pass_.is_goal)


def _variants(pass_: Pass) -> Iterator[Pass]:
    """The pass with each other word that one of its fields takes."""
    for name, annotation in annotations_of(type(pass_)).items():
        for word in _words(annotation):
            if word != getattr(pass_, name):
                yield replace(pass_, **{name: word})


def _words(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _is_accepted(pass_: Pass, model: Model, context: Context) -> bool:
    try:
        pass_.check(context)
        return pass_.refuse(model, context) is None
    except GraphpressError:
        return False
    except Exception as error:  # a third party's pass, which was asked for in another form
        reraise_resource_fault(error)
        return False
