from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import langchain_sgd


def test_the_names_are_listed_once_sorted_and_all_have_a_home() -> None:
    assert langchain_sgd.__all__ == sorted(set(langchain_sgd.__all__))
    assert {*langchain_sgd._HOMES, "__version__"} == set(langchain_sgd.__all__)
    assert dir(langchain_sgd) == sorted(langchain_sgd.__all__)


def test_type_checkers_see_the_same_names_from_the_same_homes() -> None:
    tree = ast.parse(Path(langchain_sgd.__file__).read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: (node.module or "").removeprefix("langchain_sgd.")
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == langchain_sgd._HOMES


@pytest.mark.parametrize("name", langchain_sgd._HOMES)
def test_each_name_is_what_its_home_defines_and_is_documented(name: str) -> None:
    value = getattr(langchain_sgd, name)
    home = importlib.import_module(f"langchain_sgd.{langchain_sgd._HOMES[name]}")
    assert value is getattr(home, name)
    assert getattr(value, "__module__", home.__name__) == home.__name__
    if inspect.isclass(value):
        # Not a text inherited from somebody else's base class.
        assert value.__dict__["__doc__"]
    elif inspect.isfunction(value):
        assert value.__doc__


def test_a_misspelt_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'langchain_sgd' has no attribute 'SGDRunable'"):
        langchain_sgd.SGDRunable  # noqa: B018


def test_a_star_import_gives_them_all() -> None:
    names: dict[str, object] = {}
    exec("from langchain_sgd import *", names)  # noqa: S102 - what users type
    assert set(langchain_sgd.__all__) <= set(names)
