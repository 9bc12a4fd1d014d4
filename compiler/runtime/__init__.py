"""Running graphs in ONNX Runtime, the reference: sessions and paired measurement."""

from graphpress.runtime.measure import PairedTiming, call_times, compare_latency, median_latency
from graphpress.runtime.runner import Infer, InProcess, Runner
from graphpress.runtime.session import InputSpec, Session

__all__ = [
    "InProcess",
    "Infer",
    "InputSpec",
    "PairedTiming",
    "Runner",
    "Session",
    "call_times",
    "compare_latency",
    "median_latency",
]
