"""The shape of a model, in google-research's JSON format.

The file name tells the family: albert_config.json or bert_config.json. Unknown
keys are errors, because a misspelt key would silently train another model.
"""

import dataclasses
import json
from typing import Any, ClassVar

from data_prep.base import options
from data_prep.files import json_files, storage

# Keys of google's published configs → the values at which they have no effect.
_INERT = {
  "down_scale_factor": (1,),
  "net_structure_type": (0,),
  "gap_size": (0,),
  "num_memory_blocks": (0,),
  "layers_to_keep": ([],),
  "directionality": ("bidi",),
}
_INERT_PREFIX = "pooler_"  # in configs of multilingual BERT; no code reads them
_ACTIVATIONS = ("gelu", "gelu_erf", "relu", "tanh", "linear")


@dataclasses.dataclass(frozen=True)
class AlbertConfig:
  """ALBERT's shape; names and defaults are google-research/albert's.

  Attributes:
    vocab_size: number of pieces.
    embedding_size: width of the factorised embedding (ALBERT, section 3.1).
    hidden_size: width of the layers.
    num_hidden_layers: number of layers, each of which applies the blocks of its
      group one after the other.
    num_hidden_groups: number of groups, a divisor of num_hidden_layers; the
      layers of a group share weights.
    inner_group_num: number of blocks inside a group.
    num_attention_heads: number of attention heads, a divisor of hidden_size.
    intermediate_size: width of the feed-forward layer.
    hidden_act: activation function. "gelu" is the tanh approximation, as in
      google's code; "gelu_erf" is the exact function, Hugging Face's "gelu".
    hidden_dropout_prob, attention_probs_dropout_prob: dropout rates. These and
      the other float values are at least 0 and below 1.
    max_position_embeddings: largest number of pieces of a sequence.
    type_vocab_size: number of segments that a sequence may have.
    initializer_range: standard deviation of the truncated normal from which the
      initial weights are drawn.
    layer_norm_eps: added to the variance in layer norms; 1e-12 in google's
      code.
    embedding_projection: whether embeddings are projected even if
      embedding_size equals hidden_size, as in transformers' AlbertModel; never
      in google's code.
    inert: (key, value) of the keys without effect, which `to_json` writes back.

  Raises:
    options.InputError: for a value of a wrong type or outside of its bounds,
      for sizes that do not divide each other as stated above, and for a model
      of more than MOST_BLOCKS blocks or 2^35 encoder weights.
  """

  FILE: ClassVar[str] = "albert_config.json"
  FAMILY: ClassVar[str] = "ALBERT"

  vocab_size: int
  embedding_size: int = 128
  hidden_size: int = 4096
  num_hidden_layers: int = 12
  num_hidden_groups: int = 1
  inner_group_num: int = 1
  num_attention_heads: int = 64
  intermediate_size: int = 16384
  hidden_act: str = "gelu"
  hidden_dropout_prob: float = 0.0
  attention_probs_dropout_prob: float = 0.0
  max_position_embeddings: int = 512
  type_vocab_size: int = 2
  initializer_range: float = 0.02
  layer_norm_eps: float = 1e-12
  embedding_projection: bool = False
  inert: tuple[tuple[str, Any], ...] = ()

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      if field.init and field.name != "inert":
        value = getattr(self, field.name)
        _check_type(field.name, value, field.type, "the config")
    if self.hidden_size % self.num_attention_heads:
      raise options.InputError(
        "a hidden_size that num_attention_heads divides",
        f"{self.hidden_size} and {self.num_attention_heads}",
        "mend the config",
      )
    if self.num_hidden_layers % self.num_hidden_groups:
      raise options.InputError(
        "num_hidden_layers that num_hidden_groups divides",
        f"{self.num_hidden_layers} and {self.num_hidden_groups}",
        "mend the config",
      )
    blocks = self.num_hidden_layers * self.inner_group_num
    if blocks > MOST_BLOCKS or self.encoder_weights > _MOST_WEIGHTS:
      raise options.InputError(
        f"a model of at most {MOST_BLOCKS:,} blocks and {_MOST_WEIGHTS:,} "
        "weights",
        f"{blocks:,} and {self.encoder_weights:,}",
        "mend the config",
      )
    if self.hidden_act not in _ACTIVATIONS:
      raise options.InputError(
        f"hidden_act to be one of {', '.join(_ACTIVATIONS)}",
        repr(self.hidden_act),
        "mend the config",
      )

  @property
  def encoder_weights(self) -> int:
    """The number of weights of the encoder, without pooler and heads.

    A weight that several layers share counts once.
    """
    hidden, embedding = self.hidden_size, self.embedding_size
    rows = self.vocab_size + self.max_position_embeddings + self.type_vocab_size
    block = (
      4 * (hidden + 1) * hidden  # query, key, value, output
      + (hidden + 1) * self.intermediate_size
      + (self.intermediate_size + 1) * hidden
      + 4 * hidden  # two norms
    )
    projection = (embedding + 1) * hidden if self.projects_embeddings else 0
    blocks = self.num_hidden_groups * self.inner_group_num
    return (rows + 2) * embedding + projection + blocks * block

  @property
  def projects_embeddings(self) -> bool:
    """Whether there is a projection between embeddings and layers."""
    return self.embedding_projection or self.embedding_size != self.hidden_size

  @classmethod
  def from_file(cls, path: str) -> "AlbertConfig":
    """Returns the config in a JSON file.

    Raises:
      options.InputError: when the file is missing or is not JSON, or when its
        content is not a config that `from_dict` accepts.
    """
    if not storage.exists(path):
      raise options.InputError(
        "a JSON config of the model", f"no file at {path!r}", "mend the path"
      )
    return cls.from_dict(json_files.read(path, "mend the file"), path)

  @classmethod
  def from_dict(cls, values: Any, origin: str) -> "AlbertConfig":
    """Returns the config that JSON values describe.

    Keys without effect in google's published configs become `inert`. A missing
    key gets its default.

    Args:
      values: the content of a JSON file.
      origin: the file, as error messages name it.

    Raises:
      options.InputError: when the content is no object, has no vocab_size, has
        an unknown key, or has a value that the class does not accept.
    """
    if not isinstance(values, dict):
      raise options.InputError(
        f"a JSON object in {origin}", type(values).__name__, "mend the file"
      )
    inert = {name: v for name, v in values.items() if _is_inert(name, v)}
    known = {f.name: f.type for f in dataclasses.fields(cls) if f.init}
    del known["inert"]
    rest = {name: v for name, v in values.items() if name not in inert}
    for name, value in rest.items():
      if name not in known:
        raise options.InputError(
          f"keys of {cls.FAMILY}'s config in {origin}",
          f"{name}={json_files.shown(value)}",
          "take it out, or mend its spelling or value",
        )
      _check_type(name, value, known[name], origin)
    if "vocab_size" not in rest:
      raise options.InputError(
        f"vocab_size in {origin}", "none", "set it to the tokenizer's"
      )
    return cls(**rest, inert=tuple(sorted(inert.items())))

  def to_json(self) -> str:
    """Returns the config in google-research's JSON format.

    The keys are sorted, and include the inert ones. layer_norm_eps and
    embedding_projection, which google-research's code does not know, are left
    out if they have their defaults.
    """
    values = {
      f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init
    }
    values.update(dict(values.pop("inert")))
    if self.layer_norm_eps == 1e-12:
      del values["layer_norm_eps"]  # unknown to google-research's code
    if not self.embedding_projection:
      values.pop("embedding_projection", None)  # unknown to it too
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


@dataclasses.dataclass(frozen=True)
class BertConfig(AlbertConfig):
  """BERT's shape; names and defaults are google-research/bert's.

  For the encoder, BERT is an ALBERT whose layers share no weights and whose
  embedding_size equals hidden_size. So embedding_size, num_hidden_groups
  (num_hidden_layers), inner_group_num (1) and embedding_projection (False) are
  computed: they are no arguments of the constructor and no keys of the JSON.
  """

  FILE: ClassVar[str] = "bert_config.json"
  FAMILY: ClassVar[str] = "BERT"

  embedding_size: int = dataclasses.field(init=False, default=0)
  hidden_size: int = 768
  num_hidden_groups: int = dataclasses.field(init=False, default=1)
  inner_group_num: int = dataclasses.field(init=False, default=1)
  embedding_projection: bool = dataclasses.field(init=False, default=False)
  num_attention_heads: int = 12
  intermediate_size: int = 3072
  hidden_dropout_prob: float = 0.1
  attention_probs_dropout_prob: float = 0.1
  type_vocab_size: int = 16

  def __post_init__(self) -> None:
    object.__setattr__(self, "embedding_size", self.hidden_size)
    object.__setattr__(self, "num_hidden_groups", self.num_hidden_layers)
    super().__post_init__()


FAMILIES: tuple[type[AlbertConfig], ...] = (AlbertConfig, BertConfig)


def _is_inert(name: str, value: Any) -> bool:
  return name.startswith(_INERT_PREFIX) or value in _INERT.get(name, ())


_KINDS = {
  int: "a whole number",
  float: "a number of at least 0 and below 1",
  str: "a string",
  bool: "true or false",
}
# The largest sizes that are accepted, far above any published model of these
# families. A larger number is a typing error, or an attempt to exhaust memory.
_LARGEST = {
  "vocab_size": 1 << 23,
  "max_position_embeddings": 1 << 20,
  "type_vocab_size": 1 << 10,
  "num_hidden_layers": 1 << 10,
  "num_hidden_groups": 1 << 10,
  "inner_group_num": 1 << 10,
}
_LARGEST_WIDTH = 1 << 17
# Of the whole model, since each size may be large alone. Megatron's BERT of
# 2019, the largest, has 48 blocks and 3.9 billion weights.
MOST_BLOCKS = 1 << 10
_MOST_WEIGHTS = 1 << 35


def _check_type(name: str, value: Any, kind: Any, origin: str) -> None:
  """Raises InputError if a value is not of a config key's type and range.

  An int must be from 1 to the key's largest size. A float must be at least 0
  and below 1; the file may have a whole number in its place.

  Args:
    name, value: the key and its value.
    kind: int, float, str or bool.
    origin: the file, as the error message names it.
  """
  largest = _LARGEST.get(name, _LARGEST_WIDTH)
  right = {
    int: (
      isinstance(value, int)
      and not isinstance(value, bool)
      and 0 < value <= largest
    ),
    float: (
      isinstance(value, int | float)
      and not isinstance(value, bool)
      and 0 <= value < 1
    ),
    str: isinstance(value, str),
    bool: isinstance(value, bool),
  }[kind]
  if not right:
    bounds = f" from 1 to {largest}" if kind is int else ""
    raise options.InputError(
      f"{name} in {origin} to be {_KINDS[kind]}{bounds}",
      json_files.shown(value),
      "mend the config",
    )
