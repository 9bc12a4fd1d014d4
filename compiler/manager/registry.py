"""Passes and backends by name: a lazy table of our own, and what other packages add through entry points.

Nothing is imported until its name is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from graphpress.errors import UsageError, did_you_mean
from graphpress.plugins import OURS, Entry, installed

PASS_GROUP = "graphpress.passes"
BACKEND_GROUP = "graphpress.backends"

OWN_PASSES = {
    "cancel_transposes": "graphpress.passes.cleanup.cancel_transposes:CancelTransposes",
    "correct_batch_norm": "graphpress.passes.recovery.correct_batch_norm:CorrectBatchNorm",
    "correct_bias": "graphpress.passes.recovery.correct_bias:CorrectBias",
    "cse": "graphpress.passes.cleanup.cse:CommonSubexpressionElimination",
    "dce": "graphpress.passes.cleanup.dce:DeadCodeElimination",
    "distill": "graphpress.passes.training.distill:Distill",
    "drop_default_states": "graphpress.passes.cleanup.drop_default_states:DropDefaultStates",
    "eliminate_identity": "graphpress.passes.cleanup.eliminate_identity:EliminateIdentity",
    "finetune": "graphpress.passes.training.finetune:Finetune",
    "fold_affine": "graphpress.passes.fusion.fold_affine:FoldAffine",
    "fold_batch_norm": "graphpress.passes.fusion.fold_batch_norm:FoldBatchNorm",
    "fold_constants": "graphpress.passes.cleanup.fold_constants:FoldConstants",
    "fold_idempotent": "graphpress.passes.cleanup.fold_idempotent:FoldIdempotent",
    "fold_identity_arithmetic": "graphpress.passes.cleanup.fold_identity_arithmetic:FoldIdentityArithmetic",
    "fold_pad": "graphpress.passes.fusion.fold_pad:FoldPad",
    "fuse_attention": "graphpress.passes.fusion.fuse_attention:FuseAttention",
    "fuse_clip": "graphpress.passes.fusion.fuse_clip:FuseClip",
    "fuse_gelu": "graphpress.passes.fusion.fuse_gelu:FuseGelu",
    "fuse_gemm_transpose": "graphpress.passes.fusion.fuse_gemm_transpose:FuseGemmTranspose",
    "fuse_group_norm": "graphpress.passes.fusion.fuse_group_norm:FuseGroupNorm",
    "fuse_hard_sigmoid": "graphpress.passes.fusion.fuse_hard_sigmoid:FuseHardSigmoid",
    "fuse_hard_swish": "graphpress.passes.fusion.fuse_hard_swish:FuseHardSwish",
    "fuse_layer_norm": "graphpress.passes.fusion.fuse_layer_norm:FuseLayerNorm",
    "fuse_leaky_relu": "graphpress.passes.fusion.fuse_leaky_relu:FuseLeakyRelu",
    "fuse_matmul_add": "graphpress.passes.fusion.fuse_matmul_add:FuseMatmulAdd",
    "fuse_mish": "graphpress.passes.fusion.fuse_mish:FuseMish",
    "fuse_rms_norm": "graphpress.passes.fusion.fuse_rms_norm:FuseRmsNorm",
    "fuse_softmax": "graphpress.passes.fusion.fuse_softmax:FuseSoftmax",
    "fuse_softplus": "graphpress.passes.fusion.fuse_softplus:FuseSoftplus",
    "fuse_swish": "graphpress.passes.fusion.fuse_swish:FuseSwish",
    "lowrank": "graphpress.passes.lowrank.lowrank:LowRank",
    "merge_arithmetic": "graphpress.passes.cleanup.merge_arithmetic:MergeArithmetic",
    "merge_clips": "graphpress.passes.cleanup.merge_clips:MergeClips",
    "merge_concats": "graphpress.passes.cleanup.merge_concats:MergeConcats",
    "merge_heads": "graphpress.passes.fusion.merge_heads:MergeHeads",
    "merge_linear": "graphpress.passes.fusion.merge_linear:MergeLinear",
    "merge_pads": "graphpress.passes.cleanup.merge_pads:MergePads",
    "merge_reshapes": "graphpress.passes.cleanup.merge_reshapes:MergeReshapes",
    "merge_slices": "graphpress.passes.cleanup.merge_slices:MergeSlices",
    "merge_transposes": "graphpress.passes.cleanup.merge_transposes:MergeTransposes",
    "prune": "graphpress.passes.prune.prune:Prune",
    "prune_depth": "graphpress.passes.prune.prune_depth:PruneDepth",
    "quantize": "graphpress.passes.quantize.quantize:Quantize",
    "quantize_dynamic": "graphpress.passes.quantize.quantize_dynamic:QuantizeDynamic",
    "quantize_weights": "graphpress.passes.quantize.quantize_weights:QuantizeWeights",
    "raise_opset": "graphpress.passes.fusion.raise_opset:RaiseOpset",
    "reconstruct": "graphpress.passes.recovery.reconstruct:Reconstruct",
    "reduce_precision": "graphpress.passes.precision.reduce_precision:ReducePrecision",
    "remove_noop_layout": "graphpress.passes.cleanup.remove_noop_layout:RemoveNoopLayout",
    "repair": "graphpress.passes.recovery.repair:Repair",
    "shape_arithmetic": "graphpress.passes.cleanup.shape_arithmetic:ShapeArithmetic",
    "sink_transposes": "graphpress.passes.cleanup.sink_transposes:SinkTransposes",
    "sparsify": "graphpress.passes.sparsify.sparsify:Sparsify",
    "surgery": "graphpress.passes.surgery.surgery:Surgery",
    "to_float32": "graphpress.passes.precision.to_float32:ToFloat32",
    "train": "graphpress.passes.training.train:Train",
}

OWN_BACKENDS = {
    "onnxruntime": "graphpress.backends.onnxruntime.backend:OnnxRuntimeBackend",
    "tensorrt": "graphpress.backends.tensorrt.backend:TensorRTBackend",
    "tvm": "graphpress.backends.tvm.backend:TvmBackend",
}


RENAMED_PASSES = {
    "attention": "fuse_attention",
    "drop_zero_states": "drop_default_states",
    "eliminate_dead": "dce",
    "eliminate_movement": "remove_noop_layout",
    "eliminate_neutral": "fold_identity_arithmetic",
    "gelu": "fuse_gelu",
    "gemm_transpose": "fuse_gemm_transpose",
    "group_norm": "fuse_group_norm",
    "hard_sigmoid": "fuse_hard_sigmoid",
    "hard_swish": "fuse_hard_swish",
    "layer_norm": "fuse_layer_norm",
    "leaky_relu": "fuse_leaky_relu",
    "matmul_add": "fuse_matmul_add",
    "merge_common": "cse",
    "merge_repeated": "fold_idempotent",
    "min_max_to_clip": "fuse_clip",
    "mish": "fuse_mish",
    "rms_norm": "fuse_rms_norm",
    "softmax": "fuse_softmax",
    "softplus": "fuse_softplus",
    "swish": "fuse_swish",
}
"""What passes of earlier versions are called now, for whoever still has the old name in a recipe."""


def unknown_pass(name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that no pass has: it says what a renamed pass is called now, else which name is near."""
    renamed = RENAMED_PASSES.get(name)
    fix = did_you_mean(name, known) if renamed is None else f"it is called {renamed} now"
    return UsageError(f"unknown pass {name!r}", where="--passes", fix=fix)


def pass_names() -> list[str]:
    """Every pass that can be named, sorted."""
    return sorted(_entries(PASS_GROUP))


def load_pass(name: str) -> type[Any]:
    """The pass class of that name.

    Raises:
        UsageError: there is none, or its package cannot be imported.
    """
    table = _entries(PASS_GROUP)
    if name not in table:
        raise unknown_pass(name, table)
    from graphpress.manager.contract import Pass

    kind: type[Any] = table[name].load()
    if not (isinstance(kind, type) and issubclass(kind, Pass)) or kind.name != name:
        raise UsageError(
            f"{table[name].reference} is no pass of the name {name!r}",
            where=f"entry points {PASS_GROUP}",
            fix="derive it from graphpress.Pass, and call entry point and class attribute `name` the same",
        )
    return kind


def pass_classes() -> dict[str, Entry]:
    """Every pass by the name of its class: ours, and of other packages those that no other claims, sorted."""
    entries = _entries(PASS_GROUP).values()
    names = Counter(class_name(entry) for entry in entries)
    ours = {class_name(entry): entry for entry in entries if entry.origin == OURS}
    theirs = {class_name(entry): entry for entry in entries if names[class_name(entry)] == 1}
    return dict(sorted((theirs | ours).items()))


def own_classes() -> list[str]:
    """The names of our own passes' classes, sorted."""
    return sorted(reference.partition(":")[2] for reference in OWN_PASSES.values())


def unknown_class(name: str) -> str:
    """What to do about a name that no pass's class has: what a renamed one is called now, else which name is near."""
    for before, now in RENAMED_PASSES.items():
        if before.replace("_", "") == name.lower():
            return f"it is called {OWN_PASSES[now].partition(':')[2]} now"
    return did_you_mean(name, pass_classes())


def class_name(entry: Entry) -> str:
    """The name of the class that an entry refers to."""
    return entry.reference.partition(":")[2]


def backend_names() -> list[str]:
    """Every backend that can be named, sorted; whether one works here is its own to say."""
    return sorted(_entries(BACKEND_GROUP))


def load_backend(name: str) -> Any:
    """An instance of the backend of that name.

    Raises:
        UsageError: there is none, or its package cannot be imported.
    """
    table = _entries(BACKEND_GROUP)
    if name not in table:
        raise UsageError(f"unknown backend {name!r}", where="--backend", fix=did_you_mean(name, table))
    kind = table[name].load()
    try:
        return kind()
    except Exception as error:  # third-party code
        raise UsageError(
            f"the backend {name!r} cannot be made ({type(error).__name__}: {error})",
            where=f"entry points {BACKEND_GROUP}",
            fix="reinstall the package that provides it",
        ) from error


def _entries(group: str) -> dict[str, Entry]:
    """Everything of a group by name: our own, and what other packages add."""
    own = OWN_PASSES if group == PASS_GROUP else OWN_BACKENDS
    return {name: Entry(name, reference) for name, reference in own.items()} | installed(group, own)
