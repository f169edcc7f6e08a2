"""Which source files a module's behaviour depends on, and their digest: the code part of a cache key."""

import ast
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path


def reached_sources(roots: Iterable[Path], import_root: Path) -> dict[Path, str]:
    """Texts of ``roots`` and of every file below ``import_root`` that they import, directly or through each other.

    Only what one author wrote is followed: files of a root's own top-level package, and single-file modules beside it. Other
    installed packages are not.
    """
    frontier = {path.resolve() for path in roots}
    own = {path.relative_to(import_root).parts[0] for path in frontier}
    reached: dict[Path, str] = {}
    while frontier:
        texts = {path: path.read_text(encoding="utf-8") for path in sorted(frontier)}
        reached |= texts
        named = {name for path, text in texts.items() for name in _imported_names(path.relative_to(import_root), text)}
        frontier = {file for name in named for file in _files(name, import_root, own)} - reached.keys()
    return reached


def digest_sources(texts: Mapping[Path, str], import_root: Path) -> str:
    """SHA-256 over the texts and their places below ``import_root``, whatever order they come in and wherever that folder is."""
    digest = hashlib.sha256(b"sources-1")
    for path in sorted(texts):
        digest.update(f"\0{path.relative_to(import_root).as_posix()}\0{len(texts[path])}\0".encode())
        digest.update(texts[path].encode())
    return digest.hexdigest()


def _imported_names(place: Path, text: str) -> Iterable[tuple[str, ...]]:
    """Dotted names that a file at ``place`` (relative to the import root) imports; ``a.b.c`` for ``from a.b import c``."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = place.parts[: len(place.parts) - node.level] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            yield from ((*module, alias.name) for alias in node.names)


def _files(name: tuple[str, ...], import_root: Path, own: set[str]) -> Iterable[Path]:
    """Existing files that importing ``name`` runs: the packages above it, and the module itself."""
    if name[0] in own:
        for end in range(1, len(name) + 1):
            path = import_root.joinpath(*name[:end])
            yield from (file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file())
    elif (sibling := import_root / f"{name[0]}.py").is_file():
        yield sibling
