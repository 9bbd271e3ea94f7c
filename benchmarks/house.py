"""The package's rooms: what each is for, its size, and what it imports.

    python -m benchmarks.house

Read from the files themselves; nothing of the package is imported.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "pyro_mgvi"
# In the order of the layers, which tests/test_layers.py holds.
ROOMS = (
    *(
        "support",
        "kernels",
        "core",
        "networks",
        "likelihoods",
        "data",
        "model",
        "training",
        "analysis",
    ),
    "saving",
    *("criticism", "baselines", "datasets", "plots", "report", "cli"),
)


def imported(file: Path) -> Iterator[str]:
    """Yield the parts of the package that a file imports."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pyro_mgvi"):
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]


def main() -> None:
    """Print the table."""
    print("| room | what it is for | files | lines | imports |")
    print("|---|---|---|---|---|")
    for room in ROOMS:
        files = sorted((PACKAGE / room).rglob("*.py"))
        sentence = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text()))
        lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
        names = sorted({name for file in files for name in imported(file)} - {room, "__version__"})
        first = sentence.splitlines()[0]
        print(f"| `{room}` | {first} | {len(files)} | {lines} | {', '.join(names) or '-'} |")
    flat = sorted(PACKAGE.glob("*.py"))
    lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in flat)
    names = ", ".join(f"`{file.name}`" for file in flat)
    print(f"| (top) | {names} | {len(flat)} | {lines} | the rooms below `criticism` |")


if __name__ == "__main__":
    main()
