"""The demo of media: sounds in two languages, at a provider that loses answers.

The provider remembers no keys, and all signed URLs expire in the middle. At the end the demo asks
its journal for the MD5 of each file that is there.
"""

from __future__ import annotations

import math
import wave
from array import array
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from orchestration.demo.stage import (
    CONCURRENCY,
    MEDIA_WORKER,
    WORKERS,
    read_effects,
    set_stage,
)
from orchestration.intake import Submission, accept, check
from orchestration.intake.readers.media import MediaOptions
from orchestration.kinds import find_kind
from workers.governor.flows import LANES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from orchestration.sandbox.process import SandboxControl
    from orchestration.views.progress import Progress
    from workers.clients import Client

#: Prompts, and the languages of each.
_PROMPT_COUNT: Final = 100
_LANGUAGES: Final = ("en-us", "de-de")
#: Of each sound: samples a second, and how many there are.
_SAMPLES_PER_S: Final = 8000
_SAMPLES: Final = 40_000
#: When so many files are there, the URLs that were given out expire.
_EXPIRE_AT: Final = 30


def _fail(match: str, kind: str, every: int) -> dict[str, Any]:
    once = {"when": {"every": every}, "per_business_id_times": 1}
    return {"match": match, "kind": kind, **once}


#: What the provider enforces, and what it does wrong.
_PROVIDER: Final = {
    "limits": [{"name": "app", "count": 200, "window_s": 1, "shape": "bucket"}],
    "latency_ms": 80,
    "idempotency": "off",
    "read_lag_s": 0.5,
    "transcode_s": 1.0,
    "faults": [
        _fail("POST /api/v2/architect/*", "drop_after", 5),
        _fail("POST /api/v2/architect/*", "5xx_after", 7),
        _fail("PUT /transfers/*", "drop_after", 9),
        _fail("PUT /transfers/*", "5xx_before", 11),
    ],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaSummary:
    """What the ledger and the provider's journal say of the files."""

    last: Progress
    failure: str  #: why the one file that cannot be transcoded has failed
    requests: int  #: calls that reached the provider
    transfers: int  #: requests at the host of signed URLs
    expired: int  #: those of them that were refused, for their URL had expired
    faults: dict[str, int]  #: how often something was done wrong, by kind
    prompts: int  #: that were made
    files: int  #: that are there, as they are here
    throttled: int  #: answers of 429
    lost: int  #: files that are not there
    duplicates: int  #: what was made once more

    @property
    def confirmed(self) -> bool:
        """Whether the journal agrees: each prompt made once, each file there, nothing refused."""
        bad = self.last.counts["failed"]
        return (
            not (self.throttled or self.lost or self.duplicates)
            and self.prompts * len(_LANGUAGES) == self.last.rows
            and bad == 1
            and self.last.counts["succeeded"] == self.last.rows - bad
        )


def run_media(
    folder: Path,
    watch: Callable[[Iterable[Progress], Client], Progress],
    say: Callable[[str], None],
    prompts: int = _PROMPT_COUNT,
) -> MediaSummary:
    """Run the demo in `folder`, which it fills; all that it starts has ended when this returns.

    Args:
        folder: An empty folder.
        watch: Shows the progress, and returns the last look.
        say: Called with each thing that happens, one line at a time.
        prompts: How many prompts there are.

    Raises:
        HeadgateError: the demo could not come to its end.
    """
    manifest = _write(folder, prompts)
    bad = f"tone-{prompts - 1}/{_LANGUAGES[0]}"
    with set_stage(folder, {**_PROVIDER, "bad_files": bad}, media=True) as stage:
        url = stage.sandbox.url
        say(f"a provider of 200 calls/s that remembers no key and loses answers: {url}")
        names = f"{' and '.join(WORKERS)} for calls, {MEDIA_WORKER} for files"
        say(f"three workers of {CONCURRENCY} threads, {names}, and a store")
        job = _submit(stage.client, manifest)
        say(f"submitted {manifest.name}: {prompts} prompts in {len(_LANGUAGES)} languages")
        last = watch(_let_urls_expire(stage.looks(job), stage.sandbox), stage.client)
        return _summarize(stage.client, last, stage.sandbox)


def _let_urls_expire(looks: Iterable[Progress], sandbox: SandboxControl) -> Iterator[Progress]:
    """Pass the looks on; in the middle let all URLs expire."""
    due = True
    for look in looks:
        if due and look.ended >= _EXPIRE_AT:
            sandbox.post("expire", {})
            due = False
        yield look


def _write(folder: Path, prompts: int) -> Path:
    """Write sounds, each of another tone, and their manifest."""
    files = folder / "sounds"
    files.mkdir()
    lines = ["path,name,language"]
    for number in range(prompts):
        for place, language in enumerate(_LANGUAGES):
            _write_sound(files / f"{number}.{language}.wav", 200 + 8 * number + 4 * place)
            lines.append(f"sounds/{number}.{language}.wav,tone-{number},{language}")
    manifest = folder / "sounds.csv"
    manifest.write_text("\n".join(lines) + "\n", "utf-8")
    return manifest


def _write_sound(file: Path, hertz: int) -> None:
    turn = 2 * math.pi * hertz / _SAMPLES_PER_S
    one = array("h", (round(8000 * math.sin(turn * n)) for n in range(_SAMPLES_PER_S)))
    with wave.open(str(file), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(_SAMPLES_PER_S)
        for _ in range(_SAMPLES // _SAMPLES_PER_S):
            sound.writeframes(one.tobytes())


def _submit(client: Client, manifest: Path) -> str:
    """Do what `headgate submit media` does; returns the job."""
    submission = Submission(
        client=client,
        path=manifest,
        lane=LANES.index("normal"),
        options=MediaOptions(language=_LANGUAGES[0]),
    )
    kind = find_kind("prompts")
    with check(kind, submission) as checked:
        return accept(kind, submission, checked).job


def _summarize(client: Client, last: Progress, sandbox: SandboxControl) -> MediaSummary:
    report, effects = sandbox.get("report"), read_effects(sandbox)
    ledger = client.ledger
    rows = ledger.rows(last.job)
    there = Counter(effect["md5"] for effect in effects if effect.get("md5"))
    transactions = ledger.transactions([client.key(last.job, row["id"]) for row in rows])
    failures = (one.error or "" for one in transactions if one and one.state == "failed")
    return MediaSummary(
        last=last,
        failure=next(failures, "no file has failed"),
        requests=report["requests"],
        transfers=report["transfers"]["requests"],
        expired=report["transfers"]["by_status"].get("403", 0),
        faults=report["by_fault"],
        prompts=sum(effect["path"].endswith("/prompts") for effect in effects),
        files=sum(row["md5"] in there for row in rows),
        throttled=report["refused_429"],
        lost=sum(row["md5"] not in there for row in rows),
        duplicates=report["duplicates"] + sum(there.values()) - len(there),
    )
