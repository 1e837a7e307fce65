"""Bundles in OPA's layout: what is read, what is refused, and that the same files are the same bundle."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policies_for_tests import ROLES, RULES, bundle, files

from aip.governance.policy import bundle as bundles
from aip.governance.policy.bundle import build, from_files, read, unpack
from aip.governance.policy.engine import BundleRejected


def archive(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for info, body in entries:
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return gzip.compress(out.getvalue())


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def write(folder: Path, contents: dict[str, bytes]) -> Path:
    for name, body in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    return folder


def test_a_folder_and_its_archive_are_the_same_bundle(tmp_path: Path) -> None:
    from_folder = read(write(tmp_path, files()))
    packed = tmp_path.parent / f"{tmp_path.name}.tar.gz"
    packed.write_bytes(build(from_folder))
    assert read(packed) == from_folder == bundle()
    assert from_folder.revision == "r1"
    assert from_folder.data == {"aip": {"roles": ROLES}}
    assert [module.path for module in from_folder.served] == ["aip/rules.rego"]


def test_the_archive_does_not_depend_on_order_or_time() -> None:
    backwards = dict(reversed(list(files().items())))
    assert build(from_files(backwards)) == build(bundle())


def test_a_bundle_without_a_revision_is_named_by_its_digest() -> None:
    unnamed = bundle(manifest=None)
    assert unnamed.revision == unnamed.digest
    assert unnamed.digest.startswith("sha256:")


@given(st.sampled_from(["rules", "data", "tests"]), st.integers(0, 2**16))
def test_any_change_makes_another_digest(which: str, number: int) -> None:
    texts = {
        "rules": RULES + f"# {number}\n",
        "data": json.dumps({"n": number}),
        "tests": f"package aip_test\n# {number}\n",
    }
    assert bundle(**{which: texts[which]}).digest != bundle().digest


def test_other_files_are_not_part_of_it(tmp_path: Path) -> None:
    folder = write(tmp_path, {**files(), "README.md": b"# hello", ".git/x.rego": b"no rego at all"})
    assert read(folder) == bundle()


def test_a_rule_is_found_by_the_literal_of_its_id() -> None:
    file, line = bundle().place_of("budget.small")
    assert file == "aip/rules.rego"
    assert '"budget.small"' in RULES.splitlines()[line - 1]
    assert bundle().place_of("no.such.rule") == ("", 0)


REFUSED_ENTRIES = {
    "a path out of the bundle": entry("../evil.rego"),
    "a path out of the bundle, further in": entry("aip/../../evil.rego"),
    "a name with a control character": entry("aip/a\x01.rego"),
    "an empty part": entry("aip//a.rego"),
    "a symbolic link": entry("aip/a.rego", tarfile.SYMTYPE, "/etc/passwd"),
    "a hard link": entry("aip/a.rego", tarfile.LNKTYPE, "aip/b.rego"),
    "a device": entry("aip/a.rego", tarfile.CHRTYPE),
    "a pipe": entry("aip/a.rego", tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("info", REFUSED_ENTRIES.values(), ids=REFUSED_ENTRIES)
def test_an_archive_is_refused_for(info: tarfile.TarInfo) -> None:
    with pytest.raises(BundleRejected):
        unpack(archive((info, b"")))


def test_a_file_twice_is_refused() -> None:
    with pytest.raises(BundleRejected, match="twice"):
        unpack(archive((entry("aip/a.rego"), b"package aip"), (entry("./aip/a.rego"), b"package aip")))


def test_a_link_in_a_folder_is_refused(tmp_path: Path) -> None:
    (write(tmp_path, files()) / "aip" / "linked.rego").symlink_to("/etc/hostname")
    with pytest.raises(BundleRejected, match="link"):
        read(tmp_path)


def test_a_small_archive_that_unpacks_to_gigabytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "BUNDLE_BYTES_MAX", 10_000)
    monkeypatch.setattr(bundles, "ENTRIES_MAX", 10)
    with pytest.raises(BundleRejected, match="unpacks to more"):
        unpack(archive((entry("data.json"), b" " * 1_000_000)))


def test_a_cut_archive_is_refused() -> None:
    with pytest.raises(BundleRejected, match="cut short"):
        unpack(build(bundle())[:-20])


REFUSED_FILES: dict[str, tuple[dict[str, Any], str]] = {
    "data outside the roots": ({"data.json": b'{"other": 1}'}, "outside the roots"),
    "a module outside the roots": ({"x.rego": b"package other"}, "outside the roots"),
    "a datum twice": ({"data.json": b'{"aip": {"roles": {"guest": []}}}'}, "already"),
    "data that is no JSON": ({"aip/data.json": b"{"}, "not JSON"),
    "data that is no object": ({"aip/data.json": b"[1]"}, "object"),
    "data too deep": ({"aip/data.json": b'{"a":' * 100 + b"1" + b"}" * 100}, "deep"),
    "overlapping roots": ({".manifest": b'{"roots": ["aip", "aip/roles", "aip_test"]}'}, "overlap"),
    "the older Rego": ({".manifest": b'{"rego_version": 0}'}, "rego_version"),
    "a module without a package": ({"x.rego": b"allow := true"}, "package"),
    "a module that is no text": ({"x.rego": b"package aip\xff"}, "UTF-8"),
    "an interpolated string": ({"x.rego": b'package aip\nx := $"{input.y}"'}, "interpolation"),
    "a string without an end": ({"x.rego": b'package aip\nx := "abc'}, "not Rego"),
    "an unsafe name": ({"a b.rego": b"package aip"}, "unsafe path"),
}


@pytest.mark.parametrize(("changes", "words"), REFUSED_FILES.values(), ids=REFUSED_FILES)
def test_a_bundle_is_refused_for(changes: dict[str, bytes], words: str) -> None:
    with pytest.raises(BundleRejected, match=words):
        made = from_files({**files(), **changes})
        made.place_of("anything")
