"""What a model should give on a case: PyTorch's outputs, in float64 too, and under rounding.

An oracle belongs to a reference and serves all its variants and targets, so that nothing is run
twice. It runs the reference only as often as it is asked to.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.inputs.cases import Case, declared_cases, fill_inputs, smallest_dims
from pytest_onnxcheck.engine.inputs.probes import probes
from pytest_onnxcheck.engine.inputs.skips import check_skips, is_skipped
from pytest_onnxcheck.engine.oracle.alike import apart, masked, same
from pytest_onnxcheck.engine.oracle.behaviour import (
    changed,
    gives_again,
    misbehaviour,
    snapshot,
)
from pytest_onnxcheck.engine.oracle.cost import Cost, counted
from pytest_onnxcheck.engine.oracle.expected import DOUBTFUL, Depth, Expected, reason
from pytest_onnxcheck.engine.oracle.fast_path import (
    HIDDEN,
    PACKED,
    hidden_from,
    packs,
    slow_attention,
)
from pytest_onnxcheck.engine.oracle.modes import compiler_loaded
from pytest_onnxcheck.engine.oracle.rounding import perturb, perturbed, watched, widened
from pytest_onnxcheck.engine.reference.copying import copied, doubled
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.reference.tensors import arrays_of, tensors_of
from pytest_onnxcheck.errors import InputError
from pytest_onnxcheck.manifest import Variant

if TYPE_CHECKING:
    import numpy as np
    import torch

    Array = np.ndarray[Any, Any]

__all__ = ["Oracle"]

#: what a probe costs, in float32 runs of PyTorch: one, one in float64 (3 to 13 times as long on the
#: zoo), and the artefacts of all variants
_RUNS_PER_PROBE = 12

#: a module in float64 is kept for the next run if it has no more bytes than this
_MOST_KEPT_BYTES = 1 << 30

#: nominal seconds of a run whose operators cannot be counted
_UNCOUNTED_SECONDS = 0.02


class Oracle:
    """The outputs a reference gives, by case.

    Attributes:
        reference: The reference.
        notes: What the user should know of how the model behaves.
    """

    def __init__(self, reference: Reference) -> None:
        """Looks at how the reference behaves when it is called more than once.

        Raises:
            InputError: PyTorch itself does not run on the case that is looked at, or `skip_probes`
                names a probe that there is not.
            BehaviourError: The outputs are random, or depend on earlier calls.
        """
        check_skips(reference)
        self.reference = reference
        self.notes: list[str] = []
        self._expected: dict[str, Expected] = {}
        self._working: torch.nn.Module | None = None
        self._wide: torch.nn.Module | None = None
        self._clean: dict[str, object] = {}
        self._seconds = 0.0
        self._cost: Cost | None = None
        self._observe()

    @cached_property
    def declared(self) -> list[Case]:
        """The cases the manifest declares."""
        return declared_cases(self.reference)

    @cached_property
    def _observed(self) -> Case:
        """The case on which the reference's behaviour is looked at: the first of the least empty.

        Nothing is seen of what is random, keeps state or takes long where there are no elements.
        """

        def empty(case: Case) -> int:
            return sum(not array.size for array in case.inputs.values())

        return min(self.declared, key=empty)

    @cached_property
    def probes(self) -> list[Case]:
        """Cases the plugin thinks of by itself, as many as the manifest's time allows.

        Their number follows from the model's operations, not from a clock, so that every run
        has the same ones. Where nothing is drawn there are none.
        """
        model = self.reference.model
        budget = model.probe_seconds if model.draws else 0.0
        count = max(1, int(budget / self._seconds / _RUNS_PER_PROBE)) if budget else 0
        planned = probes(self.reference)[:count]
        kept = [it for it in planned if not is_skipped(self.reference.model, it.name)]
        return [probe.case(self.reference) for probe in kept]

    def cases(self, variant: Variant) -> list[Case]:
        """The cases a variant is compared on, the declared ones first.

        Whatever its tolerance is: it says what is allowed, not where to look. A variant that is
        held to no values of the plugin's (`unprobed`) gets its sizes all the same.
        """
        whole = not self.unprobed(variant)
        return self.declared + [probe for probe in self.probes if whole or probe.ordinary]

    def unprobed(self, variant: Variant) -> str:
        """Why a variant is not compared on values that nobody declared; empty where it is.

        Beyond its range fp16 overflows. What is coarser has no noise floor either, by which an
        error that is to be expected of odd values could be told from a fault.
        """
        precision = variant.precision
        if not variant.traits.noise_floor:
            return f"{precision} is held to usual values only"
        unranged = [
            name
            for name, entry in self.reference.model.inputs.items()
            if entry.dtype.startswith("float") and entry.range is None
        ]
        if precision == "fp32" or not unranged:
            return ""
        return (
            f"{precision} is probed with odd values only where every float input declares a "
            f"`range`; {unranged[0]!r} does not"
        )

    def case(self, name: str) -> Case | None:
        """The case of this name, or the one that a derived name begins with."""
        if name in self._expected:
            return self._expected[name].case
        begun = [held for held in self._expected if name.startswith(f"{held}, ")]
        return self._expected[max(begun, key=len)].case if begun else None

    def forget(self, case: Case) -> None:
        """Drops what is kept of a case."""
        self._expected.pop(case.name, None)

    def usual(self, index: int) -> Array:
        """What PyTorch gives of an output in the first declared case that is not empty there."""
        outputs = (self.expected(case).outputs[index] for case in self.declared)
        first = self.expected(self.declared[0]).outputs[index]
        return next((output for output in outputs if output.size), first)

    def usual_magnitude(self, index: int) -> float:
        """The largest magnitude of an output in its usual case, masks left out."""
        return self._usual_magnitudes[index]

    @cached_property
    def _usual_magnitudes(self) -> list[float]:
        """By output: asked of every case, and of every size of a sweep."""
        import numpy as np

        outputs = [self.usual(index) for index in range(len(self.reference.model.outputs))]
        counted = [output[np.isfinite(output) & ~masked(output)] for output in outputs]
        return [float(np.abs(values).max(initial=0.0)) for values in counted]

    def expected(self, case: Case) -> Expected:
        """What a case should give; made on demand and kept.

        Raises:
            InputError: PyTorch itself does not run on it.
        """
        if case.name not in self._expected:
            with self._threads():
                outputs = self.reference.run(case.inputs, self._working)
            working = self._working
            if working is not None and snapshot(working) != self._clean:
                outputs = self._rerun(case, working)
            self._expected[case.name] = Expected(self, case, outputs)
        return self._expected[case.name]

    def _rerun(self, case: Case, stained: torch.nn.Module) -> list[Array]:
        """Runs a case that has left something behind on a copy of its own, as all from now on."""
        self._working = None
        first = self._observed
        again = self.reference.run(first.inputs, stained)
        before = self._expected[first.name].own
        if not same(before, again):
            left = changed(self._clean, snapshot(stained))
            raise misbehaviour(self.reference, first, before, left)
        return self.reference.run(case.inputs)

    def beside_the_fast_path(self, case: Case, outputs: list[Array]) -> list[Array]:
        """What PyTorch gives, with what its fast path does not compute where a mask hides it.

        Args:
            case: The inputs.
            outputs: PyTorch's, in order.
        """
        if not packs(self.reference.module):
            return outputs
        try:
            with self._threads(), slow_attention():
                slow = self.reference.run(case.inputs, self._working)
        except InputError:
            return outputs
        found = hidden_from(self.reference, case, outputs, slow)
        if not same(outputs, found):
            self.note(HIDDEN)
        if any(apart(one, other) > DOUBTFUL for one, other in zip(found, slow, strict=True)):
            self.note(PACKED)
        return found

    def counted(self, case: Case) -> Cost:
        """A run of the reference, with the magnitudes that its operators give.

        Where they cannot be counted, it costs what `_UNCOUNTED_SECONDS` says, and there may be any.
        """
        if case is self._observed and self._cost is not None:
            return self._cost
        try:
            with self._threads(), counted() as cost:
                self.reference.run(case.inputs, self._working)
        except InputError:
            return Cost(_UNCOUNTED_SECONDS, largest=math.inf, smallest=0.0)
        return cost

    def widened_run(self, case: Case) -> list[Array]:
        """Runs the reference in float64.

        Raises:
            Exception: The model cannot be run in float64.
        """
        import torch

        module, tensors = self._in_float64(case, fresh=self._working is None)
        with self._threads(), torch.no_grad(), self._widened(case):
            return arrays_of(self.reference.call(module, tensors))

    def watched_run(self, case: Case) -> list[Array]:
        """Runs the reference as it is, on the ways that PyTorch takes in `widened_run`.

        Raises:
            Exception: The model does not bear it.
        """
        import torch

        with self._threads(), torch.no_grad(), watched():
            outputs = self.reference.call(self.reference.copy(), tensors_of(case.inputs))
        return arrays_of(outputs)

    def _in_float64(
        self, case: Case, *, fresh: bool
    ) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
        wide = doubled(self.reference.copy()) if self._wide is None else self._wide
        if _parameter_bytes(wide) <= _MOST_KEPT_BYTES:
            self._wide = wide
            wide = copied(wide, self.reference.model.name) if fresh else wide
        tensors = {
            name: tensor.double() if tensor.is_floating_point() else tensor
            for name, tensor in tensors_of(case.inputs).items()
        }
        return wide, tensors

    def _widened(self, case: Case) -> contextlib.AbstractContextManager[None]:
        module = self.reference.module
        held = [*module.parameters(), *module.buffers()]
        names = {str(tensor.dtype) for tensor in held}
        native = "torch.float64" in names or any(
            array.dtype.name == "float64" for array in case.inputs.values()
        )
        return widened(finfo_of_float32=not native)

    def perturbed_run(
        self, case: Case, precision: str, seed: int, units: float, depth: Depth, *, wide: bool
    ) -> list[Array]:
        """Runs the reference perturbed by rounding.

        Args:
            case: The inputs.
            precision: Whose rounding.
            seed: Seeds the perturbation, together with model and case.
            units: How many times half a unit in the last place; 0 changes nothing.
            depth: What is moved.
            wide: Whether to run in float64, or in its own dtype.

        Raises:
            Exception: The model does not bear it.
        """
        import torch

        if wide:
            module, tensors = self._in_float64(case, fresh=True)
        else:
            module, tensors = self.reference.copy(), tensors_of(case.inputs)
        seed = self._seed(case, seed)
        generator = torch.Generator().manual_seed(seed)
        for tensor in [*module.parameters(), *module.buffers(), *tensors.values()]:
            with contextlib.suppress(RuntimeError):  # expanded: elements share memory
                perturb(tensor.data, precision, generator, units)
        with contextlib.ExitStack() as inside:
            inside.enter_context(self._threads())
            # in inference mode, composite operators are not taken apart
            inside.enter_context(torch.inference_mode(depth == "functions"))
            inside.enter_context(torch.no_grad())
            if wide:
                inside.enter_context(self._widened(case))
            if depth != "inputs":
                inside.enter_context(perturbed(precision, seed, units))
            return arrays_of(self.reference.call(module, tensors))

    @contextlib.contextmanager
    def _threads(self) -> Iterator[None]:
        """One thread for small models.

        Two threads gain them little, and where other processes run, the barriers of OpenMP cost
        up to a hundred times the work between them.
        """
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1 if self._seconds < 1 else threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)

    def _seed(self, case: Case, seed: int) -> int:
        model = self.reference.model
        text = f"{model.seed}/{model.name}/{case.name}/rounding/{seed}"
        digest = hashlib.sha256(text.encode()).digest()
        return int.from_bytes(digest[:4], "big")

    def _observe(self) -> None:
        """Runs A, B, A on one copy of the module, and finds out what the calls leave behind."""
        module = self.reference.copy()
        first = self._observed
        others = (case for case in self.declared if case is not first)
        other = next(others, None) or self._another(first)
        before = snapshot(module)
        knew_the_compiler = compiler_loaded()
        try:
            with self._threads(), counted() as cost:
                outputs = self.reference.run(first.inputs, module)
            self._cost, self._seconds = cost, cost.seconds
        except InputError as error:
            if compiler_loaded() and not knew_the_compiler:
                return self._observe()  # a higher-order operator loaded it, inside the count
            module = self.reference.copy()
            before = snapshot(module)
            with self._threads():
                outputs = self.reference.run(first.inputs, module)
            self._seconds = _UNCOUNTED_SECONDS
            self.note(
                f"its operators cannot be counted ({reason(error.__cause__ or error)}): there are "
                f"as many probes as for a model that takes {_UNCOUNTED_SECONDS:g} s; set "
                "probe_seconds for more or fewer"
            )
        self._expected[first.name] = Expected(self, first, outputs)
        tensors = tensors_of(first.inputs)
        with self._threads():
            other_outputs = self.reference.run(other.inputs, module)
            again = self.reference.run(tensors, module)
        left = changed(before, snapshot(module))
        if not same(outputs, again):
            if not gives_again(self.reference, first, again):
                raise misbehaviour(self.reference, first, outputs, left)
            # it is the counting that gives other outputs
            self._expected[first.name] = Expected(self, first, again)
        if not left:
            self._working, self._clean = module, before
            self._expected[other.name] = Expected(self, other, other_outputs)
        for name, tensor in tensors.items():
            if not same([first.inputs[name]], [tensor.numpy()]):
                self.note(
                    f"forward changes its input {name!r} in place; the artefact leaves it as it "
                    "is, so that callers who use it afterwards see another value"
                )

    def note(self, text: str) -> None:
        """Notes what the user should know, once."""
        if text not in self.notes:
            self.notes.append(text)

    def _another(self, first: Case) -> Case:
        """Other inputs than those of the only case; the same ones where nothing is drawn."""
        model = self.reference.model
        if not model.draws:
            return dataclasses.replace(first, name="another")
        dims = smallest_dims(model)
        return Case("another", fill_inputs(self.reference, dims, "another", 1))


def _parameter_bytes(module: torch.nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
