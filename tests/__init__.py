"""The tests.  A package, so that they share `testing.machines` and `sim`."""
