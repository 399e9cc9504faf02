"""How fast examples are made, against encoding the same text alone.

    python -m benchmarks.pretraining_data_speed --input_file='corpus/*.txt' \\
      --spm_model_file=tokenizer/tokenizer.model

The limit of a first pass is SentencePiece's own time, with one thread.
"""

import dataclasses
import itertools
import tempfile
import time
from collections.abc import Callable

from data_prep import (
  documents,
  options,
  pretraining_data,
  storage,
  tokenization,
)


@dataclasses.dataclass(frozen=True)
class Options:
  """What to measure on."""

  input_file: str = options.option("", "corpus files: globs, by commas")
  spm_model_file: str = options.option("", "the SentencePiece model")
  documents: int = options.option(2000, "how many documents", minimum=1)

  def __post_init__(self) -> None:
    options.require(self, "input_file", "spm_model_file")


def _seconds(work: Callable[[], object]) -> float:
  """CPU seconds of this process."""
  began = time.process_time()
  work()
  return time.process_time() - began


def main(settings: Options) -> None:
  """Prints CPU-seconds and ratios at length 128 and 512."""
  found = documents.read(storage.matching(settings.input_file))
  text = tuple(itertools.islice(found, settings.documents))
  tokenizer = tokenization.Tokenizer(settings.spm_model_file)
  sentences = [s for document in text for s in document.sentences]
  alone = _seconds(lambda: tokenizer.encode(sentences))
  pieces = sum(map(len, tokenizer.encode(sentences)))
  print(f"{pieces:,} pieces; encoding alone {alone:.2f} s")
  for length in (128, 512):
    dynamic = _shard(settings, text, length, 1, "dynamic")
    once, five = (
      _shard(settings, text, length, dupes, "static") for dupes in (1, 5)
    )
    print(
      f"length {length}, whole words, n-grams: dynamic {alone / dynamic:.0%} of "
      f"the limit's speed (at least 25 %), static {alone / once:.0%}; each further "
      f"duplicate {(five - once) / 4 / alone:.0%} of the encoding's time (at "
      "most 100 %)"
    )


def _shard(
  settings: Options,
  text: tuple[documents.Document, ...],
  length: int,
  dupe_factor: int,
  kind: str,
) -> float:
  """CPU-seconds of both stages on one range of documents."""
  with tempfile.TemporaryDirectory() as folder:
    recipe = pretraining_data.Options(
      input_file=settings.input_file,
      spm_model_file=settings.spm_model_file,
      output_dir=folder,
      max_seq_length=length,
      dupe_factor=dupe_factor,
      masking=kind,
    )

    def work() -> None:
      task = pretraining_data.Range(0, False, text)
      pretraining_data.spill_range(task, 1, recipe, folder)
      pretraining_data.finish_bucket(f"{folder}/train-0-", f"{folder}/out")

    return _seconds(work)


if __name__ == "__main__":
  options.run(main, Options)
