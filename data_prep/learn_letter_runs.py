r"""Learns which letters follow each other in Mongolian words with ө and ү.

The table in the repository, data_prep/text/letter_runs.tsv, was learnt from
sample/ without Common Voice (see sample/README.md), the Mongolian sentences of
SIGMORPHON's segmentation task (CC BY-SA 3.0) and Tatoeba's (CC BY 2.0 FR), the
two FILES:

    python -m data_prep.learn_letter_runs \
      --input_file='sample/pretrain/[uw]*.txt,sample/*/*.tsv,FILES'
"""

import dataclasses
import itertools

from absl import logging

from data_prep.base import options
from data_prep.files import storage
from data_prep.text import legacy_letters


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Options: the texts to learn from, and the table to write."""

  input_file: str = options.option(
    "",
    "Clean Mongolian text files, as glob patterns separated by commas. "
    "Required.",
  )
  output_file: str = options.option(
    "",
    "File for the table of letter runs. By default the table that the "
    "programs use, data_prep/text/letter_runs.tsv, is replaced.",
  )

  def check(self) -> None:
    options.require(self, "input_file")


def main(settings: Options) -> None:
  """Learns the table, writes it and logs its size."""
  files = storage.matching(settings.input_file)
  lines = itertools.chain.from_iterable(map(storage.lines, files))
  table = legacy_letters.learn(lines)
  path = settings.output_file or legacy_letters.TABLE
  with storage.writing(path) as file:
    file.writelines(f"{two}\t{thirds}\n" for two, thirds in table.items())
  runs = sum(map(len, table.values()))
  logging.info("%s: %d runs of letters", path, runs)


if __name__ == "__main__":
  options.run(main, Options)
