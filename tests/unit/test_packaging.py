"""What PyPI shows of the package, from pyproject.toml and the README."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LINK = re.compile(r"\]\(([^)]*)\)")


def page() -> str:
    """As the build makes it: the fragments, then the substitutions."""
    hook = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = "".join(
        (ROOT / each["path"]).read_text() if "path" in each else each["text"]
        for each in hook["fragments"]
    )
    for each in hook["substitutions"]:
        text = re.sub(each["pattern"], each["replacement"], text)
    return text


def test_no_link_on_pypi_leads_nowhere() -> None:
    found = LINK.findall(page())
    assert found
    assert [target for target in found if not target.startswith("https://")] == []


def test_files_that_are_named_there_come_with_the_source_distribution() -> None:
    sent = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    linked = [
        target for target in LINK.findall((ROOT / "README.md").read_text()) if "://" not in target
    ]
    assert len(linked) > 5
    for target in linked:
        assert (ROOT / target).is_file()
        assert any(f"/{target}".startswith(each) for each in sent), target
        assert f"`{target}`" in page() or target.endswith(".svg")


def test_the_page_reads_on_without_its_picture() -> None:
    assert "![" not in page()
    assert "*`langchain-sgd demo` shows it: the same question, the same large model" in page()
    assert page().endswith("come with the source distribution.\n")
