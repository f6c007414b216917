"""The HTTP API: the same functions and the same record as the command."""
