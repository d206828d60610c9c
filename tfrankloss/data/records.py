"""Serialized features: tf.Example for one row, ExampleListWithContext for one list, and TFRecord files of them.

ExampleListWithContext (ELWC) is what TensorFlow Ranking trains on and is asked with: a context, and an example per
item. Neither TensorFlow Ranking nor tensorflow-serving-api is needed to read or write it.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrankloss import errors
from tfrankloss.data.lists import PADDED_LABEL, RankingLists, to_lists

# Fields of the message ExampleListWithContext, and of what describes it to `tf.io.decode_proto`.
_EXAMPLES, _CONTEXT = 1, 2
_LENGTH_DELIMITED = 2

Row = Mapping[str, Any]
Parsed = dict[str, tf.Tensor]


def to_example(features: Row) -> bytes:
    """A serialized tf.Example of one row.

    Args:
        features: Numbers, strings, or arrays of them by name; arrays are flattened, as tf.Example knows no shapes, and
            empty ones left out.

    Returns:
        The message; equal features give equal bytes.

    Raises:
        TypeError: If a value is neither a number nor a string.

    Example:
        >>> {name: values.tolist() for name, values in from_example(to_example({"age": 7, "tags": ["a", "b"]})).items()}
        {'age': [7], 'tags': [b'a', b'b']}
    """
    message = tf.train.Example()
    for name, value in features.items():
        values = np.asarray(value).ravel()
        if not values.size:
            continue
        feature = message.features.feature[name]
        if values.dtype.kind in "biu":
            feature.int64_list.value.extend(int(number) for number in values)
        elif values.dtype.kind == "f":
            feature.float_list.value.extend(float(number) for number in values)
        elif values.dtype.kind in "SUO" and all(isinstance(text, (str, bytes)) for text in values):
            feature.bytes_list.value.extend(tf.compat.as_bytes(text) for text in values)
        else:
            raise TypeError(f"`{name}` must hold numbers or strings. {errors.received(name, value)}")
    return message.SerializeToString(deterministic=True)


def from_example(serialized: bytes) -> dict[str, np.ndarray]:
    """The features of a serialized tf.Example.

    Args:
        serialized: The message.

    Returns:
        By name, int64, float32 or bytes of shape (values,).

    Raises:
        ValueError: If it is no tf.Example.
    """
    message = tf.train.Example()
    try:
        message.ParseFromString(serialized)
    except Exception as error:  # protobuf's class differs between its implementations
        raise ValueError(f"`serialized` must be a tf.Example. Received: {len(serialized)} bytes, {error}") from error
    return {name: _values(feature) for name, feature in sorted(message.features.feature.items())}


def _values(feature: Any) -> np.ndarray:
    if feature.WhichOneof("kind") == "bytes_list":
        return np.array(list(feature.bytes_list.value), dtype=object)
    if feature.WhichOneof("kind") == "float_list":
        return np.array(feature.float_list.value, dtype=np.float32)
    return np.array(feature.int64_list.value, dtype=np.int64)


def to_elwc(context: Row, items: Sequence[Row]) -> bytes:
    """A serialized ExampleListWithContext of one list.

    Args:
        context: The features of the query, as in `to_example`.
        items: The features of each item.

    Returns:
        The message.

    Example:
        >>> context, items = from_elwc(to_elwc({"query": "shoes"}, [{"price": 1.5}, {"price": 2.0}]))
        >>> context["query"].tolist(), [item["price"].tolist() for item in items]
        ([b'shoes'], [[1.5], [2.0]])
    """
    parts = [message_field(_EXAMPLES, to_example(item)) for item in items]
    return b"".join([*parts, message_field(_CONTEXT, to_example(context))])


def from_elwc(serialized: bytes) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """The context and the items of a serialized ExampleListWithContext, each as in `from_example`.

    Args:
        serialized: The message.

    Returns:
        The features of the context, and those of each item.

    Raises:
        ValueError: If it is no ExampleListWithContext.
    """
    context: dict[str, np.ndarray] = {}
    items = []
    for number, payload in message_fields(serialized):
        if number == _EXAMPLES:
            items.append(from_example(payload))
        elif number == _CONTEXT:
            context.update(from_example(payload))
    return context, items


def message_field(number: int, payload: bytes) -> bytes:
    """A field of a protocol buffer message that holds bytes, a string or another message."""
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(payload)) + payload


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def message_fields(serialized: bytes) -> Iterator[tuple[int, bytes]]:
    """The numbers and contents of all fields of a message whose fields hold bytes, strings or messages.

    Raises:
        ValueError: If it is no such message.
    """
    place = 0
    while place < len(serialized):
        key, place = _read_varint(serialized, place)
        length, place = _read_varint(serialized, place)
        if key & 7 != _LENGTH_DELIMITED or place + length > len(serialized):
            raise ValueError(f"`serialized` must be a whole message. Received: {len(serialized)} bytes")
        yield key >> 3, serialized[place : place + length]
        place += length


def _read_varint(serialized: bytes, place: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 64, 7):
        if place >= len(serialized):
            break
        byte = serialized[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
    raise ValueError(f"`serialized` must be a whole message. Received: {len(serialized)} bytes")


def _descriptor() -> bytes:
    """What `tf.io.decode_proto` must know of the message; its examples are taken as bytes."""
    from google.protobuf import descriptor_pb2

    files = descriptor_pb2.FileDescriptorSet()
    file = files.file.add(name="tfrankloss_elwc.proto", package="tfrankloss", syntax="proto3")
    message = file.message_type.add(name="ExampleListWithContext")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, number, label in (
        ("examples", _EXAMPLES, kinds.LABEL_REPEATED),
        ("context", _CONTEXT, kinds.LABEL_OPTIONAL),
    ):
        message.field.add(name=name, number=number, label=label, type=kinds.TYPE_BYTES)
    return files.SerializeToString(deterministic=True)


def parse_elwc(
    serialized: Any, context_spec: Mapping[str, Any], item_spec: Mapping[str, Any], list_size: int | None = None
) -> tuple[Parsed, Parsed, tf.Tensor]:
    """Tensors of serialized lists, in eager code, in `tf.data` and in the graph of a servable.

    Args:
        serialized: (B,) strings, each an ExampleListWithContext.
        context_spec: The features of the context: `tf.io.FixedLenFeature` or `tf.io.RaggedFeature` by name.
        item_spec: The features of the items, likewise.
        list_size: The length L of all lists; longer lists are cut. None for that of the longest list.

    Returns:
        The context features (B, ...); the item features (B, L, ...), padded with 0 or ""; and the mask (B, L), True
        where an item stands. Ragged features are padded to the longest.

    Raises:
        tf.errors.InvalidArgumentError: If a feature without a default value is missing.

    Example:
        >>> lists = [to_elwc({}, [{"price": 1.5}, {"price": 2.0}]), to_elwc({}, [{"price": 4.0}])]
        >>> _, items, mask = parse_elwc(lists, {}, {"price": tf.io.FixedLenFeature([], tf.float32)})
        >>> items["price"].numpy().tolist(), mask.numpy().tolist()
        ([[1.5, 2.0], [4.0, 0.0]], [[True, True], [True, False]])
    """
    # One message more, as the operation takes no empty batch.
    messages = tf.concat([tf.convert_to_tensor(serialized, tf.string), [b""]], axis=0)
    sizes, (examples, contexts) = tf.io.decode_proto(
        messages,
        message_type="tfrankloss.ExampleListWithContext",
        field_names=["examples", "context"],
        output_types=[tf.string, tf.string],
        descriptor_source=b"bytes://" + _descriptor(),
    )
    examples = examples[:-1, :list_size]
    lengths = tf.minimum(sizes[:-1, 0], tf.shape(examples)[1])
    longest = tf.reduce_max(tf.concat([lengths, [0]], axis=0))
    mask = tf.sequence_mask(lengths, longest if list_size is None else list_size)
    # Padding is no example: features without a default value would be missing in it.
    parsed = parse_examples(tf.RaggedTensor.from_tensor(examples, lengths).flat_values, item_spec)
    items = {name: _to_lists(values, lengths, list_size) for name, values in parsed.items()}
    # Where no list has a context there is no column of them.
    first = tf.pad(contexts, [[0, 0], [0, 1]])[:-1, 0]
    return parse_examples(first, context_spec), items, mask


def _to_lists(values: tf.Tensor, lengths: tf.Tensor, list_size: int | None) -> tf.Tensor:
    return tf.RaggedTensor.from_row_lengths(values, lengths).to_tensor(shape=(None, list_size, *values.shape[1:]))


def parse_examples(serialized: Any, spec: Mapping[str, Any]) -> Parsed:
    """Tensors of serialized tf.Examples: (B, ...) by name, ragged features padded to the longest with 0 or "".

    Args:
        serialized: (B,) strings, each a tf.Example.
        spec: `tf.io.FixedLenFeature` or `tf.io.RaggedFeature` by name.

    Returns:
        The tensors by name.

    Raises:
        tf.errors.InvalidArgumentError: If a feature without a default value is missing.
    """
    if not spec:
        return {}
    parsed = tf.io.parse_example(serialized, dict(spec))
    return {name: value.to_tensor() if isinstance(value, tf.RaggedTensor) else value for name, value in parsed.items()}


def write_records(path: str | os.PathLike[str], records: Iterable[bytes]) -> int:
    """Write a TFRecord file; returns how many records there are.

    Args:
        path: The file, replaced if it exists.
        records: Serialized messages, as from `to_example` or `to_elwc`.
    """
    count = 0
    with tf.io.TFRecordWriter(os.fspath(path)) as writer:
        for record in records:
            writer.write(record)
            count += 1
    return count


def read_records(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The records of a TFRecord file.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is cut or damaged.
    """
    errors.check_file("path", path)
    try:
        yield from (record.numpy() for record in tf.data.TFRecordDataset(os.fspath(path)))
    except tf.errors.DataLossError as error:
        raise ValueError(f"`path` must be a whole TFRecord file. {errors.received('path', os.fspath(path))}") from error


def write_lists(path: str | os.PathLike[str], lists: RankingLists, label: str = "relevance") -> int:
    """Write judged lists as a TFRecord file of ExampleListWithContext, as TensorFlow Ranking reads them.

    The context holds ``query_id``, each item its features and its label.

    Args:
        path: The file, replaced if it exists.
        lists: The lists.
        label: What the label is called.

    Returns:
        How many lists were written.
    """
    features = lists.features if isinstance(lists.features, dict) else {"features": lists.features}

    def serialized() -> Iterator[bytes]:
        for row, mask in enumerate(lists.mask):
            items = [
                {label: lists.labels[row, place], **{name: column[row, place] for name, column in features.items()}}
                for place in np.flatnonzero(mask)
            ]
            yield to_elwc({"query_id": lists.query_ids[row]}, items)

    return write_records(path, serialized())


def read_lists(path: str | os.PathLike[str], label: str = "relevance", query_id: str = "query_id") -> RankingLists:
    """Judged lists from a TFRecord file of ExampleListWithContext.

    Args:
        path: The file.
        label: What the label of an item is called.
        query_id: What the id of a query is called in the context; where there is none, queries are numbered.

    Returns:
        Lists whose features are (B, L) or (B, L, F) by name, strings as str; features of the context are repeated for
        every item. Lists without items are left out.

    Raises:
        ValueError: If an item has no label, or items differ in their features.
    """
    rows: list[dict[str, np.ndarray]] = []
    ids: list[Any] = []
    for number, record in enumerate(read_records(path)):
        context, items = from_elwc(record)
        name = _plain(context.pop(query_id)) if query_id in context else number
        for item in items:
            rows.append({**context, **item})
            ids.append(name)
    if not rows:
        raise ValueError(f"`path` must hold lists with items. {errors.received('path', os.fspath(path))}")
    if any(set(row) != set(rows[0]) or label not in row for row in rows):
        raise ValueError(f"`path` must hold {label!r} and the same features in every item. Received: {sorted(rows[0])}")
    labels = np.array([float(row.pop(label)[0]) for row in rows])
    if (labels < 0).any():
        raise ValueError(f"`path` must hold labels of at least 0: {PADDED_LABEL} is padding. Received: {labels.min()}")
    columns = {name: np.stack([_plain(row[name]) for row in rows]) for name in rows[0]}
    return to_lists(np.array(ids), labels, columns)


def _plain(values: np.ndarray) -> Any:
    """A scalar where there is one value, and text where there are bytes."""
    if values.dtype == object:
        values = np.array([value.decode() for value in values])
    return values[0] if len(values) == 1 else values
