"""Where media bytes come from: files and data: URIs, checked and hashed."""

import base64
import binascii
import functools
import hashlib
import io
import os
import stat
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from mmalign.errors import MediaCorruptError, MediaEmptyError, MediaMissingError

__all__ = ["Source", "content_hash", "file_hash", "open_source"]

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Source:
    """Bytes that exist, in a regular file or in memory."""

    name: str
    """For messages; a data: URI is shortened."""
    path: Path | None = None
    data: bytes | None = None

    def handle(self) -> str | io.BytesIO:
        """What a decoder opens."""
        return str(self.path) if self.data is None else io.BytesIO(self.data)


def open_source(uri: str) -> Source:
    """The bytes behind a URI, if there are any.

    Args:
        uri: Absolute path, path relative to the working directory, file: or data: URI.

    Raises:
        MediaMissingError: No such regular file, or no permission, or another kind of URI.
        MediaEmptyError: There are no bytes.
        MediaCorruptError: A data: URI is not valid base64.
    """
    if uri.startswith("data:"):
        return _from_data(uri)
    if uri.startswith("file:"):
        uri = urllib.parse.unquote(urllib.parse.urlsplit(uri).path)
    elif "://" in uri:
        raise MediaMissingError(
            f"{uri}: found a network address, expected a path or a data: URI; "
            f"download the file and give its path"
        )
    path = Path(uri)
    if _stat(path).st_size == 0:
        raise MediaEmptyError(
            f"{uri}: the file has 0 bytes, expected media; fetch it again or drop the sample"
        )
    return Source(name=uri, path=path)


def file_hash(path: str | Path) -> str:
    """blake2b-128 of a file's bytes, in hexadecimal digits.

    A file whose path, size, modification time and inode were seen before is not read again.

    Raises:
        MediaMissingError: The file is not there or cannot be read.
    """
    path = Path(path)
    found = _stat(path)
    return _hash_file(str(path.absolute()), found.st_size, found.st_mtime_ns, found.st_ino)


def content_hash(source: Source) -> str:
    """blake2b-128 of a source's bytes, in hexadecimal digits."""
    if source.path is not None:
        return file_hash(source.path)
    return hashlib.blake2b(source.data or b"", digest_size=16).hexdigest()


def _stat(path: Path) -> os.stat_result:
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise MediaMissingError(
            f"{path}: no such file (working directory {Path.cwd()}); "
            f"give the path of an existing media file"
        ) from error
    except OSError as error:
        raise MediaMissingError(
            f"{path}: cannot be opened ({error.strerror}); check the path and its permissions"
        ) from error
    if not stat.S_ISREG(found.st_mode):
        kind = "a directory" if stat.S_ISDIR(found.st_mode) else "a pipe, socket or device"
        raise MediaMissingError(f"{path}: found {kind}, expected a regular media file")
    return found


@functools.lru_cache(maxsize=1 << 16)
def _hash_file(path: str, size: int, mtime_ns: int, inode: int) -> str:
    digest = hashlib.blake2b(digest_size=16)
    try:
        with Path(path).open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise MediaMissingError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    return digest.hexdigest()


def _from_data(uri: str) -> Source:
    header, comma, body = uri.partition(",")
    name = f"{header[:60]},... ({len(body)} characters)"
    if not comma:
        raise MediaCorruptError(f"{name}: a data: URI has a comma before its content")
    try:
        if header.endswith(";base64"):
            data = base64.b64decode(urllib.parse.unquote(body), validate=True)
        else:
            data = urllib.parse.unquote_to_bytes(body)
    except (binascii.Error, ValueError) as error:
        raise MediaCorruptError(f"{name}: not valid base64 ({error}); encode it again") from error
    if not data:
        raise MediaEmptyError(f"{name}: the data: URI holds 0 bytes, expected media")
    return Source(name=name, data=data)
