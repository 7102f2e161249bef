"""What the Makefile's targets run, before anything is installed: standard library only."""
