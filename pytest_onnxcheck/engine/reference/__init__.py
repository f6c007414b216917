"""PyTorch: found, loaded, called."""
