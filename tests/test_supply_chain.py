"""The list of packages, and the look-up of their vulnerabilities."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import START_SECONDS, at_most

ROOT = Path(__file__).parents[1]
KNOWN = {"name": "a", "version": "1", "vulns": []}
HIT = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "c", "skip_reason": "not found"}


def audit(folder: Path, printed: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run scripts/audit over two files, with a program that answers as pip-audit would."""
    program = folder / "pip-audit"
    program.write_text(f"#!/bin/sh\ncat <<'X'\n{printed}\nX\necho no network >&2\nexit {code}\n")
    program.chmod(0o755)
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "audit"), str(program), "one.txt", "two.txt"],
        capture_output=True,
        text=True,
        timeout=at_most(START_SECONDS),
        check=False,
    )


def test_a_vulnerability_is_an_error(tmp_path: Path) -> None:
    done = audit(tmp_path, json.dumps({"dependencies": [KNOWN, HIT]}), 1)

    assert done.returncode == 1
    assert "one.txt: b 2: CVE-1, mended in 3\ntwo.txt: b 2: CVE-1" in done.stderr
    assert done.stdout == "2 packages without a known vulnerability, 2 vulnerabilities\n"


@pytest.mark.parametrize(("printed", "why"), [(json.dumps({"dependencies": [UNKNOWN]}), "c"), ("", "no network")])
def test_what_could_not_be_audited_is_said_loudly(tmp_path: Path, printed: str, why: str) -> None:
    done = audit(tmp_path, printed, 1)

    assert done.returncode == 0
    assert done.stderr.startswith("!! NOT AUDITED (2): ")
    assert f"one.txt: {why}" in done.stderr


def test_nothing_is_said_where_all_is_known(tmp_path: Path) -> None:
    done = audit(tmp_path, json.dumps({"dependencies": [KNOWN]}))

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.release
def test_the_list_has_every_package_of_the_image_with_its_hashes() -> None:
    done = subprocess.run(["make", "sbom"], cwd=ROOT, capture_output=True, text=True, timeout=at_most(120), check=False)
    assert done.returncode == 0, done.stderr
    listed = json.loads((ROOT / "dist" / "sbom.cdx.json").read_text())
    pins = (ROOT / "requirements.txt").read_text()

    assert listed["bomFormat"] == "CycloneDX"
    assert {(one["name"], one["version"]) for one in listed["components"]} == set(
        re.findall(r"^([\w.-]+)==([^ ;]+)", pins, re.MULTILINE)
    )
    found = {entry["content"] for one in listed["components"] for entry in one["externalReferences"][0]["hashes"]}
    assert found == set(re.findall(r"sha256:([0-9a-f]{64})", pins))
