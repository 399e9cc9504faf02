"""A model for use elsewhere: written aside, read back, compared, put in place.

Nothing stands under the output's name before what was written there gave the
same outputs on real sentences as the model that it was made from.
"""

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tokenizers

from albert_mn import (
  classifier,
  configs,
  conversion,
  foreign_text,
  huggingface,
  huggingface_tokenizer,
  initial_weights,
  model_card,
  model_directory,
  plain_forward,
  serving,
  tf1_checkpoints,
)
from data_prep import (
  classifier_data,
  length_buckets,
  manifest,
  options,
  storage,
  tokenization,
)

KIND = "export"

# How far outputs may be from the model's: absolute, or relative above 1.
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Options:
  """Which model to export, as what, to where."""

  model_dir: str = options.option(
    "", "a model directory; of anything else, convert_checkpoint makes one"
  )
  to: str = options.option(
    "saved_model", "weights: a model directory, without what training alone "
    "needs; tf1: google-research's names; huggingface: transformers' files; "
    "saved_model: a classifier that takes strings; tflite, tflite_int8: a "
    "classifier that takes ids; encoder: a SavedModel of the encoder alone",
    choices=("weights", "tf1", "huggingface", "saved_model", "tflite",
             "tflite_int8", "encoder"),
  )  # fmt: skip
  output_dir: str = options.option("", "where the export goes")
  max_seq_length: int = options.option(
    0, "pieces of a text that saved_model, tflite and encoder read; 0: what the "
    "classifier was trained with, or 128", minimum=0,
  )  # fmt: skip
  batch_size: int = options.option(
    1, "texts at once, of tflite, whose shapes are fixed", minimum=1
  )
  results_dir: str = options.option(
    "", "the run whose results the model card tells; default: the folder above "
    "--model_dir"
  )  # fmt: skip
  license: str = options.option(
    "", "of the model, for its card, such as apache-2.0"
  )
  language: str = options.option("mn", "its code, for the card")
  data_file: str = options.option(
    "", "Markdown on the training data and its licences, for the card"
  )
  eval_file: str = options.option(
    "", "labelled rows on which tflite_int8 and the original are measured"
  )
  text_column: str = options.option("text", "header of its texts")
  label_column: str = options.option("label", "header of its labels")
  model_card: bool = options.option(
    False, "write the model card alone: README.md in --output_dir"
  )

  def __post_init__(self) -> None:
    options.require(self, "model_dir", "output_dir")
    one, other = (
      os.path.abspath(path) for path in (self.model_dir, self.output_dir)
    )
    if one == other:
      raise options.InputError(
        "an --output_dir other than --model_dir",
        self.output_dir,
        "name another",
      )


@dataclasses.dataclass(frozen=True)
class Source:
  """A model directory, opened.

  Attributes:
    folder: where it lies.
    described: its manifest.
    config: the shape.
    tokenizer_file: "" for none.
    labels: a classifier's, () for a pretrained model.
    model: with its weights.
    parts: what the directory holds of it.
  """

  folder: str
  described: dict[str, Any]
  config: configs.AlbertConfig
  tokenizer_file: str
  labels: tuple[str, ...]
  model: Any
  parts: dict[str, Any]

  @property
  def parameters(self) -> dict[str, Any]:
    """What the manifest says of how the model was made."""
    return dict(self.described["parameters"])

  def tokenizer(self) -> tokenization.Tokenizer:
    """Reads the tokenizer, with its settings."""
    return tokenization.Tokenizer.with_settings(
      self.tokenizer_file, tokenization.Settings.of(self.parameters)
    )


def opened(folder: str) -> Source:
  """Reads a model directory.

  Raises:
    options.InputError: when it is none, or not whole.
  """
  described = manifest.find(folder)
  kind = described["kind"] if described else classifier.KIND
  if kind not in (classifier.KIND, "pretrained_model"):
    kind = classifier.KIND
  described = manifest.check(folder, kind)
  config = model_directory.config(folder)
  assert config, "the manifest lists it"
  labels_file = model_directory.adjacent(folder, model_directory.LABELS)
  found = conversion.Opened(
    initial_weights.read(folder),
    config,
    model_directory.tokenizer_file(folder),
    None,
    tuple(conversion.read_labels(labels_file)) if labels_file else (),
  )
  model = found.model()
  loaded = initial_weights.fill(found.source, model.parts())
  parts = {n: p for n, p in model.parts().items() if n not in loaded.new}
  return Source(
    folder, described, config, found.tokenizer_file, found.labels, model, parts
  )


def run(settings: Options) -> None:
  """Exports, checks, puts in place, and prints what was done."""
  storage.require_writable(settings.output_dir)
  source = opened(settings.model_dir)
  if settings.model_card:
    path = os.path.join(settings.output_dir, model_card.NAME)
    with storage.writing(path) as file:
      file.write(_card(settings, source, []))
    print(f"written to {path}")
    return
  _require_replaceable(settings.output_dir)
  above = conversion.beside(settings.output_dir)
  with tempfile.TemporaryDirectory(dir=above) as aside:
    folder = os.path.join(aside, "export")
    os.mkdir(folder)
    checked = _WRITERS[settings.to](folder, source, settings)
    with storage.writing(os.path.join(folder, model_card.NAME)) as file:
      file.write(_card(settings, source, checked))
    if settings.to != "weights":  # a model directory, which describes itself
      _describe(folder, source, settings, checked)
    _put_in_place(folder, settings.output_dir)
  for line in checked:
    print(line)
  print(needed(source))
  print(f"written to {settings.output_dir}")


def _card(settings: Options, source: Source, checked: Sequence[str]) -> str:
  results = settings.results_dir or os.path.dirname(
    os.path.abspath(source.folder.rstrip("/"))
  )
  shape = ""
  if settings.to.startswith("tflite"):
    shape = f"int32 [{settings.batch_size}, {_length(source, settings)}]"
  export = model_card.Export(
    to="" if settings.model_card else settings.to,
    tokenizer=needed(source),
    checked=checked,
    shape=shape,
    license_=settings.license,
    data=storage.read_text(settings.data_file) if settings.data_file else "",
    language=settings.language,
  )
  return model_card.text(
    source.described, source.config, source.labels, export, results
  )


def needed(source: Source) -> str:
  """Says which tokenizer the model takes, and what comes before it."""
  if not source.tokenizer_file:
    return "tokenizer: not known: the model directory has none"
  kind = (
    "WordPiece"
    if tokenization.is_wordpiece(source.tokenizer_file)
    else "SentencePiece"
  )
  text = tokenization.Settings.of(source.parameters)
  inside = "none: the normalisation is inside the file"
  return (
    f"tokenizer: {kind}, sha256 "
    f"{storage.sha256(source.tokenizer_file)[:16]}; before it: "
    f"{text.described() or inside}"
  )


def _require_replaceable(folder: str) -> None:
  """Refuses a folder with something else in it than an export."""
  described = manifest.find(folder)
  if described or not storage.names(folder):
    return
  raise options.InputError(
    "an --output_dir that is new, empty, or an earlier export",
    f"{len(storage.names(folder))} other files in {folder}",
    "name another folder",
  )


def _describe(
  folder: str, source: Source, settings: Options, checked: Sequence[str]
) -> None:
  text = tokenization.Settings.of(source.parameters)
  parameters: dict[str, Any] = {
    "to": settings.to,
    **text.parameters(),
    "checked": list(checked),
  }
  if source.labels or settings.to == "encoder":
    parameters["max_seq_length"] = _length(source, settings)
  manifest.write(
    folder,
    KIND,
    parameters=parameters,
    files=_files(folder),
    counts=source.described["counts"],
    inputs={"model": manifest.identity(source.folder)},
  )


def _files(folder: str) -> list[str]:
  """Returns the names of all files, those in folders too."""
  return sorted(
    os.path.relpath(os.path.join(place, name), folder)
    for place, _, names in os.walk(folder)
    for name in names
  )


def _put_in_place(folder: str, target: str) -> None:
  """Moves a finished export under its name, its manifest last."""
  if storage.is_remote(target):
    storage.remove(os.path.join(target, manifest.NAME))
    names = [name for name in _files(folder) if name != manifest.NAME]
    for name in (*names, manifest.NAME):
      storage.copy(os.path.join(folder, name), os.path.join(target, name))
    return
  if os.path.isdir(target):
    # Moved aside first: at no time is there half of one and half of another.
    os.rename(target, os.path.join(os.path.dirname(folder), "earlier"))
  os.rename(folder, target)


def _length(source: Source, settings: Options) -> int:
  """How many pieces of a text are read."""
  longest = source.config.max_position_embeddings
  length = settings.max_seq_length or min(
    source.parameters.get("max_seq_length", 128), longest
  )
  if not 3 <= length <= longest:
    raise options.InputError(
      f"--max_seq_length from 3 to max_position_embeddings = {longest}",
      str(length),
      "give another one",
    )
  return int(length)


# Writers: each fills a folder, reads it back, and says how it compared.


def _weights(folder: str, source: Source, settings: Options) -> list[str]:
  del settings
  model_directory.save(
    folder,
    source.described["kind"],
    config=source.config,
    parts=source.parts,
    tokenizer_file=source.tokenizer_file,
    parameters=source.parameters,
    counts=source.described["counts"],
    inputs={
      **source.described["inputs"],
      "model": manifest.identity(source.folder),
    },
    labels=source.labels,
  )
  again = opened(folder)
  return [_compared("the files written", _outputs(again), _outputs(source))]


def _tf1(folder: str, source: Source, settings: Options) -> list[str]:
  del settings
  prefix = os.path.join(folder, model_directory.WEIGHTS)
  tf1_checkpoints.write(prefix, source.parts, source.config)
  with storage.writing(os.path.join(folder, "checkpoint")) as file:
    name = model_directory.WEIGHTS
    file.write(f'model_checkpoint_path: "{name}"\n')
  with storage.writing(os.path.join(folder, source.config.FILE)) as file:
    file.write(source.config.to_json())
  if source.tokenizer_file:
    _upstreams_tokenizer(folder, source)
  _write_labels(folder, source.labels)
  arrays, _ = tf1_checkpoints.read(prefix)
  return [_plain(arrays, source)]


def _upstreams_tokenizer(folder: str, source: Source) -> None:
  """Copies the model, and lists its pieces for upstream's --vocab_file."""
  name = os.path.basename(source.tokenizer_file)
  storage.copy(source.tokenizer_file, os.path.join(folder, name))
  if not tokenization.is_wordpiece(source.tokenizer_file):
    tokenizer = source.tokenizer()
    path = os.path.join(folder, "tokenizer.vocab")
    with storage.writing(path) as file:
      for piece in tokenizer.pieces(range(tokenizer.vocab_size)):
        file.write(f"{piece}\t0\n")


def _write_labels(folder: str, labels: Sequence[str]) -> None:
  if labels:
    path = os.path.join(folder, model_directory.LABELS)
    with storage.writing(path) as file:
      json.dump(list(labels), file, ensure_ascii=False, indent=2)
      file.write("\n")


def _huggingface(folder: str, source: Source, settings: Options) -> list[str]:
  specials: dict[str, int] = {}
  if source.labels:
    _require_one_label(source)
  if source.tokenizer_file:
    tokenizer = source.tokenizer()
    longest = source.config.max_position_embeddings
    huggingface_tokenizer.write(
      folder,
      tokenizer,
      source.tokenizer_file,
      _length(source, settings) if source.labels else longest,
    )
    specials = {
      name: number
      for name, (number, _) in huggingface_tokenizer.special_pieces(
        tokenizer
      ).items()
    }
  huggingface.write(
    folder,
    source.parts,
    source.config,
    labels=source.labels,
    specials=specials,
  )
  if huggingface.config(folder) != dataclasses.replace(source.config, inert=()):
    raise options.InputError(
      "the model's config in config.json", "another one", "report it"
    )
  arrays, _ = huggingface.read(folder)
  return [_plain(arrays, source), *_same_ids(folder, source)]


def _same_ids(folder: str, source: Source) -> list[str]:
  """Holds tokenizer.json against the model, by its own library."""
  if not source.tokenizer_file:
    return []
  path = os.path.join(folder, huggingface.FAST_TOKENIZER)
  theirs = tokenizers.Tokenizer.from_file(path)
  texts = [*foreign_text.SENTENCES, *_AWKWARD]
  expected = source.tokenizer().encode(texts)
  for text, ids in zip(texts, expected, strict=True):
    if theirs.encode(text, add_special_tokens=False).ids != ids.tolist():
      raise options.InputError(
        f"the ids of {text!r} from tokenizer.json", "others", "report it"
      )
  return [
    f"ids of tokenizer.json: equal on {len(texts)} texts",
    *huggingface_tokenizer.limits(
      source.tokenizer_file, source.tokenizer().settings
    ),
  ]


# What tokenizers treat differently: decomposed letters, white space, emoji.
_AWKWARD = (
  "", " ", "саи\u0306н  байна\tуу", "Е\u0308ЛКА ХОЁР", "\u200bа\u00a0б ", "А\u0301",
  "☺️ 👨‍👩‍👧 №5 Ⅳ", "ааааа", "▁а▁",
)  # fmt: skip


def _require_one_label(source: Source) -> None:
  kind = source.parameters.get("label_type", "class")
  if not source.labels or kind != "class":
    raise options.InputError(
      "a classifier that gives one label a text",
      f"{kind} of"
      if source.labels
      else f"a pretrained model in {source.folder}",
      "export it as weights"
      if source.labels
      else "give a classifier, or --to=encoder",
    )


def _saved_model(folder: str, source: Source, settings: Options) -> list[str]:
  _require_one_label(source)
  temperature = float(source.parameters.get("temperature", 1.0))
  length = _length(source, settings)
  text_to_ids = serving.TextToIds(
    source.tokenizer(), source.tokenizer_file, length
  )
  serving.save_classifier(
    folder, source.model, text_to_ids, source.labels, temperature
  )
  served = tf.saved_model.load(folder).signatures["serving_default"]
  texts = _texts()
  found = served(texts=tf.constant(texts))
  ids, mask = _framed(source, texts, length)
  logits = serving.logits_of(source.model)(ids, mask).numpy()
  expected = {"logits": logits, "probabilities": _softmax(logits / temperature)}
  given = {name: found[name].numpy() for name in expected}
  best = [source.labels[i] for i in logits.argmax(1)]
  if [label.decode() for label in found["labels"].numpy()] != best:
    raise options.InputError("the model's labels", "others", "report it")
  return [_compared("serving_default", given, expected)]


def _encoder(folder: str, source: Source, settings: Options) -> list[str]:
  length = _length(source, settings)
  text_to_ids = None
  if source.tokenizer_file and not tokenization.is_wordpiece(
    source.tokenizer_file
  ):
    text_to_ids = serving.TextToIds(
      source.tokenizer(), source.tokenizer_file, length
    )
  serving.save_encoder(folder, source.model.encoder, length, text_to_ids)
  loaded = tf.saved_model.load(folder)
  texts = _texts()
  ids, mask = _framed(source, texts, length)
  if text_to_ids:
    found = loaded(tf.constant(texts))
  else:
    given = (ids, mask, np.zeros_like(ids))
    found = loaded(
      dict(zip(serving.ENCODER_INPUTS, map(tf.constant, given), strict=True))
    )
  encoded = source.model.encoder(ids, mask, np.zeros_like(ids))
  real = mask.astype(bool)
  expected = {
    "pooled": encoded.pooled_output.numpy(),
    "sequence": encoded.sequence_output.numpy()[real],
  }
  ours = {
    "pooled": found["pooled_output"].numpy(),
    "sequence": found["sequence_output"].numpy()[real],
  }
  return [_compared("the SavedModel", ours, expected)]


def _tflite(folder: str, source: Source, settings: Options) -> list[str]:
  _require_one_label(source)
  length = _length(source, settings)
  tokenizer = source.tokenizer()
  quantized = settings.to == "tflite_int8"
  content = serving.tflite(
    source.model, tokenizer.pad_id, settings.batch_size, length, quantized
  )
  path = os.path.join(folder, serving.TFLITE)
  with storage.writing(path, "wb") as file:
    file.write(content)
  name = os.path.basename(source.tokenizer_file)
  storage.copy(source.tokenizer_file, os.path.join(folder, name))
  _write_labels(folder, source.labels)
  ids, mask = _framed(source, _texts(), length)
  expected = serving.logits_of(source.model)(ids, mask).numpy()
  found = serving.LiteClassifier(storage.read_bytes(path)).logits(ids)
  same = int((found.argmax(1) == expected.argmax(1)).sum())
  agreement = f"labels: {same} of {len(ids)} sentences as the original's"
  if not quantized:
    given = {"logits": found}
    outputs = _compared(serving.TFLITE, given, {"logits": expected})
    return [outputs, agreement]
  apart = np.abs(_softmax(found) - _softmax(expected)).max()
  lines = [f"probabilities: {apart:.3f} apart at most", agreement]
  if settings.eval_file:
    lines.append(_accuracies(content, source, settings))
  return lines


def _accuracies(content: bytes, source: Source, settings: Options) -> str:
  """Measures a TFLite classifier and the original on labelled rows."""
  rows = classifier_data.read(
    settings.eval_file, settings.text_column, settings.label_column
  )
  classifier_data.check_known_labels(source.labels, rows)
  right = np.array([source.labels.index(row.label) for row in rows])
  ids, mask = _framed(
    source, [row.text for row in rows], _length(source, settings)
  )
  forward = serving.logits_of(source.model)
  exact = np.concatenate(
    [forward(ids[i : i + 32], mask[i : i + 32]) for i in range(0, len(ids), 32)]
  ).argmax(1)
  lite = serving.LiteClassifier(content).logits(ids).argmax(1)
  return (
    f"accuracy on {len(rows)} rows of {os.path.basename(settings.eval_file)}: "
    f"{(lite == right).mean():.4f}, the original's {(exact == right).mean():.4f}; "
    f"{(lite == exact).mean():.4f} of the labels are the same"
  )


_WRITERS: dict[str, Callable[[str, Source, Options], list[str]]] = {
  "weights": _weights,
  "tf1": _tf1,
  "huggingface": _huggingface,
  "saved_model": _saved_model,
  "tflite": _tflite,
  "tflite_int8": _tflite,
  "encoder": _encoder,
}


def _texts() -> list[str]:
  return [*foreign_text.SENTENCES, *_AWKWARD]


def _framed(
  source: Source, texts: Sequence[str], length: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns ids and mask, int32 [texts, length]; of random pieces where there
  is no tokenizer."""
  if not source.tokenizer_file:
    draw = np.random.default_rng(0)
    shape = (len(texts), length)
    ids = draw.integers(0, source.config.vocab_size, shape, np.int32)
    return ids, np.ones_like(ids)
  tokenizer = source.tokenizer()
  encoded, _ = length_buckets.encode(tokenizer, texts, length)
  ids = np.full((len(texts), length), tokenizer.pad_id, np.int32)
  mask = np.zeros_like(ids)
  for row, found in enumerate(encoded):
    ids[row, : len(found)], mask[row, : len(found)] = found, 1
  return ids, mask


def _outputs(source: Source) -> dict[str, np.ndarray]:
  length = min(64, source.config.max_position_embeddings)
  ids, mask = _framed(source, _texts(), length)
  return conversion.outputs(source.model, source.parts, ids, mask)


def _plain(arrays: Mapping[str, np.ndarray], source: Source) -> str:
  """Computes anew from what was written, in numpy, and compares."""
  length = min(64, source.config.max_position_embeddings)
  ids, mask = _framed(source, _texts(), length)
  plain = plain_forward.PlainModel(arrays, source.config)
  found = plain.outputs(ids, mask)
  return _compared("the arrays written", found, _outputs(source))


def _compared(
  what: str, found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]
) -> str:
  """Says how far outputs are apart.

  Raises:
    options.InputError: for more than TOLERANCE, or other outputs.
  """
  worst = 0.0
  if found.keys() != expected.keys():
    worst = np.inf
  for name in found.keys() & expected.keys():
    one, other = found[name], expected[name]
    apart = np.abs(one - other) / np.maximum(1, np.abs(other))
    # nan is further than any tolerance.
    worst = max(worst, float(np.nan_to_num(apart, nan=np.inf).max()))
  names = ", ".join(sorted(expected))
  if not worst <= TOLERANCE:
    raise options.InputError(
      f"outputs of {what} within {TOLERANCE:g} of the model's ({names})",
      f"{worst:.3g} apart",
      "report it with the config: nothing was written",
    )
  return f"outputs of {what}: {worst:.1e} apart at most ({names})"


def _softmax(logits: np.ndarray) -> np.ndarray:
  return np.exp(classifier.log_softmax(logits))
