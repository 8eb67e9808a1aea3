"""Settings of a test's own: what they remember of their store stands in a folder that goes away."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

from workers.settings.load import Settings, StoreSettings


def settings_apart(namespace: str = "headgate") -> Settings:
    """The default settings, with a data folder that nobody else has."""
    folder = tempfile.mkdtemp(prefix="headgate-test-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Settings(store=StoreSettings(namespace=namespace, data_dir=Path(folder)))
