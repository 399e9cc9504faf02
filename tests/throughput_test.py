"""Tests a step's counted operations against its graph, and what is logged."""

import http.server
import itertools
import math
import threading
import time
from collections.abc import Iterator

import pytest
import tensorflow as tf

from albert_mn.models import configs, pretraining
from albert_mn.runtime import throughput
from data_prep.files import records

_SHAPE = dict(
  vocab_size=60,
  embedding_size=12,
  hidden_size=24,
  num_hidden_layers=4,
  num_hidden_groups=2,
  inner_group_num=2,
  num_attention_heads=3,
  intermediate_size=40,
  max_position_embeddings=16,
  type_vocab_size=2,
)


def _products(graph: tf.Graph) -> float:
  """Returns the sum of the operations of all matrix products in a graph."""
  total = 0
  for node in graph.get_operations():
    shapes = [x.shape.as_list() for x in node.inputs]
    if node.type == "Einsum":
      terms = node.get_attr("equation").decode().split("->")[0].split(",")
      sizes = {
        letter: size
        for term, shape in zip(terms, shapes, strict=True)
        for letter, size in zip(term, shape, strict=True)
      }
      total += 2 * math.prod(sizes.values())
    elif node.type == "MatMul":
      inner = shapes[0][0 if node.get_attr("transpose_a") else 1]
      total += 2 * inner * math.prod(node.outputs[0].shape.as_list())
    else:
      assert "MatMul" not in node.type, node.type
  return float(total)


@pytest.mark.parametrize("family", [configs.AlbertConfig, configs.BertConfig])
def test_a_steps_arithmetic_is_that_of_its_graph(
  family: type[configs.AlbertConfig],
) -> None:
  shape = {
    name: size
    for name, size in _SHAPE.items()
    if family is configs.AlbertConfig
    or name not in ("embedding_size", "num_hidden_groups", "inner_group_num")
  }
  config = family.from_dict(shape, "the test")
  batch, length, predictions = 5, 16, 3
  model = pretraining.PretrainingModel(config, seed=1)

  def ints(*dimensions: int) -> tf.TensorSpec:
    return tf.TensorSpec(dimensions, tf.int32)

  @tf.function
  def gradients(features: dict[str, tf.Tensor]) -> list[tf.Tensor]:
    with tf.GradientTape() as tape:
      sums = pretraining.losses(model(features), features)
      loss = sums.masked_lm_loss_sum + sums.sentence_loss_sum
    return tape.gradient(loss, model.trainable_variables)

  graph = gradients.get_concrete_function(
    {
      records.INPUT_IDS: ints(batch, length),
      records.INPUT_MASK: ints(batch, length),
      records.SEGMENT_IDS: ints(batch, length),
      records.MASKED_LM_POSITIONS: ints(batch, predictions),
      records.MASKED_LM_IDS: ints(batch, predictions),
      records.MASKED_LM_WEIGHTS: tf.TensorSpec((batch, predictions)),
      records.NEXT_SENTENCE_LABELS: ints(batch),
    }
  ).graph
  # tf-models looks segments up by a product with two rows: no arithmetic
  # that the model asks for. Forward, and the gradient of the table.
  lookups = 2 * 2 * batch * length * 2 * config.embedding_size
  expected = throughput.step_flops(config, batch, length, predictions)
  assert _products(graph) - lookups == expected


def _work(**more: float | None) -> throughput.Work:
  given = dict(
    steps=300,
    sequences=32,
    positions=64,
    filled=0.75,
    examples=640,
    flops=2e9,
    peak=1e11,
    input_seconds=0.002,
  )
  return throughput.Work(**{**given, **more})  # type: ignore[arg-type]


def test_speed_is_counted_from_where_the_log_began() -> None:
  clock = iter([100.0, 102.0])
  meter = throughput.Meter(_work(), lambda: next(clock))
  meter.begin(80)
  metrics = meter.metrics(100)  # 20 steps in 2 seconds
  assert metrics == pytest.approx(
    {
      "epochs": 5.0,
      "tokens": 100 * 32 * 48,
      "sequences_per_second": 320.0,
      "tokens_per_second": 320 * 48,
      "input_share": 0.02,
      "mfu": 0.2,
    }
  )
  assert meter.text(100, metrics) == (
    "5.00 epochs, 153,600 tokens; 320 sequences/s, 15,360 tokens/s, "
    "20 % of the peak, input 2.0 % of a step; 0m20s left"
  )


def test_what_is_not_known_is_not_said() -> None:
  clock = iter([0.0, 10.0])
  meter = throughput.Meter(_work(filled=None, peak=0), lambda: next(clock))
  meter.begin(0)
  metrics = meter.metrics(2000)
  assert "mfu" not in metrics
  said = meter.text(2000, metrics)
  assert "4.10 million positions; " in said
  assert " positions/s, input" in said


@pytest.mark.parametrize(
  ("accelerator", "peak"),
  [
    ("v3-8", 4 * 123e12),
    ("v5litepod-16", 16 * 197e12),
    ("v4-8", 4 * 275e12),
    ("v9-8", 0.0),
    ("", 0.0),
  ],
)
def test_a_tpus_peak_is_that_of_its_chips(
  accelerator: str, peak: float
) -> None:
  assert throughput.tpu_peak(accelerator) == peak


class _Metadata(http.server.BaseHTTPRequestHandler):
  def do_GET(self) -> None:
    path = "/computeMetadata/v1/instance/attributes/accelerator-type"
    known = self.path == path and self.headers["Metadata-Flavor"] == "Google"
    self.send_response(200 if known else 404)
    self.end_headers()
    self.wfile.write(b"v4-8" if known else b"")

  def log_message(self, *_: object) -> None:
    """Keeps quiet."""


def test_a_tpu_vm_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.delenv("TPU_ACCELERATOR_TYPE", raising=False)
  with http.server.HTTPServer(("127.0.0.1", 0), _Metadata) as server:
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{server.server_port}")
    assert throughput.accelerator_type() == "v4-8"
    thread.join()
  assert throughput.accelerator_type() == ""  # nobody answers
  monkeypatch.setenv("TPU_ACCELERATOR_TYPE", "v3-32")
  assert throughput.accelerator_type() == "v3-32"


def test_the_peak_is_that_of_a_product_long_enough_to_time() -> None:
  began = itertools.count()
  speed = throughput.matrix_speed(lambda: 0.06 * next(began))
  assert speed == pytest.approx(2 * 512**3 / 0.06)


def _slow() -> Iterator[int]:
  time.sleep(0.5)  # opening the files
  while True:
    time.sleep(0.01)
    yield 1


def test_the_input_pipeline_is_timed_alone_and_past_its_start() -> None:
  dataset = tf.data.Dataset.from_generator(
    _slow, output_signature=tf.TensorSpec((), tf.int32)
  )
  seconds = throughput.input_seconds(dataset, parts=4, seconds=0.2)
  assert 0.03 <= seconds < 0.4  # of 0.04, and of 0.5 to begin with
