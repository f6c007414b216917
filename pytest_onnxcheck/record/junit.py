"""JUnit files of runs that shared a manifest, as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from pytest_onnxcheck.errors import MergeError

__all__ = ["joined"]


def joined(paths: Sequence[Path]) -> str:
    """One JUnit file with the test suites of all.

    Raises:
        MergeError: One is no JUnit file, or a test is in two.
        OSError: One cannot be read.
    """
    whole = ElementTree.Element("testsuites")
    seen: dict[tuple[str | None, str | None], int] = {}
    reasons: list[str] = []
    for number, path in enumerate(paths):
        try:
            root = ElementTree.parse(path).getroot()
        except ElementTree.ParseError as error:
            reasons.append(f"{path}: not a JUnit file: {error}")
            continue
        suites = [root] if root.tag == "testsuite" else root.findall("testsuite")
        if not suites:
            reasons.append(f"{path}: not a JUnit file: it has no test suite")
        whole.set("name", root.get("name", "pytest tests"))
        whole.extend(suites)
        for case in root.iter("testcase"):
            name = (case.get("classname"), case.get("name"))
            before = seen.setdefault(name, number)
            if before != number:
                test = ".".join(map(str, name))
                reasons.append(f"{test} is there twice: {paths[before]} and {path}")
    if reasons:
        raise MergeError("JUnit files are not merged", reasons)
    return ElementTree.tostring(whole, encoding="unicode", xml_declaration=True) + "\n"
