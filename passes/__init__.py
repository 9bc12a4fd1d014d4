"""What changes a graph: one pass a file, one folder a family. Every pass is a name of this package.

    from graphpress.passes import Prune, Quantize

    graphpress.optimize("model.onnx", passes=[Prune(ratio=0.5), Quantize()], data="data.yaml")

So are the passes of other packages, by the names of their classes. Nothing is imported until its name is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphpress.passes.cleanup.cancel_transposes import CancelTransposes as CancelTransposes
    from graphpress.passes.cleanup.cse import CommonSubexpressionElimination as CommonSubexpressionElimination
    from graphpress.passes.cleanup.dce import DeadCodeElimination as DeadCodeElimination
    from graphpress.passes.cleanup.drop_default_states import DropDefaultStates as DropDefaultStates
    from graphpress.passes.cleanup.eliminate_identity import EliminateIdentity as EliminateIdentity
    from graphpress.passes.cleanup.fold_constants import FoldConstants as FoldConstants
    from graphpress.passes.cleanup.fold_idempotent import FoldIdempotent as FoldIdempotent
    from graphpress.passes.cleanup.fold_identity_arithmetic import FoldIdentityArithmetic as FoldIdentityArithmetic
    from graphpress.passes.cleanup.merge_arithmetic import MergeArithmetic as MergeArithmetic
    from graphpress.passes.cleanup.merge_clips import MergeClips as MergeClips
    from graphpress.passes.cleanup.merge_concats import MergeConcats as MergeConcats
    from graphpress.passes.cleanup.merge_pads import MergePads as MergePads
    from graphpress.passes.cleanup.merge_reshapes import MergeReshapes as MergeReshapes
    from graphpress.passes.cleanup.merge_slices import MergeSlices as MergeSlices
    from graphpress.passes.cleanup.merge_transposes import MergeTransposes as MergeTransposes
    from graphpress.passes.cleanup.remove_noop_layout import RemoveNoopLayout as RemoveNoopLayout
    from graphpress.passes.cleanup.shape_arithmetic import ShapeArithmetic as ShapeArithmetic
    from graphpress.passes.cleanup.sink_transposes import SinkTransposes as SinkTransposes
    from graphpress.passes.fusion.fold_affine import FoldAffine as FoldAffine
    from graphpress.passes.fusion.fold_batch_norm import FoldBatchNorm as FoldBatchNorm
    from graphpress.passes.fusion.fold_pad import FoldPad as FoldPad
    from graphpress.passes.fusion.fuse_attention import FuseAttention as FuseAttention
    from graphpress.passes.fusion.fuse_clip import FuseClip as FuseClip
    from graphpress.passes.fusion.fuse_gelu import FuseGelu as FuseGelu
    from graphpress.passes.fusion.fuse_gemm_transpose import FuseGemmTranspose as FuseGemmTranspose
    from graphpress.passes.fusion.fuse_group_norm import FuseGroupNorm as FuseGroupNorm
    from graphpress.passes.fusion.fuse_hard_sigmoid import FuseHardSigmoid as FuseHardSigmoid
    from graphpress.passes.fusion.fuse_hard_swish import FuseHardSwish as FuseHardSwish
    from graphpress.passes.fusion.fuse_layer_norm import FuseLayerNorm as FuseLayerNorm
    from graphpress.passes.fusion.fuse_leaky_relu import FuseLeakyRelu as FuseLeakyRelu
    from graphpress.passes.fusion.fuse_matmul_add import FuseMatmulAdd as FuseMatmulAdd
    from graphpress.passes.fusion.fuse_mish import FuseMish as FuseMish
    from graphpress.passes.fusion.fuse_rms_norm import FuseRmsNorm as FuseRmsNorm
    from graphpress.passes.fusion.fuse_softmax import FuseSoftmax as FuseSoftmax
    from graphpress.passes.fusion.fuse_softplus import FuseSoftplus as FuseSoftplus
    from graphpress.passes.fusion.fuse_swish import FuseSwish as FuseSwish
    from graphpress.passes.fusion.merge_heads import MergeHeads as MergeHeads
    from graphpress.passes.fusion.merge_linear import MergeLinear as MergeLinear
    from graphpress.passes.fusion.raise_opset import RaiseOpset as RaiseOpset
    from graphpress.passes.lowrank.lowrank import LowRank as LowRank
    from graphpress.passes.precision.reduce_precision import ReducePrecision as ReducePrecision
    from graphpress.passes.precision.to_float32 import ToFloat32 as ToFloat32
    from graphpress.passes.prune.prune import Prune as Prune
    from graphpress.passes.prune.prune_depth import PruneDepth as PruneDepth
    from graphpress.passes.quantize.quantize import Quantize as Quantize
    from graphpress.passes.quantize.quantize_dynamic import QuantizeDynamic as QuantizeDynamic
    from graphpress.passes.quantize.quantize_weights import QuantizeWeights as QuantizeWeights
    from graphpress.passes.recovery.correct_batch_norm import CorrectBatchNorm as CorrectBatchNorm
    from graphpress.passes.recovery.correct_bias import CorrectBias as CorrectBias
    from graphpress.passes.recovery.reconstruct import Reconstruct as Reconstruct
    from graphpress.passes.recovery.repair import Repair as Repair
    from graphpress.passes.sparsify.sparsify import Sparsify as Sparsify
    from graphpress.passes.surgery.surgery import Surgery as Surgery
    from graphpress.passes.training.distill import Distill as Distill
    from graphpress.passes.training.finetune import Finetune as Finetune
    from graphpress.passes.training.train import Train as Train


def __getattr__(name: str) -> Any:
    """Import a pass when it is first used."""
    from graphpress.manager.registry import load_pass, own_classes, pass_classes, unknown_class

    if name == "__all__":
        return own_classes()
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    entry = pass_classes().get(name)
    if entry is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}: {unknown_class(name)}")
    kind = globals()[name] = load_pass(entry.name)
    return kind


def __dir__() -> list[str]:
    from graphpress.manager.registry import pass_classes

    return list(pass_classes())
