"""Fills [MASK] in the lines of files, and shows the candidates as text or JSON.

A line of --format=json:

  {"line": 1, "text": "…", "masks": [{"words": [{"text": "хот", "probability":
   0.12}, …], "pieces": [{"text": "▁хот", "probability": 0.14}, …]}]}
"""

import dataclasses
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

from albert_mn.formats import foreign_configs
from albert_mn.inference import mask_filling
from albert_mn.models import shipped
from data_prep.base import options, shown_text
from data_prep.encoding import masked_texts
from data_prep.files import text_lines

_TEXT, _JSON = "text", "json"
_DIGITS = 9  # decimals of a probability in JSON


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Model, texts, and what is shown."""

  model_dir: str = options.option(
    "",
    "Pretrained model with a masked-LM head: a model directory, a checkpoint "
    "of google-research or tf-models, or a Hugging Face directory. By default "
    "the model of this repository is used, pretrained/albert_mn_tiny.",
  )
  text: str = options.option(
    "",
    "Text in which each missing word is written as [MASK].",
  )
  input_file: str = options.option(
    "",
    "Files with such a text in each line, as glob patterns separated by "
    "commas; compressed files (.gz and others) too. Without this flag and "
    "--text, texts come from the standard input.",
  )
  top: int = options.option(
    5,
    "Number of words, and of pieces, that are shown for each [MASK].",
    minimum=1,
    maximum=100,
  )
  format: str = options.option(
    _TEXT,
    "How the candidates are printed: text (tables for a person), or json "
    "(an object in each line for a program).",
    choices=(_TEXT, _JSON),
  )
  spm_model_file: str = options.option(
    "",
    "Tokenizer of the model: a SentencePiece model or a vocab.txt. By "
    "default the file beside the weights is read.",
  )
  gelu: str = foreign_configs.gelu_option()

  def check(self) -> None:
    if self.text and self.input_file:
      raise options.InputError(
        "one of --text and --input_file", "both", "leave one out"
      )

  def lines(self) -> Iterator[text_lines.Line]:
    """Yields the lines of --text, --input_file or the standard input.

    Raises:
      options.InputError: at the first line, as `text_lines.read` does.
    """
    return text_lines.read(
      self.text, self.input_file, "give a file with one text a line"
    )


def loaded(settings: Options) -> mask_filling.Filler:
  """Returns the filler with the model of the options.

  Raises:
    options.InputError: when no model is named and the repository's is missing,
      and as `mask_filling.load` does.
  """
  path = settings.model_dir or shipped.model_path()
  if not path:
    raise options.InputError("a pretrained model", "none", "give --model_dir")
  return mask_filling.load(path, settings.spm_model_file, settings.gelu)


def answer(
  filler: mask_filling.Filler, line: text_lines.Line, settings: Options
) -> str:
  """Returns the candidates for each [MASK] of a line, as text without its end.

  For a line that cannot be read or filled, the reason is returned instead.

  Args:
    filler: the model.
    line: the line.
    settings: the number of candidates, and the format.

  Raises:
    options.InputError: when the text of --text cannot be filled.
  """
  error, masks = line.error, []
  if not error:
    try:
      masks = filler.fill(line.text, settings.top)
    except options.InputError as refusal:
      if settings.text:
        raise
      error = str(refusal)
  if settings.format == _JSON:
    return _json(line, error, masks)
  if error:
    place = " ".join(f"{name} {value}" for name, value in line.place.items())
    return f"{shown_text.printable(place)}: {shown_text.printable(error)}\n"
  return _table(line.text, masks)


def values(masks: Sequence[mask_filling.Filled]) -> list[dict[str, Any]]:
  """Returns the candidates for each mask, as values for JSON."""
  return [
    {
      kind: [
        {"text": text, "probability": round(probability, _DIGITS)}
        for text, probability in candidates
      ]
      for kind, candidates in dataclasses.asdict(mask).items()
    }
    for mask in masks
  ]


def _json(
  line: text_lines.Line, error: str, masks: Sequence[mask_filling.Filled]
) -> str:
  """Returns a line's candidates, or the error, as one line of JSON."""
  said = {"error": error} if error else {"masks": values(masks)}
  text = {"text": line.text} if line.text else {}
  content = json.dumps({**line.place, **text, **said}, ensure_ascii=False)
  return shown_text.json_escaped(content)


def _table(text: str, masks: Sequence[mask_filling.Filled]) -> str:
  """Returns the candidates of a text, in a table for each mask."""
  lines = [shown_text.printable(text)]
  for number, mask in enumerate(masks, 1):
    if len(masks) > 1:
      lines += ["", f"  {masked_texts.MASK} {number} of {len(masks)}"]
    lines += _rows(mask)
  return "\n".join([*lines, ""])


def _rows(mask: mask_filling.Filled) -> Iterator[str]:
  """Yields the lines of a mask's table: words on the left, pieces on the right.

  If there are no words, as before a letter, their columns are left out.
  """
  kinds = {"word": mask.words} if mask.words else {}
  columns = []
  for name, candidates in {**kinds, "piece": mask.pieces}.items():
    texts = [shown_text.printable(text) for text, _ in candidates]
    columns.append([name, *texts])
    columns.append(["", *(f"{share:.4f}" for _, share in candidates)])
  widths = [max(map(len, column)) for column in columns]
  for row in itertools.zip_longest(*columns, fillvalue=""):
    cells = map(str.ljust, row, widths)
    yield f"  {'  '.join(cells)}".rstrip()
