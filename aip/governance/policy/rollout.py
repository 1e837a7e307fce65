"""Bringing a policy into force, and back: what `aip policy reload | rollback | show` do in AIP_HOME/policy.

    AIP_HOME/policy/versions.json and <digest>.*    versions in force and known good (`governance/policy/store.py`)
    AIP_HOME/policy/trust/*.pem                     public keys; where there is one, a policy without its signature is refused
    AIP_HOME/policy/.lock                           held while versions change: two who reload at once take turns
    FOLDER/.certificate.json                        beside a bundle: its comparison of engines, made before (scripts/certify)

Everything that can fail comes before the swap: the bundle is read, its signature verified, its tests run, the engines compared.
What was in force stays so until the new version is on disk.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from ...errors import NotFound, UsageError
from ...settings import Home
from . import bundle as bundles
from . import store
from .bundle import Bundle
from .certify import Certificate
from .rego import Prepared, prepare
from .signature import Trust

CONFIG_PATH = ("aip", "config")  # Where the shipped rules have their configuration in `data`.
CONFIG_BYTES_MAX = 2**20  # A person wrote it.
TRUST_KEYS_MAX = 64  # Signers of one platform's policy.
KEY_BYTES_MAX = 16 * 2**10
CERTIFICATE = ".certificate.json"


def folder(home: Home) -> Path:
    return home.root / "policy"


def shipped() -> Path:
    """The bundle that comes with AIP: beside the package in a checkout, inside it where it was installed."""
    package = Path(__file__).parents[2]
    for place in (package / "policies", package.parent / "policies"):
        if (place / bundles.MANIFEST).is_file():
            return place.resolve()
    raise NotFound(
        "this installation has no policies of its own", hint="name a bundle: a folder or a .tar.gz"
    )


def activate(home: Home, bundle_path: Path, config: Path | None = None) -> tuple[store.Version, Prepared]:
    """This bundle comes into force in AIP_HOME/policy. Raises `BundleRejected`, and then nothing has changed."""
    trust = trusted(home)
    found = read(bundle_path, config, trust)
    ready = prepare(found, certificate_of(bundle_path))
    place = folder(home)
    with _held(place):
        versions = store.load(place)
        if (
            versions.active is None
            and trust is None
            and (first := bundles.read(shipped())).digest != found.digest
        ):
            versions = _activated(place, versions, first, certificate_of(shipped()))  # What to go back to.
        if versions.active != store.Version.of(found):
            versions = _activated(place, versions, found, ready.certificate)
        else:
            store.put(
                place, found, ready.certificate
            )  # The same rules; but by now somebody may have signed them.
        store.save(place, versions)
        store.tidy(place, versions)
    return store.Version.of(found), ready


def certificate_of(bundle_path: Path) -> Certificate | None:
    """The one that came with a bundle's folder. Whether it covers the bundle and these engines is asked where it is used."""
    try:
        return msgspec.json.decode((bundle_path / CERTIFICATE).read_bytes(), type=Certificate)
    except (OSError, msgspec.DecodeError):
        return None  # The engines are compared anew: slower, and the same in the end.


def make_sure(home: Home) -> store.Version:
    """The version in force; where there never was one the shipped bundle comes into force."""
    active = store.load(folder(home)).active
    return active if active is not None else activate(home, shipped())[0]


def _activated(
    place: Path, versions: store.Versions, found: Bundle, certificate: Certificate | None
) -> store.Versions:
    return versions.stage(store.put(place, found, certificate)).activate()


def roll_back(home: Home) -> store.Version:
    """The version before comes into force again, from this disk and verified anew."""
    place = folder(home)
    with _held(place):
        versions = store.load(place).rollback()
        assert versions.active is not None
        store.get(place, versions.active, trusted(home))
        store.save(place, versions)
    return versions.active


def in_force(home: Home) -> Bundle | None:
    """The bundle in force, if any was brought into force here."""
    active = store.load(folder(home)).active
    return store.get(folder(home), active, trusted(home))[0] if active else None


def read(path: Path, config: Path | None = None, trust: Trust | None = None) -> Bundle:
    """The bundle at this path. Another configuration makes it another bundle, which the signature no longer covers."""
    if config is None:
        return bundles.read(path, trust)
    if trust is not None:
        raise UsageError(
            "a signed policy cannot be given another configuration",
            hint="build it with --config, sign that, and name the result",
        )
    return with_config(bundles.read(path), config)


def with_config(bundle: Bundle, config: Path | None) -> Bundle:
    return bundle if config is None else configured(bundle, _config(config))


def configured(bundle: Bundle, config: dict[str, Any]) -> Bundle:
    """The bundle with this document at `data.aip.config`."""
    data = json.loads(json.dumps(dict(bundle.data)))
    place = data
    for part in CONFIG_PATH[:-1]:
        place = place.setdefault(part, {})
    place[CONFIG_PATH[-1]] = config
    kept = {name: body for name, body in bundle.files.items() if _is_kept(name)}
    return bundles.from_files({**kept, "data.json": json.dumps(data, indent=2).encode()})


def _is_kept(name: str) -> bool:
    return name.endswith(".rego") or name == bundles.MANIFEST


def _config(path: Path) -> dict[str, Any]:
    value = json_of(path, CONFIG_BYTES_MAX)
    if not isinstance(value, dict):
        raise UsageError(f"{path}: a configuration is a JSON object", hint="see policies/strict/config.json")
    return value


def json_of(path: Path, bytes_max: int) -> Any:
    try:
        with path.open("rb") as file:
            body = file.read(bytes_max + 1)
        if len(body) > bytes_max:
            raise UsageError(f"{path} is larger than {bytes_max} bytes")
        return json.loads(body)
    except OSError as error:
        raise NotFound(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}") from error


def trusted(home: Home) -> Trust | None:
    """The keys whose signature a policy of this platform must bear; None where there are none."""
    place = folder(home) / "trust"
    if not place.is_dir():
        return None  # Nobody ever said whom to trust. A folder that is there and empty trusts nobody.
    files = sorted(place.glob("*.pem"))[: TRUST_KEYS_MAX + 1]
    if len(files) > TRUST_KEYS_MAX:
        raise UsageError(f"more than {TRUST_KEYS_MAX} keys in {place}")
    return Trust.from_pem({key_id(file): _key(file) for file in files})


def key_id(path: Path) -> str:
    """`ops` of ops.pem, ops.pub.pem."""
    return path.name.removesuffix(".pem").removesuffix(".pub")


def _key(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(KEY_BYTES_MAX)


@contextmanager
def _held(place: Path) -> Iterator[None]:
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(place / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)  # And the lock with it.
