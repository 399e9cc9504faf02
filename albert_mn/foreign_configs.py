"""The shape of a model from elsewhere, and what of it had to be decided.

Two programs mean two computations by one name: "gelu" is the tanh form to
google-research's programs and to tf-models, the exact form to PyTorch's. And a
config may leave out what no weight shows, such as the number of heads. Each
such decision is a line that names the flag or the key that changes it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from albert_mn import configs
from data_prep import json_files, options

# --gelu → our hidden_act.
GELUS = {"tanh": "gelu", "erf": "gelu_erf"}
_WORDS = {
  "tanh": "the tanh form of gelu",
  "erf": "the exact form of gelu, with erf",
}
# What transformers, and those who edited a config by hand, call one of the two
# whoever computes.
SPELLINGS = {
  "gelu_accurate": "gelu", "gelu_erf": "gelu_erf", "gelu_fast": "gelu",
  "gelu_new": "gelu", "gelu_python": "gelu_erf", "gelu_python_tanh": "gelu",
  "gelu_pytorch_tanh": "gelu",
}  # fmt: skip
# Keys that change a model's outputs, or its training, and that no weight's
# shape contradicts; and embedding_size, which is often left out.
_SILENT = (
  "embedding_size", "layer_norm_eps", "num_hidden_layers", "num_hidden_groups",
  "inner_group_num", "num_attention_heads", "hidden_dropout_prob",
  "attention_probs_dropout_prob",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Found:
  """A model's shape, and the decisions in it.

  Attributes:
    config: the shape.
    lines: for the user, a decision each.
  """

  config: configs.AlbertConfig
  lines: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Programs:
  """Programs that train models and write them.

  Attributes:
    name: for messages.
    gelu: "tanh" or "erf", the form that they compute for "gelu".
    constants: keys that stand in their code, and in none of their configs.
    doubts: who computes "gelu" otherwise though much looks alike, by family.
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
# With a config in google-research's format, as mn-tweet-bert's.
PYTORCH_FORKS = dataclasses.replace(
  PYTORCH,
  doubts=dict.fromkeys(("ALBERT", "BERT"), "google's own compute the other"),
)


def gelu_option() -> Any:
  """Returns the field --gelu of a class of options."""
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
) -> Found:
  """Reads a config in google-research's format.

  Args:
    path: the file.
    family: ALBERT or BERT.
    programs: whose weights lie beside it.
    gelu: of `gelu_option`.

  Raises:
    options.InputError: when it is damaged, or names a key or value that no
      encoder here knows.
  """
  given = json_files.read_object(path, "mend the file")
  written = given.get("hidden_act", "gelu")
  # google's get_activation heeds no case, and takes "" and null for none.
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
) -> Found:
  """Applies --gelu to a config, and says what was decided in it.

  Args:
    config: as its file is to be read without the flag.
    values: the keys that the file holds.
    written: the activation's name there, None where it has none.
    path: the file.
    programs: who wrote the weights.
    gelu: of `gelu_option`.
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
  return Found(config, (*lines, *_defaults(config, values, name, programs)))


def _reason(
  config: configs.AlbertConfig,
  written: str | None,
  name: str,
  programs: Programs,
  gelu: str,
) -> str:
  if gelu != "auto":
    said = (
      f"whose hidden_act is {written!r}" if written else "without a hidden_act"
    )
    return f"by --gelu, beside {name}, {said}"
  if written is None:
    return f"the default, as {name} names no hidden_act"
  if written.lower() != "gelu":
    return f"which is {written!r} in {name}"
  doubt = programs.doubts.get(config.FAMILY, "")
  said = f"as {programs.name} compute the 'gelu' of {name}"
  return f"{said} ({doubt})" if doubt else said


def _defaults(
  config: configs.AlbertConfig,
  values: Mapping[str, Any],
  name: str,
  programs: Programs,
) -> Sequence[str]:
  """Says which silent keys are not in a file, a line each."""
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
