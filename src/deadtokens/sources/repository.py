"""A repository on a hub, at one commit: what files it has, and how to come by them.

A revision is resolved to a commit once per opening, or not at all if it is one. Where the hub does
not answer, what it said the last time is taken, and said so.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deadtokens.errors import SourceError
from deadtokens.listening import listener
from deadtokens.sources.cache import (
    PARTIAL,
    cache_folder,
    fetch,
    safe_name,
    safe_path,
    store,
    stored,
)
from deadtokens.sources.describe import MOST_JSON_BYTES, parse_object
from deadtokens.sources.transfer import RemoteFile, UnreachableError, hub_utilities, persistently

HUB_PREFIX = "hf:"
_LISTING = "listing.json"
_MOST_JSON_BYTES = MOST_JSON_BYTES
_MOST_TOKENIZER_BYTES = 1 << 28
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FORM = "write hf:owner/name, hf:owner/name@revision or hf:owner/name:FILE"


@dataclass(frozen=True)
class Repository:
    """A repository at one commit.

    Attributes:
        repo: ``owner/name``.
        shown: What error lines name: the repository, and the revision if one was given.
        commit: The commit's 40 hexadecimal digits.
        folder: Where what was transferred of it is kept.
        files: Its files, and their sizes where the hub says.
    """

    repo: str
    shown: str
    commit: str
    folder: Path
    files: Mapping[str, int | None]

    def remote(self, name: str) -> RemoteFile:
        """One of its files, to be asked for.

        Raises:
            SourceError: There is no such file.
        """
        from huggingface_hub import hf_hub_url

        if name not in self.files:
            raise SourceError("no such file there", where=self.named(name), remedy="check its name")
        url = hf_hub_url(self.repo, name, revision=self.commit, endpoint=_endpoint())
        return RemoteFile(url, self.named(name), self.files[name])

    def named(self, name: str) -> str:
        """What error lines call one of its files."""
        return f"{self.shown}/{name}"

    def whole(self, name: str, most: int | None = None) -> Path:
        """One of its files, fetched whole unless it is kept already.

        Args:
            name: The file.
            most: The most bytes that it may have; None for no limit.

        Raises:
            SourceError: It is not to be had, is larger, or cannot be kept.
        """
        place = safe_path(self.folder / "files", name, self.named(name))
        file = replace(self.remote(name), most=most)
        file.check_size(file.size)
        return fetch(file, place, 0, None, self.named(name))

    def json(self, name: str) -> dict[str, Any]:
        """The JSON object in one of its files.

        Raises:
            SourceError: It holds something else, or as for `whole`.
        """
        content = self.whole(name, _MOST_JSON_BYTES).read_bytes()
        return parse_object(content, self.named(name))

    def tokenizer(self, weights: str) -> Path | None:
        """The tokenizer.json beside the weights, or else at the top; None if there is none.

        Raises:
            SourceError: As for `whole`.
        """
        name = self.beside(weights, "tokenizer.json")
        return self.whole(name, _MOST_TOKENIZER_BYTES) if name else None

    def kept(self) -> tuple[Path, ...]:
        """What opening it has read, on disk."""
        found = [path for part in ("files", "headers") for path in (self.folder / part).rglob("*")]
        whole = [path for path in found if path.is_file() and path.suffix not in PARTIAL]
        return (self.folder / _LISTING, *sorted(whole))

    def beside(self, weights: str, name: str) -> str | None:
        """A file of that name in the folder of the weights, or else at the top, if there is one."""
        places = f"{weights.rpartition('/')[0]}/{name}".removeprefix("/"), name
        return next((place for place in places if place in self.files), None)


def parse_source(source: str) -> tuple[str, str | None, str | None]:
    """The repository, the revision and the file that a source names.

    Raises:
        SourceError: It names no repository.
    """
    from huggingface_hub.errors import HFValidationError

    name, colon, file = source.removeprefix(HUB_PREFIX).partition(":")
    repo, at, revision = name.partition("@")
    try:
        hub_utilities().validate_repo_id(repo)
    except HFValidationError:
        repo = ""
    if not repo or (at and not revision) or (colon and not file):
        raise SourceError("names no repository on the hub", where=source, remedy=_FORM)
    return repo, revision or None, file or None


def _endpoint() -> str | None:
    """The hub to ask; None is huggingface_hub's own choice."""
    return (os.environ.get("HF_ENDPOINT") or "").rstrip("/") or None


def open_repository(repo: str, revision: str | None) -> Repository:
    """A repository at the commit that a revision is at.

    Args:
        repo: ``owner/name``.
        revision: A branch, tag or commit; None is the repository's main branch.

    Raises:
        UnreachableError: The hub does not answer, and did not tell before.
        SourceError: There is no such repository or revision, or access is not granted.
    """
    shown = f"{HUB_PREFIX}{repo}" + (f"@{revision}" if revision else "")
    folder = cache_folder() / "hub" / repo.replace("/", "--")
    reference = folder / "refs" / safe_name(revision or "default", revision)
    if revision is not None and _COMMIT.fullmatch(revision):
        commit: str | None = revision
    else:
        commit = _remembered(reference)
    listed = _listing(folder / commit) if commit else None
    if commit is None or listed is None or commit != revision:
        try:
            commit, listed = _ask(shown, repo, revision, patient=listed is None)
        except UnreachableError as error:
            if commit is None or listed is None:
                raise
            listener().message(f"{error.where}: {error.what}; taking commit {commit}, as last time")
        else:
            _remember(reference, folder / commit, commit, listed)
    return Repository(repo, shown, commit, folder / commit, listed)


def _ask(
    shown: str, repo: str, revision: str | None, *, patient: bool
) -> tuple[str, dict[str, int | None]]:
    """The commit that the hub says a revision is at, and its files with their sizes.

    Raises:
        UnreachableError: The hub does not answer.
        SourceError: There is no such repository or revision, or access is not granted.
    """
    info = persistently(shown, lambda: _model_info(shown, repo, revision), patient=patient)
    commit = str(info.sha)
    if not _COMMIT.fullmatch(commit) or (_COMMIT.fullmatch(revision or "") and commit != revision):
        raise SourceError(f"the server names no commit, but {commit[:60]!r}", where=shown)
    files = {sibling.rfilename: _size(sibling) for sibling in info.siblings or ()}
    return commit, {name: size for name, size in files.items() if isinstance(name, str)}


def _model_info(shown: str, repo: str, revision: str | None) -> Any:
    from huggingface_hub import HfApi, constants

    api = HfApi(endpoint=_endpoint(), library_name="deadtokens")
    try:
        return api.model_info(
            repo, revision=revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SourceError(
            f"the answer is not that of a hub ({type(error).__name__})",
            where=shown,
            remedy="check HF_ENDPOINT, and whether the network asks to sign in",
        ) from None


def _size(sibling: Any) -> int | None:
    size = sibling.lfs.size if sibling.lfs else sibling.size
    return size if isinstance(size, int) and 0 <= size < 2**63 else None


def _remembered(reference: Path) -> str | None:
    """The commit that a revision was at when the hub was last asked."""
    commit = (stored(reference) or b"").decode(errors="replace")
    return commit if _COMMIT.fullmatch(commit) else None


def _listing(folder: Path) -> dict[str, int | None] | None:
    """The files of a commit, as far as they are known."""
    content = stored(folder / _LISTING)
    if content is None:
        return None
    try:
        return dict(parse_object(content, folder))
    except SourceError:  # damaged, and asked for again
        return None


def _remember(reference: Path, folder: Path, commit: str, files: Mapping[str, int | None]) -> None:
    """Keep what the hub said, unless it is kept."""
    if _listing(folder) != files:
        store(folder / _LISTING, json.dumps(files).encode())
    if _remembered(reference) != commit:
        store(reference, commit.encode())
