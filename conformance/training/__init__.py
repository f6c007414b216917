"""Training scripts that write ``conformance/checkpoints`` (run with ``python -m``)."""
