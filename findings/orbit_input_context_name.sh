#!/usr/bin/env bash
# orbit of tf-models-official 2.20.0: an input function whose argument is not
# called input_context silently reads the global batch on each replica.
#
# orbit.utils.make_distributed_dataset gives the function a
# tf.distribute.InputContext if, by its signature, an argument is called
# `input_context`. With the argument `context` (default None) nothing is given
# and nothing is said: a function that divides a global batch of 8 by the
# context makes batches of 8 for each of two replicas, an effective batch of
# 16. Seen on 2026-12-01, two logical CPU devices:
#
#   def dataset(input_context=None)    4 and 4 examples a step
#   def dataset(context=None)          8 and 8 examples a step
#
# In the product: albert_mn calls the strategy's own
# distribute_datasets_from_function, which gives the context to any function.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
# orbit needs neither tf-models' other packages nor its dependencies.
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  tensorflow==2.20.0 tf_keras==2.20.1 absl-py==2.3.1
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
  tf-models-official==2.20.0
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PYTHON'
import orbit
import tensorflow as tf

GLOBAL_BATCH = 8


def batches(context):
  size = GLOBAL_BATCH
  if context:
    size = context.get_per_replica_batch_size(GLOBAL_BATCH)
  return tf.data.Dataset.range(64).batch(size)


def named_input_context(input_context=None):
  return batches(input_context)


def named_context(context=None):
  return batches(context)


tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for function, expected in [(named_input_context, 4), (named_context, 8)]:
  dataset = orbit.utils.make_distributed_dataset(strategy, function)
  sizes = [
    int(tf.size(part))
    for part in strategy.experimental_local_results(next(iter(dataset)))
  ]
  print(function.__name__, sizes)
  assert sizes == [expected] * 2, sizes
PYTHON
