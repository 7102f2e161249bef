"""What the suite for a real GPU (tests/gpu) stands on: the machine, nvidia-smi, the report."""
