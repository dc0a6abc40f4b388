"""Fuzz one parser with atheris, which follows the branches of the code: `python -m tests.fuzz.guided policy`.

Needs `pip install -e '.[fuzz]'`, which nothing else does. Options behind the name go to libFuzzer, as
`-max_total_time=600`. What is found new is kept in build/fuzz/corpus, a crash in build/fuzz.
"""

from __future__ import annotations

import shutil
import sys
from contextlib import suppress
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

with atheris.instrument_imports(include=["tlog", "server"]):
    from fuzz.targets import targets

from fuzz import corpus

BUILD = Path("build/fuzz")


def main() -> None:
    """Run until a crash, or as long as libFuzzer is told; it ends the process."""
    if len(sys.argv) < 2 or sys.argv[1] not in targets():
        sys.exit("name one of: " + ", ".join(targets()))
    target = targets()[sys.argv.pop(1)]
    found = BUILD / "corpus" / target.name
    found.mkdir(parents=True, exist_ok=True)
    (BUILD / target.name).mkdir(parents=True, exist_ok=True)
    for name in corpus.read(target.name):
        shutil.copy(corpus.CORPUS / target.name / name, found / name)

    def run(data: bytes) -> None:
        with suppress(*target.allowed):
            target.run(data)

    options = [f"-max_len={min(target.max_bytes, 16_384)}", "-timeout=30", "-rss_limit_mb=2048"]
    atheris.Setup(
        [sys.argv[0], *options, *sys.argv[1:], f"-artifact_prefix={BUILD / target.name}/", str(found)], run
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
