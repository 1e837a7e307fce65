"""Values on the road: encoded once by their sender, opened only by their receiver.

The road itself never looks into a payload: it moves, counts and digests bytes. Values are what JSON can say, plus bytes and
dates; dataclasses and pydantic models travel as maps. MessagePack, because it is compact, typed and no code can hide in it.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from ..errors import InvalidPayload
from ..settings import DEFAULT_LIMITS, Limits


def _foreign(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="python")
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    kind = type(value)
    raise TypeError(f"{kind.__module__}.{kind.__qualname__}")


_encoder = msgspec.msgpack.Encoder(enc_hook=_foreign)
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder()


def encode(value: Any, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """`value` as bytes. Raises `InvalidPayload` that names the type or the limit in the way."""
    if not _shallow(value, limits.payload_depth_max):
        raise InvalidPayload(
            f"cannot be serialised: nested deeper than {limits.payload_depth_max} levels, or in itself",
            hint="flatten the value, or send it as text",
        )
    try:
        data = _encoder.encode(value)
    except TypeError as error:
        raise InvalidPayload(
            f"cannot be serialised: {error}",
            hint="send JSON-like values, bytes, dates, dataclasses or pydantic models; put large objects into an artifact",
        ) from None
    except (OverflowError, ValueError, RecursionError) as error:
        raise InvalidPayload(f"cannot be serialised: {type(error).__name__}: {error}") from None
    if len(data) > limits.payload_bytes_max:
        raise InvalidPayload(
            f"value of {len(data)} bytes exceeds the limit of {limits.payload_bytes_max}",
            hint="send a reference (a path, a key, an artifact) instead of the value",
        )
    return data


def _shallow(value: Any, levels: int) -> bool:
    """Whether lists and maps nest no deeper. How deep the encoder itself could go differs between Python versions."""
    kind = type(value)
    if kind is dict:
        value = value.values()
    elif kind is not list and kind is not tuple:
        return True
    if not levels:
        return False
    for item in value:
        kind = type(item)
        if (kind is dict or kind is list or kind is tuple) and not _shallow(item, levels - 1):
            return False
    return True


def decode(data: bytes) -> Any:
    """The value again. Raises `InvalidPayload` for bytes that are not one whole value."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise InvalidPayload(f"not a payload: {error}") from None
