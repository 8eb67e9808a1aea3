"""What [notify] may hold; a wrong value is one sentence that shows no part of the URL's path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import hide_settings
from workers.errors import ConfigError
from workers.settings.load import load

if TYPE_CHECKING:
    from pathlib import Path

    from workers.settings.notify import NotifySettings

HOOK = 'url = "https://hooks.example.com/canary"\n'


def read(folder: Path, text: str) -> NotifySettings:
    file = folder / "headgate.toml"
    file.write_text(f"[notify]\n{text}\n")
    return load(file).notify


@pytest.fixture(autouse=True)
def hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_settings(monkeypatch)


@pytest.mark.parametrize(
    ("text", "argv"),
    [
        ("", ()),
        ('command = ""', ()),
        ('command = "/usr/local/bin/tell --to \'night shift\' $HOME"',
         ("/usr/local/bin/tell", "--to", "night shift", "$HOME")),
        ('command = ["tell", "a b"]', ("tell", "a b")),
    ],
)  # fmt: skip
def test_a_command_is_a_list_or_is_split_as_a_shell_would(
    tmp_path: Path, text: str, argv: tuple[str, ...]
) -> None:
    settings = read(tmp_path, text)

    assert settings.argv == argv
    assert settings.is_on == bool(argv)


def test_the_environment_may_set_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_NOTIFY__COMMAND", "tell me")

    assert read(tmp_path, "").argv == ("tell", "me")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8/a/", "http://localhost/a?b=c", "https://h/a/"])
def test_a_url_is_kept_as_it_is_and_hidden(tmp_path: Path, url: str) -> None:
    settings = read(tmp_path, f'url = "{url}"\nsecret_env = "HOOK"')

    assert settings.url is not None
    assert settings.url.get_secret_value() == url
    assert settings.is_on
    assert url not in repr(settings)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f'{HOOK}secret_env = "A"\ncommand = "tell"', "has both command and url; keep one"),
        (HOOK, "url needs the secret of its signature; set secret_env or secret_file"),
        (f'{HOOK}secret_env = "A"\nsecret_file = "b"', "the secret stands in two places"),
        ('secret_env = "A"', "secret_env goes with url; set url"),
        ('ca_file = "a"', "ca_file goes with url"),
        ('url = "http://hooks.example.com/canary"\nsecret_env = "A"', "must start with https://"),
        ('url = "https://u:canary@h/"\nsecret_env = "A"', "must not hold a user or password"),
        ('url = "ftp://h/canary"\nsecret_env = "A"', "must start with http:// or https://"),
        ('url = "https://h:canary/"\nsecret_env = "A"', "cannot be read as a URL"),
        ("command = 'tell \"canary'", "has a quote that is not closed"),
        ('command = "  "', "names no program"),
        ('command = ["", "a"]', "names no program"),
        ('command = "tell \\u0000"', "must not hold a NUL character"),
        ('command = ["tell", "canary\\u0000"]', "must not hold a NUL character"),
        ('command = "bin/tell"', "by an absolute path, or by a name in PATH"),
        ('comand = "tell"', "did you mean 'command'?"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        read(tmp_path, text)

    assert why in str(refusal.value)
    assert "notify" in str(refusal.value)
    assert "canary" not in str(refusal.value)
    assert "\n" not in str(refusal.value)
