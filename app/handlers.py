"""What the Playground's events do, and how every tab's Stop button works.

Events start jobs. The feed brings their texts, and the reason if a job fails. What the engine refuses is shown to the
visitor (`PageBlocks`). `app.page` connects events and handlers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

import gradio as gr

from app.components import EACH_TIME, QUIET, STARTED, refusal, tells
from app.controls import fill, policy_update, scoring_choices
from app.entrance.said import said_fields, said_number, said_text
from app.fields import DIALS, FIELDS, held_fields, page_request, turns_text, whole
from app.header import header_html
from app.running.host import Host
from app.running.job import Job
from app.running.session import SWEEP, Session
from app.running.sessions import Sessions
from app.scale import STEPS, pair_scale, slider_message
from app.share.home import home_address
from app.stream.versions import versions_message
from app.sweep import Sweep
from engine import DEFAULT_THRESHOLD, Role, Setting, Settings

GONE = (
    "The server no longer has this window's texts (no room, a lost connection, or a restart). Load the page again: "
    "prompt, settings and text come back. Generate writes the text anew."
)
"""Said to a window whose session is no longer kept."""


class Handlers:
    def __init__(
        self,
        host: Host,
        sessions: Sessions,
        settings: Settings,
        fields: Sequence[Any],
    ) -> None:
        self.host, self.sessions, self.settings = host, sessions, settings
        self.fields = dict(zip(FIELDS, fields, strict=True))
        self._home = home_address()

    def write(self, request: gr.Request, *values: Any) -> str:
        """Starts a run; returns the versions."""
        session = self.sessions.get(request.session_hash)
        asked = page_request(*values)
        session.begin(asked, self.host, lambda setting, pair: self.settled(session, setting, pair))
        return versions_message(session)

    def _of(self, request: gr.Request, run: str = "of its own") -> Session:
        """A window's session; raises `GONE` if the window shows a text (`run`) and its session was dropped."""
        session = self.sessions.get(request.session_hash)
        if run and session.run is None and SWEEP not in session.jobs:  # whatever Compare or Tune have begun since
            raise refusal(GONE, "Gone")
        return session

    def set_dials(
        self, threshold: float, acceptance: float, policy: str, request: gr.Request, event: gr.EventData
    ) -> str:
        """Applies the dials to the next tokens of the active run, or to the whole text if it has ended."""
        said = said_fields(event._data)
        session = self._of(request, said_text(said, "run"))
        session.place = said_number(said, "place", -1)
        session.set_dials(threshold, acceptance, self.host, policy)
        return versions_message(session)

    def change_text(self, more: float, request: gr.Request, event: gr.EventData) -> str:
        """Branches from a token, or goes on by `more` tokens."""
        session = self._of(request)
        asked = said_fields(event._data)
        if asked.get("kind") == "branch":
            role = Role.LLM if said_number(asked, "author") == 1 else Role.SLM
            token = said_number(asked, "token") if asked.get("token") is not None else None
            session.branch(said_number(asked, "number"), role, token, self.host)
        else:
            session.extend(whole(more), self.host)
        return versions_message(session)

    def follow_up(self, request: gr.Request, event: gr.EventData) -> Any:
        """The conversation with a text as its last message, for the next prompt to follow it."""
        session = self._of(request)
        run = session.history.find(said_text(said_fields(event._data), "run"))
        return gr.skip() if run is None else turns_text(run.conversation())

    def go_to(self, prompt: str, request: gr.Request, event: gr.EventData) -> list[Any]:
        """Puts a kept text on the page, by its id or by undo and redo; the fields follow to what was asked.

        A prompt that was typed and not sent stays: nothing else has it.
        """
        session = self._of(request)
        sent = {text.request.prompt for text in [*session.history.versions]}
        asked = said_fields(event._data)
        by, run_id = said_number(asked, "step"), said_text(asked, "run")
        run = session.step(by) if by in (-1, 1) else session.go_to(run_id)
        values: dict[str, Any] = {}
        if run is not None:
            values, _ = held_fields(run.settings, self.host.policies)
        if prompt and prompt not in sent:
            values.pop("prompt", None)
        return [versions_message(session), *fill(self.fields, values)]

    def sweep(self, request: gr.Request, *values: Any) -> None:
        """Writes the prompt at many settings, for the map."""
        session = self.sessions.get(request.session_hash)
        sweep = Sweep(page_request(*values), session.jobs.get(SWEEP))
        session.begin_job(SWEEP, sweep, self.host)

    def open_text(self, request: gr.Request, event: gr.EventData) -> str:
        """Shows the map's text at one of its settings, or writes it where it is not complete."""
        session = self._of(request)
        job = session.jobs.get(SWEEP)
        row = said_number(said_fields(event._data), "row")
        if isinstance(job, Sweep) and 0 <= row < len(job.points):
            session.write_at(job.at(row), self.host, job.run(row, session.run))
        return versions_message(session)

    def versions(self, request: gr.Request) -> str:
        """What the versions are now."""
        return versions_message(self.sessions.get(request.session_hash))

    def follow_loading(self, threshold: float, acceptance: float, policy: str, request: gr.Request) -> list[Any]:
        """How far loading is; once the models are loaded, what they can do, and where their router starts.

        A dial that the settings name, or that the visitor has already moved, stays.
        """
        self.host.start()
        header, status, pair = header_html(self.host, self._home), self.host.status, self.host.pair
        session = self.sessions.get(request.session_hash)
        timer = gr.Timer(active=status.phase == "loading")
        if pair is None:
            return [header, gr.skip(), timer, *[gr.skip()] * 3]
        chosen = policy_update(scoring_choices(pair.policies), policy)
        rows = [gr.update(visible=name == ("tiny" if pair.preset == "tiny" else "cpu")) for name in ("cpu", "tiny")]
        # The dials are from when the browser asked; by now the visitor may have moved them. So the browser puts them
        # where they start, unless they have moved since (`assets/page/slider/slider.js`).
        asked = Setting(policy, threshold, acceptance)
        starts = self.settled(session, asked, pair)
        moves = {name: [getattr(asked, name), getattr(starts, name)] for name in DIALS}
        return [header, chosen, timer, slider_message(pair, moves), *rows]

    def settled(self, session: Session, setting: Setting, pair: Any) -> Setting:
        """The page's setting for a loaded pair: a dial that nobody has moved takes the router's value.

        A slider position from before the pair was loaded becomes a threshold here.
        """
        given = {**asdict(setting), "policy": pair.default_policy(setting.policy)}
        for name, at_first in (("threshold", DEFAULT_THRESHOLD), ("acceptance", 0.0)):
            if given[name] == at_first and name not in session.chosen | self.settings.stated.keys():
                del given[name]
        if "threshold" not in given and 0 <= session.place <= STEPS:
            given["threshold"] = pair_scale(pair, given["policy"])[session.place]
        return pair.setting(given, {})


def wire_stop(
    button: gr.Button,
    sessions: Sessions,
    jobs_of: Callable[[Session], Iterable[Job | None]],
    starts: Iterable[Any],
) -> None:
    """Makes a Stop button stop its jobs. The browser shows it while something is written (`assets/page/lib/stop.js`).

    Args:
        button: Stop.
        sessions: Of all windows.
        jobs_of: The jobs of a session that the button stops, within one step.
        starts: The events that start these jobs.
    """

    def stop(request: gr.Request) -> None:
        for job in filter(None, jobs_of(sessions.get(request.session_hash))):
            job.cancel.set()

    for start in starts:
        start.success(None, js=STARTED, **QUIET)
        start.failure(None, js=tells("citer-refused"), **QUIET)
    button.click(stop, **EACH_TIME)
