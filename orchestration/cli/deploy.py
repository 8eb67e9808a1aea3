"""`headgate deploy`: makes a store ready for this release."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestration.cli import options
from workers.errors import StoreUnfit
from workers.ledger.installation import where
from workers.store import scripts
from workers.store.connection import ask_fsync, connect, require_durable, url_of
from workers.store.releases import unsafe_sentence

if TYPE_CHECKING:
    from workers.settings.load import StoreSettings
    from workers.store.connection import Store


@click.command()
@options.configured
def command() -> None:
    """Load the functions of this release into the store, for workers that may not load any.

    Workers load them by themselves where their user may (FUNCTION LOAD). Where only another user
    may, give this command as that user before workers of a new release start. It also looks whether
    the store keeps its data as store.durable states, and warns of a server that is known to be
    unsafe. The functions of other releases stay.

    \b
    Example:  headgate deploy --config admin.toml
    Exit:     0 they are there, 1 no store, an unfit one or no permission, 2 wrong configuration
    """
    settings = options.settings().store
    with connect(url_of(settings)) as store:
        require_durable(store, settings)
        _require_as_stated(store, settings)
        library, text = scripts.library()
        scripts.load(store, library, text)
        unsafe = unsafe_sentence(store.info("server"), embedded=settings.url is None)
    click.echo(
        f"headgate: the store {where(settings)} has the functions of this release ({library})"
    )
    if unsafe:
        click.echo(f"headgate: {unsafe}", err=True)


def _require_as_stated(store: Store, settings: StoreSettings) -> None:
    """Refuse a store that writes to disk otherwise than store.durable states, where it says so."""
    if settings.durable is None:
        return
    try:
        fsync = ask_fsync(store)
    except StoreUnfit as error:
        if "CONFIG GET" in str(error):
            return  # it does not say
        raise
    if fsync != settings.durable:
        raise StoreUnfit(
            f'store.durable states "{settings.durable}", and the store has appendfsync {fsync}; '
            f"correct the one that is wrong"
        )
