"""`acdit demo`: what it refuses in one line, and how it begins and ends."""

import builtins
import json
import os
import re
import shutil
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TextIO

import pytest

from acdit.cli.main import main
from acdit.pipelines.folders import folder_classes, pipeline_folder
from acdit.playground.listening import listen, url_of
from acdit.playground.shelf import Shelf
from tests.playground.offline import CAUGHT, end_when_caught, watch
from tests.playground.page import WAIT, Page, first_event
from tests.processes import started
from tests.site.running import run_page

SHOWS = re.compile(r"acdit demo: http://127\.0\.0\.1:(\d+) shows the page; Ctrl-C ends it\n")


SMALL = ("--port", "0", "--device", "cpu")


@dataclass(frozen=True)
class Forked:
    """A process that was forked where everything had been imported, and what it prints."""

    process: BaseProcess
    stdout: TextIO
    stderr: TextIO


def serve(out: Connection, err: Connection, options: tuple[str, ...], variables: dict[str, str]) -> None:
    """Run the command in this process, as in one of its own."""
    os.dup2(out.fileno(), 1)  # to which sys.stdout writes
    os.dup2(err.fileno(), 2)
    os.environ.clear()
    os.environ.update(variables)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    watch(end_when_caught)
    sys.exit(main(["demo", *SMALL, *options]))


@contextmanager
def forked(*options, **variables):
    """The command in a process of its own that may not use the network, and its first line."""
    outputs = [Pipe(duplex=False) for _ in range(2)]
    process = started(serve, outputs[0][1], outputs[1][1], options, dict(os.environ | variables))
    for _, written in outputs:
        written.close()
    with (
        open(outputs[0][0].fileno(), closefd=False) as out,
        open(outputs[1][0].fileno(), closefd=False) as err,
    ):
        try:
            yield Forked(process, out, err), out.readline()
            assert process.exitcode != CAUGHT, "the page has used the network: its stderr says how"
        finally:
            process.kill()
            process.join()
            for read, _ in outputs:
                read.close()


def test_it_serves_until_it_is_interrupted():
    with forked() as (served, line):
        match = SHOWS.fullmatch(line)
        assert match is not None, line
        page = Page(int(match[1]))
        assert page.ask("GET", "/")[0] == 200
        draw = {"model": "mnist", "label": 3, "block": "1x1", "steps": 100, "guidance": 1.5, "seed": 0}
        with page.stream("/api/draw", draw) as events:
            first_event(events, "step")
            os.kill(served.process.pid or 0, signal.SIGINT)
            assert list(events)[-1]["event"] == "stopped"
        served.process.join(WAIT)
        assert (served.process.exitcode, served.stdout.read(), served.stderr.read()) == (
            0,
            "acdit demo: ended\n",
            "",
        )


def test_what_the_page_of_the_documentation_shows_is_run(monkeypatch, tmp_path):
    """With a port that is free, and ended after the page was sent."""
    monkeypatch.chdir(tmp_path)

    def run(words: list[str]) -> int:
        assert words[0] == "demo"
        with forked(*words[1:], PATH=str(tmp_path), DISPLAY="", BROWSER="no-such-browser") as (served, line):
            match = SHOWS.fullmatch(line)
            assert match is not None and Page(int(match[1])).ask("GET", "/")[0] == 200
            os.kill(served.process.pid or 0, signal.SIGINT)
            served.process.join(WAIT)
            code = served.process.exitcode
            assert code is not None
            return code

    assert [(ran.words, ran.code) for ran in run_page("docs/demo.md", run)] == [(("demo", "--open"), 0)]


def test_a_password_from_the_environment(folders):
    secret = "ann:se cret"
    with forked("--model", str(folders["picture"]), ACDIT_DEMO_AUTH=secret) as (served, line):
        match = SHOWS.fullmatch(line)
        assert match is not None, line
        url = f"http://127.0.0.1:{match[1]}/api/models"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(url)
        manager = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        manager.add_password(None, url, *secret.split(":"))
        opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(manager))
        models = json.load(opener.open(url))["models"]
        assert [model["name"] for model in models][:2] == ["picture", "mnist"]
        with open(f"/proc/{served.process.pid}/cmdline") as file:
            assert "se cret" not in file.read()


def test_a_port_in_use_names_the_next_free_one(capsys):
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert main(["demo", "--port", str(port)]) == 2
    match = re.fullmatch(rf"acdit: error: port {port} is in use: use --port (\d+)\n", capsys.readouterr().err)
    assert match is not None and int(match[1]) > port
    with listen("127.0.0.1", int(match[1])) as listener:
        assert url_of(listener) == f"http://127.0.0.1:{match[1]}"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "ACDIT_DEMO_AUTH"),
        (["--host", "no.such.host.invalid"], "not an address"),
        (["--auth", "ann"], "USER:PASSWORD"),
        (["--port", "70000"], "--port must be at most 65,535"),
        (["--port", "web"], "--port must be a whole number"),
        (["--model", "/nowhere"], "/nowhere is not a model"),
        (["--device", "tpu9"], "--device tpu9"),
        (["--share"], "unknown option --share"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(options, said, capsys, monkeypatch):
    monkeypatch.delenv("ACDIT_DEMO_AUTH", raising=False)
    given = options if "--port" in options else ["--port", "0", *options]
    assert main(["demo", *given]) == 2
    error = capsys.readouterr().err
    assert error.startswith("acdit: error: ") and error.count("\n") == 1 and said in error


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is not a model: it has no model_index.json"),
        ("", "is not a model: it has no model_index.json"),
        ('{"_class_name": "ACDiTImagePipeline", ', "model_index.json"),
        ('{"_class_name": "StableDiffusionPipeline"}', "is a StableDiffusionPipeline"),
    ],
    ids=["file", "empty folder", "broken JSON", "another pipeline"],
)
def test_what_is_no_model_is_refused_in_one_line(content, said, tmp_path, capsys):
    path = tmp_path / "model"
    if content is None:
        path.write_text("no folder")
    else:
        path.mkdir()
        if content:
            (path / "model_index.json").write_text(content)
    assert main(["demo", "--port", "0", "--model", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("acdit: error: ") and error.count("\n") == 1
    assert said in error and str(path) in error


def test_two_servers_with_one_home_and_cache_draw(tmp_path):
    draw = {"model": "mnist", "label": 3, "block": "8x8", "steps": 2, "guidance": 1.5, "seed": 0}
    one_cache = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    with forked(**one_cache) as (_, first), forked(**one_cache) as (_, second):
        matches = [SHOWS.fullmatch(line) for line in (first, second)]
        pages = [Page(int(match[1])) for match in matches if match is not None]
        assert len({page.port for page in pages}) == 2
        with pages[0].stream("/api/draw", draw) as one, pages[1].stream("/api/draw", draw) as other:
            pictures = [
                [event["image"] for event in events if event["event"] == "block"] for events in (one, other)
            ]
        assert len(pictures[0]) == 1 and pictures[0] == pictures[1]


def test_copied_texts_name_the_model_that_was_shown(folders, tmp_path, monkeypatch):
    """A folder in the working directory is what its name alone would load."""
    shutil.copytree(folders["picture"], tmp_path / "mnist")
    monkeypatch.chdir(tmp_path)
    cards = Shelf([]).cards
    for name, classes in (("mnist", 10), ("moving-digits", 10)):
        source = cards[name].source
        assert (source == name) == (name == "moving-digits")
        assert folder_classes(pipeline_folder(source))[1] == classes
    assert folder_classes(pipeline_folder("mnist"))[1] == 3


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_a_missing_package_names_the_line_that_installs_it(missing, capsys, monkeypatch):
    original = builtins.__import__

    def without(name, *arguments, **named):
        if name.partition(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return original(name, *arguments, **named)

    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr("importlib.import_module", lambda name: without(name))
    assert main(["demo", "--port", "0"]) == 2
    assert f"{missing} is not installed: pip install 'acdit[demo]'" in capsys.readouterr().err


def test_without_a_browser_it_says_so_and_serves(tmp_path):
    with forked("--open", PATH=str(tmp_path), BROWSER="no-such-browser", DISPLAY="") as (served, line):
        assert SHOWS.fullmatch(line)
        assert "no browser can be opened here" in served.stderr.readline()
        match = SHOWS.fullmatch(line)
        assert match is not None and Page(int(match[1])).ask("GET", "/api/models")[0] == 200


def test_a_browser_that_runs_in_the_foreground_sees_the_page(tmp_path):
    """The server answers it, although the command that opens the browser has not ended."""
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    browser.write_text(
        f"#!{sys.executable}\nimport os, sys, urllib.request\n"
        "page = urllib.request.urlopen(sys.argv[1]).read()\n"
        f"seen = {str(seen)!r}\nopen(seen + '.part', 'wb').write(page)\nos.rename(seen + '.part', seen)\n"
    )
    browser.chmod(0o755)
    with forked("--open", BROWSER=f"{browser} %s") as (_, line):
        match = SHOWS.fullmatch(line)
        assert match is not None
        assert b"<html" in Page(int(match[1])).ask("GET", "/")[2]
        deadline = time.monotonic() + WAIT
        while not seen.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert b"<html" in seen.read_bytes()


def test_a_browser_of_the_terminal_is_not_opened(tmp_path):
    browser = tmp_path / "w3m"
    browser.write_text(f"#!/bin/sh\necho opened > {tmp_path / 'opened'}\n")
    browser.chmod(0o755)
    nowhere = {"DISPLAY": "", "WAYLAND_DISPLAY": "", "BROWSER": ""}
    with forked("--open", PATH=f"{tmp_path}:{os.environ['PATH']}", **nowhere) as (served, line):
        assert SHOWS.fullmatch(line)
        assert "no browser can be opened here" in served.stderr.readline()
        assert not (tmp_path / "opened").exists()


def test_a_folder_named_like_a_model_of_the_package_has_another_name(folders, tmp_path):
    shutil.copytree(folders["picture"], tmp_path / "mnist")
    shelf = Shelf([str(tmp_path / "mnist"), str(folders["picture"]), str(folders["picture"])])
    assert list(shelf.cards)[:3] == ["mnist-2", "picture", "mnist"]
    assert (shelf.cards["mnist-2"].classes, shelf.cards["mnist"].classes) == (3, 10)


def test_a_port_that_is_free_again_can_be_used():
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = listener.accept()
            accepted.close()
    time.sleep(0.1)
    listen("127.0.0.1", port).close()
