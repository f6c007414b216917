"""What a model should give on a case: PyTorch's outputs, in float64 too, and under rounding.

An oracle belongs to a reference and serves all its variants and targets, so that nothing is run
twice. It runs the reference only as often as it is asked to.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.inputs.cases import Case, declared_cases, fill_inputs, smallest_dims
from pytest_onnxcheck.engine.inputs.probes import probes
from pytest_onnxcheck.engine.oracle.cost import Cost, counted
from pytest_onnxcheck.engine.oracle.rounding import perturb, perturbed, widened
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.reference.tensors import arrays_of, tensors_of
from pytest_onnxcheck.errors import BehaviourError
from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.wording import one_line

if TYPE_CHECKING:
    import numpy as np
    import torch

    Array = np.ndarray[Any, Any]

__all__ = ["DRAWS", "Expected", "Oracle"]

#: perturbed runs of a case, at most
DRAWS = 8

#: runs on fresh copies that tell chance from state
_FRESH_RUNS = 8

#: what a probe costs, in float32 runs of PyTorch: one, one in float64 (3 to 13 times as long on the
#: zoo), and the artefacts of all variants
_RUNS_PER_PROBE = 12


class Oracle:
    """The outputs a reference gives, by case.

    Attributes:
        reference: The reference.
        notes: What the user should know of how the model behaves.
    """

    def __init__(self, reference: Reference) -> None:
        """Looks at how the reference behaves when it is called more than once.

        Raises:
            InputError: PyTorch itself does not run on the first case.
            BehaviourError: The outputs are random, or depend on earlier calls.
        """
        self.reference = reference
        self.notes: list[str] = []
        self._expected: dict[str, Expected] = {}
        self._working: torch.nn.Module | None = None
        self._wide: torch.nn.Module | None = None
        self._clean: dict[str, object] = {}
        self._seconds = 0.0
        self._observe()

    @cached_property
    def declared(self) -> list[Case]:
        """The cases the manifest declares."""
        return declared_cases(self.reference)

    @cached_property
    def probes(self) -> list[Case]:
        """Cases the plugin thinks of by itself, as many as the manifest's time allows.

        Their number follows from the model's operations, not from a clock, so that every run
        has the same ones.
        """
        budget = self.reference.model.probe_seconds
        count = max(1, int(budget / self._seconds / _RUNS_PER_PROBE)) if budget else 0
        return [probe.case(self.reference) for probe in probes(self.reference)[:count]]

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
            return f"{precision} is made for the values it will meet"
        inputs = self.reference.model.inputs.values()
        floats = [entry for entry in inputs if entry.dtype.startswith("float")]
        if precision == "fp32" or all(entry.range is not None for entry in floats):
            return ""
        return f"{precision} gets values inside declared ranges alone, and an input has none"

    def case(self, name: str) -> Case | None:
        """The case of this name, or the one that a derived name begins with."""
        if name in self._expected:
            return self._expected[name].case
        begun = [held for held in self._expected if name.startswith(f"{held}, ")]
        return self._expected[max(begun, key=len)].case if begun else None

    def forget(self, case: Case) -> None:
        """Drops what is kept of a case."""
        self._expected.pop(case.name, None)

    def usual_magnitude(self, index: int) -> float:
        """The largest magnitude of an output in the first case."""
        import numpy as np

        output = self.expected(self.declared[0]).outputs[index]
        return float(np.abs(output[np.isfinite(output)]).max(initial=0.0))

    def expected(self, case: Case) -> Expected:
        """What a case should give; made on demand and kept.

        Raises:
            InputError: PyTorch itself does not run on it.
        """
        if case.name not in self._expected:
            with self._threads():
                outputs = self.reference.run(case.inputs, self._working)
            working = self._working
            if working is not None and _state(working) != self._clean:
                outputs = self._rerun(case, working)
            self._expected[case.name] = Expected(self, case, outputs)
        return self._expected[case.name]

    def _rerun(self, case: Case, stained: torch.nn.Module) -> list[Array]:
        """Runs a case that has left something behind on a copy of its own, as all from now on."""
        self._working = None
        first = self.declared[0]
        again = self.reference.run(first.inputs, stained)
        before = self._expected[first.name].outputs
        if not _same(before, again):
            changed = _changed(self._clean, _state(stained))
            raise self._misbehaves(first, before, changed)
        return self.reference.run(case.inputs)

    def counted(self, case: Case) -> Cost:
        """A run of the reference, with the magnitudes that its operators give."""
        with self._threads(), counted() as cost:
            self.reference.run(case.inputs, self._working)
        return cost

    def widened_run(
        self, case: Case, precision: str | None = None, seed: int = 0, units: float = 1.0
    ) -> list[Array]:
        """Runs the reference in float64.

        Args:
            case: The inputs.
            precision: Perturb weights, inputs and every operator by the rounding of this one.
            seed: Seeds the perturbation, together with model and case.
            units: How many times half a unit in the last place.

        Raises:
            Exception: The model cannot be run in float64.
        """
        import torch

        if self._wide is None:
            self._wide = copy.deepcopy(self.reference.module).double()
        fresh = precision is not None or self._working is None
        module = copy.deepcopy(self._wide) if fresh else self._wide
        tensors = {
            name: tensor.double() if tensor.is_floating_point() else tensor
            for name, tensor in tensors_of(case.inputs).items()
        }
        # in inference mode, composite operators would not be taken apart
        with self._threads(), torch.no_grad(), self._widened(case):
            if precision is None:
                outputs = self.reference.call(module, tensors)
            else:
                outputs = self._perturbed(module, tensors, precision, self._seed(case, seed), units)
        return arrays_of(outputs)

    def _widened(self, case: Case) -> contextlib.AbstractContextManager[None]:
        module = self.reference.module
        held = [*module.parameters(), *module.buffers()]
        names = {str(tensor.dtype) for tensor in held}
        native = "torch.float64" in names or any(
            array.dtype.name == "float64" for array in case.inputs.values()
        )
        return widened(finfo_of_float32=not native)

    def perturbed_run(
        self, case: Case, precision: str, seed: int, units: float = 1.0
    ) -> list[Array]:
        """Runs the reference as it is, in its own dtype, perturbed like `widened_run`."""
        import torch

        module = copy.deepcopy(self.reference.module)
        with self._threads(), torch.no_grad():
            seed = self._seed(case, seed)
            outputs = self._perturbed(module, tensors_of(case.inputs), precision, seed, units)
        return arrays_of(outputs)

    def _perturbed(
        self,
        module: torch.nn.Module,
        tensors: dict[str, torch.Tensor],
        precision: str,
        seed: int,
        units: float,
    ) -> tuple[torch.Tensor, ...]:
        import torch

        generator = torch.Generator().manual_seed(seed)
        for tensor in [*module.parameters(), *module.buffers(), *tensors.values()]:
            with contextlib.suppress(RuntimeError):  # expanded: elements share memory
                perturb(tensor.data, precision, generator, units)
        with perturbed(precision, seed, units):
            return self.reference.call(module, tensors)

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
        module = copy.deepcopy(self.reference.module)
        first = self.declared[0]
        other = next(iter(self.declared[1:]), None) or self._another()
        before = _state(module)
        with counted() as cost, self._threads():
            outputs = self.reference.run(first.inputs, module)
        self._seconds = cost.seconds
        self._expected[first.name] = Expected(self, first, outputs)
        tensors = tensors_of(first.inputs)
        with self._threads():
            other_outputs = self.reference.run(other.inputs, module)
            again = self.reference.run(tensors, module)
        changed = _changed(before, _state(module))
        if not _same(outputs, again):
            raise self._misbehaves(first, outputs, changed)
        if not changed:
            self._working, self._clean = module, before
            self._expected[other.name] = Expected(self, other, other_outputs)
        for name, tensor in tensors.items():
            if not _same([first.inputs[name]], [tensor.numpy()]):
                self.notes.append(
                    f"forward changes its input {name!r} in place; the artefact leaves it as it "
                    "is, so that callers who use it afterwards see another value"
                )

    def _another(self) -> Case:
        model = self.reference.model
        dims = smallest_dims(model)
        return Case("another", fill_inputs(self.reference, dims, "another", 1))

    def _misbehaves(self, case: Case, outputs: list[Array], changed: list[str]) -> BehaviourError:
        name = self.reference.model.name
        # more than once: few integers may be the same by chance
        fresh = (self.reference.run(case.inputs) for _ in range(_FRESH_RUNS))
        if not all(_same(outputs, found) for found in fresh):
            return BehaviourError(
                f"{name}: PyTorch is nondeterministic: the same weights and inputs "
                f"(case {case.name}) give other outputs on every run, so that nothing can be "
                "compared with them. Look for random numbers, the time, or layers left in "
                "training mode in forward. In the artefact, what torch draws is mostly drawn anew "
                "(test_structure names the nodes), and what Python or numpy gives is a constant"
            )
        left = f" (changed: {', '.join(changed)})" if changed else ""
        return BehaviourError(
            f"{name}: PyTorch keeps state between calls{left}: inputs A, B, A give A other "
            f"outputs the second time (case {case.name}). An ONNX artefact has no memory: make "
            "the state an input and an output of forward"
        )


class Expected:
    """What one case should give.

    Attributes:
        case: The case.
        outputs: PyTorch's outputs as arrays, in order.
    """

    def __init__(self, oracle: Oracle, case: Case, outputs: list[Array]) -> None:
        self.case = case
        self.outputs = outputs
        self._oracle = oracle
        self._draws: dict[tuple[str, float], list[list[Array] | None]] = {}

    @cached_property
    def exact(self) -> list[Array] | None:
        """The outputs in float64; None where the reference cannot be run so (`problem`)."""
        try:
            outputs = self._oracle.widened_run(self.case)
        except Exception as error:
            self.problem = f"{type(error).__name__}: {one_line(error)[:200]}"
            return None
        for wide, output in zip(outputs, self.outputs, strict=True):
            if output.dtype.kind == "f" and wide.dtype.name != "float64":
                self.problem = f"it casts to {wide.dtype.name} on the way"
                return None
            if wide.shape != output.shape:
                self.problem = f"shapes change from {output.shape} to {wide.shape}"
                return None
        return outputs

    #: why there is no `exact`
    problem: str | None = None

    @cached_property
    def cost(self) -> Cost:
        """A run of the reference, with the magnitudes that its operators give on the way."""
        return self._oracle.counted(self.case)

    def draws(self, precision: str, units: float = 1.0) -> Iterator[list[Array]]:
        """The outputs of `DRAWS` runs perturbed by the rounding of a precision; made as taken."""
        made = self._draws.setdefault((precision, units), [])
        run = self._oracle.perturbed_run if self.exact is None else self._oracle.widened_run
        for seed in range(DRAWS):
            if seed == len(made):
                made.append(self._attempt(partial(run, self.case, precision, seed, units)))
            draw = made[seed]
            if draw is not None:
                yield draw

    def _attempt(self, run: Callable[[], list[Array]]) -> list[Array] | None:
        """A perturbed run; None where the model does not bear it, or gives other shapes."""
        try:
            draw = run()
        except Exception:  # the user's code: assertions on its own values, for one
            return None
        pairs = zip(draw, self.outputs, strict=True)
        return draw if all(one.shape == own.shape for one, own in pairs) else None


def _same(one: list[Array], other: list[Array]) -> bool:
    """Whether two runs agree to a few units in the last place of the largest element."""
    import numpy as np

    for left, right in zip(one, other, strict=True):
        if left.shape != right.shape:
            return False
        if np.array_equal(left, right, equal_nan=left.dtype.kind == "f"):
            continue
        if left.dtype.kind != "f":
            return False
        finite = left[np.isfinite(left)]
        scale = float(np.abs(finite).max(initial=0.0))
        unit = float(np.finfo(left.dtype).eps)
        if not np.allclose(left, right, rtol=0, atol=8 * unit * scale, equal_nan=True):
            return False
    return True


def _state(module: torch.nn.Module) -> dict[str, object]:
    """What a call could leave behind: attributes by path, with something that tells a change."""
    state: dict[str, object] = {}
    for prefix, child in module.named_modules():
        for name, value in [
            *vars(child).items(),
            *child._parameters.items(),
            *child._buffers.items(),
        ]:
            if name not in ("_parameters", "_buffers", "_modules") and not callable(value):
                state[f"{prefix}.{name}".lstrip(".")] = _trace(value)
    return state


def _changed(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """Paths of what is not as it was."""
    return sorted(name for name in before | after if before.get(name) != after.get(name))


def _trace(value: Any) -> object:
    import torch

    if isinstance(value, torch.Tensor):
        return id(value), None if value.is_inference() else value._version
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, list | dict | set):
        return id(value), len(value)
    return id(value)
