"""Finds all classes of options in the repository, and their programs."""

import ast
import importlib
import pathlib
import subprocess
from collections.abc import Iterator
from typing import Any

from tests import running


def _sources() -> Iterator[tuple[str, ast.Module]]:
  """Yields the name and the syntax tree of each module outside of tests/."""
  listed = subprocess.run(
    ["git", "ls-files", "-co", "--exclude-standard", "--", "*.py"],
    cwd=running.ROOT,
    check=True,
    capture_output=True,
    text=True,
  ).stdout
  for name in listed.splitlines():
    path = pathlib.PurePath(name)
    if path.parts[0] != "tests" and (running.ROOT / path).exists():
      module = ".".join(path.with_suffix("").parts)
      yield module, ast.parse((running.ROOT / path).read_text("utf-8"))


def _states_options(node: ast.AST) -> bool:
  """Returns whether a node is a class with a field that `option` makes."""
  return isinstance(node, ast.ClassDef) and any(
    isinstance(field, ast.AnnAssign)
    and isinstance(field.value, ast.Call)
    and ast.unparse(field.value.func) == "options.option"
    for field in node.body
  )


def every() -> list[type[Any]]:
  """Returns all classes in the sources that state an option."""
  classes = []
  for module, tree in _sources():
    for node in filter(_states_options, ast.walk(tree)):
      assert isinstance(node, ast.ClassDef)
      assert node in tree.body, f"{module}.{node.name} is no class of a module"
      classes.append(getattr(importlib.import_module(module), node.name))
  return classes


def by_program() -> dict[str, list[type[Any]]]:
  """Returns a program's module → the option classes that it takes."""
  classes = {}
  for module, tree in _sources():
    for node in ast.walk(tree):
      if (
        isinstance(node, ast.Call)
        and ast.unparse(node.func) == "options.run"
        and module != "data_prep.base.options"
      ):
        place = vars(importlib.import_module(module))
        names = [ast.unparse(name).split(".") for name in node.args[1:]]
        classes[module] = [
          getattr(place[first], *rest) if rest else place[first]
          for first, *rest in names
        ]
  return classes
