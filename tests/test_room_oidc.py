"""Signing in through an issuer of this machine's: whoever is let in, and everything that lets nobody in."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

pytest.importorskip("fastapi", reason="the reading room's extra is not installed")

import httpx
from joserfc import jwt
from joserfc.jwk import RSAKey
from report_examples import key_of
from room_factory import Client, Rooms, make_room, one_report, write_studies

from lungscreen.room.config import Oidc, RoomConfig

KEY = RSAKey.generate_key(2048, {"kid": "one"})
OTHER = RSAKey.generate_key(2048, {"kid": "one"})


class Issuer:
    """Answers as an OpenID provider; `changes` are made to the next ID token."""

    def __init__(self) -> None:
        self.changes: dict[str, Any] = {}
        self.signed_by, self.algorithm, self.named = KEY, "RS256", ""
        self.challenge = ""
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def token(self) -> str:
        now = int(time.time())
        claims = {
            "iss": self.url, "aud": "room", "sub": "s-17", "exp": now + 300, "iat": now, "nonce": self.nonce,
            "preferred_username": "anna", "groups": ["staff", "radiology"],
        }  # fmt: skip
        return jwt.encode({"alg": self.algorithm, "kid": "one"}, {**claims, **self.changes}, self.signed_by)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = {
                    "issuer": issuer.named or issuer.url,
                    "authorization_endpoint": f"{issuer.url}/authorize",
                    "token_endpoint": f"{issuer.url}/token",
                    "jwks_uri": f"{issuer.url}/keys",
                }
                self._send({"keys": [KEY.as_dict(private=False)]} if self.path == "/keys" else known)

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                issuer.verifier = form["code_verifier"][0]
                self._send({"access_token": "a", "token_type": "Bearer", "id_token": issuer.token()})

            def _send(self, value: Any) -> None:
                body = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        return Answers

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    found = Issuer()
    yield found
    found.close()


@pytest.fixture
def rooms(tmp_path: Path, issuer: Issuer) -> Iterator[Rooms]:
    oidc = Oidc(
        issuer=issuer.url, client_id="room", roles={"radiology": "reader", "it": "admin"},
        redirect_url="http://room.test/oidc/callback",
    )  # fmt: skip
    with make_room(write_studies(tmp_path, one_report("1.2.3.4")), RoomConfig(oidc=oidc)) as found:
        yield found


def sign_in(client: Client, issuer: Issuer, state: str | None = None) -> httpx.Response:
    """As a browser goes: off to the issuer, and back with its code."""
    begun = client.get("/oidc/login")
    assert begun.status_code == 303
    asked = {name: values[0] for name, values in parse_qs(urlsplit(begun.headers["location"]).query).items()}
    assert (asked["response_type"], asked["client_id"], asked["code_challenge_method"]) == ("code", "room", "S256")
    issuer.nonce, issuer.challenge = asked["nonce"], asked["code_challenge"]
    return client.get("/oidc/callback", params={"state": state or asked["state"], "code": "c"})


def test_who_the_issuer_names_is_let_in(rooms: Rooms, issuer: Issuer) -> None:
    """With the role of their group, PKCE's verifier and a session cookie; signing asks for a fresh sign-in."""
    from authlib.oauth2.rfc7636 import create_s256_code_challenge

    client = rooms.client()
    answer = sign_in(client, issuer)
    assert answer.status_code == 200, answer.text
    assert create_s256_code_challenge(issuer.verifier) == issuer.challenge
    assert client.get("/api/v1/me").json()["role"] == "reader"
    key = key_of(one_report("1.2.3.4"))
    read = client.save(client.open(key)).json()
    assert client.sign(read, "").json()["state"] == "signed-first"
    issuer.changes = {"groups": ["it"]}
    assert sign_in(client, issuer).status_code == 200
    assert client.get("/api/v1/me").json()["role"] == "admin", "the issuer's word on the role is the newest"


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "http://evil.test"},
        {"aud": "another"},
        {"nonce": "of another attempt"},
        {"exp": 1_000_000_000},
        {"groups": ["kitchen"]},
        {"groups": None},
    ],
    ids=["issuer", "audience", "nonce", "expired", "group", "no group"],
)
def test_another_token_lets_nobody_in(rooms: Rooms, issuer: Issuer, changes: dict[str, Any]) -> None:
    issuer.changes = changes
    client = rooms.client()
    answer = sign_in(client, issuer)
    assert answer.json()["code"] in ("login-failed", "not-allowed")
    assert client.get("/api/v1/me").status_code == 401


def test_forged_and_replayed_attempts_let_nobody_in(rooms: Rooms, issuer: Issuer) -> None:
    """Another key, a foreign state, no attempt at all, a changed cookie, an issuer that calls itself otherwise."""
    client = rooms.client()
    issuer.signed_by = OTHER
    assert sign_in(client, issuer).json()["code"] == "login-failed"
    issuer.signed_by = KEY
    assert sign_in(client, issuer, state="foreign").json()["code"] == "login-failed"
    assert rooms.client().get("/oidc/callback?state=x&code=c").json()["code"] == "login-failed"
    client.cookies.set("room-oidc", "forged", path="/oidc")
    assert client.get("/oidc/callback?state=x&code=c").json()["code"] == "login-failed"
    issuer.named = "http://evil.test"
    assert rooms.client().get("/oidc/login").json()["code"] == "not-ready"
    assert client.get("/api/v1/me").status_code == 401


def test_without_an_issuer_there_is_no_such_address(tmp_path: Path) -> None:
    with make_room(write_studies(tmp_path, one_report("1.2.3.4"))) as rooms:
        assert rooms.client().get("/oidc/login").status_code == 404
        assert rooms.client().get("/api/v1/oidc").json()["enabled"] is False
