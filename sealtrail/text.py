"""A report in words, for people; the same for every command that verifies."""

from __future__ import annotations

from collections.abc import Iterator

from sealtrail.report import Report

MAX_FINDINGS = 50


def lines(report: Report) -> Iterator[str]:
    """Chains, verdicts, findings with their positions, caveats, and the conclusion; nothing that a terminal obeys.

    Names come from the archive: whoever altered it must not write on the auditor's screen.
    """
    for line in _lines(report):
        yield printable(line)


def printable(line: str) -> str:
    """The line, with what a terminal might obey written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def _lines(report: Report) -> Iterator[str]:
    for chain in report.chains:
        verdicts = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(chain.verdicts.items()))
        yield f"{chain.chain}: {chain.segments} segments, {chain.seals:,} seals, {chain.records:,} records: {verdicts}"
    for finding in report.findings[:MAX_FINDINGS]:
        span = "" if finding.seq is None else f" seq {finding.seq}"
        if finding.count > 1 and finding.seq is not None:
            span += f"–{finding.seq + finding.count - 1}"
        yield f"{finding.kind} {finding.chain}{span} (step {finding.step}, {finding.where}): {finding.detail}"
    if len(report.findings) > MAX_FINDINGS:
        yield f"… and {len(report.findings) - MAX_FINDINGS} findings more (--json gives all)"
    for caveat in report.caveats:
        yield f"not ruled out: {caveat}"
    seals = sum(c.seals for c in report.chains)
    records = sum(c.records for c in report.chains)
    outcome = "VERIFIED" if report.good else "INTACT, but sources left numbers out" if report.intact else "NOT VERIFIED"
    yield f"{outcome}: {seals:,} seals, {records:,} records, {len(report.findings)} findings"
