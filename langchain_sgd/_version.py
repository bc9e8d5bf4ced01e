"""The version, read by the build and by `langchain_sgd.__version__`."""

__version__ = "0.1.0"
