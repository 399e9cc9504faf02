"""Runs the code in a model card as a reader of the card would run it."""

import ast
import pathlib
import re
import shlex

from tests import exported

# Kinds of models that have a card.
KINDS = (
  "pretrained",
  "class",
  "multi_label",
  "regression",
  "entities",
  "pairs",
)


def saved(
  kind: str, folder: pathlib.Path, tokenizer_file: str, shape: str = "albert"
) -> str:
  """Writes a small model directory; returns its path.

  Args:
    kind: one of KINDS.
    folder: the model directory.
    tokenizer_file: the tokenizer to copy.
    shape: one of `exported.SHAPES`.
  """
  config = exported.SHAPES[shape]
  if kind == "pretrained":
    return exported.save_pretrained(folder, config, tokenizer_file)
  if kind == "entities":
    return exported.save_tagger(folder, config, tokenizer_file)
  if kind == "pairs":
    return exported.save_classifier(
      folder, config, tokenizer_file, text_pair=True
    )
  labels, parameters = exported.KINDS[kind]
  return exported.save_classifier(
    folder, config, tokenizer_file, labels, **parameters
  )


def python(export: str) -> str:
  """Returns the Python code of an export's card, with the export's path."""
  (code,) = _blocks(export, "python")
  return code


def commands(export: str) -> list[list[str]]:
  """Returns the arguments of each `python …` command in an export's card."""
  (code,) = _blocks(export, "bash")
  lines = code.replace("\\\n", " ").splitlines()
  parted = [shlex.split(line) for line in lines if line.strip()]
  assert all(words[0] == "python" for words in parted), parted
  return [words[1:] for words in parted]


def _blocks(export: str, language: str) -> list[str]:
  """Returns the blocks of code of a language in a card, in order.

  The export's path stands in place of THIS_FOLDER.

  Raises:
    AssertionError: when the card has code of another language.
  """
  card = (pathlib.Path(export) / "README.md").read_text("utf-8")
  assert set(re.findall(r"^```(\w+)$", card, re.MULTILINE)) <= {
    language,
    "text",
  }
  blocks = re.findall(rf"^```{language}\n(.*?)^```$", card, re.M | re.S)
  return [block.replace("THIS_FOLDER", export) for block in blocks]


def shown(code: str) -> str:
  """Returns code that appends each bare expression's value to `shown`."""
  tree = ast.parse(code)
  for statement in tree.body:
    if isinstance(statement, ast.Expr):
      call = ast.parse("shown.append(0)").body[0]
      assert isinstance(call, ast.Expr)
      assert isinstance(call.value, ast.Call)
      call.value.args = [statement.value]
      statement.value = call.value
  return ast.unparse(ast.fix_missing_locations(tree))
