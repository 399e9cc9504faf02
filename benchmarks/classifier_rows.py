r"""Measures how fast, and in how much memory, rows are read and compared.

    python -m benchmarks.classifier_rows --input_file=verne.txt \
      --num_rows=1000000

The rows are short word sequences of a text, written as a TSV, as a CSV and as
JSON lines. One row in ten is a near copy of the row before. The times are CPU
seconds of one core.
"""

import collections
import csv
import dataclasses
import functools
import json
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator

from data_prep.base import options
from data_prep.classification import (
  classifier_data,
  classifier_splits,
  near_duplicates,
)
from data_prep.files import storage
from data_prep.text import similarity


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Options: the text and the number of rows."""

  input_file: str = options.option(
    "",
    "Text files with a sentence in each line, as glob patterns separated "
    "by commas. Required.",
  )
  num_rows: int = options.option(
    100_000,
    "Number of rows to make of the text.",
    minimum=10,
  )

  def check(self) -> None:
    options.require(self, "input_file")


def main(settings: Options) -> None:
  """Prints the rows per CPU second of each step, and the memory."""
  with tempfile.TemporaryDirectory() as folder:
    for kind in ("tsv", "csv", "jsonl"):
      path = os.path.join(folder, f"rows.{kind}")
      _write(path, settings)
      began = _memory()
      rows = classifier_data.stream(path, classifier_data.Columns(), True)
      seconds = _timed(functools.partial(collections.deque, rows, 0))
      print(
        f"{kind}: {settings.num_rows / seconds:,.0f} rows a second of "
        f"{os.path.getsize(path) / settings.num_rows:.0f} bytes, "
        f"{_memory() - began} MB more"
      )
  texts = list(_texts(settings))
  began = _memory()
  seconds = _timed(lambda: similarity.sketches(texts, near_duplicates.RUNS))
  print(f"sketches: {1e6 * seconds / len(texts):.1f} us a row")
  print(f"  {_memory() - began} MB more")
  groups: list[list[int]] = []
  seconds = _timed(
    lambda: groups.extend(
      near_duplicates.clusters(texts, classifier_splits.SIMILARITY)
    )
  )
  grown = 1e6 * (_memory() - began) / len(texts)
  print(
    f"near copies: {1e6 * seconds / len(texts):.1f} us and {grown:.0f} bytes a "
    f"row; {len(texts):,} rows in {len(groups):,} groups"
  )


def _texts(settings: Options) -> Iterator[str]:
  """Yields num_rows texts of 15 words: five runs of three words of the files.

  Every tenth text differs from the text before only in its last word.
  """
  words = [
    word
    for path in storage.matching(settings.input_file)
    for line in storage.lines(path)
    for word in line.split()
  ]
  chance = random.Random(0)
  row: list[str] = []
  for number in range(settings.num_rows):
    if number % 10 == 9:
      row = [*row[:-1], str(number)]
    else:
      starts = (chance.randrange(len(words) - 3) for _ in range(5))
      row = [word for start in starts for word in words[start : start + 3]]
    yield " ".join(row)


def _write(path: str, settings: Options) -> None:
  """Writes the texts with labels to a .csv, .tsv or .jsonl file."""
  with open(path, "w", encoding="utf-8", newline="") as file:
    table = csv.writer(file, lineterminator="\n")
    if path.endswith(".csv"):
      table.writerow(["text", "label"])
    elif path.endswith(".tsv"):
      file.write("text\tlabel\n")
    for number, text in enumerate(_texts(settings)):
      label = f"label {number % 9}"
      if path.endswith(".csv"):
        table.writerow([text, label])
      elif path.endswith(".tsv"):
        file.write(f"{text}\t{label}\n")
      else:
        cells = {"text": text, "label": label}
        file.write(json.dumps(cells, ensure_ascii=False) + "\n")


def _timed(work: Callable[[], object]) -> float:
  """Returns the CPU seconds that a function takes."""
  begin = time.process_time()
  work()
  return time.process_time() - begin


def _memory() -> int:
  """Returns the peak resident memory of this process so far, in MB."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


if __name__ == "__main__":
  options.run(main, Options)
