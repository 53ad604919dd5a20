"""Looks for a planted secret in everything that was written, by decoding what is there: it knows nothing of how secrets are redacted."""

import base64
import contextlib
import gzip
import html
import io
import re
import sqlite3
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote_to_bytes

_ESCAPE = re.compile(rb"\\+(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([\"'/\\]))")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{8,}")
_HEXADECIMAL = re.compile(rb"(?:[0-9a-fA-F]{2}){6,}")
_PNG = b"\x89PNG\r\n\x1a\n"


def leaks_in(folder: Path, secret: str) -> list[str]:
    """List where below a folder a secret stands, or a half of it: file, what was opened, how it was written."""
    return [
        f"{path.relative_to(folder)}: {found}"
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
        for inside, data in _opened(path.name, path.read_bytes())
        for found in [f"{inside} {form}" for form in forms_in(data, secret)]
    ]


def forms_in(data: bytes, secret: str) -> list[str]:
    """List the ways in which a secret, or a half of it, is written in some bytes."""
    needles = {half.encode(encoding) for half in (secret[:9], secret[-9:]) for encoding in ("utf-8", "latin-1")}
    needles |= {needle.decode("latin-1").encode() for needle in needles}
    return [form for form, view in _views(data) if any(needle in view for needle in needles)]


def _views(data: bytes) -> Iterator[tuple[str, bytes]]:
    yield "raw", data
    texts = {data: "raw"}
    for _ in range(2):  # what is escaped in one way, and that in another one
        for text, form in list(texts.items()):
            for name, decode in _TEXTS.items():
                texts.setdefault(decode(text), f"{name} in {form}")
    texts.pop(data)
    yield from ((form, text) for text, form in texts.items())
    for text, form in ((data, "raw"), (unquote_to_bytes(data), "percent"), (data.replace(rb"\/", b"/"), "escapes")):
        for token in _BASE64.findall(text):
            for start in range(4):
                cut = token[start:].replace(b"-", b"+").replace(b"_", b"/")
                decoded = base64.b64decode(cut[: len(cut) // 4 * 4] + _padded(cut[len(cut) // 4 * 4 :]))
                yield f"base64 in {form}", decoded
                yield f"percent in base64 in {form}", unquote_to_bytes(decoded)
                if decoded.startswith(_PNG):
                    yield "text of a picture", _png_texts(decoded)
        for token in _HEXADECIMAL.findall(text):
            yield f"hexadecimal in {form}", bytes.fromhex(token.decode())
            yield f"hexadecimal in {form}", bytes.fromhex("0" + token.decode() + "0")


def _padded(rest: bytes) -> bytes:
    return b"" if len(rest) < 2 else rest + b"=" * (4 - len(rest))


def _unescape_html(data: bytes) -> bytes:
    return html.unescape(data.decode(errors="surrogateescape")).encode(errors="surrogateescape")


def _unescape(data: bytes) -> bytes:
    def character(found: re.Match[bytes]) -> bytes:
        byte, unit, code, plain = found.groups()
        if byte:
            return bytes.fromhex(byte.decode())
        return plain or chr(int(unit or code, 16)).encode(errors="surrogatepass")

    return _ESCAPE.sub(character, data)


_TEXTS: dict[str, Callable[[bytes], bytes]] = {"percent": unquote_to_bytes, "HTML": _unescape_html, "escapes": _unescape}


def _opened(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield a file as it is, and whatever can be unpacked from it."""
    yield "itself,", data
    if data.startswith(b"\x1f\x8b"):
        yield from _opened("unzipped,", gzip.decompress(data))
    elif data.startswith(b"SQLite format 3"):
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            connection.deserialize(data)
            yield "rows,", "\n".join(connection.iterdump()).encode()
    elif data.startswith(_PNG):
        yield "text of a picture,", _png_texts(data)
    elif zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.namelist():
                yield f"{member},", archive.read(member)


def _png_texts(data: bytes) -> bytes:
    """Return what a picture's chunks of text say."""
    texts, at = [], len(_PNG)
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        chunk = data[at + 8 : at + 8 + length]
        if kind in (b"tEXt", b"iTXt"):
            texts.append(chunk)
        elif kind == b"zTXt":
            keyword, _, packed = chunk.partition(b"\0")
            texts += [keyword, zlib.decompress(packed[1:])]
        at += length + 12
    return b"\n".join(texts)
