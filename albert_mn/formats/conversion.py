"""Conversion of any checkpoint to a model directory with the same outputs.

Two comparisons come before the model directory is put in place. The model that
was read back from the directory must have the same outputs as the model in
memory. And the model in memory must have the same outputs as plain_forward,
which computes with the arrays of the source; this comparison is left out for a
source in this project's format, which has no such arrays.
"""

import codecs
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from albert_mn.formats import (
  fast_tokenizers,
  foreign_configs,
  foreign_text,
  huggingface,
  initial_weights,
  remote_weights,
  tf1_checkpoints,
  tf_models_checkpoints,
  vocabulary,
)
from albert_mn.models import (
  configs,
  encoders,
  model_directory,
  plain_forward,
  pretraining,
)
from albert_mn.tasks import blend, classifier, ensembles, problems
from data_prep.base import options, shown_text
from data_prep.encoding import framing, length_buckets, tokenization
from data_prep.files import (
  json_files,
  manifest,
  manifest_fields,
  ownership,
  storage,
  whole_folders,
)

# Largest difference from the source's outputs; relative for outputs above 1.
TOLERANCE = 1e-4

_LONGEST = 64  # pieces of a test sentence

_FORMATS = {
  "ours": initial_weights.Format.OURS,
  "tf1": initial_weights.Format.TF1,
  "tf_models": initial_weights.Format.TF_MODELS,
  "huggingface": initial_weights.Format.HUGGING_FACE,
}


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Command-line options: the checkpoint to convert, and the output folder."""

  init_checkpoint: str = options.option(
    "",
    "Model to convert: a model directory, the prefix of a checkpoint "
    "(also of checkpoints of google-research and of tf-models), a TF Hub "
    "module, a Hugging Face directory, a file of PyTorch weights, or an archive of any of these; "
    "a local path, gs:// or https://. Required.",
  )
  output_dir: str = options.option(
    "",
    "Folder for the model directory that the program writes. Required.",
  )
  from_: str = options.option(
    "auto",
    "Format of --init_checkpoint. auto recognizes the format. tf1: "
    "google-research's TensorFlow 1 checkpoints and TF Hub modules. "
    "tf_models: TensorFlow 2 checkpoints of tf-models. huggingface: files of "
    "transformers and of PyTorch. ours: a checkpoint or a model directory "
    "of this project.",
    choices=("auto", *_FORMATS),
  )
  albert_config_file: str = options.option(
    "",
    "JSON file with the shape of the ALBERT model. Not needed where a "
    "config lies beside the weights.",
  )
  bert_config_file: str = options.option(
    "",
    "JSON file with the shape of the BERT model, where the model is no "
    "ALBERT. Not needed where a config lies beside the weights.",
  )
  gelu: str = foreign_configs.gelu_option()
  spm_model_file: str = options.option(
    "",
    "SentencePiece model. Not needed where a SentencePiece model lies "
    "beside the weights.",
  )
  vocab_file: str = options.option(
    "",
    "File vocab.txt of a WordPiece tokenizer, where the model has no "
    "SentencePiece model. Not needed where vocab.txt lies beside the "
    "weights.",
  )
  do_lower_case: bool = options.option(
    False,
    "Lower-case texts before the tokenizer. Needed only where the model "
    "was trained on lower-cased text and no file beside the weights says "
    "so.",
  )
  labels_file: str = options.option(
    "",
    "Names of the labels of a classifier, in the order of the outputs: "
    "one name in each line, or a JSON list.",
  )
  text_pair: bool = options.option(
    False,
    "The classifier reads pairs of texts. Not needed for exports of this "
    "project, which say so.",
  )
  max_seq_length: int = options.option(
    0,
    "Number of pieces that a classifier reads of a text. 0 takes the "
    "number from an export of this project, and otherwise "
    f"{framing.USUAL_LENGTH}.",
    minimum=0,
  )
  split_digit_commas: bool = options.option(
    False,
    "Separate the comma from pieces that end in a digit and a comma, as "
    "google-research/albert and versions of transformers before 5 do. Not "
    "needed for TensorFlow 1 checkpoints, which are recognized.",
  )
  repair_normalization: bool = options.option(
    False,
    "Prepare a model that was trained on text without й and ё for further "
    "training on text that keeps these two letters. The published scores "
    "of the model do not hold after this change.",
  )
  resize_vocabulary: str = options.option(
    "",
    "Another SentencePiece model, to which the weights are moved. Pieces "
    "of both vocabularies keep the embedding; a new piece starts with the "
    "mean of the embeddings of the old pieces that spell the new one.",
  )
  held_out_file: str = options.option(
    "",
    "Text on which the masked-LM loss is measured before and after "
    "--resize_vocabulary, as glob patterns separated by commas.",
  )

  def check(self) -> None:
    options.require(self, "init_checkpoint", "output_dir")
    if bool(self.resize_vocabulary) != bool(self.held_out_file):
      raise options.InputError(
        "--resize_vocabulary with --held_out_file, to see what it does",
        "one of them",
        "give both or neither",
      )
    if tokenization.is_wordpiece(self.resize_vocabulary):
      raise options.InputError(
        "a SentencePiece model as --resize_vocabulary",
        self.resize_vocabulary,
        "train one with data_prep.train_tokenizer",
      )


@dataclasses.dataclass(frozen=True)
class Opened:
  """A checkpoint that is converted, with its config, tokenizer and labels.

  Attributes:
    source: the weights.
    config: the model's shape.
    tokenizer_file: path of the tokenizer; "" if there is none.
    text: the settings by which a text is normalised before the tokenizer; None
      without a tokenizer.
    labels: a classifier's labels; () for a pretrained model.
  """

  source: initial_weights.Source
  config: configs.AlbertConfig
  tokenizer_file: str
  text: foreign_text.ReadSettings | None
  labels: tuple[str, ...]

  def tokenizer(self) -> tokenization.Tokenizer | None:
    """Returns the tokenizer, with its settings; None if there is none."""
    if not self.text:
      return None
    return tokenization.Tokenizer.with_settings(
      self.tokenizer_file, self.text.settings
    )

  def model(self) -> Any:
    """Returns a new Classifier with random weights.

    Without labels it is a new PretrainingModel.
    """
    if self.labels:
      return classifier.Classifier(self.config, len(self.labels), seed=0)
    return pretraining.PretrainingModel(self.config, 0)


def run(settings: Options) -> None:
  """Converts a checkpoint, compares outputs, and writes the model directory.

  Prints a line on each property of the source and on each comparison.

  Raises:
    options.InputError: when the source cannot be read, when outputs differ, or
      when another program writes into the output folder.
  """
  with ownership.owning(settings.output_dir):
    _run(settings)


def _run(settings: Options) -> None:
  storage.require_writable(settings.output_dir)
  model_directory.require_replaceable(settings.output_dir)
  settings = dataclasses.replace(
    settings, init_checkpoint=remote_weights.local(settings.init_checkpoint)
  )
  opened = _opened(settings)
  model = opened.model()
  loaded = initial_weights.fill(opened.source, model.parts())
  for line in described(opened, loaded):
    print(shown_text.printable(line))
  ids, mask = sentences(opened)
  parts = {n: p for n, p in model.parts().items() if n not in loaded.new}
  expected = outputs(parts, ids, mask)
  if opened.source.arrays:
    arrays = {
      name: encoders.merged_heads(name, array)
      for name, array in opened.source.arrays.items()
    }
    plain = plain_forward.PlainModel(arrays, opened.config)
    _compare("the source's arrays", plain.outputs(ids, mask), expected)
  if settings.resize_vocabulary:
    opened, model = _moved(settings, opened, model, parts)
    parts = {name: model.parts()[name] for name in parts}
    ids, mask = sentences(opened)
    expected = outputs(parts, ids, mask)
  write(settings, opened, parts, (ids, mask), expected)
  print(f"written to {settings.output_dir}")


def _moved(
  settings: Options, opened: Opened, model: Any, parts: Mapping[str, Any]
) -> tuple[Opened, Any]:
  """Converts a model to the tokenizer of --resize_vocabulary.

  Prints the masked-LM loss before and after, or, without a masked-LM head among
  `parts`, that there is no loss. Returns `opened` with the new tokenizer and
  its config, and the new model.

  Args:
    settings: the options.
    opened: the source.
    model: the model with the source's weights.
    parts: name → layer, of the parts that have the source's weights.

  Raises:
    options.InputError: when the source has no tokenizer.
  """
  old = opened.tokenizer()
  if not old:
    raise options.InputError(
      "the model's own tokenizer, to divide new pieces with",
      f"none beside {opened.source.path}",
      "give --spm_model_file or --vocab_file",
    )
  new = tokenization.Tokenizer(settings.resize_vocabulary)
  origins = vocabulary.origins(old, new)
  moved = dataclasses.replace(
    opened,
    config=dataclasses.replace(opened.config, vocab_size=new.vocab_size),
    tokenizer_file=settings.resize_vocabulary,
    text=foreign_text.ReadSettings(new.settings, "the new tokenizer's own"),
  )
  resized = vocabulary.moved(model, moved.config, origins, len(opened.labels))
  print(
    f"pieces: {old.vocab_size:,} before, {new.vocab_size:,} after: "
    f"{origins.kept:,} kept, {origins.divided:,} of the mean of their old pieces, "
    f"{origins.without:,} that the old tokenizer does not know"
  )
  if "masked_lm" not in parts:
    print("no masked-LM head: there is no loss to measure")
    return moved, resized
  lines = [
    line
    for path in storage.matching(settings.held_out_file)
    for line in storage.lines(path)
  ]
  guessed = vocabulary.contexts(
    lines, (old, new), opened.config.max_position_embeddings
  )
  before = vocabulary.bits_per_character(model, old, guessed)
  after = vocabulary.bits_per_character(resized, new, guessed)
  words = sum(len(context.masked) for context in guessed)
  print(
    f"masked-LM loss on {words:,} words of {settings.held_out_file}: "
    f"{before:.3f} bits per character before, {after:.3f} after"
  )
  return moved, resized


def write(
  settings: Options,
  opened: Opened,
  parts: Mapping[str, Any],
  inputs: tuple[np.ndarray, np.ndarray],
  expected: Mapping[str, np.ndarray],
) -> None:
  """Writes the model directory of a conversion, after checking its outputs.

  The directory is written in a temporary folder, read back and compared, and
  then moved to --output_dir.

  Args:
    settings: the options.
    opened: the source.
    parts: name → layer to save.
    inputs: ids and mask of the test sentences.
    expected: the outputs that the written model must have.

  Raises:
    options.InputError: when the outputs of the written model differ.
  """
  with whole_folders.trial(settings.output_dir) as folder:
    model_directory.save(
      folder,
      classifier.KIND if opened.labels else model_directory.PRETRAINED,
      config=opened.config,
      parts=parts,
      tokenizer_file=opened.tokenizer_file,
      parameters=_parameters(settings, opened),
      counts=manifest_fields.Counts(
        global_step=_step(opened.source.path)
      ).stated(),
      inputs={"init_checkpoint": initial_weights.identity(opened.source.path)},
      labels=opened.labels,
      write_more=_blend_writer(opened),
    )
    again = opened.model()
    held = {name: again.parts()[name] for name in parts}
    model_directory.restore(folder, held)
    _compare("what was written", outputs(held, *inputs), expected)
    model_directory.copy(folder, settings.output_dir)


def _blend_writer(opened: Opened) -> Callable[[str], None] | None:
  """Returns a function that writes the source's TF-IDF blend into a folder.

  The result is None if the source has no blend, or is another project's.
  """
  if opened.source.kind is not initial_weights.Format.OURS:
    return None
  folder = initial_weights.folder_of(opened.source.path)
  parameters = _known_of(opened.source)
  tfidf_blend = blend.read(folder, parameters, len(opened.labels))
  return tfidf_blend.write if tfidf_blend else None


def _step(path: str) -> int:
  """Returns the training step of a model directory or checkpoint; 0 if unknown.

  The step comes from the manifest or from the checkpoint's name.
  """
  return model_directory.step(path) or model_directory.step(
    "" if huggingface.is_weights(path) else model_directory.find_weights(path)
  )


def _opened(settings: Options) -> Opened:
  """Opens the checkpoint to convert: its weights, config, tokenizer and labels.

  Raises:
    options.InputError: when a part is missing, does not fit the others or
      contradicts a flag, and for an ensemble of networks.
  """
  path = settings.init_checkpoint
  kind = initial_weights.format_of(path)
  if settings.from_ != "auto" and _FORMATS[settings.from_] is not kind:
    raise options.InputError(
      f"{_FORMATS[settings.from_].value}'s weights at {path}",
      f"{kind.value}'s",
      "leave --from out",
    )
  config = initial_weights.settle_config(
    settings.albert_config_file,
    settings.bert_config_file,
    path,
    gelu=settings.gelu,
    say=print,
  )
  tokenizer_file = initial_weights.settle_tokenizer(
    path, settings.spm_model_file, settings.vocab_file
  )
  source = initial_weights.read(path)
  networks = ensembles.size(_known_of(source))
  if kind is initial_weights.Format.OURS and networks > 1:
    raise options.InputError(
      "a model of one network to convert",
      f"an ensemble of {networks} in {path}",
      "copy it with export_model --to=weights",
    )
  opened = Opened(
    source,
    config,
    tokenizer_file,
    _text(settings, config, tokenizer_file) if tokenizer_file else None,
    tuple(_labels(settings, source)),
  )
  _require_fit(opened)
  return opened


def _text(
  settings: Options, config: configs.AlbertConfig, tokenizer_file: str
) -> foreign_text.ReadSettings:
  """Returns the settings by which the source's texts are normalised.

  They are the settings of the source, changed by the flags
  --repair_normalization, --do_lower_case and --split_digit_commas.
  """
  text = initial_weights.text_settings(
    settings.init_checkpoint, tokenizer_file, config
  )
  if settings.repair_normalization:
    text = text.repaired()
  if settings.do_lower_case and not text.settings.do_lower_case:
    lower = dataclasses.replace(text.settings, do_lower_case=True)
    text = foreign_text.ReadSettings(lower, f"--do_lower_case; {text.reason}")
  if settings.split_digit_commas and not text.settings.split_digit_commas:
    divided = dataclasses.replace(text.settings, split_digit_commas=True)
    text = foreign_text.ReadSettings(
      divided, f"--split_digit_commas; {text.reason}"
    )
  return text


def _require_fit(opened: Opened) -> None:
  """Raises InputError unless the tokenizer suits the model.

  A classifier needs a tokenizer, and a tokenizer may not have more pieces than
  the model.
  """
  tokenizer = opened.tokenizer()
  if opened.labels and not tokenizer:
    raise options.InputError(
      "--spm_model_file or --vocab_file, without which a classifier reads no "
      "text",
      f"none, nor a file beside {opened.source.path}",
      "give the one that it was trained with",
    )
  if tokenizer and tokenizer.vocab_size > opened.config.vocab_size:
    raise options.InputError(
      f"a tokenizer of at most {opened.config.vocab_size:,} pieces",
      f"{tokenizer.vocab_size:,} in {opened.tokenizer_file}",
      "give the one that the model was trained with",
    )


def _labels(settings: Options, source: initial_weights.Source) -> Sequence[str]:
  """Returns a classifier's labels; [] for another model.

  Raises:
    options.InputError: when labels and outputs differ in number, labels repeat,
      a single output is of type "class", no names are known, or --labels_file
      is given for another model.
  """
  outputs_ = _classifier_outputs(source)
  if not outputs_:
    if settings.labels_file:
      raise options.InputError(
        f"a classifier's weights in {source.path}, for --labels_file",
        "none",
        "leave --labels_file out",
      )
    return []
  names = _named_labels(settings, source, outputs_)
  if len(names) != outputs_ or len(set(names)) != len(names):
    raise options.InputError(
      f"{outputs_} different labels, as the classifier has outputs",
      f"{len(names)}: {', '.join(names[:5])}",
      "give --labels_file, a label a line in the order of the outputs",
    )
  if outputs_ == 1 and _label_type(source) == problems.CLASS:
    raise options.InputError(
      "a classifier of two labels or more",
      "one output of unknown meaning",
      "give its encoder to run_classifier.py",
    )
  return names


def _label_type(source: initial_weights.Source) -> str:
  """Returns the label type of a classifier, by default "class".

  Raises:
    options.InputError: for an unknown problem_type of Hugging Face.
  """
  folder = initial_weights.folder_of(source.path)
  if source.kind is initial_weights.Format.HUGGING_FACE:
    return huggingface.label_type(folder)
  return str(
    manifest_fields.Parameters.of(_known_of(source)).label_type
    or problems.CLASS
  )


def _known_of(source: initial_weights.Source) -> dict[str, Any]:
  """Returns the parameters in the source's manifest; {} without a manifest."""
  content = manifest.find(initial_weights.folder_of(source.path)) or {}
  return dict(content.get("parameters", {}))


def _classifier_outputs(source: initial_weights.Source) -> int:
  """Returns the number of outputs of a text classifier.

  For a source in this project's format the number is that of the labels in
  labels.json, 0 without that file. For a source of another project it is 0 if
  the model is no text classifier but, for instance, a tagger.
  """
  if source.kind is initial_weights.Format.OURS:
    folder = initial_weights.folder_of(source.path)
    path = os.path.join(folder, model_directory.LABELS)
    return len(read_labels(path)) if storage.exists(path) else 0
  name, pooler = ("output_bias", "bert/pooler/dense/bias")
  if source.kind is initial_weights.Format.HUGGING_FACE:
    name, pooler = ("classifier.bias", "pooler.")
  if name not in source.arrays:
    return 0
  if not any(held.startswith(pooler) for held in source.arrays):
    return 0  # a classifier of pieces
  if source.kind is initial_weights.Format.HUGGING_FACE:
    folder = initial_weights.folder_of(source.path)
    if head := huggingface.other_head(folder):
      logging.info("the head is that of a %s, and is left over", head)
      return 0
  return int(source.arrays[name].size)


def _named_labels(
  settings: Options, source: initial_weights.Source, number: int
) -> list[str]:
  """Returns a classifier's labels, whose number is not checked.

  The labels come from --labels_file, else from files beside the weights;
  unnamed labels of Hugging Face are LABEL_0, LABEL_1, ….

  Args:
    settings: the options.
    source: the weights.
    number: how many outputs the classifier has.

  Raises:
    options.InputError: when a TensorFlow checkpoint has no file of labels.
  """
  if settings.labels_file:
    return read_labels(settings.labels_file)
  folder = initial_weights.folder_of(source.path)
  labels_path = os.path.join(folder, model_directory.LABELS)
  if storage.exists(labels_path):
    return read_labels(labels_path)
  if source.kind is initial_weights.Format.HUGGING_FACE:
    # transformers' names of unnamed labels.
    return huggingface.labels(folder) or [f"LABEL_{i}" for i in range(number)]
  raise options.InputError(
    f"--labels_file with the {number} labels of the classifier",
    "none, and checkpoints of TensorFlow hold no names",
    "give it, a label a line in the order of the outputs",
  )


def read_labels(path: str) -> list[str]:
  """Returns the labels in a file: one on each line, or a JSON list.

  Lines are stripped, and empty lines left out. Numbers in a list become text.
  Labels that repeat are kept.

  Raises:
    options.InputError: for a file that begins with [ and is not JSON, or whose
      list contains anything but strings and numbers.
  """
  content = storage.read_bytes(path).removeprefix(codecs.BOM_UTF8)
  if not content.lstrip().startswith(b"["):
    return [line.strip() for line in storage.lines(path) if line.strip()]
  names = json_files.read(path, "mend the file")
  hint = list[str | int | float]
  json_files.require_type(names, hint, f"the labels in {path}", "mend the file")
  return [str(name) for name in names]


def _parameters(settings: Options, opened: Opened) -> dict[str, Any]:
  """Returns the parameters for the manifest, which predictors read.

  For a source in this project's format they are the parameters of its manifest,
  with the text settings of `opened`. For a source of another project they come
  from the flags, else from the source's files, else they are defaults; a
  classifier's max_seq_length is limited to max_position_embeddings.
  """
  known = _known_of(opened.source)
  if opened.source.kind is not initial_weights.Format.OURS:
    stated = manifest_fields.Parameters.of(known)
    known = {"from": opened.source.kind.value}
    if opened.labels:
      longest = opened.config.max_position_embeddings
      length = (
        settings.max_seq_length
        or stated.max_seq_length
        or fast_tokenizers.exported_length(
          initial_weights.folder_of(opened.source.path)
        )
        or framing.USUAL_LENGTH
      )
      known |= manifest_fields.Parameters(
        text_pair=settings.text_pair or bool(stated.text_pair),
        long_text=stated.long_text or framing.HEAD,
        label_type=_label_type(opened.source),
        max_seq_length=max(3, min(length, longest)),
      ).stated()
  text = opened.text.settings if opened.text else tokenization.Settings()
  for name in dataclasses.asdict(text):
    known.pop(name, None)
  return {**known, **text.parameters()}


def described(opened: Opened, loaded: initial_weights.Loaded) -> list[str]:
  """Returns lines for the user on the source and on the weights that were read.

  The lines tell the shape, the tokenizer, the labels, the model's parts that
  the source lacks, and the source's weights that are not used.
  """
  config, source = opened.config, opened.source
  lines = [
    f"{source.path}: {config.FAMILY} of {source.kind.value}, "
    f"{config.num_hidden_layers} layers of {config.hidden_size}, "
    f"{config.vocab_size:,} pieces",
    f"tokenizer: {opened.tokenizer_file or 'none: give --spm_model_file'}",
  ]
  if opened.text:
    lines.append(f"before the tokenizer: {opened.text.described()}")
    if opened.text.settings.strip_accents:
      lines.append(
        "the model was trained on text without й and ё, and so it is used: "
        "--repair_normalization, for further training, lets them be"
      )
  if opened.labels:
    lines.append(f"labels: {', '.join(opened.labels)}")
  lines += [f"new: {name} (the source has none)" for name in loaded.new]
  return lines + [f"left over: {name} ({why(name)})" for name in loaded.left]


def why(name: str) -> str:
  """Returns a phrase: why the conversion does not use a weight of the source.

  Args:
    name: the weight's name in the source, or a count such as "25 x adam_m".
  """
  if name in huggingface.BUFFERS:
    return "counts positions, which needs no weight"
  last = name.split()[-1]
  if last == tf_models_checkpoints.IDLE_POOLER:
    return "of the encoder alone: the head has a pooler of its own"
  if last == tf_models_checkpoints.OPTIMIZER or last in tf1_checkpoints.SLOTS:
    return "the optimizer's, for going on with the same run"
  if name == "watch":
    return "a run's own record of its losses"
  if name.startswith(tuple(f"{place}." for place in huggingface.MASKED_LM)):
    return "of an output layer that is not tied to the word embeddings"
  return "a head for another task"


def sentences(opened: Opened) -> tuple[np.ndarray, np.ndarray]:
  """Returns ids and mask of test sentences, each int32 [sentences, length].

  The sentences are foreign_text.SENTENCES, truncated to 64 pieces or to the
  model's longest input if that is less. Without a tokenizer they are three
  sequences of random ids, the same at each call.
  """
  tokenizer, config = opened.tokenizer(), opened.config
  longest = min(_LONGEST, config.max_position_embeddings)
  if tokenizer:
    encoded, _ = length_buckets.encode(
      tokenizer, foreign_text.SENTENCES, longest
    )
    pad = tokenizer.pad_id
  else:
    draw = np.random.default_rng(0)
    sizes = (longest, longest // 2, longest // 3 + 1)
    encoded = [draw.integers(0, config.vocab_size, size) for size in sizes]
    pad = 0
  width = max(map(len, encoded))
  ids = np.full((len(encoded), width), pad, np.int32)
  mask = np.zeros_like(ids)
  for row, piece_ids in enumerate(encoded):
    ids[row, : len(piece_ids)], mask[row, : len(piece_ids)] = piece_ids, 1
  return ids, mask


def outputs(
  parts: Mapping[str, Any],
  ids: np.ndarray,
  mask: np.ndarray,
  of_pieces: bool = False,
) -> dict[str, np.ndarray]:
  """Returns output name → array, with the names of PlainModel.outputs.

  The names are "sequence" and "pooled", and "classifier", "sentence" and
  "masked_lm" for the heads among `parts`. An output for each position is
  [pieces, …], without padding; any other output is [sentences, …].

  Args:
    parts: name → layer; the encoder and any heads.
    ids, mask: int32 [sentences, length].
    of_pieces: whether the classifier reads every position, as a tagger does.
  """
  segments = np.zeros_like(ids)
  encoded = parts["encoder"](tf.constant(ids), tf.constant(mask), segments)
  tensors = {
    "sequence": encoded.sequence_output,
    "pooled": encoded.pooled_output,
  }
  if "classifier" in parts:
    tensors["classifier"] = parts["classifier"](
      encoded.sequence_output if of_pieces else encoded.pooled_output
    )
  if "sentence" in parts:
    tensors["sentence"] = parts["sentence"](encoded.pooled_output)
  if "masked_lm" in parts:
    every = np.tile(np.arange(ids.shape[1], dtype=np.int32), [len(ids), 1])
    tensors["masked_lm"] = parts["masked_lm"](
      encoded.sequence_output, tf.constant(every)
    )
  real = mask.astype(bool)
  return {
    name: value.numpy()[real] if value.shape.rank == 3 else value.numpy()
    for name, value in tensors.items()
  }


def _compare(
  what: str,
  computed: Mapping[str, np.ndarray],
  expected: Mapping[str, np.ndarray],
) -> None:
  """Prints the largest difference of two sets of outputs.

  A difference is relative where `expected` is above 1 in absolute value.

  Args:
    what: the source of `computed`, for the message.
    computed, expected: output name → array; only common names are compared.

  Raises:
    options.InputError: when the difference is above 1e-4 (TOLERANCE) or NaN.
  """
  names = sorted(computed.keys() & expected.keys())
  assert names, "both sides have the encoder's outputs"
  worst = 0.0
  for name in names:
    value, wanted = computed[name], expected[name]
    differences = np.abs(value - wanted) / np.maximum(1, np.abs(wanted))
    # NaN counts as an infinite difference.
    worst = max(worst, float(np.nan_to_num(differences, nan=np.inf).max()))
  listed = ", ".join(names)
  if not worst <= TOLERANCE:
    raise options.InputError(
      f"outputs within {TOLERANCE:g} of {what} ({listed})",
      f"{worst:.3g}",
      "report it with the config: nothing was written",
    )
  print(f"outputs against {what}: {worst:.1e} differences at most ({listed})")
