"""Trains a SentencePiece model, which contains the normalisation of its text.

On a large corpus the model is trained from the distinct words and their counts,
in memory that does not grow with the number of sentences (`training_words`).

The model composes letters (decomposed й becomes й), unifies white space and, if
it is uncased, lower-cases. So no caller can forget the normalisation.
"""

import dataclasses
import io
import json
import os
import random
import re
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import sentencepiece
from absl import logging
from sentencepiece import sentencepiece_model_pb2

from data_prep.base import options
from data_prep.encoding import (
  seed_pieces,
  tokenization,
  tokenizer_report,
  training_progress,
  training_words,
)
from data_prep.files import (
  contents,
  manifest,
  ownership,
  storage,
  whole_folders,
)
from data_prep.text import morphemes

# SentencePiece silently leaves out longer sentences.
_LONGEST_SENTENCE_BYTES = 1 << 16

_VOCABULARY_NAME, _REPORT_NAME = "tokenizer.vocab", "report.json"


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Corpus, size and kind of the tokenizer."""

  input_file: str = options.option(
    "",
    "Corpus files with one sentence in each line, as glob patterns "
    "separated by commas. Required.",
  )
  output_dir: str = options.option(
    "",
    "Folder for tokenizer.model, tokenizer.vocab, a report and a "
    "manifest. Required.",
  )
  vocab_size: int = options.option(
    30000,
    "Number of pieces in the vocabulary, special pieces included. The "
    "default is google-research/albert's.",
    minimum=8,
  )
  model_type: str = options.option(
    "unigram",
    "Algorithm of SentencePiece that chooses the pieces.",
    choices=("unigram", "bpe"),
  )
  do_lower_case: bool = options.option(
    False,
    "Lower-case all text inside the SentencePiece model "
    "(google-research/albert: true).",
  )
  byte_fallback: bool = options.option(
    False,
    "Spell letters outside of the vocabulary as bytes. By default such "
    "letters become <unk>.",
  )
  character_coverage: float = options.option(
    0.9999,
    "Share of the letters of the corpus that become pieces. Rarer letters "
    "are left to <unk> or to --byte_fallback.",
    minimum=0.9,
    maximum=1.0,
  )
  user_defined_symbols: str = options.option(
    "",
    "Pieces that are never split, separated by commas, such as @USER,@LINK.",
  )
  input_sentence_size: int = options.option(
    0,
    "Number of sentences to train on and to report on, drawn evenly from "
    "the corpus. 0 takes all.",
    minimum=0,
  )
  count_words_from: int = options.option(
    100_000,
    "Number of sentences from which on the tokenizer is trained on distinct "
    "words with counts, which takes some 500 bytes of memory per distinct "
    "word. With fewer sentences SentencePiece reads whole sentences, which "
    "takes 2 to 5 kB per sentence. The models hardly differ.",
    minimum=0,
  )
  random_seed: int = options.option(
    12345,
    "Seed of the draw of --input_sentence_size sentences.",
    minimum=0,
    maximum=options.SEEDS - 1,
  )
  compare_vocab_sizes: str = options.option(
    "",
    "Vocabulary sizes to report beside --vocab_size, separated by commas, "
    "such as 8000,16000.",
  )
  morphemes_file: str = options.option(
    "",
    "Words divided into morphemes, in the format of SIGMORPHON 2022, such "
    "as sample/morphemes/sigmorphon2022.tsv. The report then says how "
    "well pieces agree with morphemes.",
  )

  def check(self) -> None:
    options.require(self, "input_file", "output_dir")
    self.vocab_sizes()
    symbols = self.symbols()
    taken = {
      name for names in tokenization.SPECIAL_NAMES.values() for name in names
    }
    if len(set(symbols)) < len(symbols) or taken & set(symbols):
      raise options.InputError(
        "--user_defined_symbols that differ, and none of "
        + ", ".join(sorted(taken)),
        self.user_defined_symbols,
        "leave out what is there already",
      )

  def symbols(self) -> list[str]:
    """Returns the pieces in --user_defined_symbols, in order."""
    return [s for s in self.user_defined_symbols.split(",") if s]

  def vocab_sizes(self) -> list[int]:
    """Returns --vocab_size and --compare_vocab_sizes, ascending, each once.

    Raises:
      options.InputError: for a size to compare that is invalid.
    """
    texts = filter(None, map(str.strip, self.compare_vocab_sizes.split(",")))
    try:
      compared = [
        options.from_text(Options, "vocab_size", text) for text in texts
      ]
    except ValueError as error:
      raise options.InputError(
        "--compare_vocab_sizes of 8 or more, by commas",
        self.compare_vocab_sizes,
        f"{error}, as in 8000,16000",
      ) from error
    return sorted({self.vocab_size, *compared})


@dataclasses.dataclass(frozen=True)
class Sample:
  """Sentences drawn at random from a corpus; each iteration yields the same.

  No sentence is kept in memory: the draw is Knuth's Algorithm S (The Art of
  Computer Programming, volume 2, 3.4.2), for which the sentences are counted
  first. SentencePiece's own sampling has a fixed seed.

  Attributes:
    files: the corpus.
    size: number of sentences to draw, at most `available`.
    available: number of sentences to draw from: those of at most 65,536 bytes.
    seed: the seed of the draw.
    left_out: a pattern; a space replaces each of its matches in a sentence.
      None replaces nothing.
  """

  files: Sequence[str]
  size: int
  available: int
  seed: int
  left_out: re.Pattern[str] | None = None

  def __iter__(self) -> Iterator[str]:
    draws = random.Random(self.seed)
    wanted, left = self.size, self.available
    for sentence in _sentences(self.files):
      if _is_short_enough(sentence):
        if draws.random() * left < wanted:
          yield self.left_out.sub(" ", sentence) if self.left_out else sentence
          wanted -= 1
        left -= 1


def _sentences(files: Sequence[str]) -> Iterator[str]:
  """Yields the sentences of corpus files: their lines that are not blank.

  White space around a sentence is removed.
  """
  for path in files:
    yield from filter(None, (line.strip() for line in storage.lines(path)))


def _is_short_enough(sentence: str) -> bool:
  # No character takes more than four bytes.
  return (
    4 * len(sentence) <= _LONGEST_SENTENCE_BYTES
    or len(sentence.encode()) <= _LONGEST_SENTENCE_BYTES
  )


def sample(settings: Options) -> Sample:
  """Counts the sentences of the corpus; returns the sample to train on.

  Raises:
    options.InputError: for a file that is not plain text, and if no sentence is
      short enough.
  """
  files = storage.matching(settings.input_file)
  for path in files:
    contents.require(path, [contents.TEXT], "one sentence a line")
  short = [0, 0]
  for sentence in _sentences(files):
    short[_is_short_enough(sentence)] += 1
  too_long, available = short
  if not available:
    raise options.InputError(
      f"sentences of at most {_LONGEST_SENTENCE_BYTES:,} bytes to train on",
      f"{too_long or 'none'} in {settings.input_file}"
      + (", all longer" if too_long else ""),
      "build the corpus first: it puts each sentence on a line",
    )
  if too_long:
    logging.warning(
      "%d sentences of more than %d bytes are left out",
      too_long,
      _LONGEST_SENTENCE_BYTES,
    )
  size = min(settings.input_sentence_size or available, available)
  logging.info("%d of %d sentences to train on", size, available)
  folded = _folded_symbols(settings)
  return Sample(files, size, available, settings.random_seed, folded)


def _folded_symbols(settings: Options) -> re.Pattern[str] | None:
  """Returns a pattern of the symbols that lower-casing changes; None if none.

  In encoding SentencePiece looks for symbols first. In training it lower-cases
  first, so that it would learn pieces of a symbol's letters
  (findings/sentencepiece_symbols_folded_in_training.sh).
  """
  symbols = settings.symbols() if settings.do_lower_case else []
  changed = [symbol for symbol in symbols if symbol != symbol.lower()]
  longest_first = sorted(changed, key=len, reverse=True)
  pattern = "|".join(map(re.escape, longest_first))
  return re.compile(pattern) if pattern else None


def train(settings: Options) -> dict[str, Any]:
  """Trains a model; writes it, its vocabulary, report and manifest.

  The models of other sizes are trained on the same sample, and only reported.

  Returns:
    the figures of report.json.

  Raises:
    options.InputError: for an empty corpus, for more pieces than the corpus can
      give, and when another program writes into the output folder.
  """
  with ownership.owning(settings.output_dir):
    return _train(settings)


def _train(settings: Options) -> dict[str, Any]:
  gold_file = settings.morphemes_file
  gold = morphemes.read(gold_file) if gold_file else None
  drawn = sample(settings)
  words = training_words.Words.of(
    training_progress.told(drawn, drawn.size, "sentences counted")
  )
  models, by_size = {}, {}
  with tempfile.TemporaryDirectory() as folder:
    kept = words.kept(os.path.join(folder, "words.tsv"))
    source = _source(drawn, words, kept, settings, folder)
    del words  # else it would take memory beside SentencePiece's
    # The largest first: the corpus may be too small for it.
    for size in reversed(settings.vocab_sizes()):
      logging.info("training %d pieces", size)
      models[size] = _trained(source, settings, size)
      by_size[size] = _figures(models[size], kept.counts(), gold)
  chosen = settings.vocab_size
  figures = dict(sentences=drawn.size, **by_size.pop(chosen))
  if by_size:
    figures["compared"] = [by_size[size] for size in sorted(by_size)]
  inputs = [*drawn.files, *filter(None, [gold_file])]
  _write(models[chosen], figures, settings, inputs)
  return figures


def _figures(
  model: bytes, words: Mapping[str, int], gold: morphemes.Gold | None
) -> dict[str, Any]:
  """Returns the figures of a model for its report, by name.

  Args:
    model: the content of tokenizer.model.
    words: word → how often it occurs in the corpus.
    gold: words divided into morphemes; None leaves those figures out.
  """
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, tokenization.MODEL_NAME)
    with open(path, "wb") as file:
      file.write(model)
    tokenizer = tokenization.Tokenizer(path)
  return tokenizer_report.figures(tokenizer, words, gold)


def _write(
  model: bytes,
  figures: dict[str, Any],
  settings: Options,
  inputs: Sequence[str],
) -> None:
  """Writes the model, its pieces, the report and the manifest.

  Args:
    model: the content of tokenizer.model.
    figures: the content of report.json.
    settings: the options, with the output folder.
    inputs: the paths of the corpus files, for the manifest.
  """
  pieces = sentencepiece_model_pb2.ModelProto.FromString(model).pieces
  parameters = dataclasses.asdict(settings)
  for path_option in ("input_file", "output_dir", "morphemes_file"):
    del parameters[path_option]
  files = (tokenization.MODEL_NAME, _VOCABULARY_NAME, _REPORT_NAME)
  is_ours = {*files, manifest.NAME}.__contains__
  with whole_folders.replacing(settings.output_dir, is_ours) as folder:
    path = os.path.join(folder, tokenization.MODEL_NAME)
    with storage.writing(path, "wb") as file:
      file.write(model)
    with storage.writing(os.path.join(folder, _VOCABULARY_NAME)) as file:
      for piece in pieces:
        file.write(f"{piece.piece}\t{piece.score:g}\n")
    with storage.writing(os.path.join(folder, _REPORT_NAME)) as file:
      file.write(json.dumps(figures, ensure_ascii=False, indent=2) + "\n")
    manifest.write(
      folder,
      "tokenizer",
      parameters=parameters,
      files=files,
      counts=dict(pieces=len(pieces)),
      inputs=manifest.hashes(inputs),
    )


@dataclasses.dataclass(frozen=True)
class _Source:
  """The part of SentencePiece's input that does not depend on the size.

  Attributes:
    lines: function that returns an iterator over the sentences, or over
      "word<TAB>count" of the distinct words.
    parameters: name → value of the parameters of SentencePiece's trainer.
  """

  lines: Callable[[], Iterator[str]]
  parameters: Mapping[str, Any]


def _source(
  drawn: Sample,
  words: training_words.Words,
  kept: training_words.KeptCounts,
  settings: Options,
  folder: str,
) -> _Source:
  """Returns SentencePiece's input: sentences, or words with their counts.

  A sample of --count_words_from sentences or more is trained from words.

  Args:
    drawn: the sentences.
    words: the words of the sentences.
    kept: their counts in a file, which training reads.
    settings: the options of the tokenizer.
    folder: the folder for two files that the training reads: the rules of
      normalisation, and for counted words the seeds.
  """
  rules = os.path.join(folder, "rules.tsv")
  with open(rules, "w", encoding="ascii") as file:
    file.writelines(normalization_rules(settings.do_lower_case))
  parameters = _parameters(settings, rules)
  if drawn.size < settings.count_words_from:
    return _Source(lambda: iter(drawn), parameters)
  counted = _counted(words, settings, parameters, folder)
  return _Source(kept.lines, parameters | counted)


def _trained(source: _Source, settings: Options, size: int) -> bytes:
  """Returns a trained model of `size` pieces: the content of tokenizer.model.

  It contains no path of this machine. The function trains in one thread: with
  several, sums would depend on their order.
  """
  model = io.BytesIO()
  try:
    with training_progress.logged(size):
      sentencepiece.SentencePieceTrainer.train(
        **source.parameters,
        sentence_iterator=source.lines(),
        model_writer=model,
        vocab_size=size,
        model_type=settings.model_type,
        minloglevel=0,
      )
  except RuntimeError as error:
    raise _explained(error, settings, size) from error
  proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
  proto.normalizer_spec.normalization_rule_tsv = ""
  proto.trainer_spec.ClearField("input_format")
  proto.trainer_spec.ClearField("seed_sentencepieces_file")
  for piece in proto.pieces:
    piece.score = (
      round(piece.score * tokenization.SCORE_STEPS) / tokenization.SCORE_STEPS
    )
  return proto.SerializeToString(deterministic=True)


def _parameters(settings: Options, rules: str) -> dict[str, Any]:
  """Returns the parameters of SentencePiece that do not depend on the size.

  Args:
    settings: the options of the tokenizer.
    rules: the path of the rules of normalisation.
  """
  return dict(
    byte_fallback=settings.byte_fallback,
    character_coverage=settings.character_coverage,
    normalization_rule_tsv=rules,
    max_sentence_length=_LONGEST_SENTENCE_BYTES,
    pad_id=0,
    unk_id=1,
    bos_id=-1,
    eos_id=-1,
    pad_piece="<pad>",
    unk_piece="<unk>",
    control_symbols=["[CLS]", "[SEP]", "[MASK]"],
    user_defined_symbols=settings.symbols(),
    num_threads=1,
  )


def _counted(
  words: training_words.Words,
  settings: Options,
  common: Mapping[str, Any],
  folder: str,
) -> dict[str, Any]:
  """Returns the parameters of SentencePiece for training on counted words.

  SentencePiece would count the seeds wrongly for counted words, so that this
  function counts the seeds and writes them to a file.

  Args:
    words: the words.
    settings: the options of the tokenizer.
    common: the parameters that do not depend on the text.
    folder: for a file with the seeds.
  """
  text = {"input_format": "tsv"}
  if settings.model_type == "unigram":
    path = os.path.join(folder, "seeds.tsv")
    normal = words.normalized(_normalizer(settings, common))
    with open(path, "w", encoding="utf-8") as file:
      for piece, count in seed_pieces.seeds(
        normal, settings.character_coverage
      ):
        file.write(f"{piece}\t{count}\n")
    text["seed_sentencepieces_file"] = path
  return text


def _normalizer(
  settings: Options, common: Mapping[str, Any]
) -> Callable[[str], str]:
  """Returns a function that normalises a word as SentencePiece's training does.

  The function uses a model of single letters with the same rules, which is
  trained at once. A user-defined or special piece in the word becomes
  seed_pieces.SYMBOL in the result.
  """
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    **{**common, "byte_fallback": False, "user_defined_symbols": []},
    sentence_iterator=iter(["а"]),
    model_writer=model,
    model_type="char",
    vocab_size=100,
    hard_vocab_limit=False,
    minloglevel=2,
  )
  processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
  names = [*settings.symbols(), "<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
  # The longest name first, as SentencePiece compares them.
  names.sort(key=len, reverse=True)
  symbols = re.compile("|".join(map(re.escape, names)))
  return lambda word: symbols.sub(seed_pieces.SYMBOL, processor.normalize(word))


def _explained(
  error: RuntimeError, settings: Options, size: int
) -> options.InputError:
  """Returns the InputError for a failed training; it names the flag to change.

  Args:
    error: the error of SentencePiece.
    settings: the options of the tokenizer.
    size: the number of pieces that was asked for.
  """
  chosen = size == settings.vocab_size
  flag = "--vocab_size" if chosen else "--compare_vocab_sizes"
  most = re.search(r"<= (\d+)", str(error))
  least = re.search(r"smaller than required_chars. \d+ vs (\d+)", str(error))
  if most:
    return options.InputError(
      f"{flag} of at most {most[1]} for this corpus",
      str(size),
      "ask for fewer pieces, or give more text",
    )
  if least:
    return options.InputError(
      f"{flag} of at least {least[1]}, the letters of this corpus",
      str(size),
      "ask for more pieces, or lower --character_coverage",
    )
  return options.InputError(
    "a corpus that SentencePiece can train on",
    str(error).strip().split("\n")[-1],
    "check --input_file and --vocab_size",
  )


def normalization_rules(do_lower_case: bool) -> list[str]:
  """Returns the lines of SentencePiece's rules: "source<TAB>target" in hex.

  The rules compose Latin, Greek and Cyrillic letters (NFC), turn white space
  into spaces, remove invisible characters and, on demand, lower-case.
  Compatibility forms (ﬁ, ², №) are not changed.

  Args:
    do_lower_case: whether to lower-case.
  """
  rules: dict[str, str] = {}
  for code in (*range(0x80), *range(0xA0, 0x530), *range(0x1E00, 0x2000)):
    letter = unicodedata.normalize("NFC", chr(code))
    target = letter.lower() if do_lower_case else letter
    target = unicodedata.normalize("NFC", target)
    for source in (chr(code), unicodedata.normalize("NFD", chr(code))):
      if source != target:
        rules[source] = target
  for space in "\t\n\r\v\f\x85\xa0\u2028\u2029\u202f\u205f\u3000":
    rules[space] = " "
  rules.update({chr(code): " " for code in range(0x2000, 0x200B)})
  rules.update(dict.fromkeys("\ufeff\xad\u200b\u200e\u200f\u2060", ""))
  return [
    f"{_hexadecimal(source)}\t{_hexadecimal(target)}\n"
    for source, target in sorted(rules.items())
  ]


def _hexadecimal(text: str) -> str:
  """Returns the code points of a text in hex, separated by spaces."""
  return " ".join(f"{ord(letter):X}" for letter in text)
