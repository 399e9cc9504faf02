"""The number format of the layers, float32 or bfloat16."""

import tensorflow as tf
import tf_keras

# --precision → the policy of tf_keras; the weights are float32 with either.
_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
FORMATS = tuple(_POLICIES)
FLOAT32 = FORMATS[0]


def use(name: str) -> None:
  """Sets the number format of all layers that are built from now on.

  The weights of the layers are float32 with either format.

  Args:
    name: one of FORMATS.
  """
  tf_keras.mixed_precision.set_global_policy(_POLICIES[name])


def is_plain_cpu() -> bool:
  """Returns whether layers compute in float32 on a CPU.

  The result is False if TensorFlow sees a GPU or TPU, or mixed precision is on.
  """
  return tf_keras.mixed_precision.global_policy().name == "float32" and not (
    tf.config.list_physical_devices("GPU")
    or tf.config.list_physical_devices("TPU")
  )
