"""A checkpoint with its config inside: exported in three precisions, compared, and timed."""

from pytest_onnxcheck import benchmark, export_model

precisions = ["fp32", "fp16", "int8-dynamic"]
exported = export_model("model.pt", output="release/model.onnx", precisions=precisions)
for file in exported.files:
    error = file.error or f"max difference {file.checked.closeness.max_abs:.1e}"
    print(f"{file.precision}: {file.size_bytes} bytes, {file.size_ratio:.0%} of fp32, {error}")
for timed in benchmark("model.pt", precisions=precisions, batch_size=8).timed:
    print(f"{timed.precision}: {timed.milliseconds:.3f} ms, {timed.speedup:.1f} times PyTorch")
raise SystemExit(not exported.ok)
