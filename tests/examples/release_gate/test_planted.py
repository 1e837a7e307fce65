"""The planted environment: every fault is found, nothing else is, and always in the same bytes."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from gate.audit import Audit, audit
from gate.finding import RULES, canonical
from gate_kit import EXAMPLE

TRUTH = json.loads((EXAMPLE / "planted" / "truth.json").read_text())


def rows(done: Audit) -> list[list[object]]:
    site = TRUTH["site"] + "/"
    return sorted(
        [f.rule, f.subject, f.file.removeprefix(site), f.line, f.symbol, f.severity.value, f.status.value]
        for f in done.verdict.findings
    )


def test_what_is_found_is_exactly_what_was_planted(planted: Audit) -> None:
    assert rows(planted) == sorted(TRUTH["findings"])


def test_the_verdict_holds_the_release(planted: Audit) -> None:
    assert planted.verdict.decision == TRUTH["verdict"] == "hold"


def test_every_reviewer_votes_as_its_own_evidence_says(planted: Audit) -> None:
    site = TRUTH["site"] + "/"
    by_id = {item.id: item for item in planted.verdict.findings}
    votes = {
        f"{by_id[key].rule} {by_id[key].file.removeprefix(site)}:{by_id[key].line}": {
            vote["voter"]: vote["vote"] for vote in tally["votes"]
        }
        for key, tally in planted.verdict.votes.items()
    }
    assert votes == TRUTH["votes"]


def test_no_two_reviewers_are_the_same_one_twice(planted: Audit) -> None:
    ballots = [
        {vote["voter"]: vote["vote"] for vote in tally["votes"]} for tally in planted.verdict.votes.values()
    ]
    for one, other in (("integrity", "behaviour"), ("integrity", "provenance"), ("behaviour", "provenance")):
        assert any(ballot[one] != ballot[other] for ballot in ballots)


def test_every_rule_has_a_planted_fault() -> None:
    assert {row[0] for row in TRUTH["findings"]} == set(RULES)


def test_no_decoy_is_flagged(planted: Audit) -> None:
    flagged = Counter(f.file.rpartition("/")[2] for f in planted.verdict.findings)
    subjects = {f.subject for f in planted.verdict.findings}
    assert not flagged["decoys.py"]
    assert not {"space-one", "space-two", "choice"} & subjects
    assert not any(
        "only-" in f.symbol or "much_later" in f.symbol or "optional" in f.symbol
        for f in planted.verdict.findings
    )


def test_the_committed_environment_is_what_the_script_builds(make, tmp_path: Path) -> None:
    make.build(tmp_path)
    committed = EXAMPLE / "planted" / "lib"

    def tree(root: Path) -> dict[str, bytes | str]:
        paths = [p for p in root.rglob("*") if p.is_symlink() or p.is_file()]
        return {
            p.relative_to(root).as_posix(): os.readlink(p) if p.is_symlink() else p.read_bytes()
            for p in paths
        }

    assert tree(tmp_path / "lib") == tree(committed)
    assert not filecmp.dircmp(tmp_path / "lib", committed).funny_files


def test_findings_are_the_same_bytes_wherever_the_environment_stands(planted: Audit, tmp_path: Path) -> None:
    elsewhere = tmp_path / "a" / "b"
    shutil.copytree(EXAMPLE / "planted", elsewhere / "planted", symlinks=True)
    shutil.copy(EXAMPLE / "plan.yaml", elsewhere / "plan.yaml")
    assert canonical(audit(str(elsewhere / "planted")).verdict.findings) == canonical(
        planted.verdict.findings
    )


def test_findings_are_the_same_bytes_in_another_process_with_other_hash_seeds(planted: Audit) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from gate.audit import audit; from gate.finding import canonical; "
        "sys.stdout.buffer.write(canonical(audit(sys.argv[2]).verdict.findings))"
    )
    for seed in ("1", "77"):
        command = [sys.executable, "-c", code, str(EXAMPLE), str(EXAMPLE / "planted")]
        output = subprocess.run(command, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        assert output == canonical(planted.verdict.findings)


def test_nothing_audited_is_ever_imported(planted: Audit) -> None:
    origins = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
    assert not [origin for origin in origins if "planted/lib" in origin]


def test_site_packages_itself_can_be_named(planted: Audit) -> None:
    again = audit(str(EXAMPLE / "planted" / TRUTH["site"]))
    assert canonical(again.verdict.findings) == canonical(planted.verdict.findings)
