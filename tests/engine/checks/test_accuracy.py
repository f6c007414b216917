"""Task metrics: scikit-learn's own numbers, an interval that can be checked, and clear errors.

The model is the identity, so that the samples are the outputs, and PyTorch's score is known.
"""

import re
import sys

import numpy as np
import onnx
import pytest
import torch
from scipy.stats import binom
from sklearn import metrics

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.checks import accuracy
from pytest_onnxcheck.engine.inputs.cases import generator
from pytest_onnxcheck.engine.oracle import evaluation
from pytest_onnxcheck.engine.oracle.evaluation import load_evaluation
from pytest_onnxcheck.engine.reference.load import load_reference
from pytest_onnxcheck.errors import InputError, ManifestError, RunError
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.targets import CPU

NET = "import torch\n\n\ndef make():\n    return torch.nn.Identity()\n"

ARTEFACT = """
<ir_version: 8, opset_import: ["" : 17]>
artefact (float[{shape}] x) => (float[{shape}] {output})
{{
    {body}
}}
"""


class Bench:
    """A folder with an identity model, samples and artefacts."""

    def __init__(self, path):
        self.path = path
        (path / "net.py").write_text(NET, encoding="utf-8")

    def samples(self, x, labels, file="samples.npz", **more):
        np.savez(self.path / file, x=np.asarray(x, "float32"), labels=labels, **more)

    def evaluation(self, table='file = "samples.npz"', shape='"batch", 3', seed=0):
        path = self.path / "models.toml"
        sizes = ", ".join(f"{dim} = [1, 2]" for dim in re.findall('"(\\w+)"', shape))
        dims = f"dims = {{ {sizes} }}"
        path.write_text(
            f'schema = 1\nseed = {seed}\n[models.net]\nfactory = "net.py:make"\n{dims}\n'
            f"[models.net.inputs.x]\nshape = [{shape}]\n[models.net.outputs.y]\n"
            f"shape = [{shape}]\n[models.net.accuracy]\n{table}\n",
            encoding="utf-8",
        )
        manifest = load_manifest(path)
        manifest.check()
        return load_evaluation(load_reference(manifest.models["net"]))

    def artefact(self, body, shape="N, 3", output="y"):
        path = self.path / "net.onnx"
        text = ARTEFACT.format(body=body, shape=shape, output=output)
        onnx.save(onnx.parser.parse_model(text), path)
        return Artefact.given(path)

    def measure(self, body, table='file = "samples.npz"', shape='"batch", 3', seed=0):
        evaluation = self.evaluation(table, shape, seed)
        declared = ", ".join(f"D{axis}" for axis in range(shape.count(",") + 1))
        return accuracy.measure(self.artefact(body, declared), evaluation, CPU)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


#: favours class 0: predictions of samples with a small margin change
BIASED = "b = Constant <value = float[3] {0.6, 0.0, 0.0}> () y = Add (x, b)"
SAME = "y = Identity (x)"


def noisy(samples, *middle, classes=3, seed=1):
    """Logits that are right in most cases, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=(samples, *middle))
    return (np.eye(classes)[labels] + 0.5 * rng.normal(size=(*labels.shape, classes))), labels


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize("metric", ["precision", "recall", "f1"])
def test_averaged_metrics_are_scikit_learns(bench, monkeypatch, metric, average):
    monkeypatch.setattr(evaluation, "RESAMPLES", 20)
    x, labels = noisy(60)
    bench.samples(x, labels)
    measured = bench.measure(
        BIASED, f'file = "samples.npz"\nmetric = "{metric}"\naverage = "{average}"'
    )
    score = getattr(metrics, f"{metric}_score")
    biased = np.add(x, [0.6, 0, 0]).argmax(-1)
    assert measured.torch == score(labels, x.argmax(1), average=average)
    assert measured.onnxruntime == score(labels, biased, average=average)
    assert measured.drop == measured.torch - measured.onnxruntime
    assert measured.changed == (biased != x.argmax(1)).sum() > 0

    rng = generator(bench.evaluation().task.reference.model, "accuracy", "resamples")
    drops = []
    for _ in range(20):
        rows = rng.integers(60, size=60)
        sides = (score(labels[rows], side[rows], average=average) for side in (x.argmax(1), biased))
        drops.append(next(sides) - next(sides))
    assert (measured.low, measured.high) == pytest.approx(np.quantile(drops, [0.025, 0.975]))


def test_accuracy_of_samples_in_several_batches(bench):
    x, labels = noisy(70)
    bench.samples(x, labels)
    measured = bench.measure(BIASED, 'file = "samples.npz"\nbatch = 32')
    biased = np.add(x, [0.6, 0, 0]).argmax(-1)
    assert measured.torch == metrics.accuracy_score(labels, x.argmax(1))
    assert measured.onnxruntime == metrics.accuracy_score(labels, biased)
    assert (measured.metric, measured.samples, measured.data) == ("accuracy", 70, "samples.npz")
    assert measured.low <= measured.drop <= measured.high
    assert measured.low < measured.high
    assert len(measured.sha256) == 64
    assert measured.baseline == np.bincount(labels).max() / 70


def test_binary_f1_counts_class_1_as_the_positive_one(bench):
    x, labels = noisy(50, classes=2)
    bench.samples(x, labels == 1)  # bool labels are classes too
    table = 'file = "samples.npz"\nmetric = "f1"\naverage = "binary"'
    measured = bench.measure(SAME, table, '"batch", 2')
    assert measured.torch == measured.onnxruntime == metrics.f1_score(labels, x.argmax(1))


def test_sequences_are_classified_step_by_step_and_drawn_whole(bench):
    x, labels = noisy(20, 5)
    bench.samples(x, labels)
    measured = bench.measure(BIASED, shape='"batch", 5, 3')
    biased = np.add(x, [0.6, 0, 0]).argmax(-1)
    assert measured.onnxruntime == pytest.approx((biased == labels).mean())
    assert measured.samples == 20
    assert measured.changed == (biased != x.argmax(2)).any(axis=1).sum() < 20


def test_a_squared_error_that_grows_is_a_drop(bench):
    rng = np.random.default_rng(0)
    labels = rng.normal(size=(40, 3)).astype("float32")
    bench.samples(labels + 0.1, labels)
    half = "b = Constant <value = float[3] {0.1, 0.1, 0.1}> () y = Add (x, b)"
    measured = bench.measure(half, 'file = "samples.npz"\nmetric = "mse"')
    assert measured.torch == pytest.approx(0.01, rel=1e-5)
    assert measured.onnxruntime == pytest.approx(0.04, rel=1e-5)
    assert measured.drop == pytest.approx(0.03, rel=1e-5)
    # every sample has the same error, so that no draw moves it
    assert (measured.low, measured.high) == pytest.approx((0.03, 0.03), rel=1e-4)
    assert measured.changed is None
    assert measured.baseline == pytest.approx(labels.astype(float).var(axis=0).mean())


OWN = """
def top2(labels, outputs):
    best = outputs.argsort(axis=-1)[:, -2:]
    return (best == labels[:, None]).any(axis=1).mean()


def fails(labels, outputs):
    raise KeyError("no such class")


def nothing(labels, outputs):
    return float("nan")


def found(labels, outputs):
    if not (labels == 1).any():
        raise ValueError("no sample of class 1")
    return (outputs.argmax(axis=-1) == 1)[labels == 1].mean()
"""


def test_a_metric_of_your_own_sees_labels_and_raw_outputs(bench):
    (bench.path / "own.py").write_text(OWN, encoding="utf-8")
    x, labels = noisy(60)
    bench.samples(x, labels)
    measured = bench.measure(BIASED, 'file = "samples.npz"\nmetric = "own.py:top2"')
    top2 = (x.argsort(1)[:, -2:] == labels[:, None]).any(1).mean()
    assert measured.torch == top2
    assert (measured.changed, measured.baseline) == (None, None)
    assert measured.low < measured.high


@pytest.mark.parametrize(("of_class_1", "most"), [(4, 50), (1, None)])
def test_draws_on_which_a_metric_is_undefined_are_left_out_unless_many(bench, of_class_1, most):
    # none of 1 sample (of 4) among 200 is drawn with probability 0.37 (0.018)
    (bench.path / "own.py").write_text(OWN, encoding="utf-8")
    labels = np.zeros(200, int)
    labels[:of_class_1] = 1
    x = np.eye(3)[labels]
    x[0, 0] = 0.5
    bench.samples(x, labels)
    table = 'file = "samples.npz"\nmetric = "own.py:found"'
    if most is None:
        with pytest.raises(InputError, match=r"no sample of class 1\. So it is on 3\d\d of 1000"):
            bench.measure(BIASED, table)
        return
    measured = bench.measure(BIASED, table)
    assert (measured.torch, measured.onnxruntime) == (1.0, 0.75)
    assert 0 < measured.undefined < most
    assert 0 <= measured.low < measured.high <= 1


def test_the_interval_is_the_binomial_one(bench):
    # PyTorch is right in all 400; the artefact is wrong in 40 of them: how often a draw holds one
    # of those is binomial
    labels = np.zeros(400, int)
    labels[:40] = 1
    x = np.eye(3)[labels]
    x[:40] = [0.5, 1.0, 0.0]
    bench.samples(x, labels)
    measured = bench.measure(BIASED)
    assert (measured.torch, measured.drop, measured.changed) == (1.0, pytest.approx(0.1), 40)
    exact = binom.ppf([0.025, 0.975], 400, 0.1) / 400
    assert (measured.low, measured.high) == pytest.approx(exact, abs=0.005)
    wider = bench.measure(BIASED, 'file = "samples.npz"\nconfidence = 0.99')
    assert wider.low < measured.low
    assert measured.high < wider.high


def test_the_same_seed_draws_the_same_samples(bench):
    bench.samples(*noisy(60))
    first = bench.measure(BIASED)
    assert bench.measure(BIASED) == first
    other = bench.measure(BIASED, seed=1)
    assert (other.drop, other.sha256) == (first.drop, first.sha256)
    assert (other.low, other.high) != (first.low, first.high)


def test_equal_predictions_lose_nothing_and_are_not_drawn(bench, monkeypatch):
    monkeypatch.setattr(evaluation, "RESAMPLES", "not drawn")
    bench.samples(*noisy(60))
    measured = bench.measure("two = Constant <value = float {2.0}> () y = Mul (x, two)")
    assert (measured.drop, measured.low, measured.high, measured.changed) == (0, 0, 0, 0)


def test_other_samples_have_another_hash(bench):
    x, labels = noisy(60)
    hashes = set()
    for given in (labels, np.roll(labels, 1)):
        bench.samples(x, given)
        hashes.add(bench.evaluation().task.samples.sha256)
    assert len(hashes) == 2


SOURCES = """
import numpy as np


def batches():
    for start in range(0, 12, 4):
        labels = np.arange(start, start + 4) % 3
        yield {"x": np.eye(3, dtype="float32")[labels]}, labels.tolist()


def single():
    return next(batches())


def nothing():
    return []


def broken():
    yield from batches()
    raise OSError("disk gone")


def misnamed():
    yield {"z": np.eye(3, dtype="float32")}, [0, 1, 2]


def double():
    yield {"x": np.eye(3)}, [0, 1, 2]


def uneven():
    yield {"x": np.eye(3, dtype="float32")}, [0, 1]


def one_buffer():
    x, labels = np.empty((4, 3), "float32"), np.empty(4, int)
    for start in range(3):
        labels[:] = np.arange(start, start + 4) % 3
        x[:] = np.eye(3)[labels]
        yield {"x": x}, labels


def tensors():
    import torch

    yield {"x": torch.eye(3, requires_grad=True)}, torch.arange(3)


def drawn():
    import torch

    yield {"x": torch.randn(4, 3)}, [0, 1, 2, 0]


def ragged():
    yield {"x": [[1.0], [1.0, 2.0]]}, [0, 1]


def wide():
    yield {"x": np.ones((2, 3, 3), "float32")}, np.zeros((2, 3), int)
    yield {"x": np.ones((2, 4, 3), "float32")}, np.zeros((2, 4), int)
"""


@pytest.fixture
def sources(bench):
    (bench.path / "data.py").write_text(SOURCES, encoding="utf-8")
    return bench


def test_a_source_gives_batches_of_any_size(sources):
    measured = sources.measure(SAME, 'source = "data.py:batches"')
    assert (measured.samples, measured.torch) == (12, 1.0)
    assert measured.data == "data.py:batches()"


def test_a_buffer_that_is_filled_again_is_copied(sources):
    evaluation = sources.evaluation('source = "data.py:one_buffer"')
    assert evaluation.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]
    assert evaluation.torch == 1.0


def test_a_source_may_give_tensors_and_draw_with_torchs_random_numbers(sources):
    assert sources.measure(SAME, 'source = "data.py:tensors"').samples == 3
    before = torch.random.get_rng_state()
    first = sources.evaluation('source = "data.py:drawn"').task.samples.sha256
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.randn(3)
    assert sources.evaluation('source = "data.py:drawn"').task.samples.sha256 == first


@pytest.mark.parametrize("given", ['source = "data.py:batches"', 'file = "samples.npz"'])
def test_count_takes_the_first_samples(sources, given):
    labels = np.arange(12) % 3
    sources.samples(np.eye(3)[labels], labels)
    evaluation = sources.evaluation(f"{given}\ncount = 6")
    assert evaluation.labels.tolist() == [0, 1, 2, 0, 1, 2]
    more = sources.evaluation(f"{given}\ncount = 100")
    assert len(more.labels) == 12


def test_a_fixed_first_axis_is_the_batch(bench):
    bench.samples(np.eye(3)[np.arange(8) % 3], np.arange(8) % 3)
    measured = bench.measure(SAME, shape="4, 3")
    assert measured.samples == 8
    with pytest.raises(InputError, match=r"batch 2 has 2 samples.*declared with 3.*batches of 3"):
        bench.evaluation(shape="3, 3")
    assert len(bench.evaluation('file = "samples.npz"\ncount = 6', shape="3, 3").labels) == 6
    labels = np.arange(8) % 3
    bench.samples(np.eye(3)[labels].reshape(2, 4, 3), labels)
    assert bench.measure(SAME, shape="4, 3").torch == 1.0


TIME_FIRST = """
import torch


class Last(torch.nn.Module):
    def forward(self, x):
        return x[-1]


def make():
    return Last()


def batches():
    labels = torch.arange(12) % 3
    yield {"x": torch.eye(3)[labels].expand(5, 12, 3)}, labels
"""


def test_a_time_axis_that_leads_is_not_taken_for_the_batch(bench):
    (bench.path / "net.py").write_text(TIME_FIRST, encoding="utf-8")
    shape = '"time", "batch", 3'
    evaluation = bench.evaluation('source = "net.py:batches"\ncount = 7', shape)
    assert (len(evaluation.labels), evaluation.torch) == (7, 1.0)
    labels = np.arange(12) % 3
    x = np.broadcast_to(np.eye(3)[labels], (5, 12, 3))
    bench.samples(x, labels)
    assert "'x' [5, 12, 3] of shape [time, batch, 3] cannot be cut into samples" in error(
        bench, shape=shape
    )
    bench.samples(x[None], labels)
    assert bench.evaluation(shape=shape).torch == 1.0
    bench.samples(x[None], labels[:9])
    assert "axis 'batch' of each input must count the samples" in error(bench, shape=shape)


def error(bench, table='file = "samples.npz"', shape='"batch", 3'):
    with pytest.raises(InputError) as caught:
        bench.evaluation(table, shape)
    text = str(caught.value)
    assert text.startswith("net: accuracy.")
    return text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("nothing", "gives no samples, expected an iterable of batches ({input: array}, labels)"),
        ("broken", "failed, expected an iterable of batches ({input: array}, labels): OSError"),
        ("missing", "data.py has no 'missing'"),
        ("single", "batch 0 is a dict, expected a pair ({input: array}, labels)"),
        ("misnamed", "batch 0 gives ['z'], expected a dict of arrays by input name: x"),
        ("double", "input 'x' is float64 where it comes from, declared float32: give it with"),
        ("uneven", "the first axis of each array must count the samples: x [3, 3], labels [2]"),
        ("ragged", "failed, expected an iterable of batches ({input: array}, labels): ValueError"),
        ("wide", "of different batches differ in shape beyond the first axis ((3,), (4,)): pad"),
    ],
)
def test_what_is_wrong_with_a_source_is_said(sources, source, expected):
    text = error(sources, f'source = "data.py:{source}"')
    assert expected in text
    assert f"data.py:{source}()" in text


@pytest.mark.parametrize(
    ("x", "labels", "expected"),
    [
        (np.ones((4, 3)), np.zeros(4), "labels are float64, expected whole numbers"),
        (np.ones((4, 3)), np.arange(4), "labels run from 0 to 3, but output 'y' has the classes 0"),
        (np.ones((4, 3)), np.zeros((4, 1), int), "labels [4, 1], expected [4]: accuracy of output"),
        (np.ones((4, 3)), np.zeros(3, int), "must count the samples: x [4, 3], labels [3]"),
        (np.ones((1, 3)), np.zeros(1, int), "gives 1 samples; there is no interval of fewer than"),
        (np.ones((0, 3)), np.zeros(0, int), "gives no samples"),
        (np.full((4, 3), np.nan), np.zeros(4, int), "PyTorch itself gives NaN for 4 of 4 samples"),
        (np.ones((4, 1)), np.zeros(4, int), "has 1 element: its largest is always the same"),
        (np.ones(4), np.zeros(4, int), "must count the samples, axis -1 (accuracy.axis) the cl"),
    ],
)
def test_samples_that_cannot_be_classified_are_refused(bench, x, labels, expected):
    bench.samples(x, labels)
    shape = ", ".join(['"batch"', *map(str, x.shape[1:])])
    assert expected in error(bench, shape=shape)


def test_a_squared_error_wants_finite_labels_in_the_outputs_shape(bench):
    table = 'file = "samples.npz"\nmetric = "mse"'
    bench.samples(np.ones((4, 3)), np.ones(4))
    assert "labels [4], expected [4, 3]: mse of output 'y' takes the output's own" in error(
        bench, table
    )
    bench.samples(np.ones((4, 3)), np.full((4, 3), np.inf))
    assert "hold what is no finite number: leave out those samples" in error(bench, table)


def test_the_axis_of_the_classes_is_told_apart(bench):
    images, labels = noisy(20, 3, 3)
    bench.samples(images.transpose(0, 3, 1, 2), labels)
    shape = '"batch", 3, 3, 3'
    assert "[20, 3, 3, 3] and labels [20, 3, 3] do not tell the axis" in error(bench, shape=shape)
    table = 'file = "samples.npz"\nbatch = 20\naxis = {}'
    right = (images.argmax(-1) == labels).mean()
    assert bench.evaluation(table.format(1), shape).torch == pytest.approx(right)
    assert bench.evaluation(table.format(-1), shape).torch < 0.6 < right
    assert "has no axis 4 beside that of the samples" in error(bench, table.format(4), shape)
    bench.samples(images[:, :2].transpose(0, 3, 1, 2), labels[:, :2])
    text = error(bench, shape='"batch", 3, 2, 3')
    assert "axis -1 (accuracy.axis) the classes; they would fit axis 1" in text


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("axis = 0", "axis = 0 counts the samples: classes lie on another"),
        ('axis = 1\nmetric = "mse"', "axis has no effect on mse: it is for accuracy, precision"),
    ],
)
def test_an_axis_without_classes_is_refused(bench, keys, expected):
    with pytest.raises(ManifestError, match=expected):
        bench.evaluation(f'file = "samples.npz"\n{keys}')


def test_binary_metrics_want_two_classes(bench):
    bench.samples(*noisy(10))
    table = 'file = "samples.npz"\nmetric = "f1"\naverage = "binary"'
    assert "output 'y' has 3: set accuracy.average = 'macro'" in error(bench, table)


def test_files_that_are_missing_or_lack_an_array_are_named(bench):
    assert "samples.npz: not found. Expected a .npz with one array per input (x)" in error(bench)
    bench.samples(*noisy(10))
    text = error(bench, 'file = "samples.npz"\nlabels = "classes"')
    assert "no array 'classes'; it holds 'x', 'labels'" in text
    assert "labels as 'classes' (accuracy.labels)" in text


def test_a_metric_that_fails_is_named(bench):
    (bench.path / "own.py").write_text(OWN, encoding="utf-8")
    bench.samples(*noisy(10))
    table = 'file = "samples.npz"\nmetric = "own.py:{}"'
    text = error(bench, table.format("fails"))
    assert "'own.py:fails' failed on labels [10] int64 and outputs [10, 3] float32" in text
    assert "gives nan on 10 samples; expected a finite" in error(bench, table.format("nothing"))
    with pytest.raises(InputError, match=r"net: accuracy\.metric: .* has no 'missing'"):
        bench.evaluation(table.format("missing"))


def test_without_scikit_learn_the_extra_is_named(bench, monkeypatch):
    bench.samples(*noisy(10))
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert 0 < bench.evaluation('file = "samples.npz"\nmetric = "accuracy"').torch < 1
    with pytest.raises(InputError, match=r"pip install 'pytest-onnxcheck\[metrics\]'"):
        bench.evaluation('file = "samples.npz"\nmetric = "f1"')


def test_an_artefact_without_a_score_is_an_error(bench):
    bench.samples(*noisy(10))
    evaluation = bench.evaluation()
    with pytest.raises(RunError, match="and none named 'y', which accuracy is measured on"):
        accuracy.measure(bench.artefact("z = Identity (x)", output="z"), evaluation, CPU)
    nan = "zero = Constant <value = float {0.0}> () i = Div (x, zero) y = Sub (i, i)"
    with pytest.raises(RunError, match="10 of 10 samples give NaN; test_equivalence tells"):
        accuracy.measure(bench.artefact(nan), evaluation, CPU)
