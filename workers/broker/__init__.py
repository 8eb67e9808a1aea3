"""How bells travel: a kombu transport and a consumer that survive the broker; never the work.

- `transport`: kombu's Redis transport, safe against what a broker can hold and do.
- `amqps`: the transport for a broker of `amqps://`, verified.
- `consumer`: what a worker does when the broker goes away.
"""

from workers.broker.transport import install, transport_options

__all__ = ["install", "transport_options"]
