"""Container entrypoint and launcher daemon for PyTorch-CUDA images."""

__version__ = "0.1.0"
