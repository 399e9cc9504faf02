"""The devices of a run: one device, several GPUs, several workers, TPUs.

All other code sees only a tf.distribute strategy. The results do not depend on
the devices: batches are divided by rows, losses and gradients are summed over
all rows and divided once, and the row is part of the dropout seed.
"""

import dataclasses
import os
from typing import Any

import tensorflow as tf
from absl import logging

from albert_mn.models import number_format
from data_prep.base import options
from data_prep.files import json_files


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Command-line options: the devices of a run, and the precision."""

  distribution: str = options.option(
    "auto",
    "Devices to compute on. auto means tpu with --use_tpu or --tpu_name, "
    "multi_worker where the environment variable TF_CONFIG names several "
    "workers, mirrored on several GPUs, and one_device otherwise.",
    choices=("auto", "one_device", "mirrored", "multi_worker", "tpu"),
  )
  precision: str = options.option(
    number_format.FLOAT32,
    "Number format of the layers. bfloat16 is for TPUs and recent GPUs. "
    "The weights are float32 with either format.",
    choices=number_format.FORMATS,
  )
  use_tpu: bool = options.option(
    False,
    "Compute on a TPU, like --distribution=tpu.",
  )
  tpu_name: str = options.option(
    "",
    "Name or address of a Cloud TPU. On a TPU VM the default is local, "
    "the TPU of this machine.",
  )
  tpu_zone: str = options.option(
    "",
    "Google Cloud zone of the TPU that --tpu_name names. By default the "
    "zone of this machine.",
  )
  gcp_project: str = options.option(
    "",
    "Google Cloud project of the TPU that --tpu_name names. By default "
    "the project of this machine.",
  )
  num_tpu_cores: int = options.option(
    0,
    "Number of TPU cores that the run expects; any other number is an "
    "error. 0 accepts any number (google-research/albert: 8).",
    minimum=0,
  )
  logical_devices: int = options.option(
    1,
    "Number of logical devices into which TensorFlow divides the CPU, to "
    "try --distribution=mirrored without GPUs.",
    minimum=1,
    maximum=64,
  )
  master: str = options.ignored(
    "",
    "TensorFlow 1 named a TPU with this flag; use --tpu_name",
  )
  tpu_job_name: str = options.ignored(
    "",
    "TensorFlow 1 named the job of a TPU with this flag; use --tpu_name",
  )

  def kind(self) -> str:
    """Returns the kind of strategy that --distribution_strategy names.

    The result is "one_device", "mirrored", "multi_worker" or "tpu". auto means
    tpu with --use_tpu or --tpu_name; else multi_worker if TF_CONFIG names
    several workers; else mirrored with several GPUs or logical devices; else
    one_device.

    Raises:
      options.InputError: when TF_CONFIG is not JSON with a cluster.
    """
    if self.distribution != "auto":
      return self.distribution
    if self.use_tpu or self.tpu_name:
      return "tpu"
    cluster = _cluster()
    if len(cluster.get("worker", ())) + len(cluster.get("chief", ())) > 1:
      return "multi_worker"
    several = len(tf.config.list_physical_devices("GPU")) > 1
    return "mirrored" if several or self.logical_devices > 1 else "one_device"


def _cluster() -> dict[str, Any]:
  """Returns the cluster in TF_CONFIG, job → addresses; {} without a cluster.

  Raises:
    options.InputError: when TF_CONFIG is not JSON with a cluster.
  """
  text = os.environ.get("TF_CONFIG", "")
  try:
    return dict(json_files.parsed(text or "{}").get("cluster", {}))
  except (ValueError, AttributeError, TypeError) as error:
    raise options.InputError(
      "JSON with a cluster in TF_CONFIG", text[:80], "mend or unset it"
    ) from error


def strategy(settings: Options) -> tf.distribute.Strategy:
  """Connects to the devices and returns a strategy for them.

  The function also sets the precision of the layers. Call it before anything
  else uses a device.

  Raises:
    options.InputError: when the TPU is missing or has another number of cores
      than --num_tpu_cores, or when TF_CONFIG is damaged.
  """
  kind = settings.kind()
  if settings.logical_devices > 1:
    (cpu, *_) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
      cpu, [tf.config.LogicalDeviceConfiguration()] * settings.logical_devices
    )
  number_format.use(settings.precision)
  chosen: tf.distribute.Strategy = {
    "one_device": tf.distribute.get_strategy,
    "mirrored": lambda: tf.distribute.MirroredStrategy(_devices(settings)),
    "multi_worker": tf.distribute.MultiWorkerMirroredStrategy,
    "tpu": lambda: _tpu(settings),
  }[kind]()
  logging.info(
    "%s: %d devices, %s", kind, chosen.num_replicas_in_sync, settings.precision
  )
  return chosen


def _devices(settings: Options) -> list[str] | None:
  """Returns the devices of --logical_devices, such as CPU:0 and CPU:1.

  The result is None for one device: then the strategy chooses devices.
  """
  if settings.logical_devices == 1:
    return None
  return [f"CPU:{number}" for number in range(settings.logical_devices)]


def is_elsewhere(settings: Options) -> bool:
  """Returns whether the run computes on a TPU of another machine."""
  return settings.kind() == "tpu" and _tpu_name(settings) != "local"


def _tpu_name(settings: Options) -> str:
  """Returns the TPU's name: --tpu_name, else $TPU_NAME, else "local"."""
  return settings.tpu_name or os.environ.get("TPU_NAME") or "local"


def _tpu(settings: Options) -> tf.distribute.TPUStrategy:
  """Connects to a TPU; returns a strategy for it.

  The code follows cloud.google.com/tpu/docs/tensorflow-quickstart-tf2 .

  Raises:
    options.InputError: when there is no such TPU, or it has another number of
      cores than --num_tpu_cores.
  """
  name = _tpu_name(settings)
  try:
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
      name, zone=settings.tpu_zone or None, project=settings.gcp_project or None
    )
    tf.config.experimental_connect_to_cluster(resolver)
    tf.tpu.experimental.initialize_tpu_system(resolver)
  except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
    raise options.InputError(
      f"a TPU named {name!r}",
      str(error).split("\n", maxsplit=1)[0],
      "run on a TPU VM with scripts/setup.sh --tpu, or mend --tpu_name",
    ) from error
  tpu = tf.distribute.TPUStrategy(resolver)
  wanted = settings.num_tpu_cores
  if wanted and wanted != tpu.num_replicas_in_sync:
    raise options.InputError(
      f"{wanted} TPU cores",
      f"{tpu.num_replicas_in_sync}",
      "leave --num_tpu_cores out, or name another TPU",
    )
  return tpu


def is_plain_cpu(devices: tf.distribute.Strategy) -> bool:
  """Returns whether the run computes on CPUs only, in float32."""
  is_tpu = isinstance(devices, tf.distribute.TPUStrategy)  # of any machine
  return number_format.is_plain_cpu() and not is_tpu


def is_chief(devices: tf.distribute.Strategy) -> bool:
  """Returns whether this process writes the files of the run.

  Of several workers this is the worker called chief, or worker 0 if no worker
  is called chief. Without other workers the result is True.
  """
  resolver = devices.cluster_resolver
  if not isinstance(devices, tf.distribute.MultiWorkerMirroredStrategy):
    return True
  return resolver.task_type in (None, "chief") or (
    resolver.task_type == "worker"
    and resolver.task_id == 0
    and "chief" not in resolver.cluster_spec().jobs
  )


def processes(devices: tf.distribute.Strategy) -> int:
  """Returns the number of worker processes of the run, 1 without a cluster.

  Workers and chief count; other jobs of the cluster, such as an evaluator, do
  not.
  """
  if not isinstance(devices, tf.distribute.MultiWorkerMirroredStrategy):
    return 1
  tasks = devices.cluster_resolver.cluster_spec().as_dict()
  return len(tasks.get("worker", ())) + len(tasks.get("chief", ()))


def mean(devices: tf.distribute.Strategy, *values: float) -> list[float]:
  """Returns the mean of each value over all workers, in the order of `values`.

  Every worker must call the function with the same number of values; until then
  the other workers wait. With one process the result is `values`; with several
  it is rounded to float32.

  Args:
    devices: the strategy.
    *values: this worker's values.
  """
  if not isinstance(devices, tf.distribute.MultiWorkerMirroredStrategy):
    return list(values)

  @tf.function
  def summed(local: tf.Tensor) -> tf.Tensor:
    def total() -> tf.Tensor:
      context = tf.distribute.get_replica_context()
      return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(local))

    return devices.experimental_local_results(devices.run(total))[0]

  sums = summed(tf.constant(values, tf.float32)).numpy()
  return [float(value) / devices.num_replicas_in_sync for value in sums]


def wait_for_all(devices: tf.distribute.Strategy) -> None:
  """Waits until every worker has called this function.

  A worker that ended earlier would break the steps of the others.
  """
  mean(devices, 0.0)
