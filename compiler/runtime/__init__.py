"""Running graphs in ONNX Runtime, the reference: sessions and paired measurement.

Only this package imports onnxruntime. Its telemetry is turned off before that, for this process and its children: from
the import on it writes a device id and the paths and names of models into the user's cache and temporary folders, and
``disable_telemetry_events()`` comes too late.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

from graphpress.runtime.float_biases import write_biases_apart
from graphpress.runtime.float_concats import has_half_concats, widen_concats
from graphpress.runtime.float_layers import keep_float_layers
from graphpress.runtime.measure import PairedTiming, call_times, compare_alone, compare_latency, undisturbed_latency
from graphpress.runtime.pairs import compare_sessions, over_pairs
from graphpress.runtime.runner import Infer, InProcess, Runner
from graphpress.runtime.session import KEPT_BYTES, InputSpec, Renews, Session, StandsBy, is_large, renew, stand_by

__all__ = [
    "KEPT_BYTES",
    "InProcess",
    "Infer",
    "InputSpec",
    "PairedTiming",
    "Renews",
    "Runner",
    "Session",
    "StandsBy",
    "call_times",
    "compare_alone",
    "compare_latency",
    "compare_sessions",
    "has_half_concats",
    "is_large",
    "keep_float_layers",
    "over_pairs",
    "renew",
    "stand_by",
    "undisturbed_latency",
    "widen_concats",
    "write_biases_apart",
]
