"""Licences as SPDX expressions, and which of them cannot be shipped together.

A licence is read from, in this order: License-Expression (PEP 639), trove classifiers, the free License field. The free field is
understood only where it is an SPDX expression or one of a short list of usual spellings; the rest is *invalid*, never guessed.

Compatibility is decided between a distribution and what it needs, by families. `OR` lets the shipper choose, so the most
permissive side counts; `AND` binds to both, so the strictest counts.

    dependant \\ dependency   permissive  weak      strong    network   proprietary
    permissive               ok          ok        review    review    review
    weak                     ok          ok        review    review    review
    strong                   ok          ok        ok        review    conflict
    network                  ok          ok        ok        ok        conflict
    proprietary              ok          review    conflict  conflict  review

and, by name, whatever the matrix says: Apache-2.0 with GPL-2.0-only is a conflict (how the FSF and the ASF read the patent
clause), and GPL-2.0-only with GPL-3.0-only or -or-later, which forbid each other. `review` is a question for counsel, not a
fault. This is a filter for people's attention and no legal advice: whether importing makes a derived work is not decided here.

Sources: the SPDX licence list; the licence list of gnu.org; "GPL compatibility" of apache.org.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from .dependency import Edge
from .finding import Finding, Severity, finding
from .inventory import Distribution, Inventory
from .metadata import Metadata

EXPRESSION_CHARS_MAX = 500
FAMILIES = ("permissive", "weak", "strong", "network", "proprietary")
MATRIX: dict[str, tuple[str, ...]] = {
    "permissive": ("ok", "ok", "review", "review", "review"),
    "weak": ("ok", "ok", "review", "review", "review"),
    "strong": ("ok", "ok", "ok", "review", "conflict"),
    "network": ("ok", "ok", "ok", "ok", "conflict"),
    "proprietary": ("ok", "review", "conflict", "conflict", "review"),
}
_NAMED_CONFLICTS = (
    (re.compile(r"^Apache-2\.0$"), re.compile(r"^GPL-2\.0(-only)?$")),
    (re.compile(r"^GPL-2\.0(-only)?$"), re.compile(r"^A?GPL-3\.0")),
)
_PREFIXES = (
    ("network", ("AGPL-", "SSPL-", "OSL-", "EUPL-")),
    ("weak", ("LGPL-", "MPL-", "EPL-", "CDDL-", "CPL-", "MS-RL")),
    ("strong", ("GPL-", "CECILL-2")),
    ("proprietary", ("LicenseRef-", "BUSL-", "Elastic-", "CC-BY-NC", "CC-BY-ND")),
)
_SPELLINGS = {
    "mit license": "MIT", "the mit license": "MIT", "mit/x11": "MIT", "expat": "MIT", "apache 2.0": "Apache-2.0",
    "apache 2": "Apache-2.0", "apache license 2.0": "Apache-2.0", "apache license, version 2.0": "Apache-2.0",
    "apache software license 2.0": "Apache-2.0", "apache license version 2.0": "Apache-2.0", "apache-2": "Apache-2.0",
    "apache software license": "Apache-2.0", "apache": "Apache-2.0", "apache2": "Apache-2.0",
    "bsd": "BSD-3-Clause", "bsd license": "BSD-3-Clause", "bsd 3-clause": "BSD-3-Clause", "new bsd": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause", "3-clause bsd": "BSD-3-Clause", "bsd-3": "BSD-3-Clause",
    "bsd 2-clause": "BSD-2-Clause", "simplified bsd": "BSD-2-Clause",
    "isc license": "ISC", "psf": "PSF-2.0", "psfl": "PSF-2.0", "python software foundation license": "PSF-2.0",
    "mpl 2.0": "MPL-2.0", "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0", "unlicense": "Unlicense", "public domain": "CC0-1.0",
    "lgplv3": "LGPL-3.0-only", "lgplv3+": "LGPL-3.0-or-later", "gplv2": "GPL-2.0-only", "gplv3": "GPL-3.0-only",
    "gpl": "GPL-2.0-or-later", "lgpl": "LGPL-2.1-or-later", "proprietary": "LicenseRef-Proprietary",
    "zpl 2.1": "ZPL-2.1", "dual license": "",
}  # fmt: skip
_CLASSIFIERS = {
    "MIT License": "MIT", "MIT No Attribution License (MIT-0)": "MIT-0", "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause", "ISC License (ISCL)": "ISC", "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0", "The Unlicense (Unlicense)": "Unlicense", "zlib/libpng License": "Zlib",
    "GNU General Public License (GPL)": "GPL-2.0-or-later", "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.1-or-later",
    "GNU Library or Lesser General Public License (LGPL)": "LGPL-2.1-or-later",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "Other/Proprietary License": "LicenseRef-Proprietary", "Public Domain": "CC0-1.0",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0", "Zope Public License": "ZPL-2.1",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Licence:
    """`expression` is "" where none is known; `stated` is what the metadata have. `family` decides in the matrix."""

    distribution: str
    expression: str
    family: str
    stated: str


@dataclass(frozen=True, slots=True)
class Licences:
    licences: tuple[Licence, ...]
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        rows = [[item.distribution, item.expression, item.family, item.stated] for item in self.licences]
        return {"licences": rows, "findings": [item.to_json() for item in self.findings]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Licences:
        licences = tuple(Licence(*item) for item in value["licences"])
        return cls(licences, tuple(Finding.from_json(item) for item in value["findings"]))


def analyse(inventory: Inventory, edges: Iterable[Edge]) -> Licences:
    licences: dict[str, Licence] = {}
    findings: list[Finding] = []
    for item in inventory.distributions:
        licence, problems = _read(item)
        licences[item.name] = licence
        findings += problems
    for edge in edges:
        source, target = licences.get(edge.source), licences.get(edge.target)
        if source and target and source.expression and target.expression and edge.declared:
            findings += _pair(inventory.by_name[edge.source], source, target)
    return Licences(tuple(licences[name] for name in sorted(licences)), tuple(findings))


def _read(item: Distribution) -> tuple[Licence, list[Finding]]:
    metadata, file = item.metadata, f"{item.folder}/METADATA"
    stated = metadata.licence_expression or metadata.licence or "; ".join(metadata.classifiers)
    expression = normalise(metadata.licence_expression)
    classified = _classified(metadata)
    free = normalise(metadata.licence)
    problems: list[Finding] = []
    if not stated:
        problems.append(
            finding("licence.unknown", item.name, file, 0, "no License-Expression, License or classifier")
        )
    elif not (expression or classified or free):
        problems.append(
            finding("licence.invalid", item.name, file, 0, "not understood as an SPDX expression", stated)
        )
    said = expression or free
    if said and classified and not _agree(said, classified):
        detail = f"License says {said}, the classifiers say {classified}"
        problems.append(finding("licence.disagree", item.name, file, 0, detail, stated))
    chosen = expression or _stricter(classified, free)
    shown = stated if len(stated) <= EXPRESSION_CHARS_MAX else stated[: EXPRESSION_CHARS_MAX - 1] + "…"
    return Licence(item.name, chosen, family(chosen) if chosen else "", shown), problems


def normalise(text: str) -> str:
    """`text` as an SPDX expression in its canonical spelling, or "" where it is none."""
    text = text.strip()
    if not text or len(text) > EXPRESSION_CHARS_MAX:
        return ""  # A whole licence text: a person must read it.
    spelled = _SPELLINGS.get(text.lower(), text)
    try:
        return str(canonicalize_license_expression(spelled)) if spelled else ""
    except (InvalidLicenseExpression, RecursionError, MemoryError):
        return ""


def _classified(metadata: Metadata) -> str:
    names = [item.rpartition(" :: ")[2] for item in metadata.classifiers]
    known = sorted({_CLASSIFIERS[name] for name in names if name in _CLASSIFIERS})
    # Several classifiers mean `or` to most authors who set them; PEP 639 forbids nothing and explains nothing.
    return " OR ".join(known)


def _agree(one: str, other: str) -> bool:
    """Classifiers are coarse ("BSD License"): it is the families that must be the same."""
    return family(one) == family(other)


def _stricter(one: str, other: str) -> str:
    if not one or not other:
        return one or other
    return max(other, one, key=lambda item: FAMILIES.index(family(item)))


def alternatives(expression: str) -> list[list[str]]:
    """The expression as alternatives (OR) of obligations (AND). Iterative; an `WITH exception` belongs to its licence."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression)
    output: list[list[list[str]]] = []
    operators: list[str] = []

    def apply() -> None:
        operator, right, left = operators.pop(), output.pop(), output.pop()
        output.append(left + right if operator == "OR" else [a + b for a in left for b in right][:64])

    skip = False
    for token in tokens:
        if skip:
            skip = False
        elif token == "(":  # noqa: S105
            operators.append(token)
        elif token == ")":  # noqa: S105
            while operators[-1] != "(":
                apply()
            operators.pop()
        elif token in ("AND", "OR"):
            while operators and operators[-1] != "(" and (operators[-1] == "AND" or token == "OR"):  # noqa: S105
                apply()
            operators.append(token)
        elif token == "WITH":  # noqa: S105
            skip = True
        else:
            output.append([[token]])
    while operators:
        apply()
    return output[0] if output else []


def family(expression: str) -> str:
    """The strictest family that must be accepted, the shipper choosing among alternatives."""
    ranks = [max(FAMILIES.index(_family(item)) for item in group) for group in alternatives(expression)]
    return FAMILIES[min(ranks)] if ranks else ""


def _family(identifier: str) -> str:
    return next((name for name, prefixes in _PREFIXES if identifier.startswith(prefixes)), "permissive")


def relation(source: str, target: str) -> str:
    """ok, review or conflict, between two expressions: the best that a choice of alternatives allows."""
    order = ("ok", "review", "conflict")
    best = "conflict"
    for ours in alternatives(source):
        for theirs in alternatives(target):
            worst = max((_relation(a, b) for a in ours for b in theirs), key=order.index, default="ok")
            best = min(best, worst, key=order.index)
    return best


def _relation(source: str, target: str) -> str:
    if any(
        (a.match(source) and b.match(target)) or (b.match(source) and a.match(target))
        for a, b in _NAMED_CONFLICTS
    ):
        return "conflict"
    return MATRIX[_family(source)][FAMILIES.index(_family(target))]


def _pair(item: Distribution, source: Licence, target: Licence) -> list[Finding]:
    answer = relation(source.expression, target.expression)
    if answer == "ok":
        return []
    rule = "licence.conflict" if answer == "conflict" else "licence.review"
    detail = f"{source.expression} needs {target.distribution}, which is {target.expression}"
    severity = Severity.HIGH if answer == "conflict" else Severity.MEDIUM
    return [
        finding(
            rule,
            item.name,
            f"{item.folder}/METADATA",
            0,
            detail,
            symbol=target.distribution,
            severity=severity,
        )
    ]
