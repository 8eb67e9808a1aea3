"""Rows of kinds `prompts` and `assets`: files of a folder, or those that a manifest lists.

Each file is read once, in small pieces, for its size and MD5: what is sent later is this very file.
A path is stored as it stands below `worker.media_root`, so that a worker of another machine finds
it too; without that root, as it is on this machine.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
import os
import re
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from orchestration.intake.readers.contacts import read_contacts
from orchestration.intake.readers.rows import (
    TOO_LONG,
    BadRow,
    json_lines,
    refuse_unknown,
    reject,
    show_name,
)
from orchestration.intake.readers.source import Source
from orchestration.intake.readers.strict_json import parse
from orchestration.intake.seen import First, Repeats
from orchestration.intake.submission import Options, option
from workers.errors import InputError
from workers.http.transfer import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workers.ledger.ledger import Row

#: The table of fields of a line of a manifest: field → its meaning.
MANIFEST_FIELDS: Final = {
    "path": "The file, seen from the folder of the manifest.",
    "name": "What the file is called at the provider; default: its own name.",
    "language": "Of a prompt: its language, such as en-us; default: that of the submission.",
}
LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}")
#: Ends of names of audio files.
AUDIO: Final = frozenset((".wav", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".flac", ".wma"))
#: Ends of names of manifests with one JSON object a line; others are CSV.
_JSON_LINES: Final = frozenset((".jsonl", ".ndjson", ".json"))
_PIECE: Final = 1_048_576
_WANTED: Final = "name the folder of the files, or a manifest that lists them"


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaOptions(Options):
    """What a submission of media may say."""

    language: str = field(
        default="en-us",
        metadata=option(
            "--language",
            show_default=True,
            metavar="CODE",
            help="Of prompts whose rows name none.",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """How the files of one kind are picked and called."""

    suffixes: frozenset[str] | None  #: of the files of a folder that count; None: all count
    keeps_suffix: bool  #: whether a file without a name is called by its suffix too
    replaced: re.Pattern[str]  #: what of a file's own name becomes _
    allowed: re.Pattern[str]  #: names
    complaint: str  #: about a name that is none of these
    has_language: bool  #: rows of one name and several languages share what the first one makes

    def name_of(self, file: Path) -> str:
        """The name of a file for which the user gave none: its own."""
        return self.replaced.sub("_", file.name if self.keeps_suffix else file.stem)

    def counts(self, name: str) -> bool:
        """Whether a file of a folder is submitted."""
        return self.suffixes is None or Path(name).suffix.lower() in self.suffixes


PROMPTS: Final = Naming(
    suffixes=AUDIO,
    keeps_suffix=False,
    replaced=re.compile(r"[^A-Za-z0-9_-]+"),
    allowed=re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}"),
    complaint="name: must be 1 to 100 characters out of A-Z a-z 0-9 _ -, the first a letter or "
    "digit",
    has_language=True,
)
#: An asset's name is an id that is no hidden file. The platform refuses white space and more.
ASSETS: Final = Naming(
    suffixes=None,
    keeps_suffix=True,
    replaced=re.compile(r"[^A-Za-z0-9._@+-]+"),
    allowed=re.compile(r"[A-Za-z0-9_@+-][A-Za-z0-9._@+-]{0,99}"),
    complaint="name: must be 1 to 100 characters out of A-Z a-z 0-9 . _ @ + -, the first no dot",
    has_language=False,
)


class Files(Source):
    """A folder or a manifest; `digest` names what is sent, the content of the files included.

    Args:
        path: The folder or manifest.
        naming: That of the kind.
        root: The folder below which all files must lie; None: that of the submission, or of its
            manifest.
        language: Of rows that name none.

    Raises:
        InputError: folder or manifest cannot be read, while the rows are.
    """

    def __init__(self, path: Path, naming: Naming, root: Path | None, language: str) -> None:
        super().__init__(path)
        self._where = path
        self._is_folder = path.is_dir()
        self._naming = naming
        self._root = _real(root) if root else None
        self._language = language
        self._rows = hashlib.sha256()

    @property
    def digest(self) -> str:
        """SHA-256 of the rows so far, hexadecimal."""
        return self._rows.hexdigest()

    def rows(self) -> Iterator[Row]:
        """A row for each file, good or rejected."""
        if self._where.is_file() and _is_media(self._where):
            raise InputError(f"{self.name} is a media file; {_WANTED}")
        with closing(Repeats()) as names:
            for line, given in self._given():
                if isinstance(given, BadRow):
                    row = reject(line, str(given))
                else:
                    row = self._read_row(line, given, names)
                self._rows.update(json.dumps(row).encode())
                yield row

    def _given(self) -> Iterator[tuple[int, object]]:
        """The line of each file with its fields, or with what is wrong with the line."""
        if self._is_folder:
            for number, name in enumerate(self._list_folder(), 1):
                yield number, {"path": name, "name": self._naming.name_of(Path(name))}
        elif self._where.suffix.lower() in _JSON_LINES:
            for number, text in json_lines(self):
                yield number, BadRow(TOO_LONG) if text is None else _parse_line(text)
        else:
            for row in read_contacts(self, self.name):
                values = {name: value for name, value in row.get("data", {}).items() if value}
                yield row["line"], BadRow(row["error"]) if "error" in row else values

    def _list_folder(self) -> list[str]:
        """The names of the files that count: of any number of files this is all that is kept."""
        try:
            with os.scandir(self._where) as entries:
                names = sorted(entry.name for entry in entries if _is_file(entry))
        except OSError as error:
            raise InputError(
                f"{self.name} cannot be read ({error.strerror}); correct the path"
            ) from None
        return [name for name in names if name[0] != "." and self._naming.counts(name)]

    def _read_row(self, line: int, given: object, names: Repeats) -> Row:
        row_id = ""
        try:
            fields = self._read_fields(given)
            row_id = fields["id"]
            row = {"line": line, **fields, **self._read_file(fields["path"])}
            first = self._find_first(line, fields, names)
        except BadRow as error:
            # The user of a folder knows no line numbers.
            if self._is_folder and isinstance(given, dict):
                return reject(line, f"{show_name(given['path'])}: {error}", row_id)
            return reject(line, str(error), row_id)
        if self._naming.has_language and first != row_id:
            row["made_by"] = first
        return row

    def _find_first(self, line: int, fields: Mapping[str, str], names: Repeats) -> str:
        """The id of the first row of this name; in a folder there is no other one."""
        first = names.first(fields["name"], First(line, fields["id"], "", 0))
        if self._is_folder and first.line != line:
            raise BadRow("has the name of an earlier file; rename it, or name both in a manifest")
        return first.payload

    def _read_fields(self, given: object) -> dict[str, str]:
        if not isinstance(given, dict):
            raise BadRow("must be a JSON object")
        refuse_unknown(given, MANIFEST_FIELDS)
        for name, value in given.items():
            if not isinstance(value, str) or not value.isprintable():
                raise BadRow(f"{name}: must be text that can be printed")
        if not given.get("path"):
            raise BadRow("path: is missing")
        name = given.get("name") or self._naming.name_of(Path(given["path"]))
        if not self._naming.allowed.fullmatch(name):
            raise BadRow(self._naming.complaint)
        fields = {"id": name, "path": given["path"], "name": name}
        if not self._naming.has_language:
            if "language" in given:
                raise BadRow("language: an asset has none; leave it out")
            return fields
        language = (given.get("language") or self._language).lower()
        if not LANGUAGE.fullmatch(language):
            raise BadRow("language: must be such as en-us or de-de")
        return {**fields, "id": f"{name}:{language}", "language": language}

    def _read_file(self, given: str) -> Mapping[str, Any]:
        """Where a worker finds the file, its size and its MD5."""
        folder = self._where if self._is_folder else self._where.parent
        path = _real(folder / given)
        self._require_below(path, folder)
        md5, size = hashlib.md5(usedforsecurity=False), 0
        try:
            with open_regular(path) as file:
                while piece := file.read(_PIECE):
                    md5.update(piece)
                    size += len(piece)
        except OSError as error:
            raise BadRow(f"path: cannot be read ({error.strerror})") from None
        if not size:
            raise BadRow("path: the file is empty")
        stored = path.relative_to(self._root) if self._root else path
        return {"path": str(stored), "size": size, "md5": md5.hexdigest()}

    def _require_below(self, path: Path, folder: Path) -> None:
        """A manifest may come from somebody who must not read everything that its user may."""
        if self._is_folder and not path.is_relative_to(_real(folder)):
            raise BadRow("path: is a link out of the folder; name the file itself in a manifest")
        if self._root and not path.is_relative_to(self._root):
            raise BadRow(f"path: must lie below worker.media_root ({self._root})")
        if not self._root and not path.is_relative_to(_real(folder)):
            raise BadRow(
                "path: must lie below the folder of the manifest; set worker.media_root to a "
                "folder that holds all files"
            )


def _real(path: Path) -> Path:
    """Where a path leads; unlike Path.resolve() it leaves links in a circle to who opens them."""
    return Path(os.path.realpath(path))


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # links in a circle
        return False


def _is_media(file: Path) -> bool:
    """Whether a file is what a manifest would list, by its name."""
    kind = (mimetypes.guess_type(file.name)[0] or "").partition("/")[0]
    return kind in {"audio", "image", "video"} or file.suffix.lower() in AUDIO


def _parse_line(text: str) -> object:
    try:
        return parse(text)
    except BadRow as error:
        return error
