"""The demo of media: sounds in two languages, at a provider that loses answers.

It remembers no keys, and lets all signed URLs expire in the middle. Its journal is asked what came
of it: the MD5 of each file that is there.
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
    effects_of,
    staged,
)
from workers.governor.flows import LANES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from orchestration.sandbox.process import SandboxControl
    from orchestration.views.progress import Progress
    from workers.clients import Client

#: Prompts, and the languages of each.
PROMPTS: Final = 100
LANGUAGES: Final = ("en-us", "de-de")
#: Of a sound: samples a second, and how many.
RATE: Final = 8000
SAMPLES: Final = 40_000
#: When so many files are there, the URLs that were given out expire.
EXPIRES_AT: Final = 30


def _wrong(match: str, kind: str, every: int) -> dict[str, Any]:
    once = {"when": {"every": every}, "per_business_id_times": 1}
    return {"match": match, "kind": kind, **once}


#: What the provider enforces, and what it does wrong.
PROVIDER: Final = {
    "limits": [{"name": "app", "count": 200, "window_s": 1, "shape": "bucket"}],
    "latency_ms": 80,
    "idempotency": "off",
    "read_lag_s": 0.5,
    "transcode_s": 1.0,
    "faults": [
        _wrong("POST /api/v2/architect/*", "drop_after", 5),
        _wrong("POST /api/v2/architect/*", "5xx_after", 7),
        _wrong("PUT /transfers/*", "drop_after", 9),
        _wrong("PUT /transfers/*", "5xx_before", 11),
    ],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What became of the files: the ledger's word, and the journal's."""

    last: Progress
    failure: str  #: why the one file that cannot be transcoded has failed
    requests: int  #: calls that reached the provider
    transfers: int  #: requests at the host of signed URLs
    expired: int  #: of these refused, for their URL had expired
    faults: dict[str, int]  #: how often something was done wrong, by kind
    prompts: int  #: that were made
    files: int  #: that are there, as they are here
    throttled: int  #: answers of 429
    lost: int  #: files that are not
    duplicates: int  #: what was made once more

    @property
    def confirmed(self) -> bool:
        """Whether the journal agrees: each prompt made once, each file there, nothing refused."""
        bad = self.last.counts["failed"]
        return (
            not (self.throttled or self.lost or self.duplicates)
            and self.prompts * len(LANGUAGES) == self.last.rows
            and bad == 1
            and self.last.counts["succeeded"] == self.last.rows - bad
        )


def run(
    folder: Path,
    watch: Callable[[Iterable[Progress], Client], Progress],
    say: Callable[[str], None],
    prompts: int = PROMPTS,
) -> Summary:
    """Run the demo in `folder`, which it fills; whatever it started has ended when this returns.

    Args:
        folder: An empty folder.
        watch: Shows the progress, and returns the last look.
        say: Told what happens, one line at a time.
        prompts: How many.

    Raises:
        HeadgateError: it could not come to its end.
    """
    manifest = _write(folder, prompts)
    bad = f"tone-{prompts - 1}/{LANGUAGES[0]}"
    with staged(folder, {**PROVIDER, "bad_files": bad}, media=True) as it:
        say(f"a provider of 200 calls/s that remembers no key and loses answers: {it.sandbox.url}")
        its = f"{' and '.join(WORKERS)} for calls, {MEDIA_WORKER} for files"
        say(f"three workers of {CONCURRENCY} threads, {its}, and a store")
        job = _submit(it.client, manifest)
        say(f"submitted {manifest.name}: {prompts} prompts in {len(LANGUAGES)} languages")
        last = watch(_expiring(it.looks(job), it.sandbox), it.client)
        return _summary(it.client, last, it.sandbox)


def _expiring(looks: Iterable[Progress], sandbox: SandboxControl) -> Iterator[Progress]:
    """The looks; in the middle all URLs expire."""
    due = True
    for look in looks:
        if due and look.ended >= EXPIRES_AT:
            sandbox.post("expire", {})
            due = False
        yield look


def _write(folder: Path, prompts: int) -> Path:
    """Sounds, each of another tone, and their manifest."""
    files = folder / "sounds"
    files.mkdir()
    lines = ["path,name,language"]
    for number in range(prompts):
        for place, language in enumerate(LANGUAGES):
            _sound(files / f"{number}.{language}.wav", 200 + 8 * number + 4 * place)
            lines.append(f"sounds/{number}.{language}.wav,tone-{number},{language}")
    manifest = folder / "sounds.csv"
    manifest.write_text("\n".join(lines) + "\n", "utf-8")
    return manifest


def _sound(file: Path, hertz: int) -> None:
    turn = 2 * math.pi * hertz / RATE
    one = array("h", (round(8000 * math.sin(turn * n)) for n in range(RATE)))
    with wave.open(str(file), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(RATE)
        for _ in range(SAMPLES // RATE):
            sound.writeframes(one.tobytes())


def _submit(client: Client, manifest: Path) -> str:
    """What `headgate submit media` does; returns the job."""
    # Late: the tasks behind it read the configuration, which must be the demo's own.
    from orchestration.intake import Submission, accept, check
    from orchestration.intake.readers.media import MediaOptions
    from orchestration.kinds import find_kind

    submission = Submission(
        client=client,
        path=manifest,
        lane=LANES.index("normal"),
        options=MediaOptions(language=LANGUAGES[0]),
    )
    with check(find_kind("prompts"), submission) as checked:
        return accept(submission, checked).job


def _summary(client: Client, last: Progress, sandbox: SandboxControl) -> Summary:
    report, effects = sandbox.get("report"), effects_of(sandbox)
    ledger = client.ledger
    rows = ledger.rows(last.job)
    there = Counter(it["md5"] for it in effects if it.get("md5"))
    transactions = ledger.transactions([client.key(last.job, row["id"]) for row in rows])
    errors = [one.error or "" for one in transactions if one and one.state == "failed"]
    return Summary(
        last=last,
        failure=next(iter(errors), "no file has failed"),
        requests=report["requests"],
        transfers=report["transfers"]["requests"],
        expired=report["transfers"]["by_status"].get("403", 0),
        faults=report["by_fault"],
        prompts=sum(it["path"].endswith("/prompts") for it in effects),
        files=sum(row["md5"] in there for row in rows),
        throttled=report["refused_429"],
        lost=sum(row["md5"] not in there for row in rows),
        duplicates=report["duplicates"] + sum(there.values()) - len(there),
    )
