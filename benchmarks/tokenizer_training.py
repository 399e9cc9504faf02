"""Compares training a tokenizer on counted words with training it on sentences.

    python -m benchmarks.tokenizer_training --input_file='corpus/*.txt'

SentencePiece trains both ways, each in a process of its own, on the corpus without
every tenth sentence. The program prints the peak memory, the CPU time and, on the
sentences left out, the pieces per word; then the ratios, words to sentences.
"""

import concurrent.futures
import dataclasses
import multiprocessing
import os
import resource
import tempfile
import time

from data_prep.base import options
from data_prep.encoding import (
  tokenization,
  tokenizer_report,
  tokenizer_training,
  training_words,
)
from data_prep.files import storage


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Options: the corpus, and the size of the vocabulary."""

  input_file: str = options.option(
    "",
    "Corpus files with one sentence in each line, as glob patterns "
    "separated by commas. Required.",
  )
  vocab_size: int = options.option(
    16_000,
    "Number of pieces in the vocabulary.",
    minimum=8,
  )

  def check(self) -> None:
    options.require(self, "input_file")


def main(settings: Options) -> None:
  """Trains both ways; prints memory, CPU time, pieces per word, and ratios."""
  with tempfile.TemporaryDirectory() as folder:
    train, held_out = (os.path.join(folder, name) for name in ("train", "eval"))
    _split(settings.input_file, train, held_out)
    figures = []
    for name, count_words_from in (("sentences", 2**31 - 1), ("words", 0)):
      out = os.path.join(folder, name)
      mebibytes, seconds = _alone(
        train, out, settings.vocab_size, count_words_from
      )
      pieces = _pieces_per_word(out, held_out)
      figures.append((mebibytes, seconds, pieces))
      print(
        f"{name}: {mebibytes:,.0f} MiB, {seconds:.1f} CPU-seconds, "
        f"{pieces:.4f} pieces per word"
      )
    sentences, words = figures
  memory, cpu, pieces = (
    value / base for value, base in zip(words, sentences, strict=True)
  )
  print(
    f"words beside sentences: {memory:.2f} of the memory (at most 0.25), "
    f"{cpu:.2f} of the CPU time (at most 1), "
    f"{pieces:.4f} of the pieces per word (0.995 to 1.005)"
  )


def _split(patterns: str, train: str, held_out: str) -> None:
  """Writes every tenth sentence to `held_out`, all further ones to `train`.

  Args:
    patterns: the corpus.
    train, held_out: the paths of the files to write.
  """
  with storage.writing(train) as most, storage.writing(held_out) as rest:
    lines = (
      line
      for path in storage.matching(patterns)
      for line in storage.lines(path)
      if line.strip()
    )
    for number, line in enumerate(lines):
      (rest if number % 10 == 9 else most).write(line + "\n")


def _alone(
  corpus: str, output_dir: str, vocab_size: int, count_words_from: int
) -> tuple[float, float]:
  """Trains a tokenizer in a separate process.

  Args:
    corpus: the path of the training text.
    output_dir: the folder of the tokenizer.
    vocab_size: number of pieces.
    count_words_from: number of sentences from which words are counted.

  Returns:
    (peak memory of the process in MiB, CPU seconds of the training).
  """
  settings = tokenizer_training.Options(
    input_file=corpus,
    output_dir=output_dir,
    vocab_size=vocab_size,
    count_words_from=count_words_from,
  )
  with concurrent.futures.ProcessPoolExecutor(
    1, mp_context=multiprocessing.get_context("spawn")
  ) as pool:
    return pool.submit(_train, settings).result()


def _train(settings: tokenizer_training.Options) -> tuple[float, float]:
  """Trains a tokenizer in this process.

  Returns:
    (peak memory of the process in MiB, CPU seconds of the training).
  """
  began = time.process_time()
  tokenizer_training.train(settings)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
  return peak, time.process_time() - began


def _pieces_per_word(folder: str, held_out: str) -> float:
  """Returns the mean number of pieces of a word of a file.

  Args:
    folder: the folder of the tokenizer.
    held_out: the path of the file.
  """
  path = os.path.join(folder, tokenization.MODEL_NAME)
  words = training_words.Words.of(storage.lines(held_out))
  figures = tokenizer_report.figures(tokenization.Tokenizer(path), words.counts)
  return float(figures["pieces_per_word"])


if __name__ == "__main__":
  options.run(main, Options)
