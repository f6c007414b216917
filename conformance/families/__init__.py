"""Published architectures with seeded random weights: what `conformance/families.toml` gates.

They need torchvision and transformers, which the rest of the repository does without.
"""
