"""Deliver what a device with TensorRT can build, checked with NVIDIA's own compiler where that is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from graphpress.backend import (
    Artifact,
    Availability,
    Backend,
    CompileOptions,
    Findings,
    Prepared,
    ShapeRange,
)
from graphpress.backends.tensorrt.aot_check import ON_THE_DEVICE, build_here, check_ahead_of_time
from graphpress.backends.tensorrt.build import BuildRequest
from graphpress.backends.tensorrt.bundle.bundle import Bundle, Form, complete_bundle, expected_precisions, write_models
from graphpress.backends.tensorrt.bundle.commands import TIMING_CACHE
from graphpress.backends.tensorrt.device.engine import Engine, EngineError
from graphpress.backends.tensorrt.legalize import (
    CanonicalForm,
    canonical_form,
    implicit_form,
    rounded_form,
    runs_in_onnx_runtime,
    strong_form,
    weak_form,
)
from graphpress.backends.tensorrt.lint import Device, lint, unsupported
from graphpress.backends.tensorrt.platform import Platform, platform_of
from graphpress.backends.tensorrt.profiles import TEXT_LENGTH, profile_of, token_axes
from graphpress.backends.tensorrt.toolchain import INSTALL, Product, availability, device_capability, find_toolchain
from graphpress.data import Feed
from graphpress.errors import BackendError
from graphpress.ir import Model, Node, Refusal, label
from graphpress.ir.encoding import compute_requests
from graphpress.ir.foreign import foreign_nodes
from graphpress.ir.qdq import unmaterializable
from graphpress.targets import Target, load_target

RANGE = "--input-range changes it"
AHEAD_OF_TIME = "tensorrt_rtx"
PROXY = "rtx"
"""The target of that product: what it cannot take shows nothing about other devices."""
PLAN = "model.plan"
NEXT = {
    "build": "next: copy the folder to the device, and there run `bash build.sh && python3 verify.py`",
    "load": "next: on the card run `python3 verify.py --engine model-smNN.plan`, NN being its compute capability",
    "run": "next: `python3 verify.py` checks the engine model.plan against golden samples",
}
ON_THE_ACCELERATOR = "what the deep learning accelerator runs, and in which type: no proxy has one"
LOWERED = "the network was made operator by operator, without NVIDIA's parser of ONNX files"


class TensorRTBackend(Backend):
    """Writes the forms of a model that TensorRT takes; checks, builds and measures as far as this machine can."""

    def available(self) -> Availability:
        """It always writes bundles; what it can check beside depends on the TensorRT that is installed."""
        state = availability()
        if state.works:
            return state
        return Availability(True, f"writes bundles for devices, unchecked: {state.detail}", INSTALL)

    def runs_here(self, target: Target) -> bool:
        """Where TensorRT and a GPU of the target's kind are at hand."""
        platform = platform_of(target)
        return find_toolchain(platform.product) is not None and device_capability() in platform.capabilities

    def check(self, model: Model, options: CompileOptions) -> list[Refusal]:
        """Operators and operator sets that the target's TensorRT does not read, encodings that no Q/DQ nodes express.

        Raises:
            ModelError: nothing is known of an open dimension.
            UsageError: the target has no settings for TensorRT, or the ranges of shapes contradict each other.
        """
        platform_of(options.target)
        _profile(model, options)
        return [*unsupported(model, options.target), *unmaterializable(model)]

    def prepare(self, annotated: Model, target: Target) -> Prepared:
        """The form that the platform prefers, and what ONNX Runtime computes in its stead; private is the canonical
        form.

        Raises:
            UsageError: the target has no settings for TensorRT.
        """
        strong, canonical = platform_of(target).strong, canonical_form(annotated, Device.of(target))
        delivered = strong_form(canonical.model) if strong else weak_form(canonical.model)
        same = not strong or runs_in_onnx_runtime(canonical.model)
        simulation = delivered if same else rounded_form(canonical.model)
        return Prepared(annotated, delivered, simulation, private=canonical)

    def compile(self, prepared: Prepared, options: CompileOptions, out: Path) -> Artifact:
        """Write the bundle; build and load the engine where the device is this machine, else check it on proxies.

        Raises:
            ModelError: TensorRT refuses the model, or nothing is known of an open dimension.
            UsageError: the target has no settings for TensorRT.
        """
        bundle = _bundle(prepared, options)
        written = list(write_models(out, bundle).values())
        plan = out / PLAN if self.runs_here(options.target) else None
        known = self._engines(bundle, written[0][0], out, plan)
        files = _complete(bundle, [file for form in written for file in form], known, built_here=plan is not None)
        return TensorRTArtifact(
            files=files,
            bytes=sum(file.stat().st_size for file in written[0]),
            known=_with_advice(known, bundle, prepared, options, built_here=plan is not None),
            plan=plan,
            product=bundle.platform.product,
        )

    def _engines(self, bundle: Bundle, model: Path, out: Path, plan: Path | None) -> Findings:
        """Build for the GPU at hand, or ahead of time for its like."""
        platform, plugins = bundle.platform, foreign_nodes(bundle.annotated)
        if plugins and plan is None:
            return _unchecked(plugins)
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
        if beyond := unsupported(bundle.annotated, load_target(PROXY)) if platform.built_on_device else []:
            return Findings(unverified=[f"not checked: {beyond[0].why}", ON_THE_DEVICE])
        return check_ahead_of_time(
            request, platform, asked, find_toolchain(AHEAD_OF_TIME), None if platform.built_on_device else out
        )


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


def _bundle(prepared: Prepared, options: CompileOptions) -> Bundle:
    """Everything that goes into the folder, but for what an engine will show."""
    canonical: CanonicalForm = prepared.private
    platform, profile = platform_of(options.target), _profile(canonical.model, options)
    return Bundle(
        target=options.target,
        platform=platform,
        models={platform.typing[0]: prepared.delivered, **_further_forms(canonical.model, platform)},
        annotated=canonical.model,
        simulated=prepared.simulation,
        profile=profile,
        samples=() if foreign_nodes(canonical.model) else _within(options.samples, profile),
        threads=options.threads,
        unchanged=() if canonical.changed else options.unchanged,
        inner_shapes=options.inner_shapes,
    )


def _further_forms(canonical: Model, platform: Platform) -> dict[Form, Model]:
    """The forms beside the delivered one that the platform can make use of."""
    forms: dict[Form, Model] = {}
    if "weak" in platform.typing[1:]:
        forms["weak"] = weak_form(canonical)
    if platform.dla:
        forms["float"] = implicit_form(canonical)
    return forms


def _complete(bundle: Bundle, models: list[Path], known: Findings, *, built_here: bool) -> list[Path]:
    """Write the rest of the folder, checksums last.

    An engine that the device builds, it may build again: that is no part of what is checked.
    """
    out = models[0].parent
    engines = sorted(file for file in out.iterdir() if file.suffix == ".plan" or file.name == TIMING_CACHE)
    layers = expected_precisions(bundle.annotated, known.became)
    checked = models if built_here else [*models, *engines]
    files = complete_bundle(out, replace(bundle, layers=layers), checked)
    return [*files, *(file for file in engines if file not in files)]


def _with_advice(
    known: Findings, bundle: Bundle, prepared: Prepared, options: CompileOptions, *, built_here: bool
) -> Findings:
    """What is known of an engine, with what the linter predicts, and with what to do next."""
    platform = bundle.platform
    canonical: CanonicalForm = prepared.private
    stated = canonical.widened
    built = [refusal for refusal in known.refusals if refusal.where not in {widened.where for widened in stated}]
    step = "run" if built_here else "build" if platform.built_on_device else "load"
    unseen = [ON_THE_ACCELERATOR] if platform.dla else []
    if not bundle.samples and not foreign_nodes(bundle.annotated):
        unseen.append(f"outputs: no sample lies in the range of shapes ({RANGE})")
    lowered = [LOWERED] if platform.route == "network" else []
    return replace(
        known,
        notes=[*known.notes, *lowered, *_tuned(bundle.profile), *_guessed(bundle.annotated, options), NEXT[step]],
        refusals=[*stated, *lint(prepared.delivered, bundle.target, (*stated, *known.refusals)), *built],
        unverified=[*known.unverified, *unseen],
    )


def _profile(model: Model, options: CompileOptions) -> dict[str, ShapeRange]:
    """Shapes of open inputs, from the ranges given and from all of the data; made-up samples don't count."""
    return profile_of(model, options.ranges, options.usual_shapes, options.runs)


def _within(samples: Sequence[Feed], profile: Mapping[str, ShapeRange]) -> list[Feed]:
    """The samples that an engine of this profile takes."""
    return [feed for feed in samples if all(_fits(feed[name].shape, shapes) for name, shapes in profile.items())]


def _fits(shape: Sequence[int], shapes: ShapeRange) -> bool:
    ends = zip(shapes.min, shape, shapes.max, strict=True)
    return all(least <= size <= largest for least, size, largest in ends)


def _tuned(profile: Mapping[str, ShapeRange]) -> list[str]:
    """What shapes the engine will take, for the report: what is outside is refused on the device."""
    parts = [f"{name} {_sizes(shapes.min)} to {_sizes(shapes.max)}" for name, shapes in profile.items()]
    return [f"the engine takes {', '.join(parts)} ({RANGE})"] if parts else []


def _guessed(model: Model, options: CompileOptions) -> list[str]:
    """That nothing but habit speaks for the lengths of texts, for the report."""
    if not token_axes(model, options.ranges, options.usual_shapes):
        return []
    return [
        f"without data, lengths of token ids are a guess: tuned for {TEXT_LENGTH.opt}, up to {TEXT_LENGTH.max} or as "
        "far as the model runs (--data or --input-range tells better)"
    ]


def _sizes(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _unchecked(plugins: list[Node]) -> Findings:
    """What is known of a model with operators that only the device has: nothing here compiles or runs it."""
    parts = ", ".join(f"{node.op_type} ({label(node)})" for node in plugins)
    return Findings(
        notes=["what the device's TensorRT does not know must be a plugin that is loaded there"],
        unverified=[f"not built and not run here, because of plugins: {parts}", ON_THE_DEVICE],
    )
