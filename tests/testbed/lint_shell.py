"""shellcheck over every script together with the libraries that it sources, each of them once.

``shellcheck --external-sources`` reads a library again for every path of ``source`` that leads to it, which takes minutes and
gigabytes here. This puts a script and its libraries into one text, in the order in which bash would read them, and says where
in which file a finding is. A library's finding counts when every script that sources it has it: what one script leaves unused
another uses.

    python -m tests.testbed.lint_shell [SCRIPT...]      default: all that git knows outside of scripts/lib
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# of shellcheck's optional checks three are off: braces around every name (2250), and any function whose status is asked for
# (2310) or left out in $( ) (2312)
OPTIONS = ("--enable=all", "--exclude=SC2250,SC2310,SC2312", "--format=json1")
_DIRECTIVE = re.compile(r"\s*# shellcheck .*\bsource=(\S+)")
_SOURCE = re.compile(r'(\s*)\. (?=")')
_GUARD = re.compile(r'\[\[ -z ("\$\{\w+_SH:-\}") \]\] \|\| return 0')

Place = tuple[str, int]
Finding = tuple[Place, int, str, str]


@dataclass
class Text:
    """A script of the tree ``root`` with its libraries: its lines, and where each comes from."""

    root: Path = ROOT
    lines: list[str] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    files: set[str] = field(default_factory=set)

    def add(self, path: Path) -> Text:
        """Adds ``path`` and what it sources, each file once. Raises FileNotFoundError: a directive leads nowhere."""
        name = path.relative_to(self.root).as_posix()
        self.files.add(name)
        wanted: Path | None = None
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if directive := _DIRECTIVE.match(line):
                wanted = self._find(path, directive[1])
            elif wanted is not None and _SOURCE.match(line):
                if wanted.relative_to(self.root).as_posix() not in self.files:
                    self.add(wanted)
                wanted = None
            self.lines.append(_alone(line, first=not self.lines))
            self.places.append((name, number))
        return self

    def _find(self, path: Path, named: str) -> Path:
        for folder in (path.parent, self.root / "scripts/lib", path.parent.parent, self.root):
            if (folder / named).is_file():
                return (folder / named).resolve()
        raise FileNotFoundError(f"{path}: source={named}")


def _alone(line: str, *, first: bool) -> str:
    """The line as it means the same to shellcheck where nothing is sourced any more."""
    if _DIRECTIVE.match(line) or (not first and line.startswith(("#!", "# shellcheck shell="))):
        return "#"
    if guard := _GUARD.fullmatch(line):
        return f": {guard[1]}"
    return _SOURCE.sub(r"\1: ", line)


def findings(text: Text) -> Iterator[Finding]:
    """What shellcheck says of the text: place, column, level and code, message."""
    done = subprocess.run(
        ["shellcheck", *OPTIONS, "-"], input="\n".join(text.lines) + "\n", capture_output=True, text=True, check=False
    )
    if done.returncode > 1:
        raise RuntimeError(done.stderr)
    for comment in json.loads(done.stdout)["comments"]:
        kind = f"{comment['level']} SC{comment['code']}"
        yield text.places[comment["line"] - 1], comment["column"], kind, comment["message"]


def check(scripts: list[Path], root: Path = ROOT) -> list[Finding]:
    """The findings of ``scripts`` and their libraries, sorted by place."""
    texts = [Text(root).add(script) for script in scripts]
    with ThreadPoolExecutor(2) as pool:
        found = [set(result) for result in pool.map(lambda text: list(findings(text)), texts)]
    users = {name: [index for index, text in enumerate(texts) if name in text.files] for text in texts for name in text.files}
    return sorted(finding for finding in set().union(*found) if all(finding in found[index] for index in users[finding[0][0]]))


def main(arguments: list[str]) -> int:
    """Prints the findings; 1 when there are any."""
    listed = subprocess.run(["git", "ls-files", "*.sh", ".ci/run"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = arguments or [name for name in listed.stdout.split() if not name.startswith("scripts/lib/")]
    found = check([(ROOT / name).resolve() for name in names])
    for (name, line), column, kind, message in found:
        print(f"{name}:{line}:{column}: {kind}: {message}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
