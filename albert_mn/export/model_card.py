"""The model card: README.md of a model, from its manifest and its results.

The card has the sections of ALBERT-Mongolian's card. Information that no file
holds is marked as missing.
"""

import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from albert_mn.export import card_usage
from albert_mn.models import configs, model_directory
from albert_mn.scoring import degenerate_runs
from albert_mn.tasks import blend, problems
from data_prep.base import shown_text
from data_prep.encoding import tokenization
from data_prep.files import manifest_fields, storage

NAME = "README.md"

_MARKUP = re.compile(r"([\\`*\[\]<>|])")  # Markdown's markup, within JSON
_MISSING = "*Not known: no file beside the model says it.*"
_RESULTS, _REPORT = "eval_results.txt", "report.txt"
# Parameters of a manifest that are not in the card's table of settings.
_NO_SETTINGS = {"checked", "to", "learnt_nothing"}


@dataclasses.dataclass(frozen=True)
class Export:
  """The facts about an export that the card shows.

  Attributes:
    to: the form of the export; "" if only the card is written.
    tokenizer: a line on the tokenizer and the normalisation before it.
    tokenizer_name: name of the tokenizer's file; "" if there is none.
    checked: lines on the comparison with the model.
    length: largest number of pieces of an input.
    batch_size: number of texts in a batch, for a form with fixed shapes.
    long_texts: a line on the parts of long texts that the export reads; "" for
      a pretrained model.
    lacking: a line on the TF-IDF baseline that the export lacks; "" if it lacks
      none.
    license_, data: the user's text for these sections; "" if not given.
    language: language code.
  """

  to: str
  tokenizer: str
  tokenizer_name: str
  checked: Sequence[str]
  length: int
  batch_size: int
  long_texts: str
  lacking: str
  license_: str
  data: str
  language: str


class _Words(NamedTuple):
  """Phrases of the card that depend on the kind of model.

  Attributes:
    task: Hugging Face's name of the task.
    what: a description of the model, with {n} for the number of outputs.
    limit: a sentence on a limit of the model's answers; "" for none.
  """

  task: str
  what: str
  limit: str = ""


_PRETRAINED = _Words(card_usage.FILL_MASK, "A pretrained encoder")
_KINDS = {
  problems.CLASS: _Words(
    "text-classification",
    "A classifier of texts into {n} labels",
    "Knows its labels alone: a text of none of them gets one all the same.",
  ),
  problems.MULTI_LABEL: _Words(
    "text-classification",
    "A classifier of texts, each of which may have any of {n} labels",
    "Knows its labels alone, each for itself.",
  ),
  problems.REGRESSION: _Words(
    "text-classification",
    "A regression: of a text a number",
    "Gives a number for any text, whatever it is about.",
  ),
  problems.ENTITIES: _Words(
    "token-classification",
    "A tagger of named entities, by {n} tags of pieces",
    "Knows its types of entities alone.",
  ),
}


def _words(described: Mapping[str, Any], labels: Sequence[str]) -> _Words:
  """Returns the phrases of the card for a model.

  Args:
    described: the content of the model's manifest.
    labels: the model's labels; () for a pretrained model.
  """
  if not labels:
    return _PRETRAINED
  return _KINDS[_label_type(described)]


def _label_type(described: Mapping[str, Any]) -> str:
  """Returns the label type that a model's manifest states, or else "class"."""
  parameters = manifest_fields.Parameters.of(described["parameters"])
  return parameters.label_type or problems.CLASS


def text(
  described: Mapping[str, Any],
  config: configs.AlbertConfig,
  labels: Sequence[str],
  export: Export,
  results_dir: str,
) -> str:
  """Returns the card as Markdown.

  Args:
    described: the model directory's manifest.
    config: the model's shape.
    labels: a classifier's labels; () for a pretrained model.
    export: the facts about the export.
    results_dir: the folder of eval_results.txt and report.txt, if they exist.
  """
  results = read_results(results_dir)
  sections = {
    "Description": _description(described, config, labels),
    "Data": export.data or f"{_MISSING}\n\n{_origin(described)}",
    "Evaluation": _evaluation(described, results),
    "Fine-tuning report": _report(labels, results_dir),
    "How to use": _how_to_use(described, config, labels, export),
    "Checked": "\n".join(f"- {line}" for line in export.checked) or _MISSING,
    "Limits": _limits(described, labels, export),
    "Citation": _citation(config),
  }
  body = "\n\n".join(f"## {name}\n\n{part}" for name, part in sections.items())
  title = f"# {config.FAMILY}" + (
    f": {', '.join(map(shown_text.markdown, labels))}" if labels else ""
  )
  matter = _front_matter(described, labels, results, export)
  return f"{matter}\n{title}\n\n{body}\n"


def read_results(folder: str) -> dict[str, str]:
  """Returns name → value of eval_results.txt; {} if there is no such file.

  Lines without " = " are left out.
  """
  path = os.path.join(folder, _RESULTS)
  if not storage.exists(path):
    return {}
  pairs = (
    line.split(" = ", 1) for line in storage.lines(path) if " = " in line
  )
  return dict(pairs)


def _front_matter(
  described: Mapping[str, Any],
  labels: Sequence[str],
  results: Mapping[str, str],
  export: Export,
) -> str:
  """Returns Hugging Face's metadata for the head of the card, as YAML.

  Strings are written as JSON, which is valid YAML. A classifier's accuracy is
  included if eval_results.txt is of the step at which the model was saved.
  """
  task = _words(described, labels).task
  lines = ["---", f"language: {export.language}"]
  if export.to == "huggingface":
    lines.append("library_name: transformers")
  if export.license_:
    lines.append(f"license: {json.dumps(export.license_, ensure_ascii=False)}")
  lines.append(f"pipeline_tag: {task}")
  # An export without the TF-IDF baseline has the network's score.
  name = "network_accuracy" if export.lacking else "eval_accuracy"
  accuracy = results.get(name)
  if labels and accuracy and _is_of(described, results):
    origin = described["inputs"].get("training_rows", "")[:16] or "unknown"
    lines += [
      "model-index:",
      "- name: " + json.dumps(f"classifier of rows {origin}"),
      "  results:",
      "  - task:",
      f"      type: {task}",
      "    dataset:",
      "      type: held-out-rows",
      "      name: held-out rows",
      "    metrics:",
      "    - type: accuracy",
      f"      value: {float(accuracy):.6f}",
    ]
  return "\n".join([*lines, "---"])


def _description(
  described: Mapping[str, Any],
  config: configs.AlbertConfig,
  labels: Sequence[str],
) -> str:
  """Returns the section on a model's task, shape and settings, as Markdown."""
  step = manifest_fields.Counts.of(described["counts"]).global_step
  what = _words(described, labels).what.format(n=len(labels))
  lines = [
    f"{what}: {config.FAMILY} of {config.num_hidden_layers} layers of "
    f"{config.hidden_size} units, {config.num_attention_heads} heads, "
    f"embeddings of {config.embedding_size}, {config.vocab_size:,} pieces, "
    f"{config.max_position_embeddings} positions.",
    f"Steps of the last training: {step:,}."
    if step
    else "Steps of training: not known.",
  ]
  settings = {
    n: v for n, v in described["parameters"].items() if n not in _NO_SETTINGS
  }
  table = ["| setting | value |", "| --- | --- |"]
  for name, value in settings.items():
    plain = name if name.isidentifier() else shown_text.markdown(name)
    table.append(f"| {plain} | {_cell(value)} |")
  return "\n".join(lines) + "\n\n" + "\n".join(table)


def _cell(value: Any) -> str:
  """Returns a value as JSON, escaped for a cell of a Markdown table."""
  text = shown_text.json_escaped(json.dumps(value, ensure_ascii=False))
  return _MARKUP.sub(r"\\\1", text)


def _origin(described: Mapping[str, Any]) -> str:
  """Returns Markdown: hashes of the inputs from which the model was made.

  The inputs are those in the manifest, such as rows and initial weights.
  """
  if not described["inputs"]:
    return "The manifest names no inputs."
  lines = [
    f"- {shown_text.markdown(name)}: {shown_text.markdown(identity[:16])}"
    for name, identity in described["inputs"].items()
  ]
  return "By their hashes it was made from:\n\n" + "\n".join(lines)


def _is_of(described: Mapping[str, Any], results: Mapping[str, str]) -> bool:
  """Returns whether eval_results.txt is of the step of the saved model.

  Args:
    described: the content of the model's manifest.
    results: name → value of eval_results.txt.
  """
  return results.get("global_step") == str(
    manifest_fields.Counts.of(described["counts"]).global_step
  )


def _evaluation(
  described: Mapping[str, Any], results: Mapping[str, str]
) -> str:
  """Returns the section with the scores of eval_results.txt, as Markdown.

  Without results, or with results of another step than the model's, the section
  says that the scores are not known.
  """
  if not results:
    return _MISSING
  if not _is_of(described, results):
    return (
      f"*Not known: the results beside the model are of step "
      f"{results.get('global_step', 'unknown')}, not of this model's.*"
    )
  lines = "\n".join(f"{name} = {value}" for name, value in results.items())
  return f"On held-out rows or documents:\n\n{_verbatim(lines)}"


def _verbatim(lines: str) -> str:
  """Returns lines as a fenced code block that the lines cannot end."""
  longest = max(map(len, re.findall("`+", lines)), default=0)
  fence = "`" * max(3, longest + 1)
  shown = shown_text.escaped(lines, kept="\n")
  return f"{fence}text\n{shown}\n{fence}"


def _report(labels: Sequence[str], results_dir: str) -> str:
  """Returns report.txt as a Markdown code block, or a sentence on its absence.

  Args:
    labels: the model's labels; empty for a model that was not fine-tuned.
    results_dir: the folder of report.txt.
  """
  if not labels:
    return "Not fine-tuned."
  path = os.path.join(results_dir, _REPORT)
  if not storage.exists(path):
    return _MISSING
  return _verbatim(storage.read_text(path).rstrip())


def _how_to_use(
  described: Mapping[str, Any],
  config: configs.AlbertConfig,
  labels: Sequence[str],
  export: Export,
) -> str:
  """Returns the section with code for the use of the export, as Markdown."""
  parameters = described["parameters"]
  usage = card_usage.section(
    card_usage.Model(
      to=export.to,
      task=_words(described, labels).task,
      label_type=_label_type(described) if labels else "",
      pairs=bool(manifest_fields.Parameters.of(parameters).text_pair),
      family=config.FAMILY,
      tokenizer_name=export.tokenizer_name,
      text=tokenization.Settings.of(parameters),
      length=export.length,
      batch_size=export.batch_size,
    )
  )
  return f"{usage}\n\n{export.tokenizer[0].upper()}{export.tokenizer[1:]}."


def _limits(
  described: Mapping[str, Any],
  labels: Sequence[str],
  export: Export,
) -> str:
  """Returns the section on the limits of the model, as Markdown."""
  read = export.long_texts or f"reads at most {export.length} pieces of a text"
  lines = [
    f"- {read[0].upper()}{read[1:]}.",
    "- Nothing is known of text of other kinds than that of the evaluation.",
  ]
  if limit := _words(described, labels).limit:
    lines.append(f"- {limit}")
  if verdict := degenerate_runs.Verdict.of(described["parameters"]):
    blended = described["parameters"].get(blend.PARAMETER, {}).get("baseline")
    what = "The network alone is of" if blended else "Of"
    lines.append(f"- {what} no use: {verdict.summary}")
  if export.lacking:
    lines.append(
      f"- {export.lacking}. Of the scores above those of the network are its own."
    )
  elif answers := described["parameters"].get(blend.PARAMETER):
    lines.append(
      "- What answers is softmax, sigmoid or the number of "
      f"{answers['network']:.3g} times the network's logits plus "
      f"{answers['baseline']:.3g} times the scores of a linear model of TF-IDF "
      f"({', '.join(model_directory.NGRAMS)})."
    )
  if tokenization.Settings.of(described["parameters"]).strip_accents:
    lines.append("- Trained on text without й and ё: they are read as и and е.")
  temperature = manifest_fields.Parameters.of(
    described["parameters"]
  ).temperature
  if temperature is not None:
    lines.append(
      f"- Calibrated: logits are divided by {temperature}"
      " before they become probabilities; in an export the weights of the head are."
    )
  return "\n".join(lines)


def _citation(config: configs.AlbertConfig) -> str:
  """Returns the section that cites the architecture's paper, as Markdown."""
  paper = {
    "ALBERT": "Zhenzhong Lan and others: ALBERT: A Lite BERT for "
    "Self-supervised Learning of Language Representations. ICLR 2020. "
    "arXiv 1909.11942.",
    "BERT": "Jacob Devlin and others: BERT: Pre-training of Deep Bidirectional "
    "Transformers for Language Understanding. NAACL 2019. arXiv 1810.04805.",
  }[config.FAMILY]
  return f"The architecture: {paper}\n\nThis model: {_MISSING}"
