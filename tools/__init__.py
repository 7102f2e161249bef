"""What the Makefile's targets run.  Standard library only: it works before anything is installed."""
