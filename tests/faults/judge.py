"""Brings one fault over a scene, and judges what two exporters said and did."""

import asyncio
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from fault import STOP_SECONDS, WITHDRAWN, Fault
from process import Scrape, Watcher, errors, verdict
from processes import Page
from proxy import HOST
from scene import MAX_AGE, Scene
from truth import SPOILED
from waiting import at_most

SLACK: Final = 0.5
"""Seconds for a scrape, and for the clocks of server and exporter to be read."""
LEFT_PATIENCE: Final = 30.0
"""Seconds that a backend is waited for beyond its bound, to measure how long it stayed."""
LOG_LETTERS: Final = 100_000
"""The longest log of an exporter in a row: each change is logged once."""
STEPPED: Final = 60.0
"""A snapshot this many seconds ahead was made under another clock."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured: seconds, None where there is nothing to measure.  `problems`: every broken promise."""

    name: str
    said: float | None
    said_as: str
    green: float | None
    oldest: float
    right: float | None
    stop: float
    code: int | None
    left: float | None
    left_as: str
    problems: tuple[str, ...] = ()

    @property
    def as_property(self) -> dict[str, Any]:
        """For the report of a test."""
        return asdict(self)


@dataclass
class _Course:
    """Moments (Unix seconds) and observations of a row, while they are made."""

    began: float = 0.0
    spoiled: float = 0.0
    mended: float = 0.0
    before: Page | None = None
    last: Page | None = None
    said: Scrape | None = None
    right: Scrape | None = None
    stop: float = 0.0
    code: int | None = None
    left: float | None = None
    left_as: str = ""
    texts: tuple[str, ...] = ()


async def endure(fault: Fault, scene: Scene) -> Outcome:
    """The whole course of a row."""
    course = _Course(before=scene.watched.scrapes[-1].page)
    truth = 0 if fault.spoils == "never" else SPOILED
    problems: list[str] = []
    async with Watcher(scene.watched) as watcher:
        if fault.spoils == "before":
            await scene.spoil()
            course.spoiled = time.time()
        course.began = time.time()
        async with fault.inject(scene):
            if fault.spoils == "after":
                await scene.spoil()
                course.spoiled = time.time()
            if fault.ends_at_once:
                await _leave(fault, scene, course)
            problems += await _during(fault, watcher, course, truth)
            course.texts += (await _view(scene),)
            if not fault.ends_at_once:
                await _leave(fault, scene, course)
            course.last = next((s.page for s in reversed(scene.watched.scrapes) if s.page), None)
        course.mended = time.time()
        course.right = await watcher.until(
            lambda page: is_right(page, truth, course.mended), course.mended, at_most(fault.right_within)
        )
        if fault.shows is not None:
            metric, wrong = fault.shows
            if not await watcher.until(
                lambda page: page(metric) not in {None, wrong}, course.mended, at_most(fault.right_within)
            ):
                problems.append(f"{metric} stays {wrong:g} after the fault")
        course.texts += (await _view(scene),)
    if (counted := await scene.gaps()) != truth:
        problems.append(f"the independent count is {counted} gaps, not {truth}")
    problems += [*_of_words(fault, course), *_of_numbers(fault, scene, course, truth)]
    problems += [*_of_scrapes(fault, scene, course), *_of_end(fault, course), *_of_secrets(scene, course)]
    return _outcome(fault, scene, course, problems)


def is_right(page: Page, truth: int, since: float) -> bool:
    """Whether a page tells the truth from a snapshot newer than a moment."""
    return (
        page("up") == 1
        and page("eligible_sessions", state="gap") == truth
        and verdict(page) == ("unhealthy" if truth else "healthy")
        and (page("snapshot_timestamp_seconds") or 0) >= since
    )


def grown(before: Page | None, after: Page | None) -> dict[str, float]:
    """Faults by reason that were counted between two pages."""
    old = errors(before)
    return {reason: value - old.get(reason, 0) for reason, value in errors(after).items() if value > old.get(reason, 0)}


async def _during(fault: Fault, watcher: Watcher, course: _Course, truth: int) -> Sequence[str]:
    """Watch until the fault is said, and as long as the fault lasts."""
    problems = []
    ends = time.monotonic() + fault.lasts
    if fault.reasons:
        course.said = await watcher.until(lambda page: page("up") == 0, course.began, at_most(fault.said_within))

        def is_counted(page: Page) -> bool:
            is_withdrawn = WITHDRAWN in fault.reasons and not page.names() & {"eligible_sessions"}
            return is_withdrawn or bool(grown(course.before, page).keys() & set(fault.reasons))

        if course.said is None:
            problems.append(f"not said within {at_most(fault.said_within):.1f} s")
        if not await watcher.until(is_counted, course.began, at_most(max(fault.lasts, fault.said_within))):
            problems.append(f"none of {', '.join(fault.reasons)} was counted")
    elif fault.goes_on:
        since = 0.0 if fault.steps_clock else course.began
        if not await watcher.until(
            lambda page: is_right(page, truth, since), course.began, at_most(fault.right_within)
        ):
            problems.append(f"the truth was not shown during the fault within {at_most(fault.right_within):.1f} s")
    if fault.shows is not None:
        metric, wanted = fault.shows
        if not await watcher.until(lambda page: page(metric) == wanted, course.began, at_most(fault.right_within)):
            problems.append(f"{metric} was not {wanted:g} during the fault")
    await asyncio.sleep(max(0.0, ends - time.monotonic()))
    return problems


async def _leave(fault: Fault, scene: Scene, course: _Course) -> None:
    """End the second exporter during the fault; watch what stays on the server."""
    scene.leaving.signal(signal.Signals[fault.ends_by])
    if fault.is_mute:
        scene.leaving.signal(signal.SIGCONT)
    course.stop, course.code = await scene.leaving.ended(at_most(STOP_SECONDS) + 1)
    if fault.left_for is None:
        course.left_as = fault.left_as
        return
    began, limit = time.monotonic(), at_most(fault.left_for)
    while left := await scene.backends(scene.proxies[1], busy=fault.leaves_idle):
        if time.monotonic() - began > limit + LEFT_PATIENCE:
            break
        await asyncio.sleep(0.05)
    course.left = time.monotonic() - began
    if left:
        course.left_as = ", ".join(state for _, state in left)
        return
    idle = [] if not fault.leaves_idle else await scene.backends(scene.proxies[1])
    course.left_as = f"0 after {course.left:.1f} s" + "".join(f"; 1 {state}" for _, state in idle)


async def _view(scene: Scene) -> str:
    """The page for people; empty if there is no answer."""
    try:
        return await scene.watched.get("/", at_most(2))
    except (OSError, ValueError, TimeoutError):
        return ""


def _of_words(fault: Fault, course: _Course) -> Iterator[str]:
    """What is wrong with the reasons, and with the records that must stay."""
    counted = grown(course.before, course.last)
    if others := counted.keys() - {*fault.reasons, *fault.also}:
        yield f"counted {', '.join(sorted(others))}"
    page = course.last
    if not fault.reasons or page is None:
        return
    if page("up") == 1 and fault.lost != "nothing":
        yield "up is 1 at the end of the fault"
    if fault.lost == "fc_scores":
        if (page("record_up", record="fc_scores"), page("record_up", record="profiles")) != (0, 1):
            yield "record_up does not name fc_scores alone"
        if page.total("record_sessions", record="profiles") == 0 or page.names(record="fc_scores") & {
            "record_sessions"
        }:
            yield "the numbers of the other record are not served, or numbers of fc_scores are"


def _of_numbers(fault: Fault, scene: Scene, course: _Course, truth: int) -> Iterator[str]:
    """A wrong number, a false green, an old snapshot."""
    oldest = 0.0
    for scrape in _since(course.began, scene):
        page = scrape.page
        if page is None:
            continue
        gaps, taken = page("eligible_sessions", state="gap"), page("snapshot_timestamp_seconds")
        if gaps is None or taken is None:
            continue
        is_new = bool(course.spoiled) and course.spoiled + at_most(SLACK) < taken < scrape.at + STEPPED
        if gaps not in ({truth} if is_new else {0, truth}):
            yield f"{gaps:g} gaps were shown, and {truth} are true"
        oldest = max(oldest, scrape.at - taken)
    if not fault.steps_clock and oldest > MAX_AGE + at_most(SLACK):
        yield f"a snapshot of {oldest:.1f} s was served, and max_age is {MAX_AGE:g} s"
    green = _green(scene, course)
    if green is not None and green > (bound := min(at_most(fault.green_for), MAX_AGE + at_most(SLACK))):
        yield f"healthy for {green:.1f} s after the truth, more than {bound:.1f} s"


def _of_scrapes(fault: Fault, scene: Scene, course: _Course) -> Iterator[str]:
    scrapes = [
        scrape
        for scrape in _since(course.began, scene)
        if not fault.is_mute or scrape.at > course.mended + at_most(SLACK)
    ]
    if failed := [scrape for scrape in scrapes if scrape.page is None]:
        yield f"{len(failed)} of {len(scrapes)} scrapes failed: {failed[0].error}"
    if slow := [scrape for scrape in scrapes if scrape.seconds > at_most(fault.scrape_within)]:
        yield f"{len(slow)} of {len(scrapes)} scrapes took up to {max(s.seconds for s in slow):.1f} s"
    if course.right is None:
        yield f"not right again within {at_most(fault.right_within):.1f} s"


def _of_end(fault: Fault, course: _Course) -> Iterator[str]:
    expected = 0 if fault.ends_by == "SIGTERM" else -signal.SIGKILL
    if course.code != expected:
        yield f"{fault.ends_by}: exit code {course.code}"
    if course.stop > at_most(STOP_SECONDS):
        yield f"{fault.ends_by}: {course.stop:.1f} s"
    if course.left is not None and fault.left_for is not None and course.left > at_most(fault.left_for):
        yield f"a backend stayed for {course.left:.1f} s"


def _of_secrets(scene: Scene, course: _Course) -> Iterator[str]:
    """Passwords, names and addresses in what the exporter told; `server.listening` names the exporter's own address."""
    logs = [exporter.log for exporter in scene.exporters]
    if (size := max(map(len, logs))) > LOG_LETTERS:
        yield f"the log grew by {size:,} letters"
    lines = [line for log in logs for line in log.splitlines() if "server.listening" not in line]
    if any(sign in line for line in lines for sign in ("Traceback", "collection.crashed", "never retrieved")):
        yield "the log has a traceback or a crash"
    pages = {scrape.page.text for scrape in scene.watched.scrapes if scrape.page}
    told = "\n".join([*lines, *pages, *course.texts])
    host = str(urlsplit(scene.watched.url).hostname)
    ports = {scene.measured.port, scene.server.port, *(proxy.port for proxy in scene.proxies)}
    for secret in (scene.password, "rotated-secret", scene.role, host, HOST, *(f":{port}" for port in ports)):
        if secret in told:
            yield f"told {'a password' if secret in {scene.password, 'rotated-secret'} else secret}"


def _since(moment: float, scene: Scene) -> list[Scrape]:
    return [scrape for scrape in scene.watched.scrapes if scrape.at >= moment]


def _green(scene: Scene, course: _Course) -> float | None:
    """For how many seconds `healthy` was said after the truth had become bad; None if the truth stayed good."""
    if not course.spoiled:
        return None
    told = [s.at for s in _since(course.spoiled, scene) if s.page is not None and verdict(s.page) == "healthy"]
    return max(told) - course.spoiled if told else 0.0


def _as_goes_on(fault: Fault, down: Scrape | None) -> str:
    """How a row without a reason is told."""
    if not fault.goes_on:
        return ""
    return "measured on" if down is None else "up 0, then measured on"


def _outcome(fault: Fault, scene: Scene, course: _Course, problems: Sequence[str]) -> Outcome:
    ages = [
        scrape.at - taken
        for scrape in _since(course.began, scene)
        if scrape.page and (taken := scrape.page("snapshot_timestamp_seconds")) is not None
    ]
    told = [f"`{reason}`" for reason in grown(course.before, course.last) if reason in fault.reasons]
    if WITHDRAWN in fault.reasons and not told:
        told = ["numbers withdrawn"]
    down = course.said or next(
        (s for s in _since(course.began, scene) if s.at < course.mended and s.page and s.page("up") == 0), None
    )
    alone = {"all": "", "fc_scores": ", this record alone", "check": ", this check alone", "nothing": ""}[fault.lost]
    return Outcome(
        name=fault.name,
        said=None if down is None else max(0.0, down.at - course.began),
        said_as=f"{', '.join(told)}{alone}" if told else _as_goes_on(fault, down),
        green=_green(scene, course),
        oldest=max((age for age in ages if not fault.steps_clock), default=0.0),
        right=None if course.right is None else max(0.0, course.right.at - course.mended),
        stop=course.stop,
        code=course.code,
        left=course.left,
        left_as=course.left_as,
        problems=tuple(dict.fromkeys(problems)),
    )
