"""Tests that files, imports, BUILD and docs/map.md follow the design.

Every failure prints what to paste, or which line to move.
"""

import ast
import functools
import importlib.metadata
import itertools
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_THIS = "tests/layout_test.py"
# Imports go right, never left.
_DIRECTION = ("bert_tweet", "albert_mn", "data_prep")
_PACKAGES = (*_DIRECTION, "benchmarks", "tests")
# Room → the rooms that it imports, which stand above it: so there is no cycle.
# What is not in a room is a program, and may import every room.
_ROOMS = {
  "data_prep.base": (),
  "data_prep.files": ("data_prep.base",),
  "data_prep.text": ("data_prep.base", "data_prep.files"),
  "data_prep.sources": ("data_prep.base", "data_prep.files", "data_prep.text"),
  "data_prep.corpus": (
    "data_prep.base",
    "data_prep.files",
    "data_prep.text",
    "data_prep.sources",
  ),
  "data_prep.encoding": ("data_prep.base", "data_prep.files", "data_prep.text"),
  "data_prep.pretraining": (
    "data_prep.base",
    "data_prep.files",
    "data_prep.encoding",
  ),
  "data_prep.classification": (
    "data_prep.base",
    "data_prep.files",
    "data_prep.text",
  ),
  "albert_mn.models": (
    "data_prep.base",
    "data_prep.files",
    "data_prep.encoding",
  ),
  "albert_mn.tasks": (
    "data_prep.base",
    "data_prep.files",
    "data_prep.text",
    "data_prep.encoding",
    "data_prep.classification",
    "albert_mn.models",
  ),
  "albert_mn.runtime": (
    "data_prep.base",
    "data_prep.files",
    "albert_mn.models",
  ),
  "albert_mn.scoring": (
    "data_prep.base",
    "data_prep.files",
    "data_prep.classification",
    "albert_mn.tasks",
  ),
  "albert_mn.formats": (
    "data_prep.base",
    "data_prep.files",
    "data_prep.encoding",
    "albert_mn.models",
    "albert_mn.tasks",
  ),
  "albert_mn.inference": (
    "data_prep.base",
    "data_prep.files",
    "data_prep.text",
    "data_prep.encoding",
    "data_prep.classification",
    "albert_mn.models",
    "albert_mn.tasks",
    "albert_mn.formats",
  ),
  "albert_mn.pretrain": (
    "data_prep.base",
    "data_prep.files",
    "data_prep.encoding",
    "data_prep.pretraining",
    "data_prep.classification",
    "albert_mn.models",
    "albert_mn.runtime",
    "albert_mn.scoring",
    "albert_mn.formats",
  ),
  "albert_mn.finetune": (
    "data_prep.base",
    "data_prep.files",
    "data_prep.sources",
    "data_prep.encoding",
    "data_prep.pretraining",
    "data_prep.classification",
    "albert_mn.models",
    "albert_mn.tasks",
    "albert_mn.runtime",
    "albert_mn.scoring",
    "albert_mn.formats",
    "albert_mn.inference",
    "albert_mn.pretrain",
  ),
  "albert_mn.export": (
    "data_prep.base",
    "data_prep.files",
    "data_prep.encoding",
    "data_prep.classification",
    "albert_mn.models",
    "albert_mn.tasks",
    "albert_mn.scoring",
    "albert_mn.formats",
  ),
}
# (beginning of the names of files, beginning of the names of modules, why files
# of that name do not import such a module though their room may).
_NO_ARROWS = (
  (
    "albert_mn/tasks/classifier.py",
    "data_prep.classification.tweets",
    "text_cleaning knows the kinds of cleaning",
  ),
  (
    "albert_mn/formats/",
    "albert_mn.tasks.tagging",
    "tables of weight names know the kinds of labels by problems",
  ),
  (
    "albert_mn/formats/huggingface",
    "albert_mn.tasks.classifier",
    "tables of weight names know no predictor",
  ),
  (
    "albert_mn/scoring/",
    "albert_mn.tasks.task_rows",
    "a score needs labelled_rows, not their files",
  ),
  (
    "albert_mn/inference/explanation.py",
    "albert_mn.formats",
    "explainers opens checkpoints",
  ),
)
# Where the name of an import is not the name of its package.
_DISTRIBUTIONS = {
  "absl": "absl-py",
  "google.api_core": "google-api-core",
  "google.auth": "google-auth",
  "google.cloud": "google-cloud-storage",
  "google.protobuf": "protobuf",
  "official": "tf-models-official",
  "orbit": "tf-models-official",
  "sklearn": "scikit-learn",
  "yaml": "pyyaml",
}
_FEATURE_NAMES = {
  "input_ids",
  "input_mask",
  "segment_ids",
  "masked_lm_positions",
  "masked_lm_ids",
  "masked_lm_weights",
  "next_sentence_labels",
  "next_sentence_positions",
  "token_boundary",
}
# They hold anything, so they tell nothing.
_VAGUE_NAMES = {"found", "it", "one", "other", "others", "some"}
# Spelled in two parts, so that this file does not match itself.
_ABSOLUTE_PATH = re.compile(
  r"(?<![\w.:/~-])/" + r"(?:work|tmp|root|home|Users|opt)/[\w.]"
)


@functools.cache
def _files() -> tuple[str, ...]:
  """Returns the files that git tracks or would track, relative to the root."""
  try:
    listed = subprocess.run(
      ["git", "ls-files", "-z", "-co", "--exclude-standard"],
      cwd=_ROOT,
      check=True,
      capture_output=True,
      text=True,
    ).stdout
  except (OSError, subprocess.CalledProcessError) as error:
    pytest.skip(f"needs a git checkout to know its files: {error}")
  names = sorted(set(filter(None, listed.split("\0"))))
  return tuple(name for name in names if (_ROOT / name).exists())


def _sources() -> list[str]:
  return [name for name in _files() if name.endswith(".py")]


def _library_sources() -> list[str]:
  return [name for name in _sources() if not name.startswith("tests/")]


@functools.cache
def _tree(name: str) -> ast.Module:
  return ast.parse((_ROOT / name).read_text(encoding="utf-8"), name)


def _package(name: str) -> str:
  """Returns the folder of a file; "" for a file in the root."""
  return name.rpartition("/")[0]


def _top(name: str) -> str:
  """Returns the first folder in the path of a file; "" in the root."""
  return name.partition("/")[0] if "/" in name else ""


def _imports(name: str) -> Iterator[tuple[str, int]]:
  """Yields (module, line) of every import of a file, lazy imports too.

  `from a import b` is `a.b` where that is a file of this repository, else `a`.
  """
  for node in ast.walk(_tree(name)):
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield alias.name, node.lineno
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{name}:{node.lineno}: relative import"
      assert node.module is not None
      for alias in node.names:
        inner = f"{node.module}.{alias.name}"
        is_module = _source(inner) is not None or node.module == "google"
        yield (inner if is_module else node.module), node.lineno


def _source(module: str) -> str | None:
  """Returns the file of a module of this repository; None for any other."""
  name = module.replace(".", "/") + ".py"
  return name if name in _files() else None


def _module(name: str) -> str:
  """Returns the name of a file's module, such as albert_mn.models.configs."""
  return name.removesuffix(".py").replace("/", ".")


def _is_program(name: str) -> bool:
  return any(
    isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)
    for node in _tree(name).body
  )


def _distribution(module: str) -> str:
  for prefix in (".".join(module.split(".")[:2]), module.split(".")[0]):
    if prefix in _DISTRIBUTIONS:
      return _DISTRIBUTIONS[prefix]
  return module.split(".")[0].replace("_", "-").lower()


@functools.cache
def _third_party(name: str) -> frozenset[str]:
  """Returns the packages that a file imports, as PyPI spells them."""
  modules = {module for module, _ in _imports(name)}
  return frozenset(
    _distribution(module)
    for module in modules
    if module.split(".")[0] not in sys.stdlib_module_names
    and module.split(".")[0] not in _PACKAGES
    and _source(module) is None
  )


# Direction.


def test_imports_go_from_tweets_to_models_to_data_and_never_back() -> None:
  wrong = []
  for name in _library_sources():
    if _top(name) not in _DIRECTION:
      continue
    left = _DIRECTION[: _DIRECTION.index(_top(name))]
    wrong += [
      f"{name}:{line} imports {module}"
      for module, line in _imports(name)
      if module.split(".")[0] in left or module.split(".")[0] == "tests"
    ]
  assert not wrong, f"imports go {' -> '.join(_DIRECTION)}: {wrong}"


def _room(name: str) -> str:
  """Returns the room of a file, as `albert_mn.models`; "" for other files."""
  room = _package(name).replace("/", ".")
  return room if _top(name) in {r.partition(".")[0] for r in _ROOMS} else ""


def _arrows() -> dict[tuple[str, str], list[str]]:
  """Returns (room, imported room) → the lines with such an import."""
  arrows: dict[tuple[str, str], list[str]] = {}
  for name in _library_sources():
    for module, line in _imports(name):
      source = _source(module)
      if source and _room(name) in _ROOMS and _room(name) != _room(source):
        arrows.setdefault((_room(name), _room(source)), []).append(
          f"{name}:{line} imports {module}"
        )
  return arrows


def test_a_room_imports_the_rooms_of_its_line_in_the_table() -> None:
  wrong = [
    line
    for (room, imported), lines in _arrows().items()
    for line in lines
    if imported not in _ROOMS[room]
  ]
  assert not wrong, (
    "move what is shared to a room that both may import, or, where the arrow "
    f"is right, add it to _ROOMS in {_THIS}: {wrong}"
  )


def test_the_table_of_rooms_has_no_arrow_that_nothing_needs() -> None:
  stated = {(room, below) for room, rooms in _ROOMS.items() for below in rooms}
  idle = sorted(stated - _arrows().keys())
  assert not idle, f"delete from _ROOMS in {_THIS}: {idle}"


def test_no_module_imports_what_its_subject_does_not_need() -> None:
  wrong = [
    f"{name}:{line} imports {module}: {why}"
    for files, modules, why in _NO_ARROWS
    for name in _library_sources()
    if name.startswith(files)
    for module, line in _imports(name)
    if module.startswith(modules)
  ]
  assert not wrong, wrong


def test_a_room_stands_below_all_that_it_imports() -> None:
  order = list(_ROOMS)
  wrong = [
    f"{room} imports {imported}"
    for room, rooms in _ROOMS.items()
    for imported in rooms
    if order.index(imported) >= order.index(room)
  ]
  assert not wrong, f"a cycle, or two lines in the wrong order: {wrong}"


def test_beside_the_rooms_there_are_programs_alone() -> None:
  wrong = [
    name
    for name in _library_sources()
    if (room := _room(name)) and room not in _ROOMS
    if not _is_program(name) and not name.endswith("__init__.py")
  ]
  assert not wrong, f"move it into a room of {sorted(_ROOMS)}: {wrong}"


def test_our_modules_are_imported_and_not_their_names_or_rooms() -> None:
  wrong = [
    f"{name}:{line} imports {module}"
    for name in _sources()
    for module, line in _imports(name)
    if module.split(".")[0] in _PACKAGES and _source(module) is None
    if module not in _PACKAGES
  ]
  assert not wrong, f"write `from package.room import module`: {wrong}"


def _level(room: str) -> int:
  """Returns the level of a room: 1 if it imports no room of its package.

  A room is one level above the highest room that it imports.
  """
  package = room.partition(".")[0]
  below = [_level(r) for r in _ROOMS[room] if r.partition(".")[0] == package]
  return 1 + max(below, default=0)


def test_the_page_of_the_architecture_draws_the_rooms_by_level() -> None:
  page = (_ROOT / "docs/architecture.md").read_text(encoding="utf-8")
  levels = sorted({_level(room) for room in _ROOMS})
  rows = [
    f"| {level} | "
    + " | ".join(
      ", ".join(
        f"`{room.partition('.')[2]}`"
        for room in _ROOMS
        if room.startswith(f"{package}.") and _level(room) == level
      )
      for package in ("data_prep", "albert_mn")
    )
    + " |"
    for level in levels
  ]
  missing = [row for row in rows if row not in page.splitlines()]
  assert not missing, "docs/architecture.md lacks:\n" + "\n".join(missing)


def test_nothing_imports_a_program() -> None:
  wrong = [
    f"{name}:{line} imports {module}"
    for name in _sources()
    for module, line in _imports(name)
    if (source := _source(module)) is not None and _is_program(source)
  ]
  assert not wrong, f"move what is shared into a library: {wrong}"


def test_data_prep_imports_no_keras_and_no_model_garden() -> None:
  wrong = [
    f"{name}:{line} imports {module}"
    for name in _library_sources()
    if _top(name) == "data_prep"
    for module, line in _imports(name)
    if module.split(".")[0] in {"keras", "tf_keras", "official", "orbit"}
  ]
  assert not wrong, f"data_prep runs without them: {wrong}"


def test_importing_data_prep_does_not_load_tensorflow() -> None:
  """TensorFlow takes seconds to import, and a worker does not need it."""
  modules = [
    name.removesuffix(".py").replace("/", ".")
    for name in _library_sources()
    if _top(name) == "data_prep"
  ]
  lines = [f"import {module}" for module in modules]
  code = "; ".join([*lines, "import sys; print('tensorflow' in sys.modules)"])
  done = subprocess.run(
    [sys.executable, "-c", code],
    cwd=_ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip() == "False", "import tensorflow inside a function"


# Names.


def test_feature_names_are_spelled_in_records_alone() -> None:
  wrong = [
    f"{name}:{node.lineno}: {node.value!r}"
    for name in _library_sources()
    if name != "data_prep/files/records.py"
    for node in ast.walk(_tree(name))
    if isinstance(node, ast.Constant) and node.value in _FEATURE_NAMES
  ]
  assert not wrong, f"use the constants of data_prep/files/records.py: {wrong}"


def test_every_module_says_in_its_first_sentence_what_lives_there() -> None:
  silent = [name for name in _sources() if not ast.get_docstring(_tree(name))]
  assert not silent, f"no docstring: {silent}"


def test_public_functions_name_their_arguments() -> None:
  wrong = [
    f"{name}:{node.lineno}: {node.name}"
    for name in _library_sources()
    for inner in [_inner(name)]
    for node in ast.walk(_tree(name))
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    if node.args.kwarg and node not in inner
  ]
  assert not wrong, f"take a mapping or a dataclass, not **kwargs: {wrong}"


def _inner(name: str) -> set[ast.AST]:
  """Returns the functions that are defined in other functions."""
  return {
    inner
    for outer in ast.walk(_tree(name))
    if isinstance(outer, ast.FunctionDef)
    for inner in ast.walk(outer)
    if inner is not outer
  }


def test_no_module_stands_beside_a_folder_of_its_name() -> None:
  folders = {_package(name) for name in _files()}
  wrong = [n for n in _sources() if n.removesuffix(".py") in folders]
  assert not wrong, f"name the module or the folder otherwise: {wrong}"


def test_no_module_is_a_drawer_for_everything() -> None:
  drawers = {"utils", "util", "helpers", "common", "misc"}
  modules = [n for n in _sources() if pathlib.PurePath(n).stem in drawers]
  assert not modules, f"name it after its one concept: {modules}"


def _bound(node: ast.AST) -> str | None:
  """Returns the name to which a node binds a value; None if it binds none."""
  match node:
    case ast.Name(id=name, ctx=ast.Store()):
      return name
    case ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
      return name
    case ast.FunctionDef(name=name) | ast.ExceptHandler(name=name):
      return name
  return None


def test_names_say_what_the_value_is() -> None:
  """Variables, fields, attributes, parameters and functions are checked."""
  vague = [
    f"{name}:{node.lineno}: {_bound(node)}"  # type: ignore[attr-defined]
    for name in _sources()
    for node in ast.walk(_tree(name))
    if _bound(node) in _VAGUE_NAMES
  ]
  assert not vague, f"name it after what it holds, as rows or labels: {vague}"


def test_no_file_names_a_path_of_somebodys_machine() -> None:
  wrong = []
  for name in _files():
    try:
      text = (_ROOT / name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
      continue  # a checkpoint or array of tests/reference
    for number, line in enumerate(text.splitlines(), 1):
      if _ABSOLUTE_PATH.search(line):
        wrong.append(f"{name}:{number}: {line.strip()[:60]}")
  assert not wrong, f"use a path relative to the root: {wrong}"


def test_the_formatter_lays_out_every_line() -> None:
  comment = re.compile("#" + r" fmt: (skip|off)")
  wrong = [
    f"{name}:{number}"
    for name in _sources()
    for number, line in enumerate((_ROOT / name).read_text().splitlines(), 1)
    if comment.search(line)
  ]
  assert not wrong, f"let ruff format it: {wrong}"


# Dead code.


def _modules_of(name: str) -> dict[str, str]:
  """Returns the names under which a file has imported modules → the module."""
  return {
    alias.asname or alias.name: f"{node.module}.{alias.name}"
    for node in ast.walk(_tree(name))
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
  } | {
    (alias.asname or alias.name).split(".")[0]: alias.name
    for node in ast.walk(_tree(name))
    if isinstance(node, ast.Import)
    for alias in node.names
  }


def _root_of(node: ast.expr) -> str:
  """Returns `tf` for the expression `tf.nn.softmax`; "" for a call and such."""
  while isinstance(node, ast.Attribute):
    node = node.value
  return node.id if isinstance(node, ast.Name) else ""


def _used(name: str) -> Iterator[tuple[str, str]]:
  """Yields what a file uses: (module, name); the module is "" if unknown."""
  modules, own = _modules_of(name), _module(name)
  for node in ast.walk(_tree(name)):
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
      yield own, node.id
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
      yield own, node.value  # a type that is named before it is defined
    elif isinstance(node, ast.Attribute):
      yield modules.get(_root_of(node), ""), node.attr


def _defined(name: str) -> Iterator[str]:
  """Yields the names of the functions, classes and constants of a module."""
  for node in _tree(name).body:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
      yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
      targets = node.targets if isinstance(node, ast.Assign) else [node.target]
      for target in targets:
        yield from (n.id for n in ast.walk(target) if isinstance(n, ast.Name))


def test_nothing_is_there_that_only_tests_use() -> None:
  used = {pair for name in _library_sources() for pair in _used(name)}
  idle = [
    f"{name}: {defined}"
    for name in _library_sources()
    for defined in _defined(name)
    if defined != "main"
    and not used & {(_module(name), defined), ("", defined)}
  ]
  assert not idle, f"delete it, or move it to the test: {idle}"


# BUILD.


def _expected_rule(name: str) -> str:
  if name.startswith("tests/") and name.endswith("_test.py"):
    return "py_test"
  return "py_binary" if _is_program(name) else "py_library"


def _target(name: str) -> str:
  """Returns the name of a file's target: its stem, or the package's name.

  An __init__.py has the name of its package.
  """
  stem = pathlib.PurePath(name).stem
  return pathlib.PurePath(name).parent.name if stem == "__init__" else stem


def _expected_deps(name: str) -> list[str]:
  """Returns the labels of a file's imports, in buildifier's order."""
  labels = {
    f"@pypi//{package.replace('-', '_')}" for package in _third_party(name)
  }
  for module, _ in _imports(name):
    source = _source(module)
    if source is None and module in _PACKAGES:
      source = f"{module}/__init__.py"
    if source is None:
      continue
    same = _package(source) == _package(name)
    labels.add(f"{'' if same else '//' + _package(source)}:{_target(source)}")
  return sorted(labels, key=lambda label: (":/@".index(label[0]), label))


def _stanza(rule: str, name: str, source: str, deps: list[str]) -> str:
  lines = [f"{rule}(", f'    name = "{name}",', f'    srcs = ["{source}"],']
  if len(deps) == 1:
    lines.append(f'    deps = ["{deps[0]}"],')
  elif deps:
    lines.append("    deps = [")
    lines += [f'        "{dep}",' for dep in deps]
    lines.append("    ],")
  return "\n".join([*lines, ")"])


def _expected_stanzas(folder: str) -> dict[str, str]:
  """Returns target → the stanza that the imports of its file require."""
  return {
    _target(name): _stanza(
      _expected_rule(name),
      _target(name),
      pathlib.PurePath(name).name,
      _expected_deps(name),
    )
    for name in _sources()
    if _package(name) == folder
  }


def _build_stanzas(folder: str) -> dict[str, str]:
  """Returns target → stanza, of the py_ rules in a folder's BUILD.

  Attributes such as data and size are left out.
  """
  path = _ROOT / folder / "BUILD"
  assert path.exists(), f"no BUILD in {folder or 'the root'}"
  stanzas = {}
  for node in ast.parse(path.read_text(encoding="utf-8")).body:
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
      continue
    call = node.value
    if not (isinstance(call.func, ast.Name) and call.func.id[:3] == "py_"):
      continue
    # glob(...) and such stand only in attributes that are left free.
    fields = {
      key.arg: ast.literal_eval(key.value)
      for key in call.keywords
      if key.arg in {"name", "srcs", "deps"}
    }
    (source,) = fields["srcs"]
    stanzas[fields["name"]] = _stanza(
      call.func.id, fields["name"], source, fields.get("deps", [])
    )
  return stanzas


@pytest.mark.parametrize(
  "folder",
  [
    "",
    *_PACKAGES,
    *(room.replace(".", "/") for room in _ROOMS),
    "tests/hostile",
  ],
)
def test_build_says_what_the_imports_say(folder: str) -> None:
  expected = _expected_stanzas(folder)
  actual = _build_stanzas(folder)
  gone = sorted(actual.keys() - expected.keys())
  changed = [
    text for name, text in expected.items() if actual.get(name) != text
  ]
  assert not [*changed, *gone], (
    f"{folder or '.'}/BUILD: delete {gone}; put in:\n\n" + "\n\n".join(changed)
  )


_LABEL = re.compile(r'"(//[\w./-]*)?:([\w.-]+)"')


def test_every_label_leads_to_a_target() -> None:
  """Labels of data, which the imports do not state, are checked too."""
  builds = [name for name in _files() if pathlib.PurePath(name).name == "BUILD"]
  targets, named = set(), set()
  for name in builds:
    text = (_ROOT / name).read_text(encoding="utf-8")
    folder = f"//{_package(name)}"
    targets |= {(folder, n) for n in re.findall(r'    name = "([^"]+)"', text)}
    named |= {
      (place or folder, target)
      for place, target in _LABEL.findall(text)
      if (place, target) != ("//visibility", "public") and target != "defs.bzl"
    }
  gone = [f"{place}:{target}" for place, target in sorted(named - targets)]
  assert named
  assert not gone, f"BUILD files name what is not there: {gone}"


# Requirements.


def _normal(package: str) -> str:
  return re.sub(r"[-_.]+", "-", package).lower()


def _requirements(*patterns: str) -> set[str]:
  """Returns the packages named at the start of the lines of some files.

  The files are those that match the globs.
  """
  return {
    _normal(match.group())
    for pattern in patterns
    for path in _ROOT.glob(pattern)
    for line in path.read_text(encoding="utf-8").splitlines()
    if (match := re.match(r"[A-Za-z0-9][\w.-]*", line))
  }


# The files that name the packages of an environment of scripts/setup.sh.
_MAIN = ("requirements.in", "requirements-models.in", "requirements-web.in")
_DEV = (*_MAIN, "requirements-dev.in")
_BEAM = ("requirements-beam.in",)
_INTEROP = ("requirements-interop.in",)


def _environment(name: str) -> tuple[str, ...]:
  """Returns the requirements*.in of the environment that a file runs in."""
  packages = _third_party(name)
  if packages & {"torch", "transformers"}:
    return _INTEROP
  if "apache-beam" in packages:
    return _BEAM
  tests = name.startswith(("benchmarks/", "tests/"))
  return _DEV if tests else _MAIN


def _constants(name: str) -> list[str]:
  """Returns the strings of a file in their order."""
  return [
    node.value
    for node in ast.walk(_tree(name))
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
  ]


def _needed(name: str) -> frozenset[str]:
  """Returns the packages that a file imports or runs with `python -m`.

  tf.summary is tensorboard's: TensorFlow 2.21 no longer requires tensorboard,
  and has no tf.summary.scalar without it.
  """
  strings = _constants(name)
  run = {
    _distribution(module)
    for option, module in itertools.pairwise(strings)
    if option == "-m" and re.fullmatch(r"\w+(\.\w+)*", module)
    if module.split(".")[0]
    not in {*sys.stdlib_module_names, *_PACKAGES, "pip"}  # venv brings pip
  }
  summaries = "tf.summary" in (_ROOT / name).read_text(encoding="utf-8")
  shown = {"tensorboard"} if summaries and name != _THIS else set()
  return _third_party(name) | run | shown


def test_every_package_is_named_in_the_requirements_of_its_environment() -> (
  None
):
  missing = [
    f"{name} needs {package}: name it in one of {_environment(name)}"
    for name in _sources()
    for package in sorted(
      {_normal(p) for p in _needed(name)} - _requirements(*_environment(name))
    )
  ]
  assert not missing, f"then run scripts/lock.sh: {missing}"


def test_what_beam_imports_is_named_in_the_requirements_of_beam() -> None:
  """Beam's environment has no TensorFlow: records.py imports it lazily."""
  reached, left = (
    set(),
    ["data_prep/create_pretraining_data.py", "data_prep/build_corpus.py"],
  )
  while left:
    name = left.pop()
    reached.add(name)
    sources = (_source(module) for module, _ in _imports(name))
    left += [source for source in sources if source and source not in reached]
  missing = {
    (name, package)
    for name in reached
    for package in _needed(name) - {"tensorflow"}
    if _normal(package) not in _requirements(*_BEAM)
  }
  assert not missing, f"name it in requirements-beam.in: {sorted(missing)}"


def test_a_tool_of_the_scripts_is_a_stated_requirement() -> None:
  scripts = [n for n in _files() if n.endswith(".sh") or n == ".ci/run"]
  run = {
    module
    for name in scripts
    for module in re.findall(
      r"python\S* -m ([a-z]\w*)", (_ROOT / name).read_text(encoding="utf-8")
    )
    if module not in {*sys.stdlib_module_names, *_PACKAGES, "pip"}
  }
  missing = {_distribution(m) for m in run} - _requirements(*_DEV)
  assert run
  assert not missing, f"name it in requirements-dev.in: {missing}"


def test_every_stated_requirement_is_locked() -> None:
  # requirements-interop.in is pinned instead: scripts/setup.sh says why.
  interop = _requirements("requirements-interop.in")
  pins = (_ROOT / "requirements-interop.in").read_text(encoding="utf-8")
  assert len(re.findall(r"^[\w-]+==[\d.]+$", pins, re.MULTILINE)) == len(
    interop
  )
  missing = (
    _requirements("requirements*.in")
    - _requirements("requirements*.txt")
    - interop
  )
  assert not missing, f"run scripts/lock.sh for {sorted(missing)}"


def test_what_runs_is_what_is_locked() -> None:
  locked = dict(
    re.findall(
      r"^([\w.-]+)==(\S+)",
      (_ROOT / "requirements.txt").read_text(encoding="utf-8"),
      re.MULTILINE,
    )
  )
  mismatches = {}
  for package, version in locked.items():
    try:
      installed = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      installed = "none"
    if installed != version:
      mismatches[package] = f"{installed}, locked {version}"
  assert not mismatches, f"run scripts/setup.sh: {mismatches}"


# The map of files.

_MAP = "docs/map.md"
_MAP_ENTRY = re.compile(
  r"^(?:[-*] )?(?P<paths>`[^`]+`(?:, `[^`]+`)*)(?: – (?P<sentence>\S.*))?$"
)


def _map_entries() -> dict[str, str]:
  """Returns path → sentence of the entries of docs/map.md.

  A line is one or more paths in backticks, a dash and a sentence. A path that
  ends in / stands for a folder of data.
  """
  entries = {}
  for line in (_ROOT / _MAP).read_text(encoding="utf-8").splitlines():
    if match := _MAP_ENTRY.match(line):
      for path in re.findall(r"`([^`]+)`", match.group("paths")):
        assert path not in entries, f"twice in the map: {path}"
        entries[path] = match.group("sentence") or ""
  return entries


def _is_covered(name: str, entries: dict[str, str]) -> bool:
  return name in entries or any(
    path.endswith("/") and name.startswith(path) for path in entries
  )


def _map_line(name: str) -> str:
  """Returns a proposed line of the map, made of the first words of a file."""
  about = "…"
  if name.endswith(".py"):
    about = (ast.get_docstring(_tree(name)) or about).partition("\n")[0]
  elif name.endswith((".sh", ".in")) or name == ".ci/run":
    text = (_ROOT / name).read_text(encoding="utf-8")
    comments = re.findall(r"^# (.+)$", text, re.MULTILINE)
    about = comments[0] if comments else about
  return f"- `{name}` – {about}"


def test_the_map_names_every_file() -> None:
  entries = _map_entries()
  missing = [
    _map_line(name) for name in _files() if not _is_covered(name, entries)
  ]
  assert not missing, f"{_MAP} lacks:\n" + "\n".join(missing)


def test_the_map_names_no_file_that_is_not_there() -> None:
  gone = [
    path
    for path in _map_entries()
    if not any(
      name == path or (path.endswith("/") and name.startswith(path))
      for name in _files()
    )
  ]
  assert not gone, f"{_MAP} names what does not exist: {gone}"


def test_the_map_says_what_each_entry_is() -> None:
  silent = [path for path, sentence in _map_entries().items() if not sentence]
  assert not silent, f"`path` – sentence: no sentence for {silent}"


def test_the_readme_stays_a_front_door() -> None:
  readme = (_ROOT / "README.md").read_text(encoding="utf-8")
  assert not list(filter(_MAP_ENTRY.match, readme.splitlines())), (
    f"lines of the map stand in {_MAP}"
  )
  size = len(readme.encode())
  assert size <= 12_000, f"{size} bytes: move what is detail to docs/"


def test_each_line_of_the_map_stands_under_the_heading_of_its_folder() -> None:
  text = (_ROOT / _MAP).read_text(encoding="utf-8")
  headings = {"", *re.findall(r"^##+ (\S+/?\S*)$", text, re.MULTILINE)}
  wrong, heading = [], ""
  for line in text.splitlines():
    if line.startswith("##"):
      heading = line.lstrip("# ").replace("The root", "")
    elif match := _MAP_ENTRY.match(line):
      for path in re.findall(r"`([^`]+)`", match.group("paths")):
        folder = path.rstrip("/").rpartition("/")[0]
        while folder not in headings:
          folder = folder.rpartition("/")[0]
        if folder != heading:
          wrong.append(f"{path} stands under {heading or 'The root'!r}")
  assert not wrong, f"{_MAP}: {wrong}"


def test_only_folders_of_data_are_mapped_as_one() -> None:
  hidden = [
    name
    for path in _map_entries()
    if path.endswith("/")
    for name in _files()
    if name.startswith(path) and name.endswith((".py", ".sh", ".in", "BUILD"))
  ]
  assert not hidden, f"code has a line of its own in the map: {hidden}"
