"""Ahead-of-time check: the model is built for GPUs like the device, and what each layer became is compared
with what was requested.

An engine for another compute capability does not show what the device will do. But it is NVIDIA's own compiler that
reads the model, fuses it and chooses types; what it refuses here the device refuses too, as a rule. What was checked,
and on what, stands in the findings; what only the device can show stands there as unverified.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from graphpress.backend import Findings
from graphpress.backends.tensorrt.build import BuildRequest, BuildResult, build
from graphpress.backends.tensorrt.engine_layers import STORAGE, TYPES, EngineLayer, QuantizationRole, types_of_nodes
from graphpress.backends.tensorrt.integer_products import fallback_reasons, heads_reason
from graphpress.backends.tensorrt.messages import contradiction, explain, remarks, warnings_of
from graphpress.backends.tensorrt.platform import Platform
from graphpress.backends.tensorrt.quantization_roles import nodes_by_name, quantization_roles
from graphpress.backends.tensorrt.toolchain import INSTALL, Toolchain
from graphpress.errors import BackendError, ModelError
from graphpress.ir import Model, Node, Refusal, load
from graphpress.ir.encoding import WEIGHT_ONLY

FLOATS = ("float32", "float16", "bfloat16")
MAX_NAMES = 5
ON_THE_DEVICE = "execution, results, latency and the choice of kernels on the device itself"


def check_ahead_of_time(
    request: BuildRequest,
    platform: Platform,
    asked: Mapping[str, str],
    toolchain: Toolchain | None,
    plans: Path | None = None,
) -> Findings:
    """Build for each proxy of the platform, and compare.

    Args:
        request: what to build, in the form that the platform prefers; the capability is filled in.
        platform: whose proxies to build for.
        asked: by node name, the arithmetic that was requested (``int8``, ``weight-only``, ``float16``, …).
        toolchain: the TensorRT that is installed here; None for none.
        plans: folder that keeps the engines, as ``model-sm86.plan``; None where only the result matters.

    Raises:
        ModelError: it builds for no proxy at all; the message says which node stands in the way.
        UsageError: the model does not hold at the shapes of the profile.
        BackendError: TensorRT died of it while it built an engine to keep.
    """
    proxies, reason = _proxies(platform, toolchain)
    if toolchain is None or not proxies:
        return Findings(unverified=[f"not checked: {reason}", ON_THE_DEVICE])
    results, died = _built([_for_proxy(request, proxy, toolchain, plans) for proxy in proxies])
    if not results:
        return Findings(unverified=[*died, ON_THE_DEVICE])
    model = load(request.model)
    built = {proxy: result for proxy, result in results.items() if result.built}
    if not built:
        raise refused(results, model, toolchain)
    messages = [message for result in built.values() for message in result.messages]
    if error := contradiction(messages):
        raise error
    layers = {_place(proxy): result.layers for proxy, result in built.items()}
    findings = compare(layers, model, asked, strong=platform.strong, product=toolchain.name)
    return replace(
        findings,
        notes=[*_checked(built, asked, toolchain), *_failures(results, model), _effort(built), *remarks(messages)],
        refusals=[*findings.refusals, *warnings_of(messages, model)],
        unverified=[*died, *_without_layers(built, asked, toolchain), *findings.unverified, ON_THE_DEVICE],
    )


def build_here(request: BuildRequest, platform: Platform, asked: Mapping[str, str], toolchain: Toolchain) -> Findings:
    """Build for the GPU at hand, and compare; the engine is ``request.plan``.

    Raises:
        ModelError: TensorRT refuses the model; the message says which node stands in the way.
        BackendError: TensorRT died of it.
    """
    result = build(replace(request, product=toolchain.name))
    model = load(request.model)
    if not result.built:
        raise refused({"": result}, model, toolchain)
    if error := contradiction(result.messages):
        raise error
    layers = {_place(""): result.layers}
    findings = compare(layers, model, asked, strong=platform.strong, product=toolchain.name)
    return replace(
        findings,
        notes=[f"built on this device with {toolchain.title}", _effort({"": result}), *remarks(result.messages)],
        refusals=[*findings.refusals, *warnings_of(result.messages, model)],
        unverified=[*_without_layers({"": result}, asked, toolchain), *findings.unverified],
    )


def _built(requests: Sequence[BuildRequest]) -> tuple[dict[str, BuildResult], list[str]]:
    """What came of each build by its capability, and of which nothing came: only a check, it stops no delivery."""
    results, died = dict[str, BuildResult](), list[str]()
    for request in requests:
        try:
            results[request.capability] = build(request)
        except BackendError as error:
            if request.plan is not None:
                raise
            died.append(f"not checked for {_place(request.capability)}: {error.what}")
    return results, died


def _for_proxy(request: BuildRequest, proxy: str, toolchain: Toolchain, plans: Path | None) -> BuildRequest:
    plan = None if plans is None else plans / f"model-{_place(proxy).lower()}.plan"
    flags = [flag for flag in request.flags if flag in toolchain.flags]
    return replace(request, capability=proxy, product=toolchain.name, flags=flags, plan=plan)


def compare(
    layers: Mapping[str, Sequence[EngineLayer]],
    model: Model,
    asked: Mapping[str, str],
    *,
    strong: bool = True,
    product: str = "",
) -> Findings:
    """What the nodes of a model became in one or several engines, against what was requested.

    Args:
        layers: of each engine, by the place it was built for, as messages shall call it.
        model: what was built; types that it leaves open are filled in.
        asked: by node name, the arithmetic that was requested.
        strong: whether the types in the model are those of the engine. Where not, a device's flags choose among the
            float types, and requests for one of them can only be checked there.
        product: what built it, ``tensorrt`` or ``tensorrt_rtx``; "" where nobody did.
    """
    roles, nodes = quantization_roles(model), nodes_by_name(model)
    if not strong:
        roles = {name: replace(role, float_type="") for name, role in roles.items()}
    requests = {name: dtype for name, dtype in sorted(asked.items()) if strong or dtype not in FLOATS}
    became = {place: _settled(types_of_nodes(listed, roles), requests, roles) for place, listed in layers.items()}
    names = sorted({name for table in became.values() for name in table})
    return Findings(
        became={name: _decisive(requests.get(name), [t[name] for t in became.values() if name in t]) for name in names},
        refusals=list(_broken(requests, became, roles, nodes, product)),
        unverified=[
            *(["which float type the flags of a weakly typed network lead to"] if len(requests) < len(asked) else []),
            *_vanished([name for name in requests if roles.get(name, QuantizationRole()).kind == "product"], became),
        ],
    )


def keeps(asked: str, became: str) -> bool:
    """Whether a node became what was requested.

    >>> keeps("int8", "int8"), keeps("weight-only", "int4"), keeps("int8", "int8-weights")
    (True, True, False)
    """
    if asked == WEIGHT_ONLY:
        return became.endswith("-weights") or became in {TYPES[name] for name in STORAGE}
    return asked == became


def refused(results: Mapping[str, BuildResult], model: Model | None, toolchain: Toolchain) -> ModelError:
    """The error of a model that was built nowhere: the first reason in full, the number of the others."""
    proxy, result = next(iter(results.items()))
    first, *others = explain(result.messages, model)
    more = f" (and {len(others)} further reason{'s' * (len(others) > 1)})" if others else ""
    return ModelError(
        f"{toolchain.title} refuses the model for {_place(proxy)}: {first.why}{more}", where=first.where, fix=first.fix
    )


def _proxies(platform: Platform, toolchain: Toolchain | None) -> tuple[list[str], str]:
    """Capabilities to build for, and why there may be none."""
    if toolchain is None:
        return [], f"TensorRT is not installed here ({INSTALL})"
    if not toolchain.ahead_of_time:
        return [], f"{toolchain.title} builds only for the GPU at hand ({INSTALL} brings one that builds for others)"
    wanted = [proxy for proxy in platform.proxies if proxy in toolchain.capabilities]
    return wanted, f"{toolchain.title} builds for {', '.join(toolchain.capabilities)}, none of which is like the device"


def _place(capability: str) -> str:
    return f"SM{capability.replace('.', '')}" if capability else "the GPU at hand"


def _checked(built: Mapping[str, BuildResult], asked: Mapping[str, str], toolchain: Toolchain) -> Iterator[str]:
    """Where layers were compared with what was asked, and where it was only built."""
    silent = _silent(built, asked)
    for verb, proxies in (("checked", [proxy for proxy in built if proxy not in silent]), ("built, no more,", silent)):
        if proxies:
            places = "/".join(_place(proxy).removeprefix("SM") for proxy in proxies)
            yield f"{verb} on proxy SM{places} with {toolchain.title}; not executed"


def _silent(built: Mapping[str, BuildResult], asked: Mapping[str, str]) -> list[str]:
    """Engines that list no layers although something was requested of them: they show nothing."""
    return [proxy for proxy, result in built.items() if asked and not result.layers]


def _without_layers(built: Mapping[str, BuildResult], asked: Mapping[str, str], toolchain: Toolchain) -> Iterator[str]:
    if silent := _silent(built, asked):
        places = "/".join(map(_place, silent))
        yield f"in which types the layers compute for {places}: {toolchain.title} does not list them"


def _vanished(products: Sequence[str], became: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Products that no engine names although it lists its layers."""
    listed = [table for table in became.values() if table]
    lost = [name for name in products if listed and not any(name in table for table in listed)]
    if lost:
        more = f" and {len(lost) - MAX_NAMES} others" if len(lost) > MAX_NAMES else ""
        yield f"what became of {', '.join(lost[:MAX_NAMES])}{more}: no layer of an engine names it"


def _failures(results: Mapping[str, BuildResult], model: Model) -> Iterator[str]:
    for proxy, result in results.items():
        if not result.built:
            first = explain(result.messages, model)[0]
            yield f"does not build for {_place(proxy)}: {first.where}: {first.why}"


def _effort(built: Mapping[str, BuildResult]) -> str:
    seconds = max(result.seconds for result in built.values())
    peak = max(result.peak_bytes for result in built.values())
    return f"building took at most {seconds:.1f} s and {peak / 2**20:.0f} MiB here"


def _settled(
    table: Mapping[str, str], asked: Mapping[str, str], roles: Mapping[str, QuantizationRole]
) -> dict[str, str]:
    """What is no product computes in float on what it reads narrow: a request for float holds."""
    return {
        name: role.float_type
        if (role := roles.get(name, QuantizationRole())).kind != "product" and asked.get(name) == role.float_type
        else dtype
        for name, dtype in table.items()
    }


def _decisive(requested: str | None, dtypes: Sequence[str]) -> str:
    """What became of a node: where that is not what was requested, if there is such a place."""
    return next((dtype for dtype in dtypes if requested is not None and not keeps(requested, dtype)), dtypes[0])


def _broken(
    asked: Mapping[str, str],
    became: Mapping[str, Mapping[str, str]],
    roles: Mapping[str, QuantizationRole],
    nodes: Mapping[str, Node],
    product: str,
) -> Iterator[Refusal]:
    """Nodes that became something else than requested; what vanished broke no expectation."""
    for name, requested in asked.items():
        there = {place: table[name] for place, table in became.items() if name in table}
        broken = {place: dtype for place, dtype in there.items() if not keeps(requested, dtype)}
        if broken and name in nodes:
            why, fix = _reason(requested, nodes[name], roles[name], product)
            where = "" if len(broken) == len(there) else f" for {'/'.join(broken)}"
            dtype = "/".join(dict.fromkeys(broken.values()))
            yield Refusal(name, f"asked for {requested}, becomes {dtype}{where}: {why}", fix)


def _reason(asked: str, node: Node, role: QuantizationRole, product: str) -> tuple[str, str]:
    """The best reason that can be given, and what to do."""
    if asked == WEIGHT_ONLY:
        return (
            "TensorRT expands its weights before the product",
            "4-bit weights of MatMul or Gemm, in blocks along the axis that is summed over, stay small",
        )
    if asked in FLOATS:
        return "the model says so", "ask for another float type (reduce_precision)"
    if role.kind != "product":
        return (
            "it is fused with its neighbors into a kernel that computes in float between them",
            "nothing: it reads and writes no memory of its own",
        )
    reasons = (finding.refusal for finding in fallback_reasons(node, product))
    refusal = next(reasons, None) or heads_reason(node)
    if refusal is not None:
        return refusal.why, refusal.fix
    return "TensorRT has no such kernel for these shapes on this GPU", "leave it in float (--exclude)"
