"""Rows of kinds `prompts` and `assets`: files of a folder, or those that a manifest lists.

Each file is read once, in small pieces, for its size and MD5: what is sent later is this very file.
A path is stored as it stands below `worker.media_root`, so that a worker of another machine finds
it too; without that, as it is on this one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from orchestration.intake.readers.contacts import read_contacts
from orchestration.intake.readers.rows import TOO_LONG, Bad, only, rejected, shown
from orchestration.intake.readers.source import Source
from orchestration.intake.seen import First, Repeats
from workers.errors import InputError
from workers.http.transfer import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workers.ledger.ledger import Row

#: What a media file can become: kinds of jobs.
MEDIA: Final = ("prompts", "assets")
LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}")
#: Ends of names of the audio files of a folder.
AUDIO: Final = frozenset((".wav", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".flac", ".wma"))
_FIELDS: Final = ("path", "name", "language")
#: What a prompt may be called.
_PROMPT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_PROMPT_NAMES: Final = (
    "name: must be 1 to 100 characters out of A-Z a-z 0-9 _ -, the first a letter or digit"
)
#: What an asset may: an id that is no hidden file. The platform refuses white space and more.
_ASSET: Final = re.compile(r"[A-Za-z0-9_@+-][A-Za-z0-9._@+-]{0,99}")
_ASSET_NAMES: Final = (
    "name: must be 1 to 100 characters out of A-Z a-z 0-9 . _ @ + -, the first no dot"
)
_PIECE: Final = 1_048_576


class Files(Source):
    """A folder or a manifest; `digest` names what is sent, the content of the files included.

    Raises:
        InputError: folder or manifest cannot be read, while the rows are.
    """

    def __init__(self, path: Path, kind: str, root: Path | None, language: str) -> None:
        super().__init__(path)
        self._where = path
        self._is_folder = path.is_dir()
        self._kind = kind
        self._root = root.resolve() if root else None
        self._language = language
        self._rows = hashlib.sha256()

    @property
    def digest(self) -> str:
        """SHA-256 of the rows so far, hexadecimal."""
        return self._rows.hexdigest()

    def rows(self) -> Iterator[Row]:
        """A row for each file, good or rejected."""
        with closing(Repeats()) as names:
            for line, given in self._given():
                bad = isinstance(given, Bad)
                row = rejected(line, str(given)) if bad else self._row(line, given, names)
                self._rows.update(json.dumps(row).encode())
                yield row

    def _given(self) -> Iterator[tuple[int, Any]]:
        """The line of each file with its fields, or with what is wrong with the line."""
        if self._is_folder:
            for number, name in enumerate(self._folder(), 1):
                yield number, {"path": name, "name": self._called(Path(name))}
        elif self._where.suffix.lower() in {".jsonl", ".ndjson", ".json"}:
            for number, text in self:
                if text is None:
                    yield number, Bad(TOO_LONG)
                elif text.strip():
                    yield number, _parsed(text)
        else:
            for row in read_contacts(self, self.name):
                cells = {name: cell for name, cell in row.get("data", {}).items() if cell}
                yield row["line"], Bad(row["error"]) if "error" in row else cells

    def _folder(self) -> list[str]:
        """The names of the files that count: of any number of files this is all that is kept."""
        try:
            with os.scandir(self._where) as entries:
                there = sorted(it.name for it in entries if it.is_file())
        except OSError as error:
            raise InputError(
                f"{self.name} cannot be read ({error.strerror}); correct the path"
            ) from None
        seen = (it for it in there if not it.startswith("."))
        return [it for it in seen if self._kind == "assets" or Path(it).suffix.lower() in AUDIO]

    def _called(self, file: Path) -> str:
        """The name of a file without one: its own, with _ for what no name may hold."""
        own = file.stem if self._kind == "prompts" else file.name
        return re.sub(
            r"[^A-Za-z0-9._@+-]+" if self._kind == "assets" else r"[^A-Za-z0-9_-]+", "_", own
        )

    def _row(self, line: int, given: Any, names: Repeats) -> Row:  # noqa: ANN401 -- any JSON value
        row_id = ""
        try:
            fields = self._fields(given)
            row_id = fields["id"]
            row = {"line": line, **fields, **self._file(fields["path"])}
            first = self._first(line, fields, names)
        except Bad as error:
            of = f"{shown(given['path'])}: " if self._is_folder else ""  # its lines have no number
            return rejected(line, f"{of}{error}", row_id)
        if self._kind == "prompts" and first != row_id:
            row["made_by"] = first
        return row

    def _first(self, line: int, fields: Mapping[str, str], names: Repeats) -> str:
        """The id of the first row of this name; in a folder there is no other one."""
        first = names.first(fields["name"], First(line, fields["id"], "", 0))
        if self._is_folder and first.line != line:
            raise Bad("has the name of an earlier file; rename it, or name both in a manifest")
        return first.payload

    def _fields(self, given: Any) -> dict[str, str]:  # noqa: ANN401 -- any JSON value
        if not isinstance(given, dict):
            raise Bad("must be a JSON object")
        only(given, _FIELDS)
        for name, value in given.items():
            if not isinstance(value, str) or not value.isprintable():
                raise Bad(f"{name}: must be text that can be printed")
        if not given.get("path"):
            raise Bad("path: is missing")
        name = given.get("name") or self._called(Path(given["path"]))
        allowed = _PROMPT if self._kind == "prompts" else _ASSET
        if not allowed.fullmatch(name):
            raise Bad(_PROMPT_NAMES if self._kind == "prompts" else _ASSET_NAMES)
        fields = {"id": name, "path": given["path"], "name": name}
        if self._kind == "assets":
            if "language" in given:
                raise Bad("language: an asset has none; leave it out")
            return fields
        language = (given.get("language") or self._language).lower()
        if not LANGUAGE.fullmatch(language):
            raise Bad("language: must be such as en-us or de-de")
        return {**fields, "id": f"{name}:{language}", "language": language}

    def _file(self, given: str) -> Mapping[str, Any]:
        """Where the file is found by a worker, its size and its MD5."""
        folder = self._where if self._is_folder else self._where.parent
        path, md5, size = (folder / given).resolve(), hashlib.md5(usedforsecurity=False), 0
        if self._is_folder and not path.is_relative_to(folder.resolve()):
            raise Bad("path: is a link out of the folder; name the file itself in a manifest")
        if self._root and not path.is_relative_to(self._root):
            raise Bad(f"path: must lie below worker.media_root ({self._root})")
        try:
            with open_regular(path) as file:
                while piece := file.read(_PIECE):
                    md5.update(piece)
                    size += len(piece)
        except OSError as error:
            raise Bad(f"path: cannot be read ({error.strerror})") from None
        if not size:
            raise Bad("path: the file is empty")
        stored = path.relative_to(self._root) if self._root else path
        return {"path": str(stored), "size": size, "md5": md5.hexdigest()}


def _parsed(text: str) -> Any:  # noqa: ANN401 -- any JSON value
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return Bad("is no JSON object")
