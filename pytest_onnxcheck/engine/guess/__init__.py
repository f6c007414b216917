"""What a manifest could say of a model that nobody has described: found by looking and trying."""
