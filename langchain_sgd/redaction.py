"""Errors in words, and texts without what looks like a secret."""

from __future__ import annotations

import re
from collections.abc import Iterable

_LONGEST_TEXT = 300
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    # user:password@ of a URL
    (re.compile(r"(?<=://)[^\s/?#@'\"]{1,512}@"), "***@"),
    # what stands behind the name of a scheme, in a header or anywhere else
    (re.compile(r"\b(Bearer|Basic)(\s+|%20)[\w.~+/=:-]{6,}", re.IGNORECASE), r"\1\2***"),
    # a header, a field or an argument that holds a secret
    (
        re.compile(
            r"((?:proxy-)?authorization|(?:x-goog-|x-)?api[-_ ]?key|(?:auth|access|refresh|session)[-_]?token"
            r"|(?:client[-_]?)?secret(?:[-_]?(?:access[-_]?)?key)?|password|passwd|cookie)"
            r"(\\?[\"']?\s*(?:[:=]|=>|%3[AD])\s*|[\"']\s*,\s*)(b?\\?[\"'])?(?!\*\*\*)"
            r"(?:SecretStr\([\"']?)?[^\s\"'&,;<>{}()\[\]\\]+",
            re.IGNORECASE,
        ),
        r"\1\2\3***",
    ),
    # a parameter of a URL
    (
        re.compile(
            r"([?&](?:key|token|sig|signature|code|auth|x-amz-[a-z-]+)=)[^\s&\"'#]+", re.IGNORECASE
        ),
        r"\1***",
    ),
    # keys that are known by their looks
    (
        re.compile(
            r"\b(?:sk[-_]|[pr]k_|gsk_|hf_|xai-|pplx-|nvapi-|r8_|fw_|csk-|gh[po]_|glpat-)[\w-]{8,}"
            r"|\b(?:AKIA|ASIA|AIza|ya29\.)[\w-]{12,}"
        ),
        "***",
    ),
    # JSON Web Tokens
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]*)?"), "***"),
)
_SHORTEST_SECRET = 4


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without what looks like a secret, nor any of those given."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    for pattern, blank in _SECRETS:
        text = pattern.sub(blank, text)
    return text


def describe(error: BaseException, secrets: Iterable[str] = ()) -> str:
    """The error for a report: its class and the first line of its text, without secrets."""
    lines = (" ".join(line.split()) for line in str(error).splitlines())
    # Cut before it is searched: a server may send a megabyte in one line.
    text = redacted(next(filter(None, lines), "")[: 4 * _LONGEST_TEXT], secrets)[:_LONGEST_TEXT]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
