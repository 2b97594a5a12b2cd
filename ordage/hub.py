"""Models on the Hugging Face hub: fetched where one is named so, and pushed only when somebody asks for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import DataError, MissingError, UsageError

__all__ = ["HUB", "MODEL_FILES", "Pushed", "fetch", "push"]

HUB = "hf:"  # what names a model of the hub begins with, as a data set of it does
MODEL_FILES = ("model.json", "model.safetensors", "calibration.json")  # all that `load` reads
SHARED_FILES = (*MODEL_FILES, "README.md", "model.onnx", "model.pt2")
CLIENTS = ("httpx", "httpcore", "requests", "urllib3")  # of HTTP, with their successors such as httpx2
LOG_IN = "run `hf auth login`, or set HF_TOKEN to a token that may do it"
NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Pushed:
    """Where a model went.

    Attributes:
        address: of the commit.
        public: whether everybody can see it.
    """

    address: str
    public: bool


def fetch(name: str) -> Path:
    """Return the folder of a model of the hub, downloaded where it is not here yet.

    Args:
        name: ``hf:user/name``, and ``@revision`` after it where a certain one is meant.

    Raises:
        UsageError: it is not of that form.
        MissingError: the hub cannot be reached, or has no such model.
    """
    from huggingface_hub import snapshot_download

    repository, _, revision = name.removeprefix(HUB).partition("@")
    _check(repository, name)
    with _told(name):
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(MODEL_FILES)))


def push(folder: Path, name: str, *, private: bool = True) -> Pushed:
    """Put an exported folder on the hub: what ``ordage push`` does.

    Args:
        folder: that `export` wrote; nothing but the files that it writes is sent.
        name: ``user/name``, with or without ``hf:``; made where it is not there.
        private: whether a new one is for its owner's eyes alone.

    Returns:
        The address of the commit, and whether everybody can see it: that of a repository that was there stays.

    Raises:
        UsageError: the name is not of that form.
        DataError: not such a folder.
        MissingError: nobody is logged in, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    repository = name.removeprefix(HUB)
    _check(repository, name)
    for needed in ("model.json", "model.safetensors", "README.md"):
        if not (folder / needed).is_file():
            raise DataError(f"{folder}: no {needed}; expected a folder that `ordage export` wrote")
    api = HfApi(token=True)  # of whoever is logged in; nobody pushes unnamed
    with _told(name):
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            folder_path=folder,
            repo_id=repository,
            allow_patterns=list(SHARED_FILES),
            delete_patterns=list(SHARED_FILES),  # those of the model that was there before
            commit_message="Add a model trained by ordage",
        )
        return Pushed(str(commit), not api.model_info(repository).private)


def _check(repository: str, name: str) -> None:
    if not NAME.fullmatch(repository):
        raise UsageError(f"{name}: expected the name of a model on the hub, such as {HUB}user/name")


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Say in one line what the hub, or the way to it, refuses."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    try:
        yield
    except HFValidationError as error:  # rules for names that the library knows
        raise UsageError(f"{name}: {str(error).strip().splitlines()[0]}") from None
    except LocalTokenNotFoundError:
        raise MissingError(f"{name}: nobody is logged in on the hub; {LOG_IN}") from None
    except HfHubHTTPError as error:
        reason = str(error.server_message or error).strip().splitlines()[0]
        refused = error.response is not None and error.response.status_code in (401, 403)
        hint = f"; {LOG_IN}" if refused else ""
        raise MissingError(f"{name}: the hub refuses: {reason}{hint}") from None
    except Exception as error:
        if _is_of_the_network(error):
            raise MissingError(f"{name}: the hub cannot be reached ({type(error).__name__})") from None
        if isinstance(error, OSError) and error.strerror:  # a full disk, a folder that may not be written to
            raise DataError(f"{error.filename or name}: {error.strerror}") from None
        raise


def _is_of_the_network(error: Exception) -> bool:
    """Return whether it is of the way to the hub, by whichever client the library has in this version."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    known = (ConnectionError, TimeoutError, LocalEntryNotFoundError)
    return isinstance(error, known) or type(error).__module__.startswith(CLIENTS)
