"""How bells travel: a kombu transport and a consumer that survive the broker; never the work.

- `names`: what queues, exchanges and keys are called; each carries the namespace.
- `transport`: kombu's Redis transport, safe against what a broker can hold and do.
- `messages`: what a task message is.
- `popping`: how messages are taken out of the queues.
- `bindings`: what of it kombu does by scripts, done without.
- `amqps`: the transport for a broker of `amqps://`, verified.
- `control`: remote control, signed.
- `reception`: whether this process can take bells, and why not.
- `pool`: the threads of a worker.
- `consumer`: what a worker does when the broker goes away.
- `logs`: how its log shows what strangers may have chosen.
"""

from workers.broker.names import key_options, name_settings, pool_of, queue_of

__all__ = ["key_options", "name_settings", "pool_of", "queue_of"]
