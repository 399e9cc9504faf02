"""Configs of models from elsewhere, and the settings that they leave open.

One name may mean two computations: "gelu" is the tanh approximation in
google-research's programs and in tf-models, but the exact function in
PyTorch's. And a config may lack a setting that no weight shows, such as the
number of heads. For each such decision a line tells the user the flag or the
key that changes it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from albert_mn.models import configs
from data_prep.base import options
from data_prep.files import json_files

# --gelu → our hidden_act.
GELUS = {"tanh": "gelu", "erf": "gelu_erf"}
_WORDS = {
  "tanh": "the tanh form of gelu",
  "erf": "the exact form of gelu, with erf",
}
# Names of a gelu in transformers and in hand-edited configs, with the same
# meaning in all programs.
SPELLINGS = {
  "gelu_accurate": "gelu",
  "gelu_erf": "gelu_erf",
  "gelu_fast": "gelu",
  "gelu_new": "gelu",
  "gelu_python": "gelu_erf",
  "gelu_python_tanh": "gelu",
  "gelu_pytorch_tanh": "gelu",
}
# Keys that change the outputs or the training but that no weight's shape
# contradicts; and embedding_size, which is often missing.
_SILENT = (
  "embedding_size",
  "layer_norm_eps",
  "num_hidden_layers",
  "num_hidden_groups",
  "inner_group_num",
  "num_attention_heads",
  "hidden_dropout_prob",
  "attention_probs_dropout_prob",
)


@dataclasses.dataclass(frozen=True)
class ReadConfig:
  """The config of another project's model, with remarks on how it was read.

  Attributes:
    config: the model's shape.
    lines: a line for the user on each setting that the file leaves open, such
      as the form of gelu.
  """

  config: configs.AlbertConfig
  lines: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Programs:
  """A family of programs that train models and write weights.

  Attributes:
    name: the name for messages.
    gelu: the function that they call "gelu": "tanh" or "erf".
    constants: keys of the config that these programs do not write, because the
      values are constants in their code.
    doubts: "ALBERT" or "BERT" → a remark on similar programs that compute
      another "gelu".
  """

  name: str
  gelu: str
  constants: tuple[str, ...] = ()
  doubts: Mapping[str, str] = dataclasses.field(default_factory=dict)


GOOGLE = Programs(
  "google-research's programs",
  "tanh",
  ("layer_norm_eps",),
  {"BERT": "those of 2018 computed the other"},
)
TF_MODELS = Programs("tf-models", "tanh", ("layer_norm_eps",))
PYTORCH = Programs("PyTorch's programs", "erf")
# PyTorch weights with a config in google-research's format, as mn-tweet-bert's.
PYTORCH_FORKS = dataclasses.replace(
  PYTORCH,
  doubts=dict.fromkeys(("ALBERT", "BERT"), "google's own compute the other"),
)


def gelu_option() -> Any:
  """Returns the field of the flag --gelu, for a dataclass of options."""
  return options.option(
    "auto",
    "Form of the gelu activation of a model from elsewhere whose config says "
    "only 'gelu'. tanh: the approximation of google-research and tf-models. "
    "erf: the exact function of PyTorch. auto: the form of the program that "
    "wrote the weights. A line of the log names the form.",
    choices=("auto", *GELUS),
  )


def of_google(
  path: str,
  family: type[configs.AlbertConfig],
  programs: Programs,
  gelu: str = "auto",
) -> ReadConfig:
  """Returns the config in a file of google-research's format.

  The activation's name is read without regard to case. A missing name means
  "gelu"; an empty name or null means no activation.

  Args:
    path: the file.
    family: AlbertConfig or BertConfig.
    programs: the programs that wrote the weights.
    gelu: the value of --gelu: "auto", "tanh" or "erf".

  Raises:
    options.InputError: when the file is damaged, or has a key or value that no
      encoder here knows.
  """
  given = json_files.read_object(path, "mend the file")
  written = given.get("hidden_act", "gelu")
  # google's get_activation ignores case, and takes "" and null for no
  # activation.
  act = written.lower() if isinstance(written, str) else written
  if act == "gelu":
    act = GELUS[programs.gelu]
  elif act is None or act == "":
    act = "linear"
  elif isinstance(act, str):
    act = SPELLINGS.get(act, act)
  config = family.from_dict({**given, "hidden_act": act}, path)
  return decided(config, given, given.get("hidden_act"), path, programs, gelu)


def decided(
  config: configs.AlbertConfig,
  values: Mapping[str, Any],
  written: str | None,
  path: str,
  programs: Programs,
  gelu: str,
) -> ReadConfig:
  """Returns a config with the form of gelu that --gelu names, and its remarks.

  With "auto", the form in `config` is kept; an activation that is no gelu is
  always kept. If the activation is a gelu, the first line of the result tells
  its form. Each further line names a key that the file should have but lacks,
  and the default in use; the keys are those of _SILENT without the constants of
  the programs.

  Args:
    config: the config as read without the flag, with the programs' own form.
    values: the keys and values of the file.
    written: the activation's name in the file; None if the file has no name.
    path: the file.
    programs: the programs that wrote the weights.
    gelu: the value of --gelu: "auto", "tanh" or "erf".
  """
  name = path.rsplit("/", 1)[-1]
  lines = []
  if config.hidden_act in GELUS.values():
    own = next(form for form, act in GELUS.items() if act == config.hidden_act)
    form = own if gelu == "auto" else gelu
    alternative = next(word for word in GELUS if word != form)
    reason = _reason(config, written, name, programs, gelu)
    lines.append(
      f"activation: {_WORDS[form]}, {reason}; --gelu={alternative} takes "
      f"{_WORDS[alternative]}"
    )
    config = dataclasses.replace(config, hidden_act=GELUS[form])
  return ReadConfig(
    config, (*lines, *_defaults(config, values, name, programs))
  )


def _reason(
  config: configs.AlbertConfig,
  written: str | None,
  name: str,
  programs: Programs,
  gelu: str,
) -> str:
  """Returns the reason for the chosen form of gelu, as part of a sentence.

  Args:
    config: the config as read without the flag.
    written: the activation's name in the file; None if the file has no name.
    name: the file's name, without folder.
    programs: the programs that wrote the weights.
    gelu: the value of --gelu: "auto", "tanh" or "erf".
  """
  if gelu != "auto":
    words = (
      f"whose hidden_act is {written!r}" if written else "without a hidden_act"
    )
    return f"by --gelu, beside {name}, {words}"
  if written is None:
    return f"the default, as {name} names no hidden_act"
  if written.lower() != "gelu":
    return f"which is {written!r} in {name}"
  doubt = programs.doubts.get(config.FAMILY, "")
  words = f"as {programs.name} compute the 'gelu' of {name}"
  return f"{words} ({doubt})" if doubt else words


def _defaults(
  config: configs.AlbertConfig,
  values: Mapping[str, Any],
  name: str,
  programs: Programs,
) -> Sequence[str]:
  """Returns a line on each setting that the file should state but does not.

  A line names the key and the default in use. The keys are those of _SILENT
  without the constants of the programs.

  Args:
    config: the config with the defaults.
    values: the keys and values of the file.
    name: the file's name, without folder.
    programs: the programs that wrote the weights.
  """
  own = {field.name for field in dataclasses.fields(config) if field.init}
  missing = [
    key
    for key in _SILENT
    if key in own and key not in values and key not in programs.constants
  ]
  return [
    f"{key}: {getattr(config, key)}, the default, as {name} names none; write "
    "another one there"
    for key in missing
  ]
