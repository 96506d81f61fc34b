"""Uploads a publication to the Hugging Face hub, in one commit."""

from adamergex.errors import AdapterError
from adamergex.sharing.publication import Publication
from adamergex.storage import hub
from adamergex.storage.hub import HubName


def upload(publication: Publication, *, private: bool = False, revision: str | None = None) -> str:
    """Make the repository if there is none, and commit all files at once.

    Args:
        publication: what is uploaded.
        private: whether a repository that is made is private.
        revision: the branch, made from the main one if there is none; the main one if left out.

    Returns:
        The address of what was uploaded.

    Raises:
        AdapterError: there is no token, or the hub refuses.
        NetworkError: the hub does not answer.
    """
    import huggingface_hub

    place = HubName(publication.repository, revision)
    begin = f"{place}: not published: "
    if hub.is_offline():
        raise AdapterError(f"{begin}HF_HUB_OFFLINE is set; unset it")
    if huggingface_hub.get_token() is None:
        raise AdapterError(
            f"{begin}it takes a token that may write; log in with `hf auth login`, or set HF_TOKEN (--dry-run needs none)"
        )
    operations = [
        huggingface_hub.CommitOperationAdd(
            path_in_repo=path, path_or_fileobj=content if isinstance(content, bytes) else str(content)
        )
        for path, content in publication.files.items()
    ]
    api = huggingface_hub.HfApi()
    with hub.asking(begin, place):
        api.create_repo(place.repository, private=private or None, exist_ok=True)
        if private and not api.model_info(place.repository, timeout=hub.TIMEOUT).private:
            raise AdapterError(
                f"{begin}the repository is there already, and public; make it private on its page, or leave out --private"
            )
        if revision is not None:
            api.create_branch(place.repository, branch=revision, exist_ok=True)
        message = f"Upload the adapter for {', '.join(publication.languages)} with adamergex"
        api.create_commit(place.repository, operations, commit_message=message, revision=revision)
    return f"{api.endpoint}/{place.repository}" + (f"/tree/{revision}" if revision else "")
