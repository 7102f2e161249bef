"""The tests.  A package, so that they share `tests.machines` and `tests.sim`."""
