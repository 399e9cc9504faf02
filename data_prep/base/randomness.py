"""Random numbers as hashes of keys, independent of all earlier draws.

Every draw is a hash of (seed, document, duplicate, instance, position,
purpose), computed for whole arrays. So no draw depends on the number of
workers, on the shard, or on the order in which documents come.
"""

import enum

import numpy as np


class Purpose(enum.IntEnum):
  """The purpose of a draw; two purposes never share random numbers."""

  HELD_OUT = 1
  SHORT = 2
  SEGMENT_END = 4
  SWAP = 5
  SHUFFLE = 8
  WORD_ORDER = 9
  NGRAM = 10
  REPLACEMENT = 11
  RANDOM_PIECE = 12
  PERMUTED_ORDER = 13
  PERMUTED_NGRAM = 14
  PERMUTATION = 15
  WEIGHT = 16
  RANDOM_NEXT = 17
  OTHER_SEGMENT = 18
  POOL = 19


Key = int | np.ndarray

_ALL = (1 << 64) - 1  # bits


def bits(purpose: Purpose, *keys: Key) -> np.ndarray:
  """Returns uint64 hashes of the keys, in the keys' broadcast shape.

  Each key is mixed in with the finaliser of SplitMix64 (Steele et al., "Fast
  splittable pseudorandom number generators", OOPSLA 2014).
  """
  state = _finalised(np.asarray(purpose, np.uint64))
  for key in keys:
    state = _finalised(state ^ np.asarray(key).astype(np.uint64))
  return state


def further(state: int, key: int) -> int:
  """Returns bits(purpose, *keys, key), where `state` is bits(purpose, *keys).

  The function works on Python ints, which is faster for a single draw.
  """
  value = ((state ^ key) + 0x9E3779B97F4A7C15) & _ALL
  value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _ALL
  value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _ALL
  return value ^ (value >> 31)


def fraction(state: int) -> float:
  """Returns a random number in [0, 1), made from the 64 bits of `state`.

  If `state` is bits(purpose, *keys), the result is uniform(purpose, *keys).
  """
  return (state >> 11) * 2.0**-53


def _finalised(value: np.ndarray) -> np.ndarray:
  with np.errstate(over="ignore"):
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(value ^ (value >> np.uint64(31)))


def uniform(purpose: Purpose, *keys: Key) -> np.ndarray:
  """Returns random float64 in [0, 1), in the broadcast shape of the keys."""
  return (bits(purpose, *keys) >> np.uint64(11)) * 2.0**-53


def below(limit: np.ndarray | int, purpose: Purpose, *keys: Key) -> np.ndarray:
  """Returns random int64 in [0, limit), in the broadcast shape of the keys.

  Args:
    limit: an exclusive bound of at most 2^53, which is broadcast too.
    purpose: the purpose of the draw.
    keys: integers, or arrays of integers, that are hashed.
  """
  return (uniform(purpose, *keys) * limit).astype(np.int64)
