"""Hundreds of requests that a hostile page, program or user may send to the studio; all of them are refused.

Each goes over a socket of its own to a real server. None may get a status 2xx or write a file; every answer that is not
the HTTP layer's own has the strict headers; and the server goes on answering good requests.
"""

import itertools
import json
import re
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest
from live_studio import Studio

HTTP_LAYER = b"Invalid HTTP request received."
STRICT = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
JOB = '{"data": "spiral", "changes": {"train": {"steps": 5}}}'
POINTS = [[k, -k] for k in range(12)]


@pytest.fixture(scope="module")
def studio(tmp_path_factory, trained):
    impatient = Path(__file__).with_name("impatient.py")
    studio = Studio(tmp_path_factory.mktemp("guarded"), trained, command=(impatient,))
    with studio.client() as browser:
        studio.browser = browser
        studio.cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        studio.run = browser.get("/api/runs").json()["runs"][0]["id"]
        studio.trained = trained
        yield studio
    studio.stop()


# -- the requests: <host>, <cookie>, <run> and the like are filled in once the studio runs ---------------------------

HOST, ORIGIN, COOKIE = "Host: <host>", "Origin: <origin>", "Cookie: <cookie>"
JSON = "Content-Type: application/json"


def request(line, *headers, body=""):
    """Return a request's text; a length is added to a body where none is given."""
    fields = [field for field in headers if field]
    named = {field.partition(":")[0].lower() for field in fields}
    if body and not named & {"content-length", "transfer-encoding"}:
        fields.append("Content-Length: <length>")
    return "\r\n".join([f"{line} HTTP/1.1", *fields, "Connection: close", "", body])


def post(body, path="/api/trainings", kind=JSON):
    """Return a write in which only the body may be wrong."""
    return request(f"POST {path}", HOST, ORIGIN, COOKIE, kind, body=body)


def foreign_hosts():
    hosts = [
        "", "Host:", "Host: evil.example", "Host: evil.example:<port>", "Host: 127.0.0.1", "Host: localhost",
        "Host: 127.0.0.1:1", "Host: 127.0.0.2:<port>", "Host: 0.0.0.0:<port>", "Host: [::]:<port>",
        "Host: [::1]", "Host: LOCALHOST.evil.example:<port>", "Host: localhost.:<port>", "Host: localhost:<port>.",
        "Host: 127.0.0.1:<port>, evil.example", "Host: evil.example, 127.0.0.1:<port>", "Host: 127.1:<port>",
        "Host: 2130706433:<port>", "Host: 0x7f.1:<port>", "Host: user@127.0.0.1:<port>", "Host: 127.0.0.1:0<port>",
        "Host: http://127.0.0.1:<port>", "Host: 127.0.0.1:<port>/", "Host: localhost:<port>\tx",
    ]  # fmt: skip
    for host, path in itertools.product(hosts, ("/", "/api/runs", "/api/runs/<run>")):
        yield request(f"GET {path}", host, COOKIE)
    for host in hosts:
        yield request("GET /?token=<token>", host)
        yield request("POST /api/trainings", host, ORIGIN, COOKIE, JSON, body=JOB)


def wrong_tokens():
    for token in (
        "", "<token>", "<token>x", "x<token>", "%00", "<token>%00", "null", "true", "0", "-1", "' or 1=1 --", "%ff",
        "A" * 43, "A" * 5000, "<token>&token=<token>", "x&token=<token>", "*", "..", "%7Btoken%7D",
    ):  # fmt: skip
        yield request("GET /?token=" + token.replace(" ", "%20"), HOST)
    yield request("HEAD /?token=<token>", HOST)
    yield request("POST /?token=<token>", HOST, ORIGIN, JSON, body="{}")
    yield request("GET /api/runs?token=<token>", HOST)
    yield request("GET /?Token=<token>", HOST)


def wrong_cookies():
    cookies = [
        "", "Cookie:", "Cookie: <name>", "Cookie: <name>=", "Cookie: <name>=x", "Cookie: <name>=<token>",
        "Cookie: <name>=<secret>x", "Cookie: <name>=x<secret>", "Cookie: <name>2=<secret>", "Cookie: x<name>=<secret>",
        "Cookie: <name>=<half>", "Cookie: <name>=%00<secret>", 'Cookie: <name>="<secret>"', "Cookie: <secret>",
        "Cookie: <NAME>=<secret>", "Cookie: a=1; b=2; <name>=\u00e9", "Cookie: <name> = <secret>",
        "Cookie: <name>==<secret>", "Authorization: Bearer <secret>", "Authorization: Bearer <token>",
        "X-Forwarded-For: 127.0.0.1",
    ]  # fmt: skip
    for cookie, path in itertools.product(cookies, ("/", "/api/runs", "/api/form", "/api/runs/<run>/walk?n=3")):
        yield request(f"GET {path}", HOST, cookie)
    yield request("GET /api/runs", HOST, COOKIE, "Cookie: a=1")


def foreign_writes():
    origins = [
        "", "Origin:", "Origin: null", "Origin: http://evil.example", "Origin: https://127.0.0.1:<port>",
        "Origin: http://127.0.0.1", "Origin: http://127.0.0.1:1", "Origin: http://localhost:<port>",
        "Origin: http://[::1]:<port>", "Origin: <origin>.evil.example", "Origin: <origin>/", "Origin: <origin> x",
        "Origin: http://evil.example <origin>", "Origin: file://", "Origin: chrome-extension://abc",
        "Origin: HTTP://127.0.0.1:<port>", "Origin: http://user@127.0.0.1:<port>", "Referer: <origin>/",
    ]  # fmt: skip
    for origin in origins:
        yield request("POST /api/trainings", HOST, origin, COOKIE, JSON, body=JOB)
        yield request("POST /api/trainings/<run>/stop", HOST, origin, COOKIE, JSON, body="{}")
    yield request("POST /api/trainings", HOST, ORIGIN, ORIGIN, COOKIE, JSON, body=JOB)
    for site in ("cross-site", "same-site", "Same-Origin", "x", "same-origin, cross-site"):
        yield request("POST /api/trainings", HOST, ORIGIN, COOKIE, JSON, f"Sec-Fetch-Site: {site}", body=JOB)
        yield request("GET /api/runs", HOST, COOKIE, f"Sec-Fetch-Site: {site}")
        yield request("GET /api/runs/<run>/walk?n=3", HOST, COOKIE, f"Sec-Fetch-Site: {site}")
    yield request("GET /api/runs", HOST, COOKIE, "Origin: http://evil.example")
    yield request("GET /", HOST, COOKIE, "Origin: null")


def wrong_kinds():
    for kind in (
        "", "Content-Type:", "Content-Type: text/plain", "Content-Type: application/x-www-form-urlencoded",
        "Content-Type: multipart/form-data; boundary=x", "Content-Type: application/jsonp",
        "Content-Type: text/plain; application/json", "Content-Type: application/json, text/plain",
        "Content-Type: text/json", "Content-Type: application/json\r\nContent-Type: text/plain",
    ):  # fmt: skip
        yield post(JOB, kind=kind)
        yield post("{}", "/api/trainings/<run>/stop", kind)


def odd_methods():
    methods = ("PUT", "DELETE", "TRACE", "OPTIONS", "PATCH", "PROPFIND", "get", "Post", "FOO", "GETT")
    for method, path in itertools.product(methods, ("/", "/api/runs", "/api/trainings")):
        yield request(f"{method} {path}", HOST, ORIGIN, COOKIE, JSON)
    asked = "Access-Control-Request-Method: POST"
    yield request("OPTIONS /api/trainings", HOST, "Origin: http://evil.example", asked)
    yield request("OPTIONS *", HOST, COOKIE)
    yield request("CONNECT <host>", HOST, COOKIE)
    yield request("CONNECT evil.example:443", HOST, COOKIE)
    yield request("POST /", HOST, ORIGIN, COOKIE, JSON, body="{}")
    yield request("POST /api/runs", HOST, ORIGIN, COOKIE, JSON, body="{}")
    yield request("GET /api/trainings", HOST, COOKIE)
    yield request("GET /api/trainings/<run>/stop", HOST, COOKIE)
    yield request("POST /api/trainings/<run>/events", HOST, ORIGIN, COOKIE, JSON, body="{}")
    yield request("GET http://evil.example/", HOST, COOKIE)
    yield request("GET http://<host>/api/runs", HOST, COOKIE)


def wrong_names():
    names = [
        "..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "..%5c..%5cwindows", "%2fetc%2fpasswd", "/etc/passwd", "....//",
        "%00", "<run>%00", "<run>%00.json", "<run>%2f..", "<run>/../<run>x", "<run>.", "<run>%20", "%20<run>", "~root",
        "<RUN>", "spiral", "a" * 64, "a" * 65, "a" * 20_000, "%ff%fe", "%c0%ae%c0%ae", "$HOME", "`id`", ";ls", "null",
        "<path>", "%7b%7d", "*", "con", "0", "-",
    ]  # fmt: skip
    for name, rest in itertools.product(names, ("runs/{}", "runs/{}/walk?n=3", "trainings/{}/events")):
        yield request("GET /api/" + rest.replace("{}", name), HOST, COOKIE)
    for name in names:
        yield post("{}", f"/api/trainings/{name}/stop")
    for path in ("/api", "/api/", "/api/runs/", "//api/runs", "/api//runs", "/api/../api/runs", "/%2e/api/runs",
                 "/index.html", "/favicon.ico", "/.git/config", "/static/../../etc/passwd", "/api/runs%2f",
                 "/api/runs;x", "/\\..\\x", "/api/runs/<run>/config.toml", "/docs", "/openapi.json"):  # fmt: skip
        yield request(f"GET {path}", HOST, COOKIE)


def wrong_jobs():
    deep = "[" * 100_000 + "]" * 100_000
    drawn = {"name": "x", "points": POINTS}

    def drawing(**changes):
        return {"data": {**drawn, **changes}}

    jobs = [
        {}, [], "spiral", 1, None, True, {"data": None}, {"data": 1}, {"data": []}, {"data": {}}, {"data": "spirla"},
        {"data": "../spiral"}, {"data": "/etc/passwd"}, {"data": "spiral", "recipe": "../x"}, {"data": "x" * 900_000},
        {"data": "spiral", "recipe": None}, {"data": "spiral", "recipe": 1}, {"data": "spiral", "out": "/tmp/x"},
        {"data": "spiral", "changes": []}, {"data": "spiral", "changes": {"out": "x"}}, {"resume": "../x"},
        {"data": "spiral", "changes": {"train": {"stepps": 3}}}, {"data": "spiral", "changes": {"train": {"steps": 0}}},
        {"data": "spiral", "changes": {"train": {"steps": "many"}}}, {"resume": 3}, {"resume": None},
        {"data": "spiral", "changes": {"train": {"steps": 3, "lr": -1}}}, {"resume": "<run>"},
        {"data": "spiral", "changes": {"train": 3}}, {"data": "spiral", "changes": {"train.steps.x": 3}},
        {"data": "spiral", "changes": {"schedule": "cosin"}}, {"data": "spiral", "changes": {"schedule": {"name": 1}}},
        {"data": "spiral", "changes": {"schedule": {"name": "linear", "T": 0}}}, {"data": "spiral", "plugins": ["x"]},
        {"data": "spiral", "changes": {"network": {"hidden": 10**9}}}, {"data": "spiral", "resume": "<run>"},
        {"data": "spiral", "changes": {"network": {"hidden": 9999, "depth": 9999}}},
        {"data": "spiral", "changes": {"network": {"depth": 10**12}}}, {"data": "spiral", "changes": {"predict": "x"}},
        {"data": "spiral", "changes": {"data": {"n": 10**12}}}, {"data": "spiral", "changes": {"data": {"n": "3"}}},
        {"data": "spiral", "changes": {"data": {"path": "/etc/passwd"}}}, {"data": "spiral", "changes": {"": 1}},
        {"data": "spiral", "changes": {"train": {"drop_cond": 0.5}}}, {"data": "spiral", "changes": {"a.b.c.": 1}},
        drawing(points=POINTS[:9]), drawing(points=[[0, 0]] * 20_001), drawing(points=[]), drawing(points="x"),
        drawing(points=[[0, 0, 0]] * 20), drawing(points=[[0]] * 20), drawing(points=[0] * 20),
        drawing(points=[["0", "0"]] * 20), drawing(points=[[True, False]] * 20), drawing(points=[[None, 0]] * 20),
        drawing(points=[[1e300, 0]] * 20), drawing(points={"0": [0, 0]}), drawing(name=""), drawing(name="x" * 65),
        drawing(name=["x"]), drawing(labels=[0]), drawing(labels=[[0]] * 12), drawing(labels=[None] * 12),
        drawing(labels=[True] * 12), drawing(labels=[-1] * 12), drawing(labels="x" * 12), drawing(path="/etc/passwd"),
        drawing(labels=[]), {"data": drawn, "changes": {"data": {"n": 3}}},
    ]  # fmt: skip
    for job in jobs:
        yield post(json.dumps(job))
    raw = [
        "", " ", "{", "nonsense", "{'data': 'spiral'}", "NaN", '{"data": NaN}', "Infinity", "1" * 5000, "\x00", "[]]",
        json.dumps(drawing()).replace("[0, 0]", "[NaN, 0]"), json.dumps(drawing()).replace("[0, 0]", "[1e999, 0]"),
        json.dumps(drawing()).replace("[0, 0]", "[Infinity, 0]"), deep, '{"data":' * 50_000, '{"data": "spiral"} x',
        '{"data": ' + "[" * 500 + "]" * 500 + "}", '{"data": "spiral", "changes": {"a": ' + "[" * 40 + "]" * 40 + "}}",
        "\ufeff{}", '{"\ud800": 1}'.encode("utf-16", "surrogatepass").decode("latin-1"), "--x\r\n\r\nx",
    ]  # fmt: skip
    for body in raw:
        yield post(body)


def wrong_sizes():
    large = json.dumps({"data": "x" * 1_100_000})
    chunk = "x" * 65_000
    chunked = "".join(f"{len(chunk):x}\r\n{chunk}\r\n" for _ in range(20))
    start = ("POST /api/trainings", HOST, ORIGIN, COOKIE, JSON)
    yield post(large)
    yield request(*start, "Content-Length: 1000001", body="{}")
    yield request(*start, "Content-Length: 99999999999999999999", body="{}")
    yield request(*start, "Content-Length: -1", body="{}")
    yield request(*start, "Content-Length: +2", body="{}")
    yield request(*start, "Content-Length: 2, 2", body="{}")
    yield request(*start, "Content-Length: 0x2", body="{}")
    yield request(*start, "Content-Length: 2\r\nContent-Length: 3", body="{}")
    yield request(*start, "Transfer-Encoding: chunked", body=f"{chunked}0\r\n\r\n")
    yield request(*start, "Transfer-Encoding: chunked", body=f"{chunked}")
    yield request(*start, "Transfer-Encoding: chunked", body="zz\r\n{}\r\n0\r\n\r\n")
    yield request(*start, "Transfer-Encoding: gzip, chunked", body="2\r\n{}\r\n0\r\n\r\n")
    yield request(*start, "Transfer-Encoding: identity", body="{}")
    yield request("GET /api/runs", HOST, COOKIE, body="x" * 100)
    yield request("GET /", HOST, COOKIE, "Transfer-Encoding: chunked", body="2\r\n{}\r\n0\r\n\r\n")
    yield request("HEAD /", HOST, COOKIE, body="x")


def smuggled():
    inner = "GET /api/runs HTTP/1.1\r\nHost: evil.example\r\nCookie: <cookie>\r\n\r\n"
    start = ("POST /api/trainings", HOST, ORIGIN, COOKIE, JSON)
    yield request(*start, "Content-Length: 5", "Transfer-Encoding: chunked", body="0\r\n\r\n" + inner)
    yield request(*start, "Transfer-Encoding: chunked", "Content-Length: 5", body="0\r\n\r\n" + inner)
    yield request(*start, "Transfer-Encoding: chunked", "Transfer-Encoding: identity", body="0\r\n\r\n" + inner)
    yield request(*start, "Transfer-Encoding : chunked", body="0\r\n\r\n" + inner)
    yield request(*start, "Transfer-Encoding: xchunked", body="0\r\n\r\n" + inner)
    yield request(*start, "Transfer-Encoding:\r\n chunked", "Content-Length: 5", body="0\r\n\r\n" + inner)
    for first, second in (("<host>", "evil.example"), ("evil.example", "<host>"), ("<host>", "<host>")):
        yield request("GET /api/runs", f"Host: {first}", f"Host: {second}", COOKIE)
        yield request("GET /api/runs", f"Host: {first}", f"host: {second}", COOKIE)
    yield request("GET /api/runs", "Host: <host>\r\n evil.example", COOKIE)
    yield request("GET /api/runs", "Host : <host>", COOKIE)
    yield request("GET /api/runs", " Host: <host>", COOKIE)
    yield request("GET /api/runs", HOST, COOKIE, "X: y\rz")
    yield request("GET /api/runs", HOST, COOKIE, "X: \x00")
    yield request("GET /api/runs", HOST, COOKIE, "X" * 70_000 + ": y")
    yield request("GET /" + "x" * 70_000, HOST, COOKIE)
    yield request("GET /api/runs HTTP/1.1\r\nHost: evil.example\r\n\r\nGET /", HOST)
    yield request("GET  /api/runs", HOST, COOKIE)
    yield request("GET /api/runs x", HOST, COOKIE)
    yield "GET /api/runs HTTP/0.9\r\n\r\n"
    yield "GET /api/runs HTTP/1.0\r\nCookie: <cookie>\r\n\r\n"
    yield "GET /api/runs HTTP/2.0\r\nHost: <host>\r\nCookie: <cookie>\r\n\r\n"
    yield "GET /api/runs\r\n\r\n"
    yield "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello \r\n\r\n"
    yield "\r\n\r\n\r\n\x00\x00\r\n\r\n"


def upgrades():
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13"
    for path in ("/", "/api/runs", "/api/trainings/<run>/events"):
        yield f"GET {path} HTTP/1.1\r\n{HOST}\r\n{COOKIE}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}\r\n\r\n"
        yield request(f"GET {path}", HOST, COOKIE, "Upgrade: websocket", key)
        yield f"GET {path} HTTP/1.1\r\n{HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}\r\n\r\n"
    yield f"GET / HTTP/1.1\r\n{HOST}\r\n{COOKIE}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"


def wrong_walks():
    for query in (
        "n=0", "n=-1", "n=2001", "n=x", "n=1e3", "n=3&n=4", "steps=0&n=3", "steps=1001&n=3", "steps=x&n=3",
        "seed=-1&n=3", "seed=x&n=3", "seed=99999999999999999999&n=3", "sampler=x&n=3", "sampler=ddpm&steps=1001",
        "sampler=..%2f&n=3", "sampler=ddim&eta=2&n=3", "sampler=ddim&eta=nan&n=3", "eta=0.5&n=3", "schedule=x&n=3",
        "label=spiral&n=3", "label=0&n=3", "guidance=2&n=3", "guidance=nan&n=3", "guidance=inf&n=3", "x=1&n=3",
        "n=3&start=1", "n=3&sampler[]=x", "n=3&__class__=x", "n=%00", "n=3&sampler=" + "x" * 100,
    ):  # fmt: skip
        yield request(f"GET /api/runs/<run>/walk?{query}", HOST, COOKIE)


GROUPS = {
    group.__name__: list(group())
    for group in (
        foreign_hosts, wrong_tokens, wrong_cookies, foreign_writes, wrong_kinds, odd_methods, wrong_names, wrong_jobs,
        wrong_sizes, smuggled, upgrades, wrong_walks,
    )
}  # fmt: skip


def test_there_are_hundreds_of_hostile_requests():
    assert sum(map(len, GROUPS.values())) >= 300


# -- their answers ---------------------------------------------------------------------------------------------------


def filled(studio, text):
    name, _, secret = studio.cookie.partition("=")
    known = {
        "host": f"127.0.0.1:{studio.port}", "port": str(studio.port), "origin": studio.origin, "cookie": studio.cookie,
        "run": studio.run, "RUN": studio.run.upper(), "token": studio.token, "name": name, "NAME": name.upper(),
        "secret": secret, "half": secret[: len(secret) // 2], "path": str(studio.trained).replace("/", "%2f"),
    }  # fmt: skip
    whole = re.sub("<([A-Za-z]+)>", lambda found: known.get(found[1], found[0]), text).encode()
    head, end, body = whole.partition(b"\r\n\r\n")
    return head.replace(b"<length>", str(len(body)).encode()) + end + body


def sent(studio, content, wait=10.0):
    """Return the whole answer; the server may close the connection before it has received everything."""
    answer = b""
    with socket.create_connection(("127.0.0.1", studio.port), timeout=wait) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(content)
        with suppress(ConnectionResetError):
            while part := connection.recv(65536):
                answer += part
    return answer


def check_refused(answer, request):
    """Check that an answer is a proper refusal."""
    for status in re.findall(rb"HTTP/1\.1 (\d\d\d)", answer):
        assert 400 <= int(status) < 500, (request[:300], answer[:300])
    if not answer or HTTP_LAYER in answer:
        return
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")[1:]
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert STRICT.items() <= headers.items(), (request[:300], head)
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert not any(name.startswith("access-control") for name in headers)
    assert "set-cookie" not in headers
    assert "server" not in headers
    if headers.get("content-type") == "application/json" and not request.startswith(b"HEAD"):
        error = json.loads(body)["error"]
        assert error
        assert "\n" not in error
        assert "Traceback" not in error
        assert len(error) <= 400


def files(studio):
    found = [*studio.folder.rglob("*"), *studio.trained.rglob("*")]
    return {path: path.stat().st_mtime_ns for path in found if path.is_file()}


def check_good(studio):
    answer = studio.browser.get("/api/runs")
    assert answer.status_code == 200
    assert [run["state"] for run in answer.json()["runs"]] == ["done"]


@pytest.mark.parametrize("group", GROUPS)
def test_every_hostile_request_is_refused(studio, group):
    before = files(studio)
    for number, text in enumerate(GROUPS[group]):
        content = filled(studio, text)
        check_refused(sent(studio, content), content)
        if number % 25 == 0:
            check_good(studio)
    check_good(studio)
    assert files(studio) == before


def test_the_same_requests_without_their_fault_are_accepted(studio):
    """The requests above are refused for their own fault, not for another reason."""
    for text, status in (
        (request("GET /", HOST, COOKIE), 200),
        (request("GET /api/runs", HOST, COOKIE), 200),
        (request("GET /api/runs", "Host: localhost:<port>", COOKIE), 200),
        (request("GET /api/runs/<run>", HOST, COOKIE, "Sec-Fetch-Site: same-origin"), 200),
        (request("GET /api/runs/<run>/walk?n=3&steps=2&label=", HOST, COOKIE), 200),
        (request("HEAD /api/runs/<run>/walk?n=3", HOST, COOKIE), 200),
        (request("GET /api/form", HOST, COOKIE), 200),
        (request("GET /?token=<token>", HOST, COOKIE), 303),
        (post("{}", "/api/trainings/<run>/stop"), 404),
        (post('{"data": "spirla"}'), 422),
    ):
        answer = sent(studio, filled(studio, text))
        assert answer.startswith(b"HTTP/1.1 %d " % status), (text, answer[:300])


def test_a_slow_body_is_dropped(studio):
    began = time.perf_counter()
    head = filled(studio, request("POST /api/trainings", HOST, ORIGIN, COOKIE, JSON, "Content-Length: 100"))
    for body in (b"", b'{"data": '):
        answer = sent(studio, head + body)
        assert answer.startswith(b"HTTP/1.1 408 ")
        check_refused(answer, head)
    chunked = filled(studio, request("POST /api/trainings", HOST, ORIGIN, COOKIE, JSON, "Transfer-Encoding: chunked"))
    assert sent(studio, chunked + b"1\r\n{\r\n").startswith(b"HTTP/1.1 408 ")
    assert time.perf_counter() - began < 8
    check_good(studio)


def test_a_body_sent_byte_by_byte_is_dropped_too(studio):
    head = filled(studio, request("POST /api/trainings", HOST, ORIGIN, COOKIE, JSON, "Content-Length: 1000"))
    with socket.create_connection(("127.0.0.1", studio.port), timeout=10) as connection:
        connection.sendall(head)
        began, answer = time.perf_counter(), b""
        connection.settimeout(0.05)
        while not answer and time.perf_counter() - began < 5:
            connection.sendall(b" ")
            try:
                answer = connection.recv(1000)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408 ")
    check_good(studio)


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nHost: x", b"G"])
def test_an_incomplete_head_ends_the_connection(studio, start):
    began = time.perf_counter()
    assert sent(studio, start) == b""
    assert time.perf_counter() - began < 5
    check_good(studio)


def test_too_many_connections_are_turned_away_and_the_others_served(studio):
    idle = [socket.create_connection(("127.0.0.1", studio.port), timeout=10) for _ in range(300)]
    try:
        answer = sent(studio, filled(studio, request("GET /api/runs", HOST, COOKIE)))
        assert answer.startswith(b"HTTP/1.1 503 ")
    finally:
        for connection in idle:
            connection.close()
    time.sleep(0.2)
    check_good(studio)


def test_a_header_cannot_be_injected_into_an_answer(studio):
    answer = sent(studio, filled(studio, request("GET /?token=x%0d%0aSet-Cookie:%20a=1", HOST, COOKIE)))
    assert answer.startswith(b"HTTP/1.1 303 ")  # with the cookie any link leads to the page
    assert b"a=1" not in answer
