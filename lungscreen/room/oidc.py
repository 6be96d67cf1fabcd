"""The site's own sign-in: OpenID Connect, authorization code with PKCE, by Authlib.

Only the configured issuer counts: its keys, its `iss`, our `aud`, the nonce of this very attempt. What an attempt needs
lies in a cookie of its own for ten minutes, signed, and not in the session's.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from authlib.oidc.discovery import OpenIDProviderMetadata, get_well_known_url
from itsdangerous import BadData, URLSafeTimedSerializer
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from sqlalchemy import select, update

from lungscreen.room import tables
from lungscreen.room.accounts import ROLES
from lungscreen.room.config import Oidc
from lungscreen.room.core import Room
from lungscreen.room.problems import Problem

__all__ = ["ATTEMPT_S", "Attempt", "OidcClient"]

ATTEMPT_S = 600
"""What an attempt to sign in needs is forgotten after this."""

TIMEOUT_S = 15.0
SIGNATURES = ["RS256", "ES256", "PS256"]
"""Of the issuer's tokens; `none` and shared secrets are not among them."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Where the browser goes, and the cookie that it brings back."""

    url: str
    cookie: str


class OidcClient:
    """Signs people in through one issuer."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._signer = URLSafeTimedSerializer(room.folders.secret("oidc").hex(), "room oidc attempt")

    @property
    def _config(self) -> Oidc:
        return self._room.config.oidc

    def begin(self) -> Attempt:
        """An attempt to sign in.

        Errors: `not-ready` where the issuer does not answer as it should.
        """
        verifier = secrets.token_urlsafe(48)
        nonce = secrets.token_urlsafe(24)
        with self._client() as client:
            known = self._metadata(client)
            url, state = client.create_authorization_url(
                known["authorization_endpoint"], code_verifier=verifier, nonce=nonce
            )
        kept = {"state": state, "nonce": nonce, "verifier": verifier}
        return Attempt(url, self._signer.dumps(kept))

    def finish(self, cookie: str, state: str, code: str) -> int:
        """The account of who comes back from the issuer; made at the first time, its role brought up to date.

        Errors: `login-failed`, `not-ready`.
        """
        try:
            kept = self._signer.loads(cookie, max_age=ATTEMPT_S)
        except BadData:
            raise Problem("login-failed") from None
        if not secrets.compare_digest(str(kept["state"]), state):
            raise Problem("login-failed")
        with self._client() as client:
            known = self._metadata(client)
            try:
                token = client.fetch_token(
                    known["token_endpoint"], code=code, code_verifier=kept["verifier"], timeout=TIMEOUT_S
                )
                keys = KeySet.import_key_set(self._json(client, known["jwks_uri"]))
                claims = self._checked(str(token.get("id_token", "")), keys, str(kept["nonce"]))
            except (requests.RequestException, AuthlibBaseError, JoseError, ValueError, KeyError):
                raise Problem("login-failed") from None
        return self._account(claims)

    def _client(self) -> OAuth2Session:
        secret = Path(self._config.client_secret_file).read_text().strip() if self._config.client_secret_file else None
        client = OAuth2Session(
            self._config.client_id,
            secret,
            scope="openid profile",
            redirect_uri=self._config.redirect_url,
            code_challenge_method="S256",
        )
        client.trust_env = False
        return client

    def _metadata(self, client: OAuth2Session) -> dict[str, Any]:
        """What the issuer says of itself; that it is the configured one is checked first."""
        try:
            found = OpenIDProviderMetadata(self._json(client, get_well_known_url(self._config.issuer, external=True)))
        except (requests.RequestException, ValueError):
            raise Problem("not-ready", "the site's sign-in does not answer") from None
        if found.get("issuer") != self._config.issuer:
            raise Problem("not-ready", "the site's sign-in is another issuer")
        return dict(found)

    def _json(self, client: OAuth2Session, url: str) -> Any:
        answer = client.get(url, timeout=TIMEOUT_S, allow_redirects=False, withhold_token=True)
        answer.raise_for_status()
        return json.loads(answer.content)

    def _checked(self, token: str, keys: KeySet, nonce: str) -> dict[str, Any]:
        """The claims of an ID token whose signature, issuer, audience, nonce and times are right."""
        decoded = jwt.decode(token, keys, algorithms=SIGNATURES)
        options = {
            "iss": {"essential": True, "value": self._config.issuer},
            "aud": {"essential": True, "value": self._config.client_id},
            "nonce": {"essential": True, "value": nonce},
            "exp": {"essential": True},
            "sub": {"essential": True},
        }
        claims = CodeIDToken(
            decoded.claims, decoded.header, options, {"nonce": nonce, "client_id": self._config.client_id}
        )
        claims.validate(leeway=60)
        return dict(decoded.claims)

    def _account(self, claims: dict[str, Any]) -> int:
        role = self._role(claims.get(self._config.role_claim))
        subject, name = str(claims["sub"])[:255], str(claims.get(self._config.name_claim) or claims["sub"])[:64]
        users = tables.users
        with self._room.store.write() as connection:
            row = connection.execute(select(users).where(users.c.subject == subject)).first()
            if row is None:
                taken = connection.execute(select(users.c.id).where(users.c.name == name)).first()
                number = self._room.accounts.add(
                    connection, f"{name[:50]} ({subject[:10]})" if taken else name, role, "", subject
                )
                self._room.audit.add(connection, name, "user-added", name, role=role, through="oidc")
            elif not row.active:
                raise Problem("login-failed")
            else:
                number = int(row.id)
                connection.execute(update(users).where(users.c.id == number).values(role=role))
            self._room.audit.add(connection, name, "login", "", through="oidc", at=int(time.time()))
        self._room.audit.anchor_head(self._room.store)
        return number

    def _role(self, told: Any) -> str:
        """The first of the configured values that the issuer tells.

        Errors: `not-allowed` where it tells none of them.
        """
        values = {str(value) for value in (told if isinstance(told, list) else [told])}
        for value, role in self._config.roles.items():
            if value in values and role in ROLES and role != "machine":
                return role
        raise Problem("not-allowed")
