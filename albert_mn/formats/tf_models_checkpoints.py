"""TF 2 checkpoints of tf-models, read by the structure of their objects.

The keys of an object-based checkpoint depend on how it was saved: one weight
may be `encoder/layer_with_weights-0/embeddings`, `model/…`, or, in a
SavedModel, `variables/0`. The object graph inside the checkpoint does not: its
edges are names of Python attributes, which tf-models keeps so that older
checkpoints stay readable. So an encoder is recognised as an object with an
`_embedding_layer` and transformer blocks, and a block as an object with an
`_attention_layer` and the other layers of a block, wherever they are.

These encoders can be read: BertEncoder, BertEncoderV2, AlbertEncoder and
EncoderScaffold, alone or in BertPretrainer, BertPretrainerV2 or BertClassifier.
"""

import collections
import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import message
from tensorflow.core.protobuf import trackable_object_graph_pb2

from albert_mn.formats import tf1_checkpoints
from albert_mn.models import configs, model_directory, plain_paths
from data_prep.base import options

# Key of the object graph in an object-based checkpoint.
OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
# Prefix of the encoder's weights, by the names of `tables`.
ENCODER = tf1_checkpoints.ENCODER
# Last word of entries that `read` skips: variables of optimizers, and the
# pooler of an encoder whose head has a pooler of its own.
OPTIMIZER, IDLE_POOLER = "optimizer", "pooler_transform"

_POOLER = "bert/pooler/dense"
# Attribute of an encoder → prefix of its weights in google's names.
_PARTS = {
  "_embedding_layer": "bert/embeddings/word_embeddings",
  "_position_embedding_layer": "bert/embeddings/position_embeddings",
  "_type_embedding_layer": "bert/embeddings/token_type_embeddings",
  "_embedding_norm_layer": "bert/embeddings/LayerNorm",
  "_embedding_projection": "bert/encoder/embedding_hidden_mapping_in",
  "_pooler_layer": _POOLER,
}
# Prefix in google's names → attribute paths of a block's layer. In 2020
# attention had no output layer of its own.
_BLOCK: dict[str, tuple[tuple[str, ...], ...]] = {
  "attention_1/self/query": (("_attention_layer", "_query_dense"),),
  "attention_1/self/key": (("_attention_layer", "_key_dense"),),
  "attention_1/self/value": (("_attention_layer", "_value_dense"),),
  "attention_1/output/dense": (
    ("_attention_layer", "_output_dense"),
    ("_attention_output_dense",),
  ),
  "LayerNorm": (("_attention_layer_norm",),),
  "ffn_1/intermediate/dense": (("_intermediate_dense",),),
  "ffn_1/intermediate/output/dense": (("_output_dense",),),
  "LayerNorm_1": (("_output_layer_norm",),),
}
# Attributes of an encoder that list its blocks in the order of use.
_LISTS = ("_transformer_layers", "_hidden_layers")
# Attributes of a functional model's layers with weights, in their order.
_LAYER = re.compile(r"layer_with_weights-(\d+)")
# Errors of a checkpoint, or of the graph in it, that is damaged.
_UNREADABLE = (*model_directory.UNREADABLE, KeyError, message.DecodeError)
# Names of heads for the order of two segments; BertPretrainer's is the last
# one.
_SENTENCE = re.compile(
  r"(^|/)(next_sentence|sentence_order|predictions/transform/logits)/"
)


class _Graph:
  """The object graph of a checkpoint: objects are numbers from 0.

  Args:
    reader: reader of the checkpoint.

  Attributes:
    keys: number of a variable's object → the variable's key in the checkpoint.
    names: number of a variable's object → the variable's name.
    shapes: number of a variable's object → the variable's shape.

  Raises:
    ValueError, LookupError: for a graph that is damaged, or too large.
  """

  def __init__(self, reader: Any) -> None:
    proto = trackable_object_graph_pb2.TrackableObjectGraph.FromString(
      reader.get_tensor(OBJECTS)
    )
    _require_bounded(proto)
    self._edges = [
      {child.local_name: child.node_id for child in node.children}
      for node in proto.nodes
    ]
    self._listed: dict[int | None, list[int]] = {}  # list → blocks in order
    shapes = reader.get_variable_to_shape_map()
    self.keys: dict[int, str] = {}
    self.names: dict[int, str] = {}
    self.shapes: dict[int, list[int]] = {}
    for number, node in enumerate(proto.nodes):
      for attribute in node.attributes:
        key = attribute.checkpoint_key
        self.keys[number], self.shapes[number] = key, shapes[key]
        self.names[number] = attribute.full_name or key

  def __len__(self) -> int:
    return len(self._edges)

  def attributes(self, number: int | None) -> Mapping[str, int]:
    """Returns attribute name → object number, of an object; {} for None.

    Args:
      number: the number of the object, or None.
    """
    return {} if number is None else self._edges[number]

  def at(self, start: int, *attributes: str) -> int | None:
    """Follows a path of attributes from an object; returns the last object.

    The result is the object's number, or None if an attribute is missing.

    Args:
      start: the number of the first object.
      *attributes: the names of the attributes, in order.
    """
    number: int | None = start
    for name in attributes:
      number = None if number is None else self._edges[number].get(name)
    return number

  def variables(self, start: int) -> list[int]:
    """Returns the variables that can be reached from an object, nearest first.

    Args:
      start: the number of the object.

    Returns:
      the numbers of the variables' objects.
    """
    seen, waiting = {start}, collections.deque([start])
    below = []
    while waiting:
      number = waiting.popleft()
      if number in self.keys:
        below.append(number)
      new = [n for n in self._edges[number].values() if n not in seen]
      seen.update(new)
      waiting.extend(new)
    return below

  def weights(self, place: str, layer: int) -> Iterator[tuple[str, int]]:
    """Yields (google's name, variable's number) for the weights of a layer.

    Args:
      place: prefix of the names.
      layer: the number of the layer's object.
    """
    for name in ("kernel", "bias", "gamma", "beta"):
      if (key := self.at(layer, name)) in self.keys:
        yield f"{place}/{name}", key
    for name in ("embeddings", "_position_embeddings", "position_embeddings"):
      if (key := self.at(layer, name)) in self.keys:
        yield place, key
        return

  def layers(self, model: int) -> list[int]:
    """Returns the layers with weights of a Keras functional model, in order.

    Args:
      model: the number of the model's object.

    Returns:
      the numbers of the layers' objects.
    """
    numbered = {
      int(match[1]): layer
      for name, layer in self._edges[model].items()
      if (match := _LAYER.fullmatch(name))
    }
    return [numbered[place] for place in sorted(numbered)]

  def blocks(self, encoder: int) -> list[int]:
    """Returns an encoder's transformer blocks in the order of use, or [].

    Args:
      encoder: the number of the encoder's object.
    """
    for name in _LISTS:
      if ordered := self._in_list(self.at(encoder, name)):
        return ordered
    return [layer for layer in self.layers(encoder) if self.block(layer)]

  def _in_list(self, number: int | None) -> list[int]:
    """Returns the blocks in a list object; [] if it holds anything else.

    The result is cached, because many objects may share a list.
    """
    if number not in self._listed:
      held = self.attributes(number)
      placed = {int(n): block for n, block in held.items() if n.isdecimal()}
      ordered = [placed[place] for place in sorted(placed)]
      self._listed[number] = ordered if all(map(self.block, ordered)) else []
    return self._listed[number]

  def block(self, number: int) -> dict[str, int]:
    """Returns the layers of a transformer block; {} if the object is no block.

    Args:
      number: the number of the object.

    Returns:
      prefix of a layer's weights in google's names → number of the layer's
        object.
    """
    layers = {
      place: layer
      for place, paths in _BLOCK.items()
      for path in reversed(paths)
      if (layer := self.at(number, *path)) is not None
    }
    return layers if layers.keys() == _BLOCK.keys() else {}

  def encoders(self) -> list[int]:
    """Returns the numbers of the objects that are encoders.

    An encoder has word embeddings and transformer blocks.
    """
    return [
      number
      for number in range(len(self))
      if self.at(number, "_embedding_layer", "embeddings") in self.keys
      and self.blocks(number)
    ]


_MOST_OBJECTS = 100_000  # in a graph; a BERT-large with its optimizer has 5,000
_MOST_EDGES = 1_000_000


def _require_bounded(proto: Any) -> None:
  """Raises ValueError for a graph that is too large or damaged.

  A damaged graph has an edge to an object that does not exist.

  Args:
    proto: a TrackableObjectGraph.
  """
  objects = len(proto.nodes)
  edges = sum(len(node.children) for node in proto.nodes)
  if objects > _MOST_OBJECTS or edges > _MOST_EDGES:
    raise ValueError(f"a graph of {objects:,} objects and {edges:,} edges")
  if any(
    not 0 <= child.node_id < objects
    for node in proto.nodes
    for child in node.children
  ):
    raise ValueError("an edge to an object that is not there")


def _opened(path: str) -> tuple[Any, _Graph]:
  """Opens an object-based checkpoint; returns its reader and its graph.

  Raises:
    options.InputError: when the checkpoint is damaged.
  """
  with _naming_damage(path):
    prefix = plain_paths.plain(model_directory.weights_prefix(path))
    reader = tf.train.load_checkpoint(prefix)
    return reader, _Graph(reader)


@contextlib.contextmanager
def _naming_damage(path: str) -> Iterator[None]:
  """Context manager: InputError takes the place of the errors of _UNREADABLE.

  Args:
    path: the checkpoint, for the message.
  """
  try:
    yield
  except _UNREADABLE as error:
    raise options.InputError(
      f"a whole TF 2 checkpoint at {path}",
      str(error).split("\n", maxsplit=1)[0],
      "copy it again",
    ) from error


def holds_encoder(path: str) -> bool:
  """Returns whether an object-based checkpoint has an encoder of tf-models.

  Raises:
    options.InputError: when the checkpoint is damaged.
  """
  graph = _opened(path)[1]
  with _naming_damage(path):
    return bool(graph.encoders())


def read(path: str) -> tuple[dict[str, np.ndarray], list[str]]:
  """Returns the weights of a checkpoint, and lines on skipped entries.

  The weights are name → array, with the names of `tables`. A line is the name
  of a variable, or a count such as "25 x optimizer".

  Attention kernels stay [hidden, heads, width], so that a config with another
  number of heads is an error.

  Raises:
    options.InputError: when the checkpoint is damaged, has no encoder or
      several, or its encoder has too many blocks or uses them in an order that
      no ALBERT has.
  """
  reader, graph = _opened(path)
  with _naming_damage(path):
    encoder = _encoder(graph, path)
    return _read(reader, graph, encoder, path)


def _read(
  reader: Any, graph: _Graph, encoder: int, path: str
) -> tuple[dict[str, np.ndarray], list[str]]:
  """Reads the weights of one encoder and the heads; lists the skipped entries.

  Args:
    reader: reader of the checkpoint.
    graph: the object graph.
    encoder: the number of the encoder's object.
    path: the checkpoint, for messages.

  Returns:
    google's name → array, and lines such as "25 x optimizer".
  """
  table = _table(graph, encoder, path)
  kinds = reader.get_variable_to_dtype_map()
  inside = set(graph.variables(encoder)) - set(table.values())
  pooler = _parts(graph, encoder).get(_POOLER)
  idle = inside & set(graph.attributes(pooler).values())
  # All other weights of the encoder are returned too: `fill` refuses unused
  # weights.
  table |= {
    f"bert/{graph.names[number]}": number
    for number in inside - idle
    if kinds[graph.keys[number]].is_floating
  }
  arrays = {n: reader.get_tensor(graph.keys[v]) for n, v in table.items()}
  return arrays, _left(graph, set(table.values()), idle)


def tables(parts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
  """Returns part → google's name → variable, of a model's parts.

  The parts are "encoder", "pooler", and those heads that `parts` has. The names
  are google-research/albert's, for a BERT too: its layer N is
  `group_N/inner_group_0`.

  Args:
    parts: part → layer; the encoder, and any of the heads "masked_lm",
      "sentence" and "classifier".
  """
  return tf1_checkpoints.tables(parts, by_group=True)


def _encoder(graph: _Graph, path: str) -> int:
  """Returns the number of the only encoder's object in a checkpoint.

  Args:
    graph: the object graph.
    path: the checkpoint, for the message.

  Raises:
    options.InputError: when there is no encoder, or more than one.
  """
  candidates = graph.encoders()
  if len(candidates) != 1:
    raise options.InputError(
      f"one encoder in {path}",
      f"{len(candidates)}, as generator and discriminator, or two towers",
      "load it with tf-models, and save tf.train.Checkpoint(encoder=…) of the "
      "one that is wanted",
    )
  return candidates[0]


def _table(graph: _Graph, encoder: int, path: str) -> dict[str, int]:
  """Returns google's name → variable, for the encoder and the known heads.

  Args:
    graph: the object graph.
    encoder: the number of the encoder's object.
    path: the checkpoint, for messages.

  Returns:
    google's name → number of the variable's object.
  """
  table = {
    name: variable
    for place, layer in _parts(graph, encoder).items()
    for name, variable in graph.weights(place, layer)
  }
  for number, block in enumerate(_distinct(graph.blocks(encoder), path)):
    place = f"bert/encoder/transformer/group_{number}/inner_group_0"
    for inner, layer in graph.block(block).items():
      table |= dict(graph.weights(f"{place}/{inner}", layer))
  words = table[_PARTS["_embedding_layer"]]
  table |= _masked_lm(graph, words)
  head = _head(graph, width=graph.shapes[table[f"{place}/LayerNorm/beta"]][0])
  if head.pooler is not None:
    table |= dict(graph.weights(_POOLER, head.pooler))
  if head.output is not None:
    table |= {
      f"{head.place}output_weights": graph.attributes(head.output)["kernel"],
      f"{head.place}output_bias": graph.attributes(head.output)["bias"],
    }
  return table


def _parts(graph: _Graph, encoder: int) -> dict[str, int]:
  """Finds the embeddings, norm, projection and pooler of an encoder.

  The encoder's attributes name these layers (_PARTS). tf-models' AlbertEncoder
  has only few of the attributes; there the layers are recognised by their
  variables and their order. A layer that the encoder lacks is left out.

  Args:
    graph: the object graph.
    encoder: the number of the encoder's object.

  Returns:
    prefix of a layer's weights in google's names → number of the layer's
      object.
  """
  by_place = {
    place: layer
    for name, place in _PARTS.items()
    if (layer := graph.at(encoder, name)) is not None
  }
  layers, blocks = graph.layers(encoder), graph.blocks(encoder)
  first = layers.index(blocks[0]) if blocks[0] in layers else 0
  for place, layer in enumerate(layers):
    if layer in blocks or layer in by_place.values():
      continue
    own = graph.attributes(layer)
    if any("embeddings" in name for name in own):
      position = _PARTS["_position_embedding_layer"]
      taken = position in by_place
      by_place[_PARTS["_type_embedding_layer"] if taken else position] = layer
    elif "gamma" in own and place < first:
      by_place.setdefault(_PARTS["_embedding_norm_layer"], layer)
    elif "kernel" in own:
      before = "_embedding_projection" if place < first else "_pooler_layer"
      by_place.setdefault(_PARTS[before], layer)
  return by_place


def _distinct(blocks: Sequence[int], path: str) -> list[int]:
  """Returns each distinct block once, in the order of use.

  Args:
    blocks: the number of each layer's block, in the order of use.
    path: the checkpoint, for messages.

  Raises:
    options.InputError: when blocks are shared by layers that are no neighbours,
      or by groups of different sizes, or when there are more than
      configs.MOST_BLOCKS.
  """
  if len(blocks) > configs.MOST_BLOCKS:
    raise options.InputError(
      f"an encoder in {path} of at most {configs.MOST_BLOCKS:,} blocks",
      f"{len(blocks):,}",
      "give a BERT or an ALBERT",
    )
  distinct = list(dict.fromkeys(blocks))
  in_groups = [b for b in distinct for _ in range(blocks.count(distinct[0]))]
  if list(blocks) != in_groups:
    raise options.InputError(
      f"an encoder in {path} that shares its blocks in groups of one size, as "
      "ALBERT does",
      f"the order {[distinct.index(block) for block in blocks]}",
      "give a BERT or an ALBERT",
    )
  return distinct


def _masked_lm(graph: _Graph, words: int) -> dict[str, int]:
  """Returns google's name → number of the variable, for the masked-LM head.

  The head must be tied to the embeddings. The result is {} unless there is
  exactly one such head.

  Args:
    graph: the object graph.
    words: the number of the word embeddings' variable.
  """
  heads = [
    number
    for number in range(len(graph))
    if graph.at(number, "embedding_table") == words
    and graph.at(number, "dense") is not None
    and graph.at(number, "layer_norm") is not None
    and graph.at(number, "bias") in graph.keys
  ]
  if len(heads) != 1:
    return {}
  own, place = graph.attributes(heads[0]), "cls/predictions/transform"
  return {
    **dict(graph.weights(f"{place}/dense", own["dense"])),
    **dict(graph.weights(f"{place}/LayerNorm", own["layer_norm"])),
    "cls/predictions/output_bias": own["bias"],
  }


@dataclasses.dataclass(frozen=True)
class _Head:
  """A head of a checkpoint that reads the first position.

  Attributes:
    place: prefix of the head's weights in google's names.
    output: number of the output layer's object; None if the checkpoint lacks
      it.
    pooler: number of the head's own pooler; None if the head uses the encoder's
      pooler.
  """

  place: str
  output: int | None
  pooler: int | None


def _head(graph: _Graph, width: int) -> _Head:
  """Returns the classifier's head; without one, the sentence-order head.

  Without either the result has no output layer. It then has the pooler of a
  head that was saved without its output layer, if there is exactly one such
  pooler.

  Args:
    graph: the object graph.
    width: hidden_size of the encoder; heads with a pooler of another width are
      skipped, because no model here has one.
  """
  for place, head in _candidates(graph):
    pooler, output = graph.at(head, "dense"), _output(graph, head)
    kernel = graph.attributes(output).get("kernel")
    if kernel not in graph.keys or graph.shapes[kernel][0] != width:
      continue
    if not place or (
      graph.shapes[kernel][1] == 2 and _SENTENCE.search(graph.names[kernel])
    ):
      return _Head(place, output, pooler)
  # The checkpoint_items of a head without the head itself.
  poolers = {
    layer
    for number in range(len(graph))
    for name, layer in graph.attributes(number).items()
    if name.endswith(".pooler_dense")
    and graph.shapes.get(graph.at(layer, "kernel") or -1) == [width, width]
  }
  return _Head("", None, poolers.pop() if len(poolers) == 1 else None)


def _candidates(graph: _Graph) -> Iterator[tuple[str, int]]:
  """Yields the classification and sentence heads in a checkpoint.

  Args:
    graph: the object graph.

  Yields:
    (prefix of the head's weights in google's names, number of its object). The
      prefix is "" for a classifier.
  """
  sentence = "cls/seq_relationship/"
  lists: set[int | None] = set()
  for number in range(len(graph)):
    own = graph.attributes(number)
    if "classifier" in own:  # BertClassifier's
      yield "", own["classifier"]
    if "classification" in own:  # BertPretrainer's
      yield sentence, own["classification"]
    held = own.get("classification_heads")
    if held not in lists:  # many objects may share one
      lists.add(held)
      heads = graph.attributes(held)
      yield from ((sentence, head) for head in heads.values())


def _output(graph: _Graph, head: int) -> int | None:
  """Returns the number of a head's output layer; None if the object is no head.

  The classes of heads are tf-models' ClassificationHead and Classification.

  Args:
    graph: the object graph.
    head: the number of the head's object.
  """
  projection = graph.at(head, "out_proj")
  layers = graph.layers(head)
  return layers[0] if projection is None and len(layers) == 1 else projection


def _left(graph: _Graph, used: set[int], idle: set[int]) -> list[str]:
  """Returns the names of the variables that are not read.

  Variables of optimizers and of an unused pooler are not named but counted,
  such as "25 x optimizer".

  Args:
    graph: the object graph.
    used: numbers of the variables that were read.
    idle: numbers of the variables of a pooler that no head uses.
  """
  rest = {n: key for n, key in graph.keys.items() if n not in used | idle}
  of_optimizers = {n for n, key in rest.items() if "optimizer" in key.lower()}
  counters = {number: name for name, number in graph.attributes(0).items()}
  left = sorted(
    counters.get(number, graph.names[number])
    for number in rest.keys() - of_optimizers
    if counters.get(number) != "save_counter"
  )
  if idle:
    left.append(f"{len(idle)} x {IDLE_POOLER}")
  if of_optimizers:
    left.append(f"{len(of_optimizers)} x {OPTIMIZER}")
  return left
