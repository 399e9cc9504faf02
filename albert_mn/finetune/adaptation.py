"""Adapts an encoder to the texts of a task, by masked LM before fine-tuning.

Gururangan et al. 2020 (arXiv 2004.10964) call it task-adaptive pretraining:
before fine-tuning, the model reads the training texts without their labels.
Without an initial model, the weights begin from statistics of these texts
(corpus_start). Validation and held-out texts are never read, and unlabelled
lines that repeat such a text are left out.

    adapted/texts.txt   the training texts and those of --unlabeled_file
    adapted/tokenizer/  a tokenizer of these texts, if they have 4 MB or more
                        and no tokenizer was named
    adapted/records/    the same texts as records
    adapted/model/      the model from which every training starts
"""

import collections
import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence

from absl import logging

from albert_mn.finetune import fine_tuning
from albert_mn.formats import initial_weights
from albert_mn.models import configs, model_directory, number_format
from albert_mn.pretrain import probe, run_options, training
from albert_mn.runtime import distribution, optimization
from data_prep.base import options
from data_prep.classification import classifier_data, near_duplicates
from data_prep.encoding import tokenization, tokenizer_training
from data_prep.files import manifest, storage
from data_prep.pretraining import examples, pretraining_data
from data_prep.sources import texts

AUTO = "auto"
FOLDER = "adapted"
# Keys in the manifest of a classifier: the number of adaptation steps, and the
# identity of the model that was adapted.
STEPS, ORIGIN = "adapted_steps", "adapted_from"

# Accuracy on SIB-200 of the network alone (docs/log.md, 2026-12-01): from
# unchanged statistics 0.594, after 240 steps 0.544; with the quickstart's
# encoder 0.550, after 100 steps 0.497. So by default an encoder is only trained
# if --unlabeled_file is given.
_STEPS_FROM_NOTHING, AUTO_STEPS = 1, 100
_WARM_UP = 0.1  # share of the steps; the first step has a rate of 0

_TEXTS = "texts.txt"
_TOKENIZER = "tokenizer"
# Bytes of texts.txt, from which on a tokenizer of these texts has so many
# pieces. 1.44 million words, 18 MB: SIB-200 0.64 to 0.73 with 8,000 pieces of
# these words, 0.58 to 0.62 with the repository's 4,000 (docs/log.md,
# 2026-12-01). The borders are guesses.
_PIECES = {4_000_000: 8_000, 100_000_000: 16_000}
# A line that shares this many consecutive words with a held-out text is left
# out (Brown et al. 2020, appendix C, take 8 to 13).
_RUN = 8
_SHOWN = 5  # words in a log line
_SHORTEST = 8  # pieces in a record
_MOST_USES = 10  # of a text, each time cut into other records
_BYTES_A_PIECE = 4  # guess, at least
_STEPS_A_LOOP, _STEPS_A_CHECKPOINT = 50, 100


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Command-line options: adaptation of the encoder to the texts of a task."""

  adapt_steps: str = options.option(
    AUTO,
    "Number of masked-LM steps on the training texts, and on the lines of "
    "--unlabeled_file, before fine-tuning. Without --init_checkpoint the "
    "steps begin from statistics of these texts. auto: from statistics, one "
    "step with a learning rate of 0, because more steps lowered the accuracy; "
    f"from --init_checkpoint, {AUTO_STEPS} steps if --unlabeled_file is given, "
    "and otherwise none. 0: fine-tuning begins from the unchanged "
    "--init_checkpoint, or from random weights.",
  )
  unlabeled_file: str = options.option(
    "",
    "Files of texts without labels for the adaptation, as glob patterns "
    "separated by commas, of any kind that build_corpus reads with "
    "--source=text. Of rows, the text is in the first of the fields text, "
    "content, article and the like. Lines that repeat a validation or "
    "evaluation text are left out.",
  )
  adapt_learning_rate: float = options.option(
    0.001,
    "Peak of the learning rate of the adaptation, by Muon; the matrices of the "
    "layers have 20 times this rate.",
    above=0.0,
  )

  def check(self) -> None:
    if self.adapt_steps != AUTO and not (
      self.adapt_steps.isascii() and self.adapt_steps.isdigit()
    ):
      raise options.InputError(
        f"--adapt_steps to be {AUTO} or a whole number of at least 0",
        self.adapt_steps,
        "mend the flag",
      )
    if self.unlabeled_file and self.adapt_steps.strip("0") == "":
      raise options.InputError(
        "--adapt_steps above 0 with --unlabeled_file",
        self.adapt_steps,
        "leave one of them out",
      )

  def steps(self, init_checkpoint: str) -> int:
    """Returns the number of adaptation steps.

    The number is --adapt_steps. The value auto means 1 step for weights from
    statistics of the texts; for an initial model it means 100 steps if there is
    an --unlabeled_file, and otherwise 0.

    Args:
      init_checkpoint: the initial model; "" for weights from statistics.
    """
    if self.adapt_steps != AUTO:
      return int(self.adapt_steps)
    if not init_checkpoint:
      return _STEPS_FROM_NOTHING
    return AUTO_STEPS if self.unlabeled_file else 0


def adapted(
  output_dir: str,
  settings: Options,
  recipe: fine_tuning.Recipe,
  start: fine_tuning.Start,
  data: fine_tuning.Data,
  repair_normalization: bool = False,
  own_tokenizer: bool = False,
) -> fine_tuning.Start:
  """Adapts the encoder to a task; returns the start of the fine-tuning.

  A finished adaptation to the same texts is used again; a killed adaptation
  goes on from its last checkpoint. `start` is returned unchanged with 0 steps,
  and for a model that cannot be adapted, unless the user gave a number of steps
  or --unlabeled_file.

  Args:
    output_dir: the run directory, which gets the folder `adapted`.
    settings: the options of the adaptation.
    recipe: the options of the fine-tuning, for seed, lengths and batches.
    start: the model to adapt.
    data: the rows of the task.
    repair_normalization: whether the model goes on with text that keeps й and
      ё, although it was pretrained on text without their marks.
    own_tokenizer: whether a tokenizer is trained on the texts, if they have
      4 MB or more, and takes the place of that of `start`.

  Raises:
    options.InputError: when the model cannot be adapted although a number of
      steps or --unlabeled_file was given, or when the folder holds another
      adaptation.
  """
  steps = settings.steps(start.init_checkpoint)
  if not steps:
    return start
  if fault := _fault(recipe, start):
    if settings.adapt_steps != AUTO or settings.unlabeled_file:
      raise options.InputError(
        "a model that masked-LM steps can adapt", fault, "give --adapt_steps=0"
      )
    logging.info("the encoder is not adapted to the texts: %s", fault)
    return start
  folder = os.path.join(output_dir, FOLDER)
  _write_texts(folder, settings, start.tokenizer, data)
  if own_tokenizer:
    start = _with_tokenizer_of(folder, start)
  records = _records(folder, steps, recipe, start)
  training.run(
    _run_options(folder, records, recipe, start, repair_normalization),
    optimization.OptimizerOptions(
      optimizer="muon",
      learning_rate=settings.adapt_learning_rate,
      num_train_steps=steps,
      num_warmup_steps=max(1, int(steps * _WARM_UP)),
    ),
    distribution.Options(distribution="one_device", precision=recipe.precision),
    probe.Options(),
  )
  return dataclasses.replace(
    start,
    init_checkpoint=os.path.join(folder, "model"),
    parameters={STEPS: steps},
    inputs={ORIGIN: initial_weights.identity(start.init_checkpoint)}
    if start.init_checkpoint
    else {},
  )


def _fault(recipe: fine_tuning.Recipe, start: fine_tuning.Start) -> str:
  """Returns the reason why a model cannot be adapted by masked-LM steps.

  The result is "" if the model can be adapted.

  Args:
    recipe: the options of the fine-tuning.
    start: the model to adapt.
  """
  tokenizer = start.tokenizer
  if recipe.freeze_encoder and start.init_checkpoint:
    return "--freeze_encoder leaves the encoder as it is"
  if tokenization.is_wordpiece(start.tokenizer_file):
    return "a WordPiece tokenizer, for which no records can be made"
  if start.config.vocab_size != tokenizer.vocab_size:
    return (
      f"a config of {start.config.vocab_size} pieces, with a tokenizer of "
      f"{tokenizer.vocab_size}"
    )
  if recipe.max_seq_length < _SHORTEST:
    return f"--max_seq_length={recipe.max_seq_length}, below {_SHORTEST}"
  return ""


def _write_texts(
  folder: str,
  settings: Options,
  tokenizer: tokenization.Tokenizer,
  data: fine_tuning.Data,
) -> None:
  """Writes texts.txt: the training texts, then the unlabelled documents.

  Each training text is a separate document, so that pieces of two texts are not
  counted as neighbours. Unlabelled lines that repeat a validation or held-out
  text are left out. Words with letters that the tokenizer does not know are
  logged.
  """
  lines = _lines_of(data.train)
  if warning := unknown_words(tokenizer, lines):
    logging.warning("%s", warning)
  repeats = Repeats(_lines_of([*data.validation, *data.held_out]))
  unlabelled = (
    [line for line in document if line not in repeats]
    for document in _documents_in(settings.unlabeled_file)
  )
  every = itertools.chain(([line] for line in lines), unlabelled)
  storage.make_folder(folder)
  with storage.writing(os.path.join(folder, _TEXTS)) as file:
    for document in filter(None, every):
      file.write("\n".join(document) + "\n\n")
  logging.info("adaptation: %d training texts%s", len(lines), repeats.summary())


def _lines_of(rows: Iterable[classifier_data.Row]) -> list[str]:
  """Returns the texts of rows, one line each; a pair gives two lines.

  Runs of white space become one space; empty texts are left out.
  """
  every = (text for row in rows for text in (row.text, row.text_pair))
  return [" ".join(text.split()) for text in every if text.strip()]


def _documents_in(patterns: str) -> Iterator[list[str]]:
  """Yields the lines of each document in the files that glob patterns name.

  Runs of white space become one space; empty lines are left out. For "" it
  yields nothing.
  """
  for path in storage.matching(patterns) if patterns else ():
    for document in texts.read(path, texts.Options()):
      lines = (" ".join(line.split()) for line in document)
      yield list(filter(None, lines))


class Repeats:
  """Finds lines that repeat a text which must not be read.

  A line repeats a text if the two share eight consecutive words, or if the line
  contains a whole text of fewer words. Letter case does not count. `line in
  repeats` is the test, and also counts the line for `summary`.

  Args:
    kept_back: the texts which must not be read, each of at least one word.
  """

  def __init__(self, kept_back: Iterable[str]) -> None:
    self._runs: dict[int, set[str]] = {}  # length in words → runs
    self._seen, self._left_out = 0, 0
    for text in kept_back:
      words = near_duplicates.text_key(text).split()
      length = min(len(words), _RUN)
      self._runs.setdefault(length, set()).update(_runs_of(words, length))

  def __contains__(self, line: str) -> bool:
    words = near_duplicates.text_key(line).split()
    repeated = any(
      run in runs
      for length, runs in self._runs.items()
      for run in _runs_of(words, length)
    )
    self._seen += 1
    self._left_out += repeated
    return repeated

  def summary(self) -> str:
    """Returns a clause with the numbers of the lines kept and left out.

    The result is "" if no line was tested.
    """
    if not self._seen:
      return ""
    return (
      f", {self._seen - self._left_out} unlabelled lines; {self._left_out} "
      "more repeat validation or evaluation texts, and are left out"
    )


def _runs_of(words: Sequence[str], length: int) -> Iterator[str]:
  """Yields each sequence of `length` consecutive words, joined by blanks."""
  for first in range(len(words) - length + 1):
    yield " ".join(words[first : first + length])


def unknown_words(
  tokenizer: tokenization.Tokenizer, lines: Sequence[str]
) -> str:
  """Returns a sentence on the words that the tokenizer cannot encode.

  A word cannot be encoded if no piece has one of its letters. The sentence has
  the number of such words and the five most frequent of them. Without such
  words the result is "".

  Args:
    tokenizer: the tokenizer.
    lines: the texts to look through.
  """
  words = collections.Counter(word for line in lines for word in line.split())
  unknown = collections.Counter(
    {
      word: words[word]
      for word, ids in zip(words, tokenizer.encode(list(words)), strict=True)
      if (ids == tokenizer.unk_id).any()
    }
  )
  if not unknown:
    return ""
  shown = ", ".join(word for word, _ in unknown.most_common(_SHOWN))
  return (
    f"{unknown.total()} of {words.total()} words of the training texts hold "
    f"letters that the tokenizer does not know, such as {shown}"
  )


def _with_tokenizer_of(
  folder: str, start: fine_tuning.Start
) -> fine_tuning.Start:
  """Trains a tokenizer on texts.txt; returns the start with this tokenizer.

  The config in the result has the new number of pieces and otherwise the same
  sizes. The tokenizer has 8,000 pieces for a texts.txt of 4 MB or more, and
  16,000 from 100 MB on. For a smaller texts.txt, `start` is returned unchanged.
  A tokenizer that an earlier call trained on the same texts is used again.

  Args:
    folder: the folder of texts.txt; the function makes a folder `tokenizer` in
      it.
    start: a start without pretrained weights.
  """
  source, output = (os.path.join(folder, n) for n in (_TEXTS, _TOKENIZER))
  size = storage.size(source) or 0
  pieces = max((n for least, n in _PIECES.items() if least <= size), default=0)
  if not pieces:
    return start
  described = manifest.find(output)
  if (
    not described or storage.sha256(source) not in described["inputs"].values()
  ):
    tokenizer_training.train(
      tokenizer_training.Options(
        input_file=source, output_dir=output, vocab_size=pieces
      )
    )
  path = model_directory.tokenizer_file(output)
  return dataclasses.replace(
    start,
    config=dataclasses.replace(start.config, vocab_size=pieces),
    tokenizer=tokenization.Tokenizer.with_settings(
      path, start.tokenizer.settings
    ),
    tokenizer_file=path,
  )


def _records(
  folder: str,
  steps: int,
  recipe: fine_tuning.Recipe,
  start: fine_tuning.Start,
) -> str:
  """Makes TFRecords from texts.txt, unless they exist; returns their folder.

  Each text is used several times, at most 10, so that the steps are likely to
  repeat no record. The masks are drawn anew at each step in any case.

  Args:
    folder: the folder of the adaptation.
    steps: number of adaptation steps.
    recipe: the options of the fine-tuning.
    start: the model to adapt.
  """
  source = os.path.join(folder, _TEXTS)
  length = recipe.max_seq_length
  wanted = steps * recipe.train_batch_size * length
  letters = storage.size(source) or 1
  preparation = dataclasses.asdict(start.tokenizer.settings)
  record_options = pretraining_data.Options(
    input_file=source,
    spm_model_file=start.tokenizer_file,
    output_dir=os.path.join(folder, "records"),
    max_seq_length=length,
    eval_fraction=0.0,
    short_seq_prob=0.0,
    dupe_factor=min(_MOST_USES, 1 + wanted * _BYTES_A_PIECE // letters),
    masking="dynamic",
    pack_sequences=True,
    random_seed=recipe.random_seed,
    **{
      field.name: preparation[field.name]
      for field in dataclasses.fields(examples.TextPreparation)
    },
  )
  if not _exist(record_options):
    pretraining_data.create(record_options)
  return record_options.output_dir


def _exist(record_options: pretraining_data.Options) -> bool:
  """Returns whether finished records with the same options and inputs exist.

  Inputs are compared by SHA-256; options are compared with the manifest of the
  records.
  """
  described = manifest.find(record_options.output_dir)
  if not described:
    return False
  inputs = (record_options.input_file, record_options.spm_model_file)
  parameters = {
    field.name: getattr(record_options, field.name)
    for field in dataclasses.fields(examples.Recipe)
    if field.name != "max_predictions_per_seq"  # the manifest has the number
  }
  return (
    sorted(described["inputs"].values()) == sorted(map(storage.sha256, inputs))
    and parameters.items() <= described["parameters"].items()
  )


def _run_options(
  folder: str,
  records: str,
  recipe: fine_tuning.Recipe,
  start: fine_tuning.Start,
  repair_normalization: bool,
) -> run_options.Options:
  """Returns the options of the masked-LM training that adapts the encoder.

  For a start from statistics, it also writes the config file that the options
  name.

  Args:
    folder: the folder of the adaptation.
    records: the folder of the records.
    recipe: the options of the fine-tuning.
    start: the model to adapt.
    repair_normalization: the value of --repair_normalization.
  """
  run_settings = run_options.Options(
    do_train=True,
    input_file=os.path.join(records, "train-*.tfrecord"),
    output_dir=folder,
    init_checkpoint=start.init_checkpoint,
    initialization="random" if start.init_checkpoint else "corpus",
    train_batch_size=recipe.train_batch_size,
    gradient_accumulation_steps=recipe.gradient_accumulation_steps,
    random_seed=recipe.random_seed,
    iterations_per_loop=_STEPS_A_LOOP,
    save_checkpoints_steps=_STEPS_A_CHECKPOINT,
    keep_checkpoint_max=2,
    # As for fine-tuning: XLA takes longer to compile than it gains on a CPU.
    jit_compile=not number_format.is_plain_cpu(),
    repair_normalization=repair_normalization,
  )
  if start.init_checkpoint:
    return run_settings
  path = os.path.join(folder, start.config.FILE)
  with storage.writing(path) as file:
    file.write(start.config.to_json())
  if isinstance(start.config, configs.BertConfig):
    return dataclasses.replace(run_settings, bert_config_file=path)
  return dataclasses.replace(run_settings, albert_config_file=path)
