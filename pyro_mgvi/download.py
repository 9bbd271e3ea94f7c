"""Downloads that go on where they stopped."""

from __future__ import annotations

import os
from pathlib import Path

from tqdm.auto import tqdm

from pyro_mgvi.errors import DataError, SettingsError

BLOCK = 1 << 20  # bytes


def fetch(url: str, path: Path) -> None:
    """Download ``url`` to ``path``, whole or not at all.

    What an interrupted download has got stays in ``<path>.part``, and the next one goes on from
    there if the server allows it.

    Raises
    ------
    SettingsError
        If pooch is not installed.
    DataError
        If the download fails.
    """
    try:
        import pooch
        import requests
        from urllib3.exceptions import HTTPError
    except ImportError as error:
        raise SettingsError(
            f"downloading {path.name} needs pooch: pip install 'pyro-mgvi[tutorials]'; "
            f"or download {url} yourself and put it at {path}"
        ) from error
    partial = path.with_name(path.name + ".part")

    def resume(url: str, output: str, _pooch) -> None:
        done = partial.stat().st_size if partial.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
        with requests.get(url, headers=headers, stream=True, timeout=30) as response:
            total = int(response.headers.get("Content-Range", "/0").rpartition("/")[2] or 0)
            if response.status_code == 416 and total == done:  # it had all but the renaming
                os.replace(partial, output)
                return
            response.raise_for_status()
            going_on = response.status_code == 206
            left = int(response.headers.get("Content-Length", 0))
            with (
                partial.open("ab" if going_on else "wb") as file,
                tqdm(
                    initial=done if going_on else 0,
                    total=(done if going_on else 0) + left or None,
                    unit="B",
                    unit_scale=True,
                    desc=path.name,
                ) as bar,
            ):
                # Not decoded: a server may call a gzip file its encoding.
                for block in response.raw.stream(BLOCK, decode_content=False):
                    file.write(block)
                    bar.update(len(block))
        os.replace(partial, output)

    try:
        pooch.retrieve(url, known_hash=None, fname=path.name, path=path.parent, downloader=resume)
    except (requests.RequestException, HTTPError, OSError) as error:
        reason = " ".join(str(error).split())
        kept = f" (the part that came is kept in {partial.name})" if partial.exists() else ""
        raise DataError(
            f"{path.name} could not be downloaded{kept}: {reason:.200}. Download {url} by "
            f"other means and put it at {path}"
        ) from error
