"""The report of an examination, as lines for people and as a document for programs."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlhfc.plan.quantities import size
from rlhfc.upkeep.findings import Grade
from rlhfc.upkeep.fsck import Fate, Report

FORMAT_VERSION = "1.0"
SHOWN = 20  # findings of one kind; the others are counted


def report_lines(report: Report, store: str, *, repair: bool) -> Iterator[str]:
    """Findings by grade, the worst first, and a sum."""
    for grade in Grade:
        yield from _grade_lines([each for each in report.fates if each.finding.meaning.grade is grade], grade)
    read = f"{report.files} file{'' if report.files == 1 else 's'}, {size(report.bytes)} read"
    yield f"{store}: {report.results} result{'' if report.results == 1 else 's'}, {read}: {_verdict(report)}"
    if report.quarantine is not None:
        yield f"quarantine: {report.quarantine}"
    if not repair and any(each.finding.meaning.grade is not Grade.NOTE for each in report.fates):
        yield "hint: `rlhfc fsck --repair` puts right what can be; nothing is deleted"


def _grade_lines(fates: list[Fate], grade: Grade) -> Iterator[str]:
    counts: Counter[str] = Counter()
    for each in fates:
        finding = each.finding
        counts[finding.kind] += 1
        if counts[finding.kind] > SHOWN:
            continue
        yield f"{grade}: {finding.place}: {finding.why}"
        if counts[finding.kind] == 1 and grade is not Grade.NOTE:
            yield f"  {finding.kind}; lost: {finding.meaning.lost}"
        if each.repaired:
            yield f"  repaired: {finding.meaning.repair}"
        elif each.left is not None:
            yield f"  left: {each.left}"
    for kind, count in counts.items():
        if count > SHOWN:
            yield f"{grade}: {count - SHOWN} more of {kind}"


def _verdict(report: Report) -> str:
    left = len(report.damage)
    repaired = sum(each.repaired for each in report.fates)
    parts = [f"{repaired} repaired"] if repaired else []
    return ", ".join([*parts, f"{left} damaged" if left else "clean"])


def report_document(report: Report, root: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The same facts for programs; within version 1 names are only ever added."""
    return {
        "format_version": FORMAT_VERSION,
        "store": str(root),
        "quick": arguments.quick,
        "repair": arguments.repair,
        "clean": not report.damage,
        "results": report.results,
        "files": report.files,
        "bytes": report.bytes,
        "quarantine": str(report.quarantine) if report.quarantine is not None else None,
        "findings": [
            {
                "kind": each.finding.kind,
                "grade": each.finding.meaning.grade,
                "place": each.finding.place,
                "why": each.finding.why,
                "lost": each.finding.meaning.lost,
                "repair": each.finding.meaning.repair,
                "repaired": each.repaired,
                "left": each.left,
            }
            for each in report.fates
        ],
    }
