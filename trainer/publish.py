"""Publishing: a router's folder becomes a model repo of the Hugging Face Hub, in one commit.

What would be sent is listed first; without `send` nothing leaves this machine. `engine.models.router_folder` fetches
such a router again, and lists the files that belong to one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from engine.errors import RouterError
from engine.models.hub import hub_failure, without_bars
from engine.models.router_folder import LIMITS
from engine.operating_points import FILE as OPERATING_POINTS
from engine.router import Router
from trainer import Report, TrainerError

_MAKE_ONE = "make one that may write at https://huggingface.co/settings/tokens, then `hf auth login` or set HF_TOKEN"
_CHANGED = "The repo was changed at the same time: look at what is there now, then run the command again."
WAYS_OUT = {
    401: f"The token is not accepted: {_MAKE_ONE}.",
    403: "The token may not write there: take one with write access to this owner's repos, or publish under your name.",
    409: _CHANGED,
    412: _CHANGED,
    429: "Wait some minutes and run the command again.",
}
NO_ANSWER = "Look at the connection (also HF_ENDPOINT and HF_HUB_OFFLINE) and run the command again."


def publish(
    folder: Path, repo_id: str, *, send: bool = False, private: bool = False, report: Report = print
) -> str | None:
    """Says which files of a router's folder would be sent and where to, and with `send` sends them.

    Args:
        repo_id: owner/name; a model repo.
        send: Without it nothing is sent, and no token is looked for.
        private: Make a private repo; refused where a public one is already there.

    Returns:
        The commit's URL, or None if nothing was sent.

    Raises:
        TrainerError: The folder holds no router, or operating points of another one; the repo's name is none; there is
            no token; or the Hub refuses or does not answer.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise TrainerError(f"{repo_id!r} is not a repo's name: {error}") from None
    if "/" not in repo_id:
        raise TrainerError(f"{repo_id!r} lacks its owner: write owner/name, with your user name on the Hub as owner")
    files = _read_files(folder)
    try:
        router = Router.load(folder)
    except RouterError as error:
        raise TrainerError(f"{error}. Name a folder that `python -m trainer fit --out` wrote.") from error
    if router.warning:
        raise TrainerError(router.warning)
    report(f"Router {router.name} → model repo {repo_id}{', private' if private else ''}")
    for name, content in files.items():
        report(f"  {name:<22}{len(content):>12,} bytes  sha256 {hashlib.sha256(content).hexdigest()}")
    report(f"  {len(files)} files, {sum(map(len, files.values())):,} bytes")
    if left := sorted(path.name for path in folder.iterdir() if path.name not in LIMITS):
        report(f"Not part of a router, stays here: {', '.join(left)}")
    if not send:
        report("Nothing was sent. Run it again with --send to publish.")
        return None
    token = _token()
    try:
        return _commit(HfApi(constants.ENDPOINT, token, "citer-playground"), files, repo_id, private, router, report)
    except TrainerError:
        raise
    except Exception as error:
        # No narrower class would do: connection, Hub, large-file storage and hf_xet raise classes of their own, and
        # huggingface_hub 1 and 2 different ones. `from None`, as the server's own words may quote the token.
        status, words = hub_failure(error)
        words = words.replace(token, "…").rstrip(".")
        raise TrainerError(f"Publishing to {repo_id} failed: {words}. {WAYS_OUT.get(status, NO_ANSWER)}") from None


def _read_files(folder: Path) -> dict[str, bytes]:
    """The router's files that are there, read once: what is listed is what is sent, whatever happens meanwhile."""
    files = {}
    for name, limit in LIMITS.items():
        path = folder / name
        if not path.exists() and not path.is_symlink():
            continue  # Router.load asks for what a router cannot be without
        try:
            if path.resolve().parent != folder.resolve() or not path.is_file():
                raise TrainerError(f"{path} is not a file of this folder (a link?): put a copy of the file there")
            if path.stat().st_size > limit:
                raise TrainerError(f"{path} has {path.stat().st_size:,} bytes; a router's has at most {limit:,}")
            files[name] = path.read_bytes()
        except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself
            raise TrainerError(f"{path} cannot be read: {error}") from error
    return files


def _token() -> str:
    """The user's token; it goes into headers and nowhere else."""
    try:
        token = huggingface_hub.get_token()
    except Exception as error:  # of the file that has it, or of a login service
        raise TrainerError(f"The token cannot be read ({type(error).__name__}): {_MAKE_ONE}") from None
    if not token:
        raise TrainerError(f"There is no token: {_MAKE_ONE}")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise TrainerError(f"The token has characters that no token has: {_MAKE_ONE}")
    return token


def _commit(api: HfApi, files: dict[str, bytes], repo_id: str, private: bool, router: Router, report: Report) -> str:
    """Makes the repo if need be, and commits all files at once."""
    # None, not False: an organisation may make its repos private by default.
    api.create_repo(repo_id, private=private or None, exist_ok=True)
    there = api.model_info(repo_id)
    if private and not there.private:
        raise TrainerError(
            f"{repo_id} is there already and public, so nothing was sent: make it private in its settings on the Hub, "
            "choose another name, or leave --private out"
        )
    operations: list[CommitOperationAdd | CommitOperationDelete] = [CommitOperationAdd(*each) for each in files.items()]
    if OPERATING_POINTS in {sibling.rfilename for sibling in there.siblings or ()} - files.keys():
        report(f"Removing {OPERATING_POINTS} there: it was measured with an earlier router")
        operations.append(CommitOperationDelete(OPERATING_POINTS))
    with without_bars():
        # With the parent the Hub refuses if the repo changes meanwhile.
        commit = api.create_commit(repo_id, operations, commit_message=f"Router {router.name}", parent_commit=there.sha)
    report(f"{'Unchanged' if commit.oid == there.sha else 'Published'}: {commit.commit_url}")
    report(f"Load it with CITER_ROUTER={repo_id}")
    return str(commit.commit_url)
