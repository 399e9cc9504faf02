"""tf-models' TF 2 checkpoints: encoders and heads, found by how they are built.

The keys of an object-based checkpoint depend on how it was saved: the same
weight is `encoder/layer_with_weights-0/embeddings`, `model/…`, or, in a
SavedModel, `variables/0`. The graph of objects inside it does not: its edges
are the names of Python attributes, which tf-models keeps so that its older
checkpoints stay readable. So here an encoder is an object with an
`_embedding_layer` and transformer blocks, a block is an object with an
`_attention_layer` and so on, whatever path leads there.

That holds for BertEncoder, BertEncoderV2, AlbertEncoder and EncoderScaffold,
alone or in BertPretrainer, BertPretrainerV2 or BertClassifier.
"""

import collections
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import message
from tensorflow.core.protobuf import trackable_object_graph_pb2

from albert_mn import model_directory, plain_paths, tf1_checkpoints
from data_prep import options

# The key under which an object-based checkpoint tells of its objects.
OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
# An encoder's weights begin so, by the names of `tables`.
ENCODER = tf1_checkpoints.ENCODER
# The last word of what `read` leaves out: optimizers' variables, and the
# pooler of an encoder whose head has one of its own.
OPTIMIZER, IDLE_POOLER = "optimizer", "pooler_transform"

_POOLER = "bert/pooler/dense"
# The attributes of an encoder → their place in google's names.
_PARTS = {
  "_embedding_layer": "bert/embeddings/word_embeddings",
  "_position_embedding_layer": "bert/embeddings/position_embeddings",
  "_type_embedding_layer": "bert/embeddings/token_type_embeddings",
  "_embedding_norm_layer": "bert/embeddings/LayerNorm",
  "_embedding_projection": "bert/encoder/embedding_hidden_mapping_in",
  "_pooler_layer": _POOLER,
}
# The layers of a transformer block, by the places where they may be → their
# place in google's. In 2020 attention had no last layer of its own.
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
# The attributes of an encoder that hold its blocks in the order of their use.
_LISTS = ("_transformer_layers", "_hidden_layers")
# The layers of a functional model that have weights, in their order.
_LAYER = re.compile(r"layer_with_weights-(\d+)")
# The names of heads that tell the order of two segments; BertPretrainer's has
# the second one.
_SENTENCE = re.compile(
  r"(^|/)(next_sentence|sentence_order|predictions/transform/logits)/"
)


class _Graph:
  """The objects of a checkpoint, by number, and its variables.

  Args:
    reader: of the checkpoint.
  """

  def __init__(self, reader: Any):
    proto = trackable_object_graph_pb2.TrackableObjectGraph.FromString(
      reader.get_tensor(OBJECTS)
    )
    self._edges = [
      {child.local_name: child.node_id for child in node.children}
      for node in proto.nodes
    ]
    shapes = reader.get_variable_to_shape_map()
    self.keys: dict[int, str] = {}  # variable → its key in the checkpoint
    self.names: dict[int, str] = {}  # variable → its own name
    self.shapes: dict[int, list[int]] = {}
    for number, node in enumerate(proto.nodes):
      for attribute in node.attributes:
        key = attribute.checkpoint_key
        self.keys[number], self.shapes[number] = key, shapes[key]
        self.names[number] = attribute.full_name or key

  def __len__(self) -> int:
    return len(self._edges)

  def attributes(self, number: int | None) -> Mapping[str, int]:
    """Returns an object's attributes that are objects; {} of None."""
    return {} if number is None else self._edges[number]

  def at(self, start: int, *attributes: str) -> int | None:
    """Follows attributes from an object; None where one is missing."""
    number: int | None = start
    for name in attributes:
      number = None if number is None else self._edges[number].get(name)
    return number

  def variables(self, start: int) -> list[int]:
    """Returns the variables below an object, nearer ones first."""
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
    """Yields a layer's weights by google's names, below a place."""
    for name in ("kernel", "bias", "gamma", "beta"):
      if (key := self.at(layer, name)) in self.keys:
        yield f"{place}/{name}", key
    for name in ("embeddings", "_position_embeddings", "position_embeddings"):
      if (key := self.at(layer, name)) in self.keys:
        yield place, key
        return

  def layers(self, model: int) -> list[int]:
    """Returns the layers with weights of a functional model, in their order."""
    numbered = {
      int(match[1]): layer
      for name, layer in self._edges[model].items()
      if (match := _LAYER.fullmatch(name))
    }
    return [numbered[place] for place in sorted(numbered)]

  def blocks(self, encoder: int) -> list[int]:
    """Returns an encoder's blocks in the order of their use, [] for none."""
    for name in _LISTS:
      held = self.attributes(self.at(encoder, name))
      if held:
        placed = {int(n): block for n, block in held.items() if n.isdigit()}
        ordered = [placed[place] for place in sorted(placed)]
        if ordered and all(map(self.block, ordered)):
          return ordered
    return [layer for layer in self.layers(encoder) if self.block(layer)]

  def block(self, number: int) -> dict[str, int]:
    """Returns place → layer of a transformer block, {} of another object."""
    layers = {
      place: layer
      for place, paths in _BLOCK.items()
      for path in reversed(paths)
      if (layer := self.at(number, *path)) is not None
    }
    return layers if layers.keys() == _BLOCK.keys() else {}

  def encoders(self) -> list[int]:
    """Returns the objects with word embeddings and blocks."""
    return [
      number
      for number in range(len(self))
      if self.at(number, "_embedding_layer", "embeddings") in self.keys
      and self.blocks(number)
    ]


def _opened(path: str) -> tuple[Any, _Graph]:
  """Opens an object-based checkpoint.

  Raises:
    options.InputError: when it is damaged.
  """
  try:
    prefix = plain_paths.plain(model_directory.weights_prefix(path))
    reader = tf.train.load_checkpoint(prefix)
    return reader, _Graph(reader)
  except (*model_directory.UNREADABLE, message.DecodeError) as error:
    raise _damaged(path, error) from error


def _damaged(path: str, error: Exception) -> options.InputError:
  return options.InputError(
    f"a whole TF 2 checkpoint at {path}",
    str(error).split("\n", maxsplit=1)[0],
    "copy it again",
  )


def holds_encoder(path: str) -> bool:
  """Says whether an object-based checkpoint has an encoder of tf-models'.

  Raises:
    options.InputError: when it is damaged.
  """
  return bool(_opened(path)[1].encoders())


def read(path: str) -> tuple[dict[str, np.ndarray], list[str]]:
  """Returns the weights by their name in `tables`, and what was left out.

  Attention kernels stay [hidden, heads, width], so that a config with another
  number of heads does not fit.

  Raises:
    options.InputError: when the checkpoint is damaged, has several encoders, or
      one that uses its blocks in an order that no ALBERT has.
  """
  reader, graph = _opened(path)
  encoder = _encoder(graph, path)
  table = _table(graph, encoder, path)
  kinds = reader.get_variable_to_dtype_map()
  inside = set(graph.variables(encoder)) - set(table.values())
  pooler = _parts(graph, encoder).get(_POOLER)
  idle = inside & set(graph.attributes(pooler).values())
  # No weight of the encoder may be overlooked: `fill` refuses unused ones.
  table |= {
    f"bert/{graph.names[number]}": number
    for number in inside - idle
    if kinds[graph.keys[number]].is_floating
  }
  try:
    arrays = {n: reader.get_tensor(graph.keys[v]) for n, v in table.items()}
  except model_directory.UNREADABLE as error:
    raise _damaged(path, error) from error
  return arrays, _left(graph, set(table.values()), idle)


def tables(parts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
  """Returns name → variable of the encoder, its pooler and the given heads.

  The names are google-research/albert's, whose groups are BERT's layers here.

  Args:
    parts: as PretrainingModel.parts(); the heads may be left out.
  """
  return tf1_checkpoints.tables(parts, by_group=True)


def _encoder(graph: _Graph, path: str) -> int:
  """Returns the one encoder."""
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
  """Returns name → variable of the encoder and of the heads that we know."""
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
  """Returns place → layer of an encoder, blocks apart.

  AlbertEncoder has few of the attributes: there the order of layers tells.
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
  """Returns each block once; those that are shared must be neighbours."""
  distinct = list(dict.fromkeys(blocks))
  times = [blocks.count(block) for block in distinct]
  in_groups = [b for b in distinct for _ in range(times[0])]
  if list(blocks) != in_groups:
    raise options.InputError(
      f"an encoder in {path} that shares its blocks in groups of one size, as "
      "ALBERT does",
      f"the order {[distinct.index(block) for block in blocks]}",
      "give a BERT or an ALBERT",
    )
  return distinct


def _masked_lm(graph: _Graph, words: int) -> dict[str, int]:
  """Returns name → variable of the masked-LM head tied to the embeddings."""
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
  """A head on the first position.

  Attributes:
    place: of its weights in google's names.
    output: its last layer; None where the checkpoint lacks it.
    pooler: its own pooler; None where it reads the encoder's.
  """

  place: str
  output: int | None
  pooler: int | None


def _head(graph: _Graph, width: int) -> _Head:
  """Returns a classifier's head, or else that of the order of segments.

  Args:
    graph: the checkpoint.
    width: of the encoder's layers; a head with a pooler of another width is
      none that a model here has.
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
  # The checkpoint_items of a head alone.
  poolers = {
    layer
    for number in range(len(graph))
    for name, layer in graph.attributes(number).items()
    if name.endswith(".pooler_dense")
    and graph.shapes.get(graph.at(layer, "kernel") or -1) == [width, width]
  }
  return _Head("", None, poolers.pop() if len(poolers) == 1 else None)


def _candidates(graph: _Graph) -> Iterator[tuple[str, int]]:
  """Yields heads, each with the place of such a one in google's names."""
  sentence = "cls/seq_relationship/"
  for number in range(len(graph)):
    own = graph.attributes(number)
    if "classifier" in own:  # BertClassifier's
      yield "", own["classifier"]
    if "classification" in own:  # BertPretrainer's
      yield sentence, own["classification"]
    heads = graph.attributes(own.get("classification_heads"))
    yield from ((sentence, head) for head in heads.values())


def _output(graph: _Graph, head: int) -> int | None:
  """Returns the last layer of a ClassificationHead, or of a Classification."""
  projection = graph.at(head, "out_proj")
  layers = graph.layers(head)
  return layers[0] if projection is None and len(layers) == 1 else projection


def _left(graph: _Graph, used: set[int], idle: set[int]) -> list[str]:
  """Names what no part takes, and counts what is an optimizer's."""
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
