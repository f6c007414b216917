"""Runs that check nothing, and models that say nothing: a warning, and red when strict."""

from __future__ import annotations

from project import MLP, Project

NETS = '''

class Dead(nn.Module):
    """Its units are all dead: what is left is the last bias."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 4)
        nn.init.constant_(self.first.weight, 0.0)
        nn.init.constant_(self.first.bias, -1.0)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)))


def dead():
    return Dead().eval()
'''


def test_an_output_that_never_changes_warns_and_is_red_when_strict(project: Project):
    with (project.path / "nets.py").open("a") as file:
        file.write(NETS)
    healthy, dead = MLP.format(name="net"), MLP.format(name="dead").replace("mlp", "dead")
    project.manifest(healthy + dead)
    assert project.run("-k", "equivalence").ret == 0
    text = "output 'y': vacuous: PyTorch gives the same in every case, whatever it is fed with"
    assert text in project.reason("dead::torchscript-op17-fp32::test_equivalence[cpu]")
    assert project.reason("net::torchscript-op17-fp32::test_equivalence[cpu]") == ""
    assert project.run("-k", "equivalence", "--onnxcheck-strict").ret == 1
    assert project.outcomes() == {
        "net::torchscript-op17-fp32::test_equivalence[cpu]": "passed",
        "dead::torchscript-op17-fp32::test_equivalence[cpu]": "failed",
    }


def test_a_model_of_which_every_check_is_skipped_is_named_and_red_when_strict(project: Project):
    project.manifest(MLP.format(name="net") + 'targets = ["tensorrt"]\n')
    result = project.run("-k", "equivalence")
    assert result.ret == 0
    line = "nothing checked  net: all 1 checks were skipped, the first because: tensorrt: *"
    result.stdout.fnmatch_lines([line])
    result = project.run("-k", "equivalence", "--onnxcheck-strict")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*--onnxcheck-strict: a model of which every check was skipped *"])


def test_what_the_manifest_skips_with_a_reason_is_a_decision(project: Project):
    project.manifest(MLP.format(name="net") + 'skip = [{ reason = "not yet" }]\n')
    result = project.run("-k", "equivalence", "--onnxcheck-strict")
    assert result.ret == 0
    assert not any("nothing checked" in line for line in result.outlines)


def test_a_run_without_a_model_is_red_when_strict(project: Project):
    project.manifest(MLP.format(name="net"))
    (project.path / "test_other.py").write_text("def test_other(): pass\n")
    assert project.pytest("--onnxcheck", "test_other.py").ret == 0
    result = project.pytest("--onnxcheck", "--onnxcheck-strict", "test_other.py")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["no model was checked", "--onnxcheck-strict: no model checked *"])
    assert project.pytest("--onnxcheck", "--onnxcheck-strict", "-k", "nobody").ret == 5
