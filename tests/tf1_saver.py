"""Writes checkpoints of given arrays as TensorFlow 1 wrote them."""

import pathlib
from collections.abc import Mapping

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


def save_module(
  arrays: Mapping[str, np.ndarray],
  folder: pathlib.Path,
  assets: Mapping[str, bytes],
) -> str:
  """Writes a SavedModel as TF Hub's TF 1 modules are; returns its folder.

  Args:
    arrays: name of a variable → its value.
    folder: the folder to write in.
    assets: name of a file in assets/ → its content.
  """
  sources = folder.with_name(f"{folder.name}_sources")
  sources.mkdir()
  with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
    for name, array in arrays.items():
      tf.compat.v1.get_variable(name, initializer=array)
    for name, content in assets.items():
      (sources / name).write_bytes(content)
      path = tf.constant(str(sources / name))
      graph.add_to_collection(tf.compat.v1.GraphKeys.ASSET_FILEPATHS, path)
    session.run(tf.compat.v1.global_variables_initializer())
    builder = tf.compat.v1.saved_model.Builder(str(folder))
    builder.add_meta_graph_and_variables(
      session,
      [],
      assets_collection=graph.get_collection(
        tf.compat.v1.GraphKeys.ASSET_FILEPATHS
      ),
    )
    builder.save()
  return str(folder)
