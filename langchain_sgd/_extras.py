"""Which extra of this package is missing, said where somebody meets it."""

from __future__ import annotations

from importlib.util import find_spec

from langchain_sgd.errors import InvalidInputError


class MissingExtraError(InvalidInputError, ModuleNotFoundError):
    """A package is not installed that an extra of this one brings."""

    def __init__(self, what: str, extra: str, module: str) -> None:
        super().__init__(f'{what} needs the package {module}: pip install "langchain-sgd[{extra}]"')
        self.what = what
        self.extra = extra
        self.name = module

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str, str]]:
        return type(self), (self.what, self.extra, str(self.name))


def is_installed(module: str) -> bool:
    """Whether a top-level module is there; nothing is imported."""
    try:
        return find_spec(module) is not None
    except (ValueError, ImportError):  # imported without a spec, or kept out
        return False


def require(extra: str, *modules: str) -> None:
    """See that the top-level modules of an extra are there; nothing is imported.

    Raises:
        MissingExtraError: One is not; names the extra.
    """
    for module in modules:
        if not is_installed(module):
            what = f"langchain_sgd.{extra}"
            raise MissingExtraError(what, extra, module)
