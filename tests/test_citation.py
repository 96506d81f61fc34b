"""CITATION.cff is what the Citation File Format 1.2.0 asks for, and says the same as the rest of the repository."""

import re
import tomllib
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
FILE = YAML(typ="safe").load((ROOT / "CITATION.cff").read_text("utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_it_has_the_keys_that_the_format_requires() -> None:
    # https://github.com/citation-file-format/citation-file-format: required keys of a file, a reference and an author.
    assert FILE.keys() >= {"cff-version", "message", "title", "authors"}
    assert FILE["cff-version"] == "1.2.0"
    assert FILE["type"] in ("software", "dataset")
    known = {
        "cff-version",
        "message",
        "type",
        "title",
        "abstract",
        "authors",
        "version",
        "license",
        "keywords",
        "references",
    }
    assert FILE.keys() <= known
    (paper,) = FILE["references"]
    assert paper.keys() >= {"type", "title", "authors"}
    assert paper["conference"].keys() == {"name"}
    for author in (*FILE["authors"], *paper["authors"]):
        assert author.keys() in ({"name"}, {"family-names", "given-names"})
        assert all(isinstance(value, str) and value for value in author.values())
    assert all(isinstance(keyword, str) for keyword in FILE["keywords"])


def test_it_agrees_with_the_package_and_with_the_readme() -> None:
    assert (FILE["version"], FILE["license"]) == (PROJECT["version"], PROJECT["license"])
    (paper,) = FILE["references"]
    readme = (ROOT / "README.md").read_text("utf-8")
    bibtex = dict(re.findall(r"^  (\w+) = \{(.*)\},?$", readme, re.MULTILINE))
    named = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    assert (paper["title"], named, str(paper["year"])) == (bibtex["title"], bibtex["author"], bibtex["year"])
    assert paper["conference"]["name"] in bibtex["booktitle"]
    assert paper["url"] in readme
