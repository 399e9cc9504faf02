"""Checkpoints as TensorFlow 1 wrote them, of given arrays."""

import pathlib

import numpy as np
import tensorflow as tf


def save(arrays: dict[str, np.ndarray], prefix: pathlib.Path) -> str:
  """Writes a checkpoint with tf.train.Saver; returns its prefix."""
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    for name, array in arrays.items():
      tf.compat.v1.get_variable(name, initializer=array)
    session.run(tf.compat.v1.global_variables_initializer())
    tf.compat.v1.train.Saver().save(session, str(prefix))
  return str(prefix)
