"""Container entrypoint and launcher daemon for PyTorch-CUDA images."""

# The one place of the version: pyproject.toml and the image's label (tools/image.py) read it.
__version__ = "0.2.0"
