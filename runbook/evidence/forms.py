"""The forms in which a secret may turn up in a text, as regular expressions.

Each of its characters may be escaped in its own way (URL, JSON, Python, HTML, and those on top of each other), or its bytes may stand in
hexadecimal or in base64, alone or within something longer, as in `Authorization: Basic …`. Not found are a secret that a line wrap divides,
base64 of base64, and what was encrypted or compressed.
"""

import functools
import hashlib
import html.entities
import re
import string
from collections.abc import Iterator
from itertools import groupby
from urllib.parse import quote

_ENTITIES = {**html.entities.codepoint2name, ord("'"): "apos"}
# What programs escape by a backslash before it, and by a letter behind one.
_BACKSLASHED = "\"'/"
_BACKSLASHES = r"\\\\{0,7}"
_LETTERS = {"\n": "n", "\r": "r", "\t": "t"}

_ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
_URL_SAFE = {"+": r"+\-", "/": "/_"}
# In a longer one, such as a token, letters and digits are taken for unescaped: a pattern of all their forms takes a second to compile.
_LONG = 100
# A secret of fewer bytes would be found by chance in a picture.
_LEAST_BYTES = 4


def plain_pattern(secret: str) -> str:
    """Return the pattern of a secret whose characters stand one after the other, each escaped or not."""
    parts: list[str] = []
    for character, run in groupby(secret):
        if len(secret) > _LONG and character.isascii() and character.isalnum():
            parts += run
            continue
        one, count = f"(?:{_character(character)})", len(list(run))
        # One backslash may be written as several.
        parts.append(f"{one}{{{count},{8 * count}}}" if character == "\\" else one * count)
    return "".join(parts)


def encoded_patterns(secret: str) -> Iterator[str]:
    """Yield the patterns of a secret as a whole: in base64 at each of its three alignments, in hexadecimal, and as the digest of an ACL."""
    yield hashlib.sha256(secret.encode()).hexdigest()
    for raw in dict.fromkeys([secret.encode(), *_latin(secret), quote(secret, safe="").encode()]):
        if len(raw) >= _LEAST_BYTES:
            yield _hexadecimal(raw.hex())
            yield from _base64(raw)


def _character(character: str) -> str:
    """Match one character in each of its forms, the longest first.

    Every form begins with a literal, so that a search can skip what begins none, and every repetition is bounded, so that no text makes it
    slow.
    """
    code = ord(character)
    forms = []
    entities = [f"#0{{0,6}}{code}", f"#[xX]0{{0,6}}{_hexadecimal(f'{code:x}')}", *([_ENTITIES[code]] if code in _ENTITIES else [])]
    forms += [f"&(?:amp;){{0,3}}{entity};" for entity in entities]
    if character in _BACKSLASHED:
        forms += [_BACKSLASHES + form for form in (*forms, re.escape(character))]
    forms += [_BACKSLASHES + _LETTERS[character]] if character in _LETTERS else []
    units = character.encode("utf-16-be").hex()
    forms.append("".join(f"{_BACKSLASHES}u{_hexadecimal(units[at : at + 4])}" for at in range(0, len(units), 4)))
    forms.append(f"{_BACKSLASHES}U{_hexadecimal(f'{code:08x}')}")
    for raw in [character.encode(), *_latin(character)]:
        forms.append("".join(f"%(?:25){{0,3}}{_hexadecimal(f'{byte:02x}')}" for byte in raw))
        forms.append("".join(f"{_BACKSLASHES}x{_hexadecimal(f'{byte:02x}')}" for byte in raw))
    forms += [r"\+"] if character == " " else []
    forms += [re.escape(character.encode().decode("latin-1")), re.escape(character)]  # the former is UTF-8 that was read as Latin-1
    return "|".join(dict.fromkeys(forms))


def _latin(text: str) -> list[bytes]:
    try:
        return [text.encode("latin-1")]
    except UnicodeEncodeError:
        return []


def _hexadecimal(digits: str) -> str:
    return "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in digits)


def _base64(raw: bytes) -> Iterator[str]:
    """Match bytes within the base64 of a longer text: characters shared with a neighbour match by the bits that are theirs."""
    bits = "".join(f"{byte:08b}" for byte in raw)
    for before in range(3):
        shared = "?" * (8 * before % 6) + bits  # whole characters before are no business of ours
        shared += "?" * (-len(shared) % 6)
        groups = [shared[at : at + 6] for at in range(0, len(shared), 6)]
        yield "".join(map(_sextet, groups)) + "(?:=|%3[dD]){0,2}"


@functools.cache
def _sextet(group: str) -> str:
    fitting = [
        letter
        for number, letter in enumerate(_ALPHABET)
        if all(wanted in ("?", is_there) for wanted, is_there in zip(group, f"{number:06b}", strict=True))
    ]
    characters = "".join(_URL_SAFE.get(letter, letter) for letter in fitting)
    if len(fitting) > 1:
        return f"[{characters}]"
    return {"+": r"(?:\+|-|%2[bB])", "/": rf"(?:/|_|{_BACKSLASHES}/|%2[fF])"}.get(characters[0], characters)
