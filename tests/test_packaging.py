"""What `scripts/package.py` finds: imports that no dependency declares. The build itself is `make package`."""

import importlib.util
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def package() -> ModuleType:
    spec = importlib.util.spec_from_file_location("package_script", ROOT / "scripts/package.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wheel(folder: Path, source: str) -> Path:
    path = folder / "made-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("adamergex/module.py", source)
        archive.writestr(
            "made-1.dist-info/METADATA",
            "Name: made\nRequires-Dist: numpy>=2\nRequires-Dist: ruamel.yaml\nRequires-Dist: tensorboard; extra == 'board'\n",
        )
    return path


@pytest.mark.parametrize(
    "source",
    [
        "import json, numpy as np\nfrom numpy.linalg import norm\nfrom ruamel.yaml import YAML\nimport adamergex.errors",
        "def late():\n    import tensorboard",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tensorboard",
        "from . import sibling",
    ],
)
def test_what_is_declared_passes(package: ModuleType, source: str, tmp_path: Path) -> None:
    package.check_declared(wheel(tmp_path, source))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import torch", r"adamergex/module\.py imports torch, which no dependency declares \(an extra will not do\)"),
        ("def late():\n    import torch", "imports torch, which no dependency declares"),
        ("import tensorboard", "imports tensorboard, .*an extra will not do"),
        ("class One:\n    import pandas.core", "imports pandas"),
    ],
)
def test_what_is_not_declared_is_named(package: ModuleType, source: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=says):
        package.check_declared(wheel(tmp_path, source))
