"""Check the engine of this folder on the device: files, layers and outputs, against expected.json and golden/.

    files      as they were written (checksums)
    layers     what was expected int8 or float8 computes in it, as the engine's own list of layers shows
    outputs    within the bound of each output of what ONNX Runtime made of the same samples

Needs Python 3.8 and numpy, and to run the engine TensorRT's Python package or trtexec. A check that needs the device
and is not on it is skipped as needs_device; it never counts as passed. Ends with 0 when everything passed,
1 when something failed, 2 when nothing failed but something could not be checked.
"""

import os  # like sys loaded before any script, so that no file takes their place; __future__ is not
import sys

if os.path.realpath(sys.path[0]) == os.path.dirname(os.path.realpath(__file__)):
    del sys.path[0]  # nothing in this folder takes another module's place: a model's weights may be called numpy.py

import argparse
import hashlib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

try:
    import numpy as np
except ImportError:
    print("verify.py: needs numpy: sudo apt install python3-numpy", file=sys.stderr)
    sys.exit(2)

FOLDER = Path(__file__).resolve().parent
BUNDLE_VERSION = 1
PASSED, FAILED, INCOMPLETE = 0, 1, 2

TYPES = {
    "float4e2m1": r"fp4|float4",
    "int4": r"\bint4",
    "float8e4m3fn": r"fp8|float8|e4m3",
    "uint8": r"uint8",
    "int8": r"int8",
    "bfloat16": r"bf16|bfloat16",
    "float16": r"fp16|float16|half",
    "float32": r"fp32|float32|float|tf32",
}
"""Types by ONNX's names, narrowest first, and how the versions of TensorRT write them."""
WIDTH = {name: at for at, name in enumerate(TYPES)}

CHECKED = ("int8", "float8e4m3fn")
"""A layer that was expected one of these must compute in it; a float type is for TensorRT to widen."""

MOVERS = ("Reformat", "NoOp", "Constant", "Shuffle", "Shape", "Signal", "Wait")
"""Kinds of layers that only move data: the types in which they do so show nothing about the arithmetic."""


class CheckItem(NamedTuple):
    """One thing that was looked at.

    Args:
        kind: ``file``, ``layer`` or ``output``.
        name: which.
        verdict: ``pass``, ``fail``, ``needs_device``, or what is neither: ``unknown`` (the engine does not show it),
            ``differs`` (in a float type, which is TensorRT's choice), ``known`` (as on the proxy, and reported);
            ``incomplete`` where nothing at all is listed.
        detail: for people.
    """

    kind: str
    name: str
    verdict: str
    detail: str


class CannotCheckError(Exception):
    """Nothing can be checked with what was given."""


class NeedsDeviceError(Exception):
    """The engine cannot be run here."""


def main() -> int:
    """Check, print and return the exit status."""
    options = read_options()
    try:
        items = check(options)
    except CannotCheckError as error:
        print(f"verify.py: {printable(str(error))}", file=sys.stderr)
        return INCOMPLETE
    verdicts = {item.verdict for item in items}
    status = FAILED if "fail" in verdicts else INCOMPLETE if verdicts & {"needs_device", "incomplete"} else PASSED
    if options.json:
        verdict = ("pass", "fail", "incomplete")[status]
        print(json.dumps({"verdict": verdict, "items": [item._asdict() for item in items]}, indent=2))
    else:
        show(items, status)
    return status


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Check the engine of this folder: files, layers, outputs.",
        epilog="Exit status: 0 everything passed, 1 something failed, 2 something could not be checked.",
    )
    parser.add_argument("--engine", type=Path, help="default: what build.sh built last")
    parser.add_argument("--layers", type=Path, help="JSON list of layers; default: what build.sh wrote")
    parser.add_argument("--outputs", type=Path, action="append", help="outputs of a golden sample, npz; one for each")
    parser.add_argument("--trtexec", help="run the engine with this tool rather than from Python")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args()


def check(options: argparse.Namespace) -> List[CheckItem]:
    """Everything that can be checked."""
    expected = read_json(FOLDER / "expected.json")
    if not isinstance(expected, dict) or expected.get("bundle_version") != BUNDLE_VERSION:
        raise CannotCheckError(f"expected.json is not of version {BUNDLE_VERSION}: take both from the same folder")
    built = read_json(FOLDER / "built.json") if (FOLDER / "built.json").is_file() else {}
    return check_files(expected) + check_layers(expected, options, built) + check_outputs(expected, options, built)


# -- files -----------------------------------------------------------------------------------------------------


def check_files(expected: Any) -> List[CheckItem]:
    """Each file against its checksum."""
    items = []
    for name, digest in sorted(expected["files"].items()):
        file = FOLDER / name
        actual = sha256(file) if file.is_file() else None
        detail = "as written" if actual == digest else "is missing" if actual is None else "was changed: copy it again"
        items.append(CheckItem("file", name, "pass" if actual == digest else "fail", detail))
    return items


def sha256(file: Path) -> str:
    """The checksum of a file, read in pieces."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        for piece in iter(lambda: stream.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


# -- layers ----------------------------------------------------------------------------------------------------


def check_layers(expected: Any, options: argparse.Namespace, built: Any) -> List[CheckItem]:
    """What was requested of each layer against what it became."""
    plan = plan_of(expected, options, built)
    try:
        layers = listed(expected, options, built, plan)
    except NeedsDeviceError as error:
        return [CheckItem("layer", wanted["name"], "needs_device", str(error)) for wanted in expected["layers"]]
    types = became([layer for layer in layers if isinstance(layer, dict)])
    items = [check_layer(wanted, types.get(wanted["name"])) for wanted in expected["layers"]]
    accelerated = [way["plan"] for name, way in expected["ways"].items() if name == "dla"]
    if items and plan.name not in accelerated and not any(types.get(wanted["name"]) for wanted in expected["layers"]):
        items.append(
            CheckItem("layer", "(all)", "incomplete", "none is told: build with --profilingVerbosity=detailed")
        )
    return items


def listed(expected: Any, options: argparse.Namespace, built: Any, plan: Path) -> List[Any]:
    """The layers of an engine: from a file that was given or written when it was built, else from the engine itself."""
    file = options.layers or FOLDER / built.get("layers", "layers.json")
    of_this_engine = built and plan.resolve() == (FOLDER / built["plan"]).resolve()
    if options.layers is None and not (of_this_engine and file.is_file()):
        if not plan.is_file():
            raise NeedsDeviceError("there is no engine yet")
        runner, engine = runner_of(expected, built, plan)
        try:
            listed: List[Any] = runner.layers(engine)
        except runner.CannotRunError as error:
            raise NeedsDeviceError(f"the engine cannot be asked: {error}") from error
        return listed
    table = read_json(file)
    layers = table.get("Layers") if isinstance(table, dict) else None
    if not isinstance(layers, list):
        raise CannotCheckError(f"{file} is no list of layers as TensorRT writes it")
    return layers


def plan_of(expected: Any, options: argparse.Namespace, built: Any) -> Path:
    """The engine to check: the one that was given, the one that was built last, or the first that is there."""
    if options.engine or built:
        return Path(options.engine or FOLDER / built["plan"])
    plans: List[Path] = [FOLDER / way["plan"] for way in expected["ways"].values()]
    return next((plan for plan in plans if plan.is_file()), plans[0])


def became(layers: List[Dict[str, Any]]) -> Dict[str, List[str]]:
    """For each ONNX node the types in which layers that do it compute, narrowest first; empty where none lists them."""
    types: Dict[str, Set[str]] = {}
    for layer in layers:
        kind = arithmetic(layer)
        for node in nodes_of(layer):
            types.setdefault(node, set()).update([kind] if kind else [])
    return {node: sorted(kinds, key=WIDTH.__getitem__) for node, kinds in types.items()}


def nodes_of(layer: Dict[str, Any]) -> List[str]:
    """The ONNX nodes of a layer: from its metadata, or in old versions from its name, which joins theirs.

    >>> nodes_of({"Name": "conv1 + PWN(PWN(sigmoid1), mul1)"})
    ['conv1 + PWN(PWN(sigmoid1), mul1)', 'conv1', 'PWN(PWN(sigmoid1), mul1)', 'sigmoid1', 'mul1']
    """
    if named := names_in(layer.get("Metadata") or ""):
        return named
    name = str(layer.get("Name", ""))
    parts = [part.strip() for part in name.split(" + ")]
    wrapped = [piece for part in parts if part.startswith("PWN(") for piece in re.split(r"PWN\(|[(),]", part)]
    return list(dict.fromkeys([name, *parts, *(piece.strip() for piece in wrapped if piece.strip())]))


def names_in(metadata: str) -> List[str]:
    """Names of nodes in brackets; a name may hold brackets itself, and text may stand behind them."""
    parts = metadata.split("[ONNX Layer: ")[1:]
    return [part.rpartition("]")[0] or part.strip() for part in parts]


def arithmetic(layer: Dict[str, Any]) -> Optional[str]:
    """The type in which a layer computes: the narrowest that it reads; None where it lists none.

    Weights count where the list holds their type: float weights beside int8 inputs make a float kernel.
    """
    if layer.get("LayerType") in MOVERS or "ForeignNode" in str(layer.get("Name")):
        return None
    tensors = [*(layer.get("Inputs") or []), *(layer.get("Constants") or [])]
    read = [type_of(str(tensor.get("Format/Datatype") or tensor.get("Datatype"))) for tensor in tensors]
    weights = layer.get("Weights")
    kept = type_of(str(weights.get("Type"))) if isinstance(weights, dict) else None
    narrowest = min((dtype for dtype in read if dtype), key=WIDTH.__getitem__, default=kept)
    return narrowest if kept is None or narrowest is None else max(narrowest, kept, key=WIDTH.__getitem__)


def type_of(text: str) -> Optional[str]:
    """The type that a description of a tensor names.

    >>> type_of("Thirty-two wide channel vectorized row major Int8 format"), type_of("Row major linear FP32")
    ('int8', 'float32')
    """
    return next((name for name, pattern in TYPES.items() if re.search(pattern, text, re.IGNORECASE)), None)


def check_layer(expectation: Any, types: Optional[List[str]]) -> CheckItem:
    """One layer: the expectation holds where some layer that does the node computes in what was requested."""
    name, asked, proxy = expectation["name"], expectation["asked"], expectation["proxy"]
    if not types:
        why = "not in the list: fused into another" if types is None else "in a block that does not tell its types"
        return CheckItem("layer", name, "unknown", f"asked {asked}; {why}")
    if asked == "weight-only":
        return CheckItem("layer", name, "unknown", f"asked {asked}; computes in {'/'.join(types)}, stored is not told")
    if asked in types or asked not in WIDTH or WIDTH[types[0]] < WIDTH[asked]:
        verdict = "pass"
    elif proxy is not None and proxy != asked:
        verdict = "known"
    else:
        verdict = "fail" if asked in CHECKED else "differs"
    return CheckItem("layer", name, verdict, f"asked {asked}, became {'/'.join(types)}")


# -- outputs ---------------------------------------------------------------------------------------------------


def check_outputs(expected: Any, options: argparse.Namespace, built: Any) -> List[CheckItem]:
    """Each output over all golden samples."""
    if not expected["outputs"]:
        return [CheckItem("output", "(all)", "unknown", "there are no golden samples")]
    samples = [read_golden(expected, name) for name in expected["golden"]]
    try:
        results = recorded(options.outputs, samples) if options.outputs else run(expected, options, built, samples)
    except NeedsDeviceError as error:
        return [
            CheckItem("output", expectation["name"], "needs_device", str(error)) for expectation in expected["outputs"]
        ]
    return [compare(expectation, samples, results) for expectation in expected["outputs"]]


def read_golden(expected: Any, name: str) -> Dict[str, Dict[str, Any]]:
    """One sample: what goes in, and what both models make of it, by name."""
    outputs = expected["golden_outputs"]
    parts = {"input": expected["inputs"], "delivered": outputs, "original": outputs}
    try:
        with np.load(str(FOLDER / name), allow_pickle=False) as file:
            return {
                part: {output: file[f"{part}.{at}"] for at, output in enumerate(names)} for part, names in parts.items()
            }
    except (OSError, ValueError, KeyError) as error:
        raise CannotCheckError(f"{name} cannot be read ({error}): copy the folder again") from error


def recorded(files: List[Path], samples: List[Any]) -> List[Any]:
    """Outputs that were recorded elsewhere."""
    if len(files) != len(samples):
        raise CannotCheckError(f"give --outputs once for each of the {len(samples)} golden samples")
    try:
        return [dict(np.load(str(file), allow_pickle=False)) for file in files]
    except (OSError, ValueError) as error:
        raise CannotCheckError(f"outputs cannot be read: {error}") from error


def compare(expectation: Any, samples: List[Any], results: List[Any]) -> CheckItem:
    """One output: its distance from the golden one, and its classes where these are no close call."""
    name = expectation["name"]
    if any(name not in result for result in results):
        return CheckItem("output", name, "fail", "the engine has no such output")
    if expectation["measure"] == "none":
        return CheckItem("output", name, "unknown", "its size hangs on the data: compression alone has changed it")
    pairs = [(sample["delivered"][name], np.asarray(results[at][name])) for at, sample in enumerate(samples)]
    for wanted, actual in pairs:
        if wanted.shape != actual.shape:
            return CheckItem("output", name, "fail", f"is {list(actual.shape)}, not {list(wanted.shape)}")
    golden, device = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    distance = relative(golden, device) if expectation["measure"] == "relative" else share(golden, device)
    good = distance <= expectation["bound"]
    detail = f"{expectation['measure']} distance {distance:.3g}, at most {expectation['bound']:.3g}"
    if expectation["classes"]:
        agree, clear = classes(samples, results, name)
        good = good and agree == clear
        detail += f"; class agrees on {agree} of {clear} clear samples"
    return CheckItem("output", name, "pass" if good else "fail", detail)


def relative(wanted: Any, actual: Any) -> float:
    """``|actual - wanted| / |wanted|`` where both are finite; infinite where only one is."""
    golden, device = wanted.astype(np.float64), actual.astype(np.float64)
    finite = np.isfinite(golden)
    same = finite | (golden == device) | (np.isnan(golden) & np.isnan(device))
    if not same.all() or not np.isfinite(device[finite]).all():
        return float("inf")
    norm, gap = float(np.linalg.norm(golden[finite])), float(np.linalg.norm(device[finite] - golden[finite]))
    return gap / norm if norm else (0.0 if gap == 0 else float("inf"))


def share(wanted: Any, actual: Any) -> float:
    """The share of elements that differ; 0 where there are none."""
    return float(np.mean(wanted != actual)) if wanted.size else 0.0


def classes(samples: List[Any], results: List[Any], name: str) -> Tuple[int, int]:
    """On how many rows the class agrees, and how many are clear: their margin is more than twice what moved them."""
    agree = clear = 0
    for at, sample in enumerate(samples):
        wanted = sample["delivered"][name].astype(np.float64)
        rows = wanted.reshape(len(wanted), -1)
        original, actual = (
            outputs[name].astype(np.float64).reshape(rows.shape) for outputs in (sample["original"], results[at])
        )
        best = np.sort(rows, axis=1)
        sure = best[:, -1] - best[:, -2] > 2 * np.abs(rows - original).max(axis=1)
        clear += int(sure.sum())
        agree += int((rows.argmax(1) == actual.argmax(1))[sure].sum())
    return agree, clear


def run(expected: Any, options: argparse.Namespace, built: Any, samples: List[Any]) -> List[Any]:
    """Run the engine on the samples, with the run_engine.py beside this file."""
    plan = plan_of(expected, options, built)
    if not plan.is_file():
        raise NeedsDeviceError("there is no engine yet: run build.sh on the device")
    runner, engine = runner_of(expected, built, plan)
    feeds = [sample["input"] for sample in samples]
    try:
        results: List[Any] = runner.run(engine, feeds, options.trtexec or "", built.get("tool", ""))
    except runner.CannotRunError as error:
        raise NeedsDeviceError(str(error)) from error
    return results


def runner_of(expected: Any, built: Any, plan: Path) -> Any:
    """The run_engine.py beside this file, and the engine as it wants it described."""
    spec = importlib.util.spec_from_file_location("run_engine", str(FOLDER / "run_engine.py"))
    assert spec is not None
    assert spec.loader is not None
    run_engine: Any = importlib.util.module_from_spec(spec)
    sys.modules["run_engine"] = run_engine
    spec.loader.exec_module(run_engine)
    version = built.get("tensorrt") or expected["tensorrt"]
    return run_engine, run_engine.EngineFile(plan, list(expected["profile"]), version, expected["product"])


# -- in and out ------------------------------------------------------------------------------------------------


def read_json(file: Path) -> Any:
    """The content of a JSON file."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CannotCheckError(f"{file} cannot be read: {error}") from error


def printable(text: str) -> str:
    """Names and messages with every character written out that does not show itself: no terminal obeys them."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def show(items: List[CheckItem], status: int) -> None:
    """A line for everything but what is as it should be without a detail, and a summary."""
    for item in items:
        if item.kind != "file" or item.verdict != "pass":
            print(f"{item.verdict:12} {item.kind:7} {printable(f'{item.name}: {item.detail}')}")
    for kind in ("file", "layer", "output"):
        verdicts = sorted(item.verdict for item in items if item.kind == kind)
        counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
        print(f"{kind}s: {counts or 'none'}")
    print(("PASS", "FAIL", "INCOMPLETE: something could not be checked here")[status])


if __name__ == "__main__":
    sys.exit(main())
