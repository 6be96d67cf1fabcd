"""Tls ─► SSLContext: TLS 1.2 or later, the other side checked."""

from __future__ import annotations

import ssl

from lungscreen.errors import UsageError
from lungscreen.node.config import Tls

__all__ = ["client_tls", "server_tls"]


def server_tls(tls: Tls) -> ssl.SSLContext:
    """For associations that others open: with an authority, they must show a certificate of it.

    Errors: `config-invalid` for files that cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, tls)
    if tls.authority:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_tls(tls: Tls) -> ssl.SSLContext:
    """For an association that we open: the other side's certificate and name are checked.

    Errors: `config-invalid` for files that cannot be used.
    """
    context = ssl.create_default_context()
    _load(context, tls)
    return context


def _load(context: ssl.SSLContext, tls: Tls) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if tls.certificate:
            context.load_cert_chain(tls.certificate, tls.key)
        if tls.authority:
            context.load_verify_locations(tls.authority)
    except OSError as error:  # ssl's own errors are OSErrors too
        raise UsageError("config-invalid", f"tls: the files cannot be used: {error.strerror}") from None
