"""Deliver what a device with TensorRT can build, checked with NVIDIA's own compiler where that is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from graphpress.backend import Artifact, Availability, Backend, Commission, Findings, ShapeRange
from graphpress.backends.tensorrt.build import BuildRequest
from graphpress.backends.tensorrt.bundle.bundle import Bundle, Form, complete_bundle, promises, write_models
from graphpress.backends.tensorrt.bundle.commands import TIMING_CACHE
from graphpress.backends.tensorrt.engine import Engine, EngineError
from graphpress.backends.tensorrt.legalise import (
    implicit_form,
    is_respelt,
    respelt_copy,
    simulated_form,
    strong_form,
    weak_form,
)
from graphpress.backends.tensorrt.lint import lint, unsupported
from graphpress.backends.tensorrt.platform import Platform, platform_of
from graphpress.backends.tensorrt.profiles import profile_of
from graphpress.backends.tensorrt.proof import ON_THE_DEVICE, build_here, prove
from graphpress.backends.tensorrt.toolchain import INSTALL, Product, availability, device_capability, find_toolchain
from graphpress.errors import BackendError
from graphpress.ir import Model, Node, Refusal, label
from graphpress.ir.encoding import compute_requests
from graphpress.ir.foreign import foreign_nodes
from graphpress.targets import Target, load_target

Feed = Mapping[str, np.ndarray]
RANGE = "--input-range changes it"
AHEAD_OF_TIME = "tensorrt_rtx"
STAND_IN = "rtx"
"""The target of that product: what it cannot take says nothing of other devices."""
PLAN = "model.plan"
NEXT = {
    "build": "next: copy the folder to the device, and there run `bash build.sh && python3 verify.py`",
    "load": "next: on the card run `python3 verify.py --engine model-smNN.plan`, NN being its compute capability",
    "run": "next: `python3 verify.py` checks the engine model.plan against golden samples",
}
ON_THE_ACCELERATOR = "what the deep learning accelerator runs, and in which type: no stand-in has one"
LOWERED = "the network was made operator by operator, without NVIDIA's parser of ONNX files"


class TensorRTBackend(Backend):
    """Writes the forms of a model that TensorRT takes; proves, builds and measures as far as this machine can."""

    def available(self) -> Availability:
        """It always writes bundles; what it can check beside depends on the TensorRT that is installed."""
        found = availability()
        if found.works:
            return found
        return Availability(True, f"writes bundles for devices, unchecked: {found.detail}", INSTALL)

    def runs_here(self, target: Target) -> bool:
        """Where TensorRT and a GPU of the target's kind are at hand."""
        platform = platform_of(target)
        return find_toolchain(platform.product) is not None and device_capability() in platform.capabilities

    def check(self, commission: Commission) -> list[Refusal]:
        """Operators and operator sets that the target's TensorRT does not read.

        Raises:
            ModelError: nothing is known of an open dimension.
            UsageError: the target says nothing of TensorRT, or what was said of shapes contradicts itself.
        """
        platform_of(commission.target)
        _profile(commission)
        return unsupported(commission.annotated, commission.target)

    def legalise(self, model: Model, target: Target) -> Model:
        """The form that the platform prefers."""
        return strong_form(model) if platform_of(target).strong else weak_form(model)

    def simulate(self, model: Model, target: Target) -> Model:
        """The same grids and roundings, in words that ONNX Runtime computes on a processor."""
        return simulated_form(model, strong=platform_of(target).strong)

    def compile(self, model: Model, commission: Commission, out: Path) -> Artifact:
        """Write the bundle; build and load the engine where the device is this machine, else prove it on proxies.

        Raises:
            ModelError: TensorRT refuses the model, or nothing is known of an open dimension.
            UsageError: the target says nothing of TensorRT.
        """
        target, annotated = commission.target, respelt_copy(commission.annotated)
        platform = platform_of(target)
        plugins, profile = foreign_nodes(annotated), _profile(commission)
        bundle = Bundle(
            target=target,
            platform=platform,
            models=_forms(model, annotated, platform),
            annotated=annotated,
            simulated=self.simulate(annotated, target),
            profile=profile,
            samples=() if plugins else _within(commission.samples, profile),
            threads=commission.threads,
            unchanged=() if commission.unchanged and is_respelt(commission.annotated) else commission.unchanged,
        )
        forms = write_models(out, bundle)
        files = [file for group in forms.values() for file in group]
        size = sum(file.stat().st_size for file in next(iter(forms.values())))
        plan = out / PLAN if self.runs_here(target) else None
        known = _unproven(plugins) if plugins and plan is None else self._engines(bundle, files[0], out, plan)
        engines = sorted(file for file in out.iterdir() if file.suffix == ".plan" or file.name == TIMING_CACHE)
        if plan is None:  # those that the device builds, it may build again: they are no part of what is checked
            files += engines
        files = complete_bundle(out, replace(bundle, layers=promises(annotated, known.became)), files)
        files += [file for file in engines if file not in files]
        step = "run" if plan is not None else "build" if platform.built_on_device else "load"
        unseen = [ON_THE_ACCELERATOR] if platform.dla else []
        unseen += [] if bundle.samples or plugins else [f"outputs: no sample lies in the range of shapes ({RANGE})"]
        lowered = [LOWERED] if platform.route == "network" else []
        known = replace(
            known,
            notes=[*known.notes, *lowered, *_tuned(profile), NEXT[step]],
            refusals=[*lint(model, target, known.refusals), *known.refusals],
            unverified=[*known.unverified, *unseen],
        )
        return TensorRTArtifact(files, size, known, plan, platform.product)

    def _engines(self, bundle: Bundle, model: Path, out: Path, plan: Path | None) -> Findings:
        """Build for the GPU at hand, or ahead of time for its like."""
        platform = bundle.platform
        request = BuildRequest(
            model,
            profile=bundle.profile,
            route=platform.route,
            flags=bundle.builder_flags,
            strong=platform.strong,
            plan=plan,
            timing_cache=None if plan is None else out / TIMING_CACHE,
            workspace=bundle.workspace_mib << 20,
        )
        asked = compute_requests(bundle.annotated)
        if plan is not None and (toolchain := find_toolchain(platform.product)) is not None:
            return build_here(request, platform, asked, toolchain)
        if beyond := unsupported(bundle.annotated, load_target(STAND_IN)) if platform.built_on_device else []:
            return Findings(unverified=[f"not checked: {beyond[0].why}", ON_THE_DEVICE])
        return prove(request, platform, asked, find_toolchain(AHEAD_OF_TIME), None if platform.built_on_device else out)


@dataclass
class TensorRTArtifact:
    """A folder for the device, and what is known of the engine that it builds.

    Args:
        files: everything that was written, the model first.
        bytes: size of the model with its external data.
        known: what the builds and the linter found.
        plan: the engine for the GPU at hand; None where there is none.
        product: the TensorRT that built it, and runs it.
    """

    files: list[Path]
    bytes: int
    known: Findings
    plan: Path | None = None
    product: Product | None = None

    def run(self, feed: Feed) -> Feed:
        """Run the engine once.

        Raises:
            BackendError: it was not built here, or it does not load.
        """
        return self._engine.run(feed)

    @cached_property
    def _engine(self) -> Engine:
        if self.plan is None:
            raise BackendError(
                "there is no engine here", where="tensorrt", fix="run build.sh and verify.py on the device"
            )
        try:
            toolchain = find_toolchain(self.product)
            return Engine(self.plan, None if toolchain is None else toolchain.module)
        except EngineError as error:
            raise BackendError(str(error), where="tensorrt", fix="build it again on this device") from error

    def findings(self) -> Findings:
        """What each node became."""
        return self.known


def _profile(commission: Commission) -> dict[str, ShapeRange]:
    """Shapes of open inputs, from what was said and from data; what was made up for want of data says nothing."""
    seen = () if commission.made_up else commission.samples
    return profile_of(commission.annotated, commission.ranges, seen)


def _within(samples: Sequence[Feed], profile: Mapping[str, ShapeRange]) -> list[Feed]:
    """The samples that an engine of this profile takes: of others it can say nothing."""
    return [feed for feed in samples if all(_fits(feed[name].shape, shapes) for name, shapes in profile.items())]


def _fits(shape: Sequence[int], shapes: ShapeRange) -> bool:
    ends = zip(shapes.least, shape, shapes.largest, strict=True)
    return all(least <= size <= largest for least, size, largest in ends)


def _tuned(profile: Mapping[str, ShapeRange]) -> list[str]:
    """What shapes the engine will take, in a sentence: what is outside is refused on the device."""
    words = [f"{name} {_sizes(one.least)} to {_sizes(one.largest)}" for name, one in profile.items()]
    return [f"the engine takes {', '.join(words)} ({RANGE})"] if words else []


def _sizes(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _unproven(plugins: list[Node]) -> Findings:
    """What is known of a model with operators that only the device has: nothing here compiles or runs it."""
    words = ", ".join(f"{node.op_type} ({label(node)})" for node in plugins)
    return Findings(unverified=[f"not built and not run here, because of plugins: {words}", ON_THE_DEVICE])


def _forms(model: Model, annotated: Model, platform: Platform) -> dict[Form, Model]:
    """The legalised model, and the further forms that the platform can make use of."""
    forms: dict[Form, Model] = {platform.typing[0]: model}
    if "weak" in platform.typing[1:]:
        forms["weak"] = weak_form(annotated)
    if platform.dla:
        forms["float"] = implicit_form(annotated)
    return forms
