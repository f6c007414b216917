"""One file a check, with one `measure` each."""
