"""Running graphs in ONNX Runtime, the reference: sessions and paired measurement."""

from graphpress.runtime.measure import PairedTiming, compare_latency, median_latency
from graphpress.runtime.session import InputSpec, Runner, Session

__all__ = ["InputSpec", "PairedTiming", "Runner", "Session", "compare_latency", "median_latency"]
