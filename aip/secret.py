"""Secrets by name: `secret:NAME` in a plan or a configuration, the value found where it is used and nowhere else.

Looked for, in this order:

    1. the environment variable NAME      of the process that needs it
    2. the file <AIP_HOME>/secrets/NAME   readable by its owner only, or it is refused
    3. the system's keyring               service "aip", user NAME

A value is never part of a message, a journal, a log line or an error text: errors name the secret and where it was looked for.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from .errors import Denied, NotFound, UsageError
from .settings import Home

PREFIX = "secret:"
SERVICE = "aip"
SECRET_BYTES_MAX = 64 * 2**10  # A key, a token, a certificate with its chain; not a file store.
NAME = re.compile(
    r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z"
)  # Of an environment variable; so it is a plain file name too.


def is_reference(text: str) -> bool:
    return text.startswith(PREFIX) and NAME.match(text.removeprefix(PREFIX)) is not None


def check_name(name: str) -> str:
    """The name itself, or `UsageError` that says what a name looks like (and does not repeat what may be the secret)."""
    if not NAME.match(name):
        raise UsageError(
            "that is not the name of a secret", hint="letters, digits and _, not beginning with a digit"
        )
    return name


def resolve(reference: str, home: Home | None = None) -> str:
    """The value of `secret:NAME`. Raises `NotFound` that names the places, `Denied` for a file that others can read."""
    if not reference.startswith(PREFIX):
        raise UsageError("not a reference to a secret", hint="write secret:NAME")
    name = check_name(reference.removeprefix(PREFIX))
    path = file_of(name, home)
    value = os.environ.get(name) or _from_file(path) or _from_keyring(name)
    if value:
        return value
    raise NotFound(
        f"no secret {name}: not the environment variable {name}, not the file {path}, not in the keyring",
        hint=f"keep it with `aip secret set {name}`",
        secret=name,
    )


def file_of(name: str, home: Home | None = None) -> Path:
    return (home or Home.find()).root / "secrets" / check_name(name)


def _from_file(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise Denied(f"the secret in {path} cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise Denied(f"others can read {path}, so it is no secret", hint=f"chmod 600 {path}")
        data = file.read(SECRET_BYTES_MAX + 1)
    if len(data) > SECRET_BYTES_MAX:
        raise Denied(f"{path} is larger than {SECRET_BYTES_MAX} bytes, so it is no secret")
    text = data.decode(errors="ignore")
    if text.encode() != data:  # Compared, not caught: the codec's own error would carry the bytes.
        raise Denied(f"{path} does not hold text")
    return text.removesuffix("\n")


def _from_keyring(name: str) -> str:
    import keyring
    import keyring.errors

    try:
        return keyring.get_password(SERVICE, name) or ""
    except keyring.errors.KeyringError:
        return ""  # A machine without a keyring, or a locked one, has no secret to give: the caller's error names all places.


def keep_in_file(name: str, value: str, home: Home | None = None) -> Path:
    """Write the file, whole or not at all."""
    path = file_of(name, home)
    _check_value(name, value)
    (home or Home.find()).make()
    path.parent.mkdir(mode=0o700, exist_ok=True)
    draft = path.with_name(f".{name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def keep_in_keyring(name: str, value: str) -> None:
    import keyring
    import keyring.errors

    check_name(name)
    _check_value(name, value)
    failed = False
    try:
        keyring.set_password(SERVICE, name, value)
    except keyring.errors.KeyringError:
        failed = True
    if failed:
        raise NotFound(
            "this machine has no keyring that can be used", hint=f"keep it in a file: `aip secret set {name}`"
        )


def _check_value(name: str, value: str) -> None:
    if not value:
        raise UsageError(f"{name} would be empty")
    if len(value.encode()) > SECRET_BYTES_MAX:
        raise UsageError(f"{name} is larger than {SECRET_BYTES_MAX} bytes")


def names(home: Home | None = None) -> list[str]:
    """The secrets that are kept in files. A keyring does not tell what it holds."""
    folder = (home or Home.find()).root / "secrets"
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if NAME.match(entry.name) and entry.is_file())


def forget(name: str, home: Home | None = None) -> list[str]:
    """Remove it from the file and from the keyring; the places where it was. Raises `NotFound` where it was in neither."""
    import keyring
    import keyring.errors

    found = []
    path = file_of(name, home)
    if path.exists():
        path.unlink()
        found.append(str(path))
    try:
        keyring.delete_password(SERVICE, name)
        found.append("keyring")
    except keyring.errors.KeyringError:
        pass  # Not there, or no keyring: both leave nothing behind, and what was found is told.
    if not found:
        raise NotFound(f"no secret {name} is kept here", hint="see `aip secret list`")
    return found
