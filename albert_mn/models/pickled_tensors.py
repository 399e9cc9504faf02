"""PyTorch's pickles, read by a small machine that can only describe tensors.

A pickle is a program for a stack machine that calls functions. The machine here
reads it opcode by opcode (pickletools.genops) and accepts only the opcodes that
PyTorch writes. It calls no function of the file: of the names in the file it
accepts only the few that describe a tensor. It stops at limits, which are far
above any model's file: 16 MB, 300,000 steps, 100,000 memorised values, 32
levels of nesting.
"""

import enum
import io
import math
import pickletools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

# safetensors' name → numpy's type. numpy has none for BF16.
TYPES = {
  "F64": "<f8",
  "F32": "<f4",
  "F16": "<f2",
  "BF16": "<u2",
  "I64": "<i8",
  "I32": "<i4",
  "I16": "<i2",
  "I8": "i1",
  "U8": "u1",
  "BOOL": "?",
}
# PyTorch's name → safetensors' name.
_STORAGES = {
  "DoubleStorage": "F64",
  "FloatStorage": "F32",
  "HalfStorage": "F16",
  "BFloat16Storage": "BF16",
  "LongStorage": "I64",
  "IntStorage": "I32",
  "ShortStorage": "I16",
  "CharStorage": "I8",
  "ByteStorage": "U8",
  "BoolStorage": "BOOL",
}
MOST_BYTES = 16 << 20
_MOST_STEPS = 300_000
_MOST_MEMORIZED = 100_000
_DEEPEST = 32
_LONGEST_KEY = 1000
_MOST_DIMENSIONS = 16
_MOST_MARKS = 100


class Storage(NamedTuple):
  """A reference from a pickle to a block of raw data.

  Attributes:
    kind: the type of the numbers, a key of TYPES.
    key: the name of the block in the file.
    numbers: how many numbers the block holds.
  """

  kind: str
  key: str
  numbers: int

  def bytes(self) -> int:
    """Returns the size of the block in bytes."""
    return self.numbers * np.dtype(TYPES[self.kind]).itemsize


class Tensor(NamedTuple):
  """A tensor in a pickle: a view of a storage.

  Attributes:
    storage: the block of raw data.
    offset: index of the tensor's first element in the storage.
    shape: the length of each dimension.
    strides: for each dimension, the distance of neighbours in the storage, in
      elements.
  """

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]

  def take(self, flat: np.ndarray) -> np.ndarray:
    """Returns the tensor as a new array of the type of `flat`.

    Args:
      flat: all elements of the tensor's storage, one-dimensional.

    Raises:
      ValueError: when the tensor reaches beyond the end of the storage, or has
        more elements than the storage.
    """
    shape, strides = self.shape, self.strides
    ends = [(n - 1) * step for n, step in zip(shape, strides, strict=True)]
    if (
      min((self.offset, *shape, *strides)) < 0
      or self.offset + sum(ends) >= flat.size
      or math.prod(shape) > flat.size
    ):
      raise ValueError("a tensor outside of its storage")
    steps = [step * flat.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(
      flat[self.offset :], shape, steps
    ).copy()


class _Word(enum.Enum):
  """The functions that a pickle may name; a value is (module, name)."""

  DICTIONARY = ("collections", "OrderedDict")
  TENSOR = ("torch._utils", "_rebuild_tensor")
  TENSOR_2 = ("torch._utils", "_rebuild_tensor_v2")
  PARAMETER = ("torch._utils", "_rebuild_parameter")


class _Kind(NamedTuple):
  """The type of a storage, as a pickle names it; `name` is a key of TYPES."""

  name: str


def load(raw: bytes, begin: int = 0) -> tuple[Any, int]:
  """Returns the content of a pickle, and the index of the byte after it.

  Dictionaries, lists, tuples, numbers and texts are Python's own; tensors are
  `Tensor`. All keys of dictionaries are texts: a whole number, which optimizers
  use as a key, becomes its decimal text. Attributes of dictionaries (PyTorch's
  `_metadata`) are left out.

  Args:
    raw: bytes that contain the pickle.
    begin: the index of the pickle's first byte.

  Raises:
    ValueError, LookupError, TypeError: for a damaged pickle, a pickle that
      names functions that no tensor needs, and a pickle that exceeds a limit.
  """
  file = io.BytesIO(raw[begin : begin + MOST_BYTES])
  machine = _Machine()
  for step, (opcode, argument, _) in enumerate(pickletools.genops(file)):
    if step >= _MOST_STEPS:
      raise ValueError(f"more than {_MOST_STEPS:,} steps")
    if opcode.name not in _ACTIONS:
      raise ValueError(f"the opcode {opcode.name}, which no tensor needs")
    _ACTIONS[opcode.name](machine, argument)
  return machine.result(), begin + file.tell()


class _Machine:
  """The stack machine that runs a pickle: stack, marks in the stack, memory.

  A container must be filled before it is put into another container, as
  Python's pickle does it. So no container can contain itself, and a container's
  depth is known when it is put into another.
  """

  def __init__(self) -> None:
    self.stack: list[Any] = []
    self.marks: list[int] = []
    self.memory: dict[int, Any] = {}
    self._containers: list[Any] = []  # alive, so that no id is used twice
    self._depths: dict[int, int] = {}  # id of a container → its depth
    self._inside: set[int] = set()  # ids of containers in other containers

  def result(self) -> Any:
    """Returns the one value on the stack.

    Raises:
      ValueError: when the stack holds no value or several.
    """
    (value,) = self.stack
    return value

  def mark(self) -> None:
    """Marks the present height of the stack, for `marked`.

    Raises:
      ValueError: when _MOST_MARKS marks are open.
    """
    if len(self.marks) >= _MOST_MARKS:
      raise ValueError(f"more than {_MOST_MARKS} open marks")
    self.marks.append(len(self.stack))

  def marked(self) -> list[Any]:
    """Removes the values above the last mark, and the mark; returns the values.

    Raises:
      IndexError: when there is no mark.
    """
    place = self.marks.pop()
    values = self.stack[place:]
    del self.stack[place:]
    return values

  def last(self, number: int) -> list[Any]:
    """Removes the top `number` values from the stack; returns them in order.

    Raises:
      ValueError: when the stack has fewer values.
    """
    if len(self.stack) < number:
      raise ValueError("an empty stack")
    values = self.stack[-number:]
    del self.stack[-number:]
    return values

  def memorize(self, place: int) -> None:
    """Stores the top value in the memory, under the number `place`.

    The value stays on the stack.

    Raises:
      ValueError: when the memory is full.
      IndexError: when the stack is empty.
    """
    if len(self.memory) >= _MOST_MEMORIZED:
      raise ValueError(f"more than {_MOST_MEMORIZED:,} memorised values")
    self.memory[place] = self.stack[-1]

  def recall(self, place: int) -> None:
    """Pushes the value that the memory holds under the number `place`.

    Raises:
      KeyError: when the memory holds no value under this number.
    """
    self.stack.append(self.memory[place])

  def new(self, container: Any) -> None:
    """Pushes an empty list or dictionary, which later opcodes may fill.

    Args:
      container: a new list or dictionary.
    """
    self._containers.append(container)
    self._depths[id(container)] = 1
    self.stack.append(container)

  def tuple(self, values: Sequence[Any]) -> None:
    """Pushes a tuple of the values.

    Raises:
      ValueError: when the tuple would be nested more than 32 levels deep.
    """
    container = tuple(values)
    if container:
      self._containers.append(container)
      self._depths[id(container)] = self._deeper(values)
    self.stack.append(container)

  def append(self, values: Sequence[Any]) -> None:
    """Appends the values to the list on top of the stack.

    Raises:
      ValueError: when the top is no list that may still be filled, or would be
        nested more than 32 levels deep.
      IndexError: when the stack is empty.
    """
    target = self._open(list)
    self._deepen(target, values)
    target.extend(values)

  def set_items(self, values: Sequence[Any]) -> None:
    """Adds items to the dictionary on top of the stack.

    Args:
      values: key, value, key, value and so on.

    Raises:
      ValueError: when the top is no dictionary that may still be filled or
        would be nested more than 32 levels deep, or when a key occurs twice or
        is refused by `_key`.
      IndexError: when the stack is empty.
    """
    target = self._open(dict)
    self._deepen(target, values[1::2])
    for key, value in zip(values[::2], values[1::2], strict=True):
      text = _key(key)
      if text in target:
        raise ValueError(f"a key that occurs twice, {text!r}")
      target[text] = value

  def _open(self, kind: type) -> Any:
    """Returns the container on top of the stack, which must be of type `kind`.

    Raises:
      ValueError: when the top has another type, or is inside another container.
      IndexError: when the stack is empty.
    """
    target = self.stack[-1]
    if type(target) is not kind or id(target) in self._inside:
      raise ValueError(f"no {kind.__name__} that may still be filled")
    return target

  def _deepen(self, target: Any, values: Sequence[Any]) -> None:
    depth = max(self._depths[id(target)], self._deeper(values))
    if id(target) in self._inside:
      raise ValueError("a container in itself")
    self._depths[id(target)] = depth

  def _deeper(self, values: Iterable[Any]) -> int:
    """Returns the nesting depth of a container that holds `values`, at least 1.

    Lists and dictionaries among the values may not be filled any more after
    this call.

    Raises:
      ValueError: when the depth would exceed 32.
    """
    deepest = 0
    for value in values:
      if depth := self._depths.get(id(value), 0):
        self._inside.add(id(value))
        deepest = max(deepest, depth)
    if deepest >= _DEEPEST:
      raise ValueError(f"more than {_DEEPEST} levels of nesting")
    return deepest + 1

  def name(self, module: Any, name: Any) -> None:
    """Pushes the meaning of a name in the pickle: a `_Kind` or a `_Word`.

    Args:
      module, name: such as "torch" and "FloatStorage".

    Raises:
      ValueError, TypeError: for a name that no tensor needs.
    """
    if module == "torch" and name in _STORAGES:
      self.stack.append(_Kind(_STORAGES[name]))
      return
    try:
      self.stack.append(_Word((module, name)))
    except ValueError as error:
      raise ValueError(f"{module}.{name}, which no tensor needs") from error

  def refer(self) -> None:
    """Replaces the tuple on top of the stack by the Storage that it describes.

    The tuple is ("storage", kind, key, device, numbers). Before PyTorch 1.6 it
    ends with a view, which must be None.

    Raises:
      ValueError, TypeError: when the top of the stack is not such a tuple.
    """
    ((_, kind, key, _, numbers, *view),) = self.last(1)
    if any(part is not None for part in view):
      raise ValueError("a storage within a storage")
    if not isinstance(kind, _Kind) or not _is_count(numbers):
      raise ValueError("a storage without type or size")
    self.stack.append(Storage(kind.name, _key(key), numbers))

  def call(self) -> None:
    """Replaces a function and its arguments on the stack by the result.

    The function must be a `_Word`; this machine computes the result itself.

    Raises:
      ValueError, LookupError, TypeError: for any other function, or for wrong
        arguments.
    """
    word, arguments = self.last(2)
    if not isinstance(word, _Word) or type(arguments) is not tuple:
      raise ValueError("a call of something that is no function")
    if word is _Word.DICTIONARY:
      self.new({})
      # Python 2 gives the pairs as an argument.
      for key, value in arguments[0] if arguments else ():
        self.set_items((key, value))
    elif word is _Word.PARAMETER:
      self.stack.append(_of_type(arguments[0], Tensor))
    else:
      self.stack.append(_tensor(*arguments[:4]))

  def set_attributes(self) -> None:
    """Runs BUILD: removes the top of the stack, the attributes of an object.

    The attributes are ignored. The object below them must be a dictionary, and
    stays on the stack.

    Raises:
      ValueError: for another object, or an empty stack.
      LookupError: when the stack has no object below the attributes.
    """
    self.last(1)
    _of_type(self.stack[-1], dict)


def _of_type(value: Any, kind: type) -> Any:
  if type(value) is not kind:
    raise ValueError(f"no {kind.__name__} where one is needed")
  return value


def _is_count(value: Any) -> bool:
  return type(value) is int and 0 <= value < 1 << 63


def _key(value: Any) -> str:
  """Returns a dictionary's key as text: a text itself, or a number's digits.

  As keys, texts have hashes that no file can choose, so that no file can make a
  dictionary slow.

  Raises:
    ValueError: for a key that is neither text nor a whole number from 0 to 2^63
      - 1, or that has more than 1,000 characters.
  """
  text = str(value) if _is_count(value) else value
  if type(text) is not str or len(text) > _LONGEST_KEY:
    raise ValueError(f"a key that is no text of {_LONGEST_KEY} letters at most")
  return text


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
  """Returns a tensor of a pickle, after checks of its arguments.

  Args:
    storage, offset, shape, strides: the attributes of `Tensor`, but of any
      type.

  Raises:
    ValueError: when shape, strides, offset or storage is not what PyTorch
      writes.
  """
  for sizes in (shape, strides):
    counts = _of_type(sizes, tuple)
    if len(counts) > _MOST_DIMENSIONS or not all(map(_is_count, counts)):
      raise ValueError("a tensor whose shape is no short tuple of counts")
  if not _is_count(offset) or len(shape) != len(strides):
    raise ValueError("a tensor whose parts do not fit")
  return Tensor(_of_type(storage, Storage), offset, shape, strides)


def _named(machine: _Machine, argument: str) -> None:
  machine.name(*argument.split(" ", 1))


def _push(machine: _Machine, argument: Any) -> None:
  machine.stack.append(argument)


# Opcode → its action, a function of the machine and the opcode's argument.
# SHORT_BINSTRING and BINSTRING are strings of Python 2; the entries from FRAME
# on belong to protocol 4.
_ACTIONS: dict[str, Callable[[_Machine, Any], Any]] = {
  "PROTO": lambda _machine, _argument: None,
  "STOP": lambda _machine, _argument: None,
  "MARK": lambda machine, _argument: machine.mark(),
  "NONE": lambda machine, _argument: machine.stack.append(None),
  "NEWTRUE": lambda machine, _argument: machine.stack.append(True),
  "NEWFALSE": lambda machine, _argument: machine.stack.append(False),
  "BININT": _push,
  "BININT1": _push,
  "BININT2": _push,
  "LONG1": _push,
  "BINFLOAT": _push,
  "BINUNICODE": _push,
  "SHORT_BINSTRING": _push,
  "BINSTRING": _push,
  "EMPTY_DICT": lambda machine, _argument: machine.new({}),
  "EMPTY_LIST": lambda machine, _argument: machine.new([]),
  "EMPTY_TUPLE": lambda machine, _argument: machine.tuple(()),
  "TUPLE": lambda machine, _argument: machine.tuple(machine.marked()),
  "TUPLE1": lambda machine, _argument: machine.tuple(machine.last(1)),
  "TUPLE2": lambda machine, _argument: machine.tuple(machine.last(2)),
  "TUPLE3": lambda machine, _argument: machine.tuple(machine.last(3)),
  "APPEND": lambda machine, _argument: machine.append(machine.last(1)),
  "APPENDS": lambda machine, _argument: machine.append(machine.marked()),
  "SETITEM": lambda machine, _argument: machine.set_items(machine.last(2)),
  "SETITEMS": lambda machine, _argument: machine.set_items(machine.marked()),
  "BINPUT": lambda machine, argument: machine.memorize(argument),
  "LONG_BINPUT": lambda machine, argument: machine.memorize(argument),
  "BINGET": lambda machine, argument: machine.recall(argument),
  "LONG_BINGET": lambda machine, argument: machine.recall(argument),
  "GLOBAL": _named,
  "BINPERSID": lambda machine, _argument: machine.refer(),
  "REDUCE": lambda machine, _argument: machine.call(),
  "BUILD": lambda machine, _argument: machine.set_attributes(),
  "FRAME": lambda _machine, _argument: None,
  "MEMOIZE": lambda machine, _argument: machine.memorize(len(machine.memory)),
  "SHORT_BINUNICODE": _push,
  "STACK_GLOBAL": lambda machine, _argument: machine.name(*machine.last(2)),
}
