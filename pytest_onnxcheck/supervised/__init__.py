"""Work that may hang, crash or take all memory: done in a fork, which is ended when it must be."""
