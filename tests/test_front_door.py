"""What meets a visitor first: links lead somewhere, pages show something, versions agree."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *(ROOT / "benchmarks").glob("*.md"),
    *(ROOT / "benchmarks/notes").glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
SCREEN = 45  # lines of a page
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def anchor(heading):
    """Return the anchor of a heading, as GitHub and myst make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page):
    return {anchor(text) for text in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link in LINK.findall(text):
        if link.startswith(("https://", "mailto:")):
            continue
        assert not link.startswith("http://"), link
        name, _, heading = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name} links to {link}"
        assert target.is_relative_to(ROOT), f"{page.name} links outside, to {link}"
        assert not heading or heading in anchors(target), f"{page.name} links to {link}"


def test_links_are_found():
    assert LINK.findall("see [a](b.md#c) and ![d](e.png)") == ["b.md#c", "e.png"]
    assert sum(len(LINK.findall(page.read_text())) for page in PAGES) > 20
    assert anchor("Get the same result twice, `please`") == "get-the-same-result-twice-please"


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_a_long_page_has_something_to_look_at(page):
    """No two screens without a picture, a table, code or mathematics."""
    lines = page.read_text().splitlines()
    shown = [i for i, line in enumerate(lines) if re.match(r"\||!\[|```|\$\$|\.\. auto", line)]
    gaps = [after - before for before, after in pairwise([0, *shown, len(lines)])]
    assert max(gaps) <= 2 * SCREEN


def test_the_entry_of_the_registry_is_that_of_the_package():
    entry = yaml.safe_load((ROOT / ".github/scverse/meta.yaml").read_text())
    required = (
        "name description project_home documentation_home install license tags version authors"
    )
    assert set(required.split()) <= set(entry)
    assert entry["name"] == entry["install"]["pypi"] == PROJECT["name"]
    assert entry["license"] == PROJECT["license"]
    assert entry["version"] == f"v{PROJECT['version']}"
    extra = re.fullmatch(r'pip install "\.\[(\w+)\]" && pytest', entry["test_command"])[1]
    assert extra in PROJECT["optional-dependencies"]
    assert len(set(entry["tags"])) == len(entry["tags"])
    assert all(entry[key].startswith("https://") for key in entry if key.endswith("_home"))


def test_the_version_has_notes_and_a_citation():
    version = PROJECT["version"]
    notes = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[?{re.escape(version)}\b", notes, re.MULTILINE)
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version


def test_a_release_is_built_checked_and_installed_alone():
    tested = (ROOT / ".github/workflows/tests.yml").read_text()
    released = (ROOT / ".github/workflows/release.yml").read_text()
    for flow in (tested, released):
        assert "python -m build && twine check --strict dist/*" in flow
        assert "fresh/bin/pip install dist/*.whl" in flow
