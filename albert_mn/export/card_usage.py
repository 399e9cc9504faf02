"""The section "How to use" of a model card: code that runs as it is.

Tests run every line of the code, for each form of export and kind of model.
"""

import dataclasses
import json
from typing import NamedTuple

from albert_mn.export import serving
from albert_mn.tasks import problems
from data_prep.encoding import framing, tokenization

FILL_MASK = "fill-mask"
_TEXT = "сайн байна уу"
_MASKED_TEXT = "Монгол Улсын [MASK]."


@dataclasses.dataclass(frozen=True)
class Model:
  """The facts about an exported model that its section "How to use" depends on.

  Attributes:
    to: the form of the export, a value of --to; "" for the model directory
      itself.
    task: Hugging Face's name of the task, such as text-classification.
    label_type: a classifier's label type; "" for a pretrained model.
    pairs: whether an input is a pair of texts.
    family: "ALBERT" or "BERT".
    tokenizer_name: name of the tokenizer's file in the export; "" if none.
    text: the settings by which a text is normalised before the tokenizer.
    length: largest number of pieces of an input.
    batch_size: number of texts in a batch of a TFLite file.
  """

  to: str
  task: str
  label_type: str
  pairs: bool
  family: str
  tokenizer_name: str
  text: tokenization.Settings
  length: int
  batch_size: int

  @property
  def by_words(self) -> bool:
    """Whether the tokenizer is WordPiece."""
    return tokenization.is_wordpiece(self.tokenizer_name)


class _Outputs(NamedTuple):
  """Phrases of the section that describe the outputs of a classifier.

  Attributes:
    names: the names of a SavedModel's outputs, separated by commas.
    meaning: a sentence on the meaning of a TFLite file's output.
  """

  names: str
  meaning: str


_OUTPUTS = {
  problems.CLASS: _Outputs(
    "labels, probabilities, logits",
    "Outputs are logits, of which softmax makes probabilities",
  ),
  problems.MULTI_LABEL: _Outputs(
    'labels ("" for those that a text has not), probabilities, logits',
    "Outputs are logits, of which a sigmoid makes probabilities",
  ),
  problems.REGRESSION: _Outputs("values", "The output is the number itself"),
}


def section(model: Model) -> str:
  """Returns the Markdown of "How to use" for an export, without the heading."""
  make = {
    "tf1": _tf1,
    "huggingface": _huggingface,
    "saved_model": _saved_model,
    "tflite": _tflite,
    "tflite_int8": _tflite,
    "encoder": _encoder,
  }.get(model.to, _model_directory)
  return make(model)


def _code(language: str, *lines: str) -> str:
  """Returns lines of code as a fenced code block of Markdown.

  Args:
    language: the language after the fence, such as "bash".
    *lines: the lines.
  """
  return "\n".join([f"```{language}", *lines, "```"])


def _model_directory(model: Model) -> str:
  """Returns Markdown: a command of run_classifier.py, and the columns it reads.

  For a pretrained model the command fine-tunes; for a classifier it predicts.
  """
  if not model.label_type:
    short = (
      f" --max_seq_length={model.length}"
      if model.length < framing.USUAL_LENGTH
      else ""
    )
    command = _code(
      "bash",
      "python run_classifier.py --init_checkpoint=THIS_FOLDER --do_train \\",
      f"  --do_eval --train_file=rows.tsv{short} --output_dir=run",
    )
    return f"{command}\n\n`rows.tsv` has the columns `text` and `label`."
  columns, pair = "a column `text`", ""
  if model.pairs:
    columns = "the columns `text` and `text_pair`"
    pair = " --text_pair_column=text_pair"
  command = _code(
    "bash",
    "python run_classifier.py --init_checkpoint=THIS_FOLDER --do_predict \\",
    f"  --predict_file=texts.tsv{pair} --output_dir=run",
  )
  return f"{command}\n\n`texts.tsv` has {columns}."


def _tf1(model: Model) -> str:
  """Returns the flags by which google-research's programs load an export.

  The result is Markdown.
  """
  config = "bert" if model.family == "BERT" else "albert"
  sentences = [
    f"`THIS_FOLDER/model.ckpt` is the `--init_checkpoint` of "
    f"google-research/{config}'s programs, and `{config}_config.json` of this "
    f"folder their `--{config}_config_file`."
  ]
  if model.tokenizer_name:
    flag = "--vocab_file" if model.by_words else "--spm_model_file"
    sentences.append(f"`{model.tokenizer_name}` is their `{flag}`.")
  if model.tokenizer_name and not model.text.strip_accents:
    sentences.append(
      "Their `BasicTokenizer` strips the marks of й and ё from every text that "
      "it lower-cases: take that step out, or the ids are others."
      if model.by_words
      else "Their `preprocess_text` strips the marks of й and ё from every "
      "text: take its NFKD step out, or the ids are others."
    )
  return "\n".join(sentences)


def _huggingface(model: Model) -> str:
  """Returns Python code that loads an export with transformers, as Markdown."""
  if not model.tokenizer_name:
    return _code(
      "python",
      "import torch",
      "from transformers import AutoModel",
      "",
      'model = AutoModel.from_pretrained("THIS_FOLDER")',
      "model(input_ids=torch.tensor([[2, 3]])).last_hidden_state",
    )
  settings = {
    "fill-mask": 'tokenizer_kwargs={"truncation": True}',
    "token-classification": 'aggregation_strategy="simple"',
  }.get(model.task, "truncation=True")
  every = ", top_k=None" if model.label_type == problems.MULTI_LABEL else ""
  example = _quoted(_MASKED_TEXT if model.task == FILL_MASK else _TEXT)
  if model.pairs:
    example = f'{{"text": {example}, "text_pair": "сайн уу"}}'
  sentences = [
    f"Texts longer than {model.length} pieces are cut at their end.",
    "The tokenizer is `tokenizer.json`.",
  ]
  if model.label_type == problems.ENTITIES:
    sentences.append("Spans may begin with the space in front of them.")
  if (
    model.family == "ALBERT"
    and not model.by_words
    and not model.text.strip_accents
  ):
    sentences.append("`AlbertTokenizer` would drop the marks of й and ё.")
  code = _code(
    "python",
    "from transformers import pipeline",
    "",
    f'model = pipeline("{model.task}", "THIS_FOLDER", {settings})',
    f"model({example}{every})",
  )
  return f"{code}\n\n" + "\n".join(sentences)


def _quoted(text: str) -> str:
  """Returns a text as a string literal of Python, with its quotes."""
  return json.dumps(text, ensure_ascii=False)


_TENSORFLOW = (
  "import tensorflow as tf",
  "import tensorflow_text  # its operations",
  "",
)


def _saved_model(model: Model) -> str:
  """Returns Python code that calls a SavedModel classifier, as Markdown.

  The input of the classifier is strings.
  """
  pair = ', text_pairs=tf.constant(["сайн уу"])' if model.pairs else ""
  code = _code(
    "python",
    *_TENSORFLOW,
    'loaded = tf.saved_model.load("THIS_FOLDER")',
    'model = loaded.signatures["serving_default"]',
    f"model(texts=tf.constant([{_quoted(_TEXT)}]){pair})",
  )
  return f"{code}\n\nIt gives {_OUTPUTS[model.label_type].names}."


def _tflite(model: Model) -> str:
  """Returns Markdown: sentences on the inputs and outputs of a TFLite file."""
  shape = f"int32 [{model.batch_size}, {model.length}]"
  pair = "the second text's pieces, `[SEP]`, " if model.pairs else ""
  sentences = [
    f"Inputs are ids, {shape}: `[CLS]`, the pieces of "
    f"`{model.tokenizer_name}`, `[SEP]`, {pair}then the pad id."
  ]
  if model.pairs:
    sentences.append(
      "Segment ids, of the same shape, are 1 from the second text to its `[SEP]`."
    )
  sentences.append(
    f"{_OUTPUTS[model.label_type].meaning}; `labels.json` names them in their "
    "order."
  )
  return "\n".join(sentences)


def _encoder(model: Model) -> str:
  """Returns code that calls an encoder with strings and with ids, as Markdown.

  Without a tokenizer it calls the encoder with ids only.
  """
  names = ", ".join(_quoted(name) for name in serving.ENCODER_INPUTS)
  lines = [*_TENSORFLOW, 'encoder = tf.saved_model.load("THIS_FOLDER")']
  if model.tokenizer_name:
    lines.append(f'encoder(tf.constant([{_quoted(_TEXT)}]))["pooled_output"]')
  lines += [
    "",
    f"ids = tf.pad([[2, 3]], [[0, 0], [0, {model.length - 2}]])",
    f"inputs = dict(zip([{names}], [ids, tf.minimum(ids, 1), 0 * ids]))",
    'encoder(inputs)["pooled_output"]',
  ]
  return _code("python", *lines)
