"""Exports: written aside, read back, compared with the model, put in place.

An export is moved to its final folder only after its outputs on real sentences
have agreed with those of the model. With --to=tflite_int8 the outputs may
differ: a line tells how much, and a warning is logged if fewer than 90 % of the
answers agree.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any

from albert_mn.export import (
  export_checkpoints,
  export_graphs,
  export_source,
  model_card,
)
from data_prep.base import options, shown_text
from data_prep.encoding import framing, tokenization
from data_prep.files import (
  manifest,
  manifest_fields,
  ownership,
  storage,
  whole_folders,
)

KIND = "export"

# A writer fills a folder, reads it back, and returns lines on the comparison.
_Writer = Callable[
  [str, export_source.Source, export_source.Options], list[str]
]
_WRITERS: dict[str, _Writer] = {
  "weights": export_checkpoints.weights,
  "tf1": export_checkpoints.tf1,
  "huggingface": export_checkpoints.transformers,
  "saved_model": export_graphs.saved_model,
  "tflite": export_graphs.tflite,
  "tflite_int8": export_graphs.tflite,
  "encoder": export_graphs.encoder,
}

Options = export_source.Options  # for the programs


def run(settings: Options) -> None:
  """Writes an export, compares it with the model, and puts it in place.

  Prints lines on the comparison and on the use of the export. With --model_card
  it only writes the card, README.md, into the output folder.

  Raises:
    options.InputError: when --model_dir is no whole model directory, when the
      form of export cannot hold the model, when the outputs differ, when the
      output folder holds something else than an export, and when another
      program writes there.
  """
  with ownership.owning(settings.output_dir):
    _run(settings)


def _run(settings: Options) -> None:
  storage.require_writable(settings.output_dir)
  source = export_source.opened(settings.model_dir)
  if settings.model_card:
    path = os.path.join(settings.output_dir, model_card.NAME)
    with storage.writing(path) as file:
      file.write(_card(settings, source, []))
    print(f"written to {path}")
    return
  _require_replaceable(settings)
  with whole_folders.trial(settings.output_dir) as folder:
    checked = _WRITERS[settings.to](folder, source, settings)
    with storage.writing(os.path.join(folder, model_card.NAME)) as file:
      file.write(_card(settings, source, checked))
    if settings.to != "weights":  # a model directory has a manifest
      _describe(folder, source, settings, checked)
    _put_in_place(folder, settings.output_dir)
  for line in checked:
    print(shown_text.printable(line))
  print(needed(source))
  if source.problem:
    print(long_texts(source, settings))
  if missing_baseline := lacking(source, settings):
    print(missing_baseline)
  print(f"written to {settings.output_dir}")


def lacking(source: export_source.Source, settings: Options) -> str:
  """Returns a line for the user if an export lacks the model's TF-IDF baseline.

  The result is "" if the export contains the baseline, if the model has none,
  and with --model_card.
  """
  carried = settings.to == "weights" or settings.model_card
  if carried or not (
    source.tfidf_blend and source.tfidf_blend.factors.baseline
  ):
    return ""
  return (
    "TF-IDF: the baseline that answers in the model directory (--blend) is not "
    f"in an export --to={settings.to}: it answers with the network alone"
  )


def _card(
  settings: Options, source: export_source.Source, checked: Sequence[str]
) -> str:
  """Returns the text of the export's model card, as Markdown."""
  results = settings.results_dir or os.path.dirname(
    os.path.abspath(source.folder.rstrip("/"))
  )
  length = source.config.max_position_embeddings
  if source.problem or settings.to == "encoder":
    length = source.length(settings)
  export = model_card.Export(
    to="" if settings.model_card else settings.to,
    tokenizer=needed(source),
    tokenizer_name=os.path.basename(source.tokenizer_file),
    checked=checked,
    length=length,
    batch_size=settings.batch_size,
    long_texts=long_texts(source, settings) if source.problem else "",
    lacking=lacking(source, settings),
    license_=settings.license,
    data=storage.read_text(settings.data_file) if settings.data_file else "",
    language=settings.language,
  )
  return model_card.text(
    source.described, source.config, source.labels, export, results
  )


def needed(source: export_source.Source) -> str:
  """Returns a line for the user on the tokenizer that an export needs.

  The line names the tokenizer file's kind and hash, and how a text is
  normalised before the tokenizer.
  """
  if not source.tokenizer_file:
    return "tokenizer: not known: the model directory has none"
  kind = (
    "WordPiece"
    if tokenization.is_wordpiece(source.tokenizer_file)
    else "SentencePiece"
  )
  text = tokenization.Settings.of(source.parameters)
  inside = "none: the normalisation is inside the file"
  cleaned = (
    "; the training rows were cleaned as tweets "
    "(data_prep.classification.tweets), which is not "
    "in the export"
    if manifest_fields.Parameters.of(source.parameters).cleaning
    else ""
  )
  return (
    f"tokenizer: {kind}, sha256 "
    f"{storage.sha256(source.tokenizer_file)[:16]}; before it: "
    f"{text.described() or inside}{cleaned}"
  )


def long_texts(source: export_source.Source, settings: Options) -> str:
  """Returns a line: which parts of a long text the exported model reads."""
  length = source.length(settings)
  if source.of_pairs:
    return (
      f"of pairs longer than {length} pieces the longer text is cut first, at "
      "its end"
    )
  room = length - 2
  head, step = framing.head_pieces(room), framing.window_step(room)
  as_trained = {
    framing.HEAD: f"the first {room} pieces",
    framing.HEAD_TAIL: f"the first {head} and the last {room - head} pieces",
    framing.WINDOWS: f"windows of {room} pieces, one every {step}, the last up "
    "to the end; the answer is the mean of their outputs",
  }[source.long_text]
  start = f"of texts longer than {length} pieces"
  if settings.to in ("tf1", "huggingface") and source.long_text != framing.HEAD:
    return (
      f"{start} the beginning alone is read by others' programs; it was trained "
      f"on {as_trained}"
    )
  if settings.to.startswith("tflite"):
    return f"{start} give it, each between [CLS] and [SEP], {as_trained}"
  return f"{start} it reads {as_trained}"


def _require_replaceable(settings: Options) -> None:
  """Raises InputError for an output folder that is no earlier export.

  A new or empty folder may be written, and an export of any kind may be
  replaced. An export of the weights is a model directory, so it may replace
  one.
  """
  folder = settings.output_dir
  described = manifest.find(folder)
  kinds = export_source.KINDS if settings.to == "weights" else ()
  if described and described["kind"] in (KIND, *kinds):
    return
  if described:
    got = f"a folder of kind {described['kind']!r}"
  elif count := len(storage.names(folder)):
    got = f"{count} other files in {folder}"
  else:
    return
  raise options.InputError(
    "an --output_dir that is new, empty, or an earlier export",
    got,
    "name another folder",
  )


def _describe(
  folder: str,
  source: export_source.Source,
  settings: Options,
  checked: Sequence[str],
) -> None:
  """Writes manifest.json into the folder of an export.

  Args:
    folder: the folder of the finished export.
    source: the exported model.
    settings: the options of the export.
    checked: lines on the comparison with the model, for the manifest.
  """
  text = tokenization.Settings.of(source.parameters)
  parameters: dict[str, Any] = {
    "to": settings.to,
    **text.parameters(),
    "checked": list(checked),
  }
  if source.problem:
    stated = manifest_fields.Parameters(
      label_type=source.problem.TYPE,
      long_text=source.long_text,
      text_pair=source.of_pairs,
    ).stated()
    texts = {"long_texts": long_texts(source, settings)}
    parameters |= dict(sorted((stated | texts).items()))
  if source.problem or settings.to == "encoder":
    length = source.length(settings)
    parameters |= manifest_fields.Parameters(max_seq_length=length).stated()
  manifest.write(
    folder,
    KIND,
    parameters=parameters,
    files=storage.below(folder),
    counts=source.described["counts"],
    inputs={"model": manifest.identity(source.folder)},
  )


def _put_in_place(folder: str, target: str) -> None:
  """Moves a finished export to its final folder, replacing an earlier export.

  Args:
    folder: the finished export.
    target: the final folder, local or in a bucket.
  """
  earlier = manifest.find(target) or {"files": ()}
  ours = {manifest.NAME, model_card.NAME, *earlier["files"]}

  def is_ours(name: str) -> bool:
    return name in ours or any(file.startswith(f"{name}/") for file in ours)

  with whole_folders.replacing(target, is_ours) as aside:
    for name in storage.below(folder):
      source, place = os.path.join(folder, name), os.path.join(aside, name)
      if storage.is_remote(target):
        storage.copy(source, place)
      else:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        shutil.move(source, place)
