"""Who is answered: names of this machine, requests of the page itself, and passwords."""

import base64
import json
import re
from contextlib import closing

import pytest

from acdit.playground.access import Access, access_of
from acdit.playground.listening import listen, url_of
from acdit.utils.errors import UserError
from tests.playground.page import JSON, served

DRAW = {"model": "picture", "label": 0, "block": "4x4", "steps": 1, "guidance": 1.5, "seed": 0}


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:80", 200),
        ("localhost", 200),
        ("LOCALHOST:7860", 200),
        ("[::1]:7860", 200),
        ("evil.example", 403),
        ("evil.example:7860", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost@evil.example", 403),
        ("localhost/evil", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
def test_only_names_of_this_machine_are_answered(host, status, page):
    assert page.ask("GET", "/api/models", headers={"Host": host})[0] == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1:{port}"}, 200),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[::1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
    ],
)
def test_posts_of_other_pages_are_refused(headers, status, page):
    given = JSON | {name: value.format(port=page.port) for name, value in headers.items()}
    assert page.ask("POST", "/api/draw", json.dumps(DRAW).encode(), given)[0] == status


@pytest.mark.parametrize(
    ("path", "status"), [("/api/models", 200), ("/api/nothing", 404), ("/static/..%2fapp.py", 404)]
)
def test_answers_forbid_what_is_not_from_the_page(path, status, page):
    given, headers, _ = page.ask("GET", path)
    assert given == status
    policy = dict(rule.strip().split(" ", 1) for rule in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'" and policy["img-src"] == "'self' data:"
    assert policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert not re.search("access-control", str(headers))


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


def test_a_password_is_needed_for_everything(folders):
    with served(folders["picture"], access=Access(None, "ann:sesam öffne:dich")) as page:
        for path in ("/", "/api/models", "/static/app.js", "/nothing"):
            status, headers, _ = page.ask("GET", path)
            assert status == 401 and headers["www-authenticate"].startswith("Basic ")
        assert page.ask("POST", "/api/draw", json.dumps(DRAW).encode(), JSON)[0] == 401
        for wrong in ("ann:", "ann:sesam", "ann:sesam öffne:dich ", "", ":"):
            assert page.ask("GET", "/api/models", headers=basic(wrong))[0] == 401
        for broken in ("Basic ???", "Basic", "Bearer abc", "Basic /w=="):
            assert page.ask("GET", "/api/models", headers={"Authorization": broken})[0] == 401
        right = basic("ann:sesam öffne:dich")
        assert page.ask("GET", "/api/models", headers=right)[0] == 200
        assert page.ask("GET", "/api/models", headers=right | {"Host": "any.example"})[0] == 200
        assert page.ask("POST", "/api/draw", json.dumps(DRAW).encode(), JSON | right)[0] == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.5"])
def test_this_machine_needs_no_password(host):
    access = access_of(host, None)
    assert access.hosts is not None and host in access.hosts and access.credentials is None


def test_the_address_of_a_name_is_answered():
    """The page is opened at the number of its address, whatever name or short form of it was given."""
    access = access_of("127.2", None)
    with closing(listen("127.2", 0)) as listener:
        assert access.refusal("GET", {"host": url_of(listener).removeprefix("http://")}) is None
    assert access.refusal("GET", {"host": "127.0.0.3:80"}) is not None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "::ffff:127.0.0.1"])
def test_other_addresses_need_a_password(host):
    with pytest.raises(
        UserError, match="--auth USER:PASSWORD or in the environment variable ACDIT_DEMO_AUTH"
    ):
        access_of(host, None)
    assert access_of(host, "ann:secret") == Access(None, "ann:secret")


@pytest.mark.parametrize("credentials", ["ann", "ann:", ":secret", ""])
def test_credentials_have_a_user_and_a_password(credentials):
    with pytest.raises(UserError, match="USER:PASSWORD"):
        access_of("127.0.0.1", credentials)


def test_a_host_that_does_not_exist_is_named():
    with pytest.raises(UserError, match=r"--host no\.such\.host\.invalid"):
        access_of("no.such.host.invalid", None)
