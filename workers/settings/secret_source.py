"""A secret of the configuration: it stands in an environment variable or in a file of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pydantic import SecretStr

from workers.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def read_secret(owner: str, key: str, variable: str | None, file: Path | None) -> SecretStr:
    """The secret as it is now: a file that was changed is heard of without a restart.

    Args:
        owner: Whose it is, as messages say it: "client acme".
        key: What it is called in the configuration, without `_env` and `_file`.
        variable: The environment variable that holds it.
        file: The file that holds it, instead; spaces and line ends around the secret do not count.

    Raises:
        ConfigError: the variable or file does not hold it; the text never tells its content.
    """
    if file:
        try:
            value = file.read_text("utf-8").strip()
        except (OSError, ValueError) as error:  # ValueError: no path, or no text
            reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
            raise ConfigError(
                f"{owner}: {key}_file {file} cannot be read ({reason}); create it or "
                f"correct the path"
            ) from None
        if not value:  # also seen by who reads while it is being written
            raise ConfigError(f"{owner}: {key}_file {file} is empty; put the {_words(key)} there")
        return SecretStr(value)
    value = os.environ.get(variable or "", "")
    if not value:
        raise ConfigError(
            f"{owner}: the environment variable {variable} is not set; put the {_words(key)} there"
        )
    return SecretStr(value)


def _words(key: str) -> str:
    return key.replace("_", " ")
