"""The input model in ONNX Runtime, which everything is measured against: all of it, or what of it can be run here."""

from __future__ import annotations

from collections.abc import Sequence

from graphpress.analysis.shapes import infer_shapes
from graphpress.driver.first_answers import session_as_it_stands
from graphpress.driver.source import ModelFile
from graphpress.errors import ModelError, listed
from graphpress.ir import Model, Node, clone, label
from graphpress.ir.opaque import carry_opacity, every_opaque_node, mark_opaque, opaque_nodes
from graphpress.manager.prepare import name_nodes
from graphpress.runtime import Session
from graphpress.runtime.custom_ops import OPTION
from graphpress.runtime.kernels import operators_without_kernel


def open_baseline(file: ModelFile, original: Model, model: Model, threads: int) -> tuple[Session, Session]:
    """A session of the input model whose every number is right, and one that is there to be compared with.

    They are one and the same, unless the model has operators that nothing here can run. Then these are remembered as
    opaque for the model, as it is in the file and as it was prepared; what is known without them is right, and for the
    comparison numbers are made up for what they compute.

    Args:
        file: where the model comes from.
        original: the model as it is in the file. If some of it is opaque, its nodes get the names that the other has.
        model: the same, prepared for passes.
        threads: of the runtime.

    Raises:
        ModelError: ONNX Runtime does not take it, and not for want of an operator beyond the standard; or it has
            nothing but such operators.
    """
    try:
        session = Session(file.path, threads=threads)
    except ModelError:
        if (less := session_as_it_stands(file, threads)) is not None:
            return less, less
        operators = operators_without_kernel(model)
        if not operators:
            raise
    else:
        return session, session
    name_nodes(original)
    reference = clone(original)
    infer_shapes(reference)
    mark_opaque(reference, operators)
    if len(opaque_nodes(reference)) == len(reference.graph):
        names = listed(unrun(every_opaque_node(reference)))
        raise ModelError(
            f"nothing here has the operators {names}, and there is nothing else in the model",
            where=str(file.path),
            fix=f"name the library that has them ({OPTION} LIB)",
        )
    for other in (original, model):
        carry_opacity(reference, other)
    return Session(reference, threads=threads), Session(reference, threads=threads, made_up=True)


def unrun(nodes: Sequence[Node]) -> list[str]:
    """The nodes, each with its operator, for a sentence."""
    return [f"{node.domain}::{node.op_type} ({label(node)})".removeprefix("::") for node in nodes]
