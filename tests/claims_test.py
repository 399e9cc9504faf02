"""Tests that what pages say of the code is true: messages, names, sizes."""

import ast
import dataclasses
import functools
import re
from collections.abc import Callable, Iterator

import pytest

from albert_mn.models import configs, model_directory
from data_prep.files import manifest, records
from tests import running

PAGES = sorted(
  path.relative_to(running.ROOT).as_posix()
  for pattern in ("*.md", "docs/*.md", "sample/*.md")
  for path in running.ROOT.glob(pattern)
)
_PACKAGES = ("albert_mn", "bert_tweet", "data_prep")
# What the code calls the name of a manifest, in its messages.
_NAMES = ("manifest.NAME", "NAME")


def _text(page: str) -> str:
  return (running.ROOT / page).read_text("utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_to_a_file(page: str) -> None:
  links = re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", _text(page))
  folder = (running.ROOT / page).parent
  gone = [
    link
    for link in links
    if not re.match(r"\w+:", link) and not (folder / link).exists()
  ]
  assert not gone, f"{page}: {gone}"


def test_the_index_names_every_page_of_its_folder() -> None:
  linked = set(re.findall(r"\]\(([^)#]+\.md)\)", _text("docs/README.md")))
  pages = {path.name for path in (running.ROOT / "docs").glob("*.md")}
  missing = pages - linked - {"README.md"}
  assert not missing, f"docs/README.md lacks: {sorted(missing)}"


def _shown(node: ast.expr) -> str:
  """Returns the text of an expression, with … in place of variable parts."""
  match node:
    case ast.Constant(value=str(text)):
      return text
    case ast.JoinedStr(values=parts):
      return "".join(map(_shown, parts))
    case ast.BinOp(left=left, op=ast.Add(), right=right):
      return _shown(left) + _shown(right)
    case ast.FormattedValue(value=value) if ast.unparse(value) in _NAMES:
      return manifest.NAME
  return "…"


@functools.cache
def _trees() -> tuple[ast.Module, ...]:
  return tuple(
    ast.parse(path.read_text("utf-8"))
    for package in _PACKAGES
    for path in sorted((running.ROOT / package).rglob("*.py"))
  )


def _messages() -> Iterator[str]:
  """Yields the messages of errors of input, and all other texts in the code.

  Variable parts are …
  """
  for tree in _trees():
    for node in ast.walk(tree):
      if isinstance(node, ast.Call) and len(node.args) >= 3:
        name = ast.unparse(node.func).rpartition(".")[2]
        if name in ("InputError", "DamagedFileError"):
          expected, got, action = map(_shown, node.args[:3])
          yield f"expected {expected}; got {got}: {action}"
      elif isinstance(node, ast.JoinedStr | ast.Constant):
        yield _shown(node)


def _pattern(message: str) -> re.Pattern[str]:
  parts = map(re.escape, re.split("…+", message))
  return re.compile(".+".join(parts))


def _is_telling(message: str) -> bool:
  """Returns whether a message has three words besides expected and got.

  Other messages would match everything.
  """
  words = re.sub("expected|got", "", message)
  return len(re.findall(r"[a-z]{2,}", words)) >= 3


def _in_message(row: str) -> Callable[[str], object]:
  """Returns a function that returns whether a message has a row of a page.

  A row that begins with "expected" must be the whole message, any other a part
  of it.
  """
  pattern = _pattern(row)
  return pattern.fullmatch if row.startswith("expected ") else pattern.search


def test_every_message_of_the_page_of_errors_is_one_of_the_codes() -> None:
  rows = re.findall(r"^\| `(.+?)` \|", _text("docs/errors.md"), re.MULTILINE)
  messages = sorted(set(_messages()))
  patterns = list(map(_pattern, filter(_is_telling, messages)))
  stale = [
    row
    for row in rows
    if not any(pattern.fullmatch(row) for pattern in patterns)
    and not any(map(_in_message(row), messages))
  ]
  assert len(rows) > 40
  assert not stale, f"docs/errors.md: no such message in the code: {stale}"


def test_the_page_of_formats_names_every_feature_and_file() -> None:
  text = _text("docs/formats.md")
  features = re.findall(r"^\| `(\w+)` \| (?:int64|float),", text, re.MULTILINE)
  fields = [f.name for f in dataclasses.fields(records.PretrainingBatch)]
  assert sorted(features) == sorted(fields)
  files = (
    model_directory.TOKENIZER,
    model_directory.VOCABULARY,
    model_directory.LABELS,
    manifest.NAME,
    *model_directory.NGRAMS,
    *(family.FILE for family in configs.FAMILIES),
  )
  section = text.partition("\n## Model directory\n")[2]
  assert not [name for name in files if f"`{name}`" not in section]


def test_the_example_of_the_architecture_computes_a_loss(
  tokenizer_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
  (code,) = re.findall(
    r"```python\n(.*?)```", _text("docs/architecture.md"), re.DOTALL
  )
  quickstart = "runs/quickstart/tokenizer/tokenizer.model"
  assert quickstart in code
  monkeypatch.chdir(running.ROOT)
  names: dict[str, float] = {}
  exec(code.replace(quickstart, tokenizer_file), names)
  assert 7 < names["loss"] < 11


def test_the_pages_that_name_tests_name_those_that_are_there() -> None:
  for page in PAGES:
    if page in ("CHANGELOG.md", "docs/log.md", "docs/map.md"):
      continue
    tests = set(re.findall(r"\b(?:hostile/)?\w+_test\.py", _text(page)))
    gone = [t for t in tests if not (running.ROOT / "tests" / t).exists()]
    assert not gone, f"{page}: {gone}"
