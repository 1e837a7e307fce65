"""The road in a bottle: the real runtime on a virtual clock, with every fault that docs/semantics.md speaks of, from a seed."""
