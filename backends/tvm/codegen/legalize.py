"""Any operator as loops, through TVM's own importer of ONNX and its library of operators (Relax and TOPI).

    a model of few nodes -> Relax -> LegalizeOps -> TIR functions -> nests of loops over named tensors

What a TIR function keeps to itself becomes a tensor like all others, so that whoever plans memory gives it room, and
each nest of loops stands alone. The outer loops of a nest whose rounds are independent of each other are its tasks.
Nothing of TVM's runtime may be left in them: a function that calls it is refused. An index that is read from a tensor
is kept within the axis that it counts: where data holds a wrong one, a result is wrong, and no foreign memory is read.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field

import numpy as np
import onnx
import tvm
import tvm_ffi
from tvm import ir, relax, s_tir, tirx
from tvm.relax.frontend.onnx import from_onnx

from graphpress.backends.tvm.codegen.builder import Expr, Stmt

FEWEST_TASKS = 64
"""Loops become tasks, from the outermost on, until there are so many."""
LARGEST_LOCAL = 4096
"""Elements of the largest tensor that may live on the stack."""
TYPES = frozenset(
    ("bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
)
"""Of tensors that loops compute with; LLVM has no arithmetic for others, or crashes on it."""
_OF_ANGLES = (
    f"{prefix}{name}{suffix}" for prefix in ("", "a") for name in ("cos", "sin", "tan") for suffix in ("", "h")
)
LIBC = frozenset((*_OF_ANGLES, "atan2", "erf", "exp", "exp2", "exp10", "fmod", "log", "log10", "log1p", "log2", "pow"))
"""Functions of floats that are called from the C library, which rounds them well; for some TVM has no others."""
FOREIGN_CALLS = ("tirx.tvm_call_packed", "tirx.tvm_call_cpacked", "tirx.call_extern")


class NoLoopsError(Exception):
    """TVM has no loops for a model; says why."""


@dataclass(frozen=True)
class LoopTensor:
    """A tensor that loops read or write, without gaps.

    Args:
        name: unique in its ``LoopProgram``.
        shape: empty for a number.
        dtype: by numpy's name.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class LoopNest:
    """The code of a nest of loops.

    Args:
        text: all of it: equal texts are equal code.
        extents: of the outer loops that are tasks.
        dtypes: of the tensors that it reads, then of those that it writes.
        buffers: TIR's buffers of those tensors.
        variables: of the loops that are tasks.
        body: what one task does.
    """

    text: str
    extents: tuple[int, ...]
    dtypes: tuple[str, ...]
    buffers: tuple[Expr, ...] = field(repr=False, compare=False)
    variables: tuple[Expr, ...] = field(repr=False, compare=False)
    body: Stmt = field(repr=False, compare=False)

    @property
    def tasks(self) -> int:
        """How many there are."""
        return math.prod(self.extents)


@dataclass(frozen=True)
class LoopStep:
    """A nest of loops over some tensors: those that it reads, then those that it writes."""

    nest: LoopNest
    tensors: tuple[LoopTensor, ...]


@dataclass(frozen=True)
class LoopProgram:
    """Nests in order.

    Args:
        steps: the loops.
        constants: tensors that are known, by name.
        outputs: the model's, in its order; an input or a constant may be one.
    """

    steps: Sequence[LoopStep]
    constants: Mapping[str, np.ndarray]
    outputs: Sequence[LoopTensor]


def loops_of(model: onnx.ModelProto) -> LoopProgram:
    """A model of few nodes as loops.

    Args:
        model: all shapes are static; its inputs are read under their own names.

    Raises:
        NoLoopsError: TVM has none for it.
    """
    module = _legalized(model)
    walk = _Walk(module, [value.name for value in model.graph.input])
    return walk.program()


def _legalized(model: onnx.ModelProto) -> Expr:
    transform = relax.transform
    passes = tvm.ir.transform.Sequential(
        [
            transform.DecomposeOpsForInference(),
            relax.backend.DispatchSortScan(),
            transform.LegalizeOps(),
            transform.FoldConstant(),
            transform.DeadCodeElimination(),
        ]
    )
    try:
        with _quietly(), tvm.target.Target("llvm"):
            return passes(from_onnx(model, sanitize_input_names=False))
    except Exception as error:  # its exceptions share no base class
        raise NoLoopsError(f"TVM does not import it ({_first_line(error)})") from error


@contextmanager
def _quietly() -> Iterator[None]:
    """The importer prints what it then raises."""
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


# -- functions ----------------------------------------------------------------------------------------------------


class _Walk:
    """Follows the bindings of a legalized module's main function.

    Args:
        module: the functions.
        inputs: names of the parameters.
    """

    def __init__(self, module: Expr, inputs: Sequence[str]) -> None:
        self.module, self.main = module, module["main"]
        self.tensors: dict[Expr, LoopTensor | list[LoopTensor]] = {
            parameter: LoopTensor(name, *_type_of(parameter.ty))
            for name, parameter in zip(inputs, self.main.params, strict=True)
        }
        self.constants: dict[str, np.ndarray] = {}
        self.steps: list[LoopStep] = []
        self._names = 0

    def program(self) -> LoopProgram:
        """All nests."""
        for block in self.main.body.blocks:
            for binding in block.bindings:
                self.tensors[binding.var] = self._bound(binding.value)
        result = self._value(self.main.body.body)
        return LoopProgram(self.steps, self.constants, result if isinstance(result, list) else [result])

    def _bound(self, value: Expr) -> LoopTensor | list[LoopTensor]:
        if not isinstance(value, relax.Call):
            return self._value(value)
        name = getattr(value.op, "name", str(value.op))
        if name != "relax.call_tir":
            raise NoLoopsError(f"TVM has no loops for {name}")
        several = isinstance(value.ty, relax.TupleType)
        results = [self._tensor(*_type_of(kind)) for kind in (value.ty.fields if several else [value.ty])]
        arguments = [self._argument(part) for part in value.args[1].fields]
        self._split(self.module[value.args[0]], [*arguments, *results])
        return results if several else results[0]

    def _value(self, expression: Expr) -> LoopTensor | list[LoopTensor]:
        if isinstance(expression, relax.Var):
            return self.tensors[expression]
        if isinstance(expression, ir.GenericConst):
            return self._constant(expression.value.numpy())
        if isinstance(expression, relax.ShapeExpr):
            return self._constant(np.array(_static(expression.values), np.int64))
        if isinstance(expression, relax.Tuple):
            return [self._argument(part) for part in expression.fields]
        if isinstance(expression, relax.TupleGetItem):
            parts = self._value(expression.tuple_value)
            assert isinstance(parts, list)
            return parts[int(expression.index)]
        raise NoLoopsError(f"TVM leaves a {type(expression).__name__} in it")

    def _argument(self, expression: Expr) -> LoopTensor:
        tensor = self._value(expression)
        if not isinstance(tensor, LoopTensor):
            raise NoLoopsError("it computes sequences")
        return tensor

    def _constant(self, array: np.ndarray) -> LoopTensor:
        tensor = self._tensor(array.shape, _known_type(array.dtype))
        self.constants[tensor.name] = array
        return tensor

    def _tensor(self, shape: tuple[int, ...], dtype: str) -> LoopTensor:
        self._names += 1
        return LoopTensor(f"tensor_{self._names}", shape, dtype)

    def _split(self, function: Expr, tensors: Sequence[LoopTensor]) -> None:
        """A TIR function as nests."""
        parallel = _parallel_loops(function)
        function = _without_blocks(function)
        if len(function.params) != len(tensors):
            raise NoLoopsError("its loops take sizes at run time")
        known = dict(zip(function.params, tensors, strict=True))
        body = function.body
        for statement in body.seq if isinstance(body, tirx.SeqStmt) else [body]:
            if isinstance(statement, tirx.AllocBuffer):
                buffer = statement.buffer
                known[buffer] = self._tensor(_static(buffer.shape), _known_type(buffer.dtype))
            else:
                self.steps.append(_step(statement, known, parallel))


def _type_of(kind: Expr) -> tuple[tuple[int, ...], str]:
    if not isinstance(kind, relax.TensorType) or kind.shape is None:
        raise NoLoopsError("its shapes are known at run time only")
    return _static(kind.shape), _known_type(kind.dtype)


def _static(shape: Sequence[Expr]) -> tuple[int, ...]:
    if not all(isinstance(size, tirx.IntImm) for size in shape):
        raise NoLoopsError("its shapes are known at run time only")
    sizes = tuple(int(size) for size in shape)
    if 0 in sizes:
        raise NoLoopsError("it computes with tensors that have no elements")
    return sizes


def _known_type(dtype: object) -> str:
    if (name := str(dtype)) not in TYPES:
        raise NoLoopsError(f"processors do not compute in {name}")
    return name


def _without_blocks(function: Expr) -> Expr:
    """A TIR function as plain loops; what it keeps to itself is allocated in front of them."""
    transform = s_tir.transform
    passes = [transform.LowerInitBlock(), transform.ConvertBlocksToOpaque(), transform.LowerOpaqueBlock()]
    module = tvm.IRModule({"loops": function.with_attr("global_symbol", "loops")})
    return tvm.ir.transform.Sequential(passes)(module)["loops"]


# -- loops --------------------------------------------------------------------------------------------------------


def _parallel_loops(function: Expr) -> set[Expr]:
    """Variables of the loops whose rounds are independent: data-parallel axes of all blocks in them, and no more."""
    blocks: list[Expr] = []
    tvm_ffi.structural_walk(function.body, (s_tir.stmt.SBlockRealize, blocks.append))
    parallel: set[Expr] = set()
    serial: set[Expr] = set()
    for realize in blocks:
        for axis, value in zip(realize.block.iter_vars, realize.iter_values, strict=True):
            alone = axis.iter_type == tirx.IterVar.DataPar and isinstance(value, ir.Var)
            (parallel if alone else serial).update(_variables(value))
    return parallel - serial


def _variables(code: Expr | Stmt) -> dict[Expr, None]:
    """All variables, buffers among them, in the order in which they come."""
    seen: dict[Expr, None] = {}
    tvm_ffi.structural_walk(code, (ir.Var, lambda variable: seen.setdefault(variable)))
    return seen


def _step(statement: Stmt, known: Mapping[Expr, LoopTensor], parallel: set[Expr]) -> LoopStep:
    _check(statement)
    checked = [(ir.TensorLoad, _inside), (tirx.BufferStore, _inside_stored)]
    statement = tvm_ffi.structural_map(statement, [(ir.Call, _of_libc), (tirx.For, _serial), *checked])
    written: dict[Expr, None] = {}
    tvm_ffi.structural_walk(statement, (tirx.BufferStore, lambda store: written.setdefault(store.buffer)))
    buffers = sorted((buffer for buffer in _variables(statement) if buffer in known), key=written.__contains__)
    tensors = tuple(known[buffer] for buffer in buffers)
    text = str(tirx.PrimFunc(buffers, statement).script())
    variables, extents, body = _tasks(statement, parallel)
    dtypes = tuple(tensor.dtype for tensor in tensors)
    return LoopStep(LoopNest(text, tuple(extents), dtypes, tuple(buffers), tuple(variables), body), tensors)


def _tasks(statement: Stmt, parallel: set[Expr]) -> tuple[list[Expr], list[int], Stmt]:
    """Variables and extents of the outer loops that are tasks, and what lies in them."""
    variables: list[Expr] = []
    extents: list[int] = []
    while isinstance(statement, tirx.For) and statement.loop_var in parallel and math.prod(extents) < FEWEST_TASKS:
        variables.append(statement.loop_var)
        extents.append(int(statement.extent))
        statement = statement.body
    return variables, extents, statement


def _check(statement: Stmt) -> None:
    """Refuse what calls TVM's runtime, or takes more memory than a stack has; no error passes through a walk."""
    calls: list[Expr] = []
    locals_: list[Stmt] = []
    tvm_ffi.structural_walk(statement, [(ir.Call, calls.append), (tirx.AllocBuffer, locals_.append)])
    if any(_name_of(call) in FOREIGN_CALLS for call in calls):
        raise NoLoopsError("its loops call TVM's runtime")
    if any(math.prod(_static(allocation.buffer.shape)) > LARGEST_LOCAL for allocation in locals_):
        raise NoLoopsError("its loops need memory of their own")


def _serial(loop: Stmt) -> Stmt:
    """A loop that TVM's runtime would share among threads, as one that this thread runs."""
    if loop.kind != tirx.ForKind.PARALLEL:
        return loop
    return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, loop.body)


def _inside(load: Expr) -> Expr:
    """A load whose indices stay within the tensor."""
    indices = _kept(load.indices, load.source)
    return load if indices is None else tirx.BufferLoad(load.source, indices)


def _inside_stored(store: Stmt) -> Stmt:
    """A store whose indices stay within the tensor."""
    indices = _kept(store.indices, store.buffer)
    return store if indices is None else tirx.BufferStore(store.buffer, store.value, indices)


def _kept(indices: Sequence[Expr], buffer: Expr) -> list[Expr] | None:
    """Indices, those that depend on data cut off at the ends of their axes; None where none does."""
    loads: list[list[Expr]] = [[] for _ in indices]
    for index, inner in zip(indices, loads, strict=True):
        tvm_ffi.structural_walk(index, (ir.TensorLoad, inner.append))
    if not any(loads):
        return None
    ends = zip(indices, loads, buffer.shape, strict=True)
    return [tirx.max(tirx.min(index, extent - 1), 0) if inner else index for index, inner, extent in ends]


def _name_of(call: Expr) -> str:
    return str(getattr(call.op, "name", ""))


def _of_libc(call: Expr) -> Expr:
    """A function of floats by its name in the C library."""
    stem = _name_of(call).removeprefix("tirx.")
    if stem not in LIBC or not isinstance(call.ty, ir.PrimType):
        return call
    dtype = str(call.ty.dtype)
    if dtype == "float64":
        return tirx.call_pure_extern(dtype, stem, *call.args)
    numbers = (argument.astype("float32") for argument in call.args)
    return tirx.call_pure_extern("float32", f"{stem}f", *numbers).astype(dtype)
