r"""Compares the speed of making examples with that of the tokenizer alone.

    python -m benchmarks.pretraining_data_speed --input_file='corpus/*.txt' \
      --spm_model_file=tokenizer/tokenizer.model

No pass can be faster than SentencePiece on one thread, whose speed is the first
number. The last numbers are the times of the whole program with one worker and
with two. On 100 MB of text the start of the processes does not matter.
"""

import concurrent.futures
import dataclasses
import io
import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Callable

from data_prep.base import options
from data_prep.encoding import tokenization
from data_prep.files import documents, records
from data_prep.pretraining import examples, pretraining_data

_ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Options: the corpus, the tokenizer and the number of documents."""

  input_file: str = options.option(
    "",
    "Corpus files, as glob patterns separated by commas. Required.",
  )
  spm_model_file: str = options.option(
    "",
    "SentencePiece model that divides sentences into pieces. Required.",
  )
  documents: int = options.option(
    2000,
    "Number of documents of the corpus to use.",
    minimum=1,
  )

  def check(self) -> None:
    options.require(self, "input_file", "spm_model_file")


def _seconds(work: Callable[[], object]) -> float:
  """Returns the CPU seconds of this process that a function takes."""
  began = time.process_time()
  work()
  return time.process_time() - began


def main(settings: Options) -> None:
  """Prints the seconds of encoding alone and of making examples, and ratios."""
  corpus = documents.read(documents.weighted(settings.input_file))
  text = tuple(itertools.islice(corpus, settings.documents))
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
  # In turns, and the fastest of each: other programs disturb some rounds.
  rounds = [(_whole(settings, 1), _whole(settings, 2)) for _ in range(_ROUNDS)]
  one_worker, two_workers = map(min, zip(*rounds, strict=True))
  alone, beside = (_encoding_in(settings, count) for count in (1, 2))
  print(
    f"the whole program: one worker {one_worker:.1f} s, two "
    f"{two_workers:.1f} s: {one_worker / two_workers:.2f} times as fast "
    "(at least 1.8 of 2; two processes that "
    f"share nothing reach {2 * alone / beside:.2f} here)"
  )


def _encoding_in(settings: Options, processes: int) -> float:
  """Returns the seconds of the slowest process that encodes the whole text.

  Args:
    settings: the corpus and the tokenizer.
    processes: number of processes; each encodes all of the text.
  """
  jobs = [(settings.input_file, settings.spm_model_file)] * processes
  with concurrent.futures.ProcessPoolExecutor(
    processes, mp_context=multiprocessing.get_context("spawn")
  ) as pool:
    return max(pool.map(_encode, jobs))


def _encode(job: tuple[str, str]) -> float:
  """Encodes a corpus; returns the wall-clock seconds of the encoding alone.

  Args:
    job: (glob patterns of the corpus files, path of the SentencePiece model).
  """
  input_file, spm_model_file = job
  tokenizer = tokenization.Tokenizer(spm_model_file)
  corpus = documents.read(documents.weighted(input_file))
  sentences = [s for document in corpus for s in document.sentences]
  began = time.monotonic()
  tokenizer.encode(sentences)
  return time.monotonic() - began


def _whole(settings: Options, workers: int) -> float:
  """Returns the wall-clock seconds of a whole run of create_pretraining_data.

  Examples have 128 pieces and static masks, and dupe_factor is 5.

  Args:
    settings: the corpus and the tokenizer.
    workers: number of worker processes.
  """
  with tempfile.TemporaryDirectory() as folder:
    recipe = pretraining_data.Options(
      input_file=settings.input_file,
      spm_model_file=settings.spm_model_file,
      output_dir=folder,
      max_seq_length=128,
      dupe_factor=5,
      num_workers=workers,
    )
    began = time.monotonic()
    pretraining_data.create(recipe)
    return time.monotonic() - began


def _shard(
  settings: Options,
  text: tuple[documents.Document, ...],
  length: int,
  dupe_factor: int,
  kind: str,
) -> float:
  """Returns the CPU seconds of making, sorting and writing examples.

  The records are written to one file in memory.

  Args:
    settings: the tokenizer.
    text: the documents.
    length: the maximal number of pieces in an example.
    dupe_factor: number of times that each document is used.
    kind: "static" or "dynamic" masks.
  """
  recipe = examples.Recipe(
    max_seq_length=length, dupe_factor=dupe_factor, masking=kind
  )
  task = examples.Range(
    False,
    tuple(examples.Text(d.content(), dupe_factor, d.sentences) for d in text),
  )

  def work() -> None:
    made = examples.of_range(task, 1, recipe, settings.spm_model_file)
    keyed = sorted(made.buckets[0])
    records.write(io.BytesIO(), (example for _, example in keyed))

  return _seconds(work)


if __name__ == "__main__":
  options.run(main, Options)
