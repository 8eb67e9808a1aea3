"""What a task message is: it is read and checked in one go, before anybody else looks at it.

kombu and Celery read a message three times, and end the worker over one that is none. Here each
text is read once; what was read is handed on, and nobody reads it again.
"""

from __future__ import annotations

from base64 import b64decode
from typing import Annotated, Any, Literal, NotRequired

from kombu.message import Message
from kombu.transport import virtual
from kombu.utils.json import loads
from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict, override

#: AMQP's bound for names; a string with a bound is also checked to be proper Unicode.
_Name = Annotated[str, Field(max_length=255)]
_Moment = Annotated[str, Field(min_length=1)]
_Pair = Annotated[list[float | None], Field(min_length=2, max_length=2)]

_strict = with_config(ConfigDict(strict=True, extra="allow"))


@_strict
class _Headers(TypedDict):
    """The headers that Celery's event loop reads; a value of another type would end the worker."""

    task: _Name
    id: _Name
    shadow: NotRequired[_Name | None]
    retries: NotRequired[int]
    eta: NotRequired[_Moment | None]
    expires: NotRequired[_Moment | None]
    timelimit: NotRequired[_Pair | None]
    stamped_headers: NotRequired[list[_Name] | None]
    stamps: NotRequired[dict[str, Any] | None]
    compression: NotRequired[None]  #: a body that is compressed is no text


@_strict
class _DeliveryInfo(TypedDict):
    exchange: _Name
    routing_key: _Name
    consumer_tag: NotRequired[_Name]


@_strict
class _Properties(TypedDict):
    delivery_tag: _Name
    delivery_info: _DeliveryInfo
    body_encoding: NotRequired[Literal["base64", "utf-8"] | None]


_Fields = TypedDict(
    "_Fields",
    {
        "content-type": Literal["application/json"],
        "content-encoding": Literal["utf-8"],
        "headers": _Headers,
        "properties": _Properties,
        "body": str,
    },
)
_FIELDS = TypeAdapter(_strict(_Fields))
_BODY = TypeAdapter(tuple[list[Any], dict[str, Any], dict[str, Any]])


class Envelope(dict[str, Any]):
    """A task message with all its fields, as kombu knows it."""

    #: Positional arguments, keyword arguments, and the rest of the chain with its callbacks.
    content: tuple[list[Any], dict[str, Any], dict[str, Any]]


class TaskMessage(virtual.Message):
    """A message whose body is not read again when it comes in an `Envelope`."""

    @override
    def __init__(self, payload: Any, channel: Any = None, **more: Any) -> None:
        if not isinstance(payload, Envelope):  # an answer to remote control
            super().__init__(payload, channel, **more)  # type: ignore[no-untyped-call]
            return
        self._raw = payload
        properties = payload["properties"]
        Message.__init__(  # type: ignore[no-untyped-call]
            self,
            body=payload.content,
            channel=channel,
            delivery_tag=properties["delivery_tag"],
            content_type=None,  # tells Celery too that the body is read
            content_encoding=payload["content-encoding"],
            headers=payload["headers"],
            properties=properties,
            delivery_info=properties["delivery_info"],
            **more,
        )
        self._decoded_cache = payload.content

    @override
    def serializable(self) -> dict[str, Any]:
        """The message as it came, for one that is put back."""
        return dict(self._raw)


def read_task_message(text: bytes) -> Envelope | None:
    """Read `text`; None where a worker cannot take it.

    It can take protocol 2 in JSON, nested less than about 200 deep.
    """
    try:
        fields = _read(_FIELDS, text)
        encoded = fields["properties"].get("body_encoding") == "base64"
        body = b64decode(fields["body"]) if encoded else fields["body"].encode()
        envelope = Envelope(fields)
        envelope.content = _read(_BODY, body)
    except Exception:  # noqa: BLE001 -- a stranger's text fails in a dozen ways
        return None
    return envelope


def _read(shape: TypeAdapter[Any], text: bytes) -> Any:  # noqa: ANN401 -- as its shape says
    """Read JSON; where it has kombu's marker of a type, by kombu's reader."""
    if b"__type__" in text:
        return shape.validate_python(loads(text))  # type: ignore[no-untyped-call]
    return shape.validate_json(text)
