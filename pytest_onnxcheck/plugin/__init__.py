"""The door for pytest. Empty, so that start-up imports no more than `hooks`."""
