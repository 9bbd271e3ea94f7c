"""Saved models, damaged in every file: refused by path, or read as the model that was saved."""

import copy
import json
import os
import shutil
import warnings
from functools import partial, reduce
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from fuzz.bench import BRIEF, FULL, cells, untrained
from fuzz.judge import Case
from pyro_mgvi import MGVI

FILES = ("settings.json", "weights.pt", "history.csv")
PATHS = {
    "None": None, "number": 3, "list": ["x"], "bytes": b"x", "empty": "", "NUL": "a\0b",
    "long": "x" * 400,
    "True": True, "dict": {}, "object": object(),
}  # fmt: skip


def saved(bench):
    """Save the full model, and return its folder."""
    return shutil.copytree(bench.once("saved", lambda: _saved(bench)), bench.folder / "model")


def _saved(bench):
    path = bench.shared.folder / "model"
    bench.full.save(path)
    return path


def read(bench, path):
    """Return what a model says, and whether it goes on."""
    loaded = MGVI.load(path)
    said = loaded.latents(bench.adata)
    loaded.fit(bench.adata, BRIEF, progress=False)
    repr(loaded)
    loaded.save(bench.folder / "again")
    return said


def said(bench):
    return bench.once("full", lambda: bench.full.latents(bench.adata))


def changed(file, change, bench):
    path = saved(bench)
    content = (path / file).read_bytes()
    (path / file).unlink()
    new = change(content)
    if new is not None:
        (path / file).write_bytes(new)
    return path


def flipped(share, content):
    at = int(share * (len(content) - 1))
    return content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]


CHANGES = {
    "missing": lambda content: None,
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "without its end": lambda content: content[:-7],
    "without its beginning": lambda content: content[7:],
    "twice": lambda content: content + content,
    "zeros": lambda content: bytes(len(content)),
    "noise": lambda content: np.random.default_rng(0).bytes(len(content)),
    "text": lambda content: b"not what it was",
    "null": lambda content: b"null",
    "list": lambda content: b"[]",
    "number": lambda content: b"3",
    "nested": lambda content: b"[" * 100_000,
    "Latin text": lambda content: "Dünndarm".encode("latin-1"),
    "zip": lambda content: b"PK\x05\x06" + bytes(18),
}


def files():
    for file, (name, change) in ((f, c) for f in FILES for c in CHANGES.items()):
        equals = said if file == "history.csv" or (file, name) == ("weights.pt", "twice") else None
        yield Case(
            "model file", f"{file}: {name}", partial(changed, file, change), read, equals, "model"
        )
    for share in np.linspace(0, 1, 25):
        yield Case("model file", f"weights.pt: a byte at {share:.2f}",
                   partial(changed, "weights.pt", partial(flipped, share)), read, said,
                       "model")  # fmt: skip
    for share in np.linspace(0, 1, 15):
        yield Case("model file", f"history.csv: a byte at {share:.2f}",
                   partial(changed, "history.csv", partial(flipped, share)), read, said,
                       "model")  # fmt: skip

    def folder_for_file(file, bench):
        path = saved(bench)
        (path / file).unlink()
        (path / file).mkdir()
        return path

    def file_for_folder(bench):
        (bench.folder / "model").write_text("x")
        return bench.folder / "model"

    def of_another(bench):
        path = saved(bench)
        bench.mgvi.save(bench.folder / "other")
        os.replace(bench.folder / "other" / "weights.pt", path / "weights.pt")
        return path

    for file in FILES:
        yield Case(
            "model file", f"{file}: a folder", partial(folder_for_file, file), read, None, "model"
        )
    yield Case(
        "model file", "a file for the folder", file_for_folder, read, None, "model is not a saved"
    )
    yield Case("model file", "weights of another", of_another, read, None, "model")
    yield Case(
        "model file", "no folder", lambda b: b.folder / "model", read, None, "model is not a saved"
    )
    yield Case(
        "model file", "an empty folder", lambda b: b.folder, read, None, "is not a saved model"
    )
    yield Case(
        "model file", "below a file", lambda b: file_for_folder(b) / "x", read, None, "not a saved"
    )
    for name, value in PATHS.items():
        yield Case("model file", f"load({name})", lambda b: None, lambda b, _,
            v=value: MGVI.load(v), None,
                   "path")  # fmt: skip
    for name, value in {"None": None, "number": 3, "text": "Lasso", "texts": ["Lasso"],
        "class": MGVI,
                        "object": [object()]}.items():  # fmt: skip
        yield Case("model file", f"components={name}", saved,
                   lambda b, path, v=value: MGVI.load(path, components=v), None,
                       "components")  # fmt: skip


def places(x, here=()):
    """Yield the place of everything in a tree of settings."""
    items = x.items() if isinstance(x, dict) else enumerate(x[:1]) if isinstance(x, list) else ()
    for key, value in items:
        yield (*here, key)
        yield from places(value, (*here, key))


DELETE = object()
VALUES = {"deleted": DELETE, "null": None, "text": "x", "minus": -1.5, "list": [], "dict": {},
    "true": True,
          "huge": 1e30}  # fmt: skip


def set_to(settings, place, value):
    settings = copy.deepcopy(settings)
    *outer, last = place
    inner = reduce(lambda x, key: x[key], outer, settings)
    if value is DELETE:
        del inner[last]
    else:
        inner[last] = value
    return settings


def edited(place, value, bench):
    def change(content):
        return json.dumps(set_to(json.loads(content), place, value)).encode()

    return changed("settings.json", change, bench)


def values_of_settings():
    """Yield a case for each place in the settings, and some wrong values in turn."""
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mgvi = untrained(cells(), **FULL)
        mgvi.plan = BRIEF
        mgvi.save(Path(folder) / "model")
        settings = json.loads((Path(folder) / "model" / "settings.json").read_text())
    names = list(VALUES)
    for i, place in enumerate(places(settings)):
        for name in (names[j % len(names)] for j in range(2 * i, 2 * i + 2)):
            was = reduce(lambda x, key: x[key], place, settings)
            if isinstance(was, float) and isinstance(VALUES[name], float):
                continue  # a number like any other: the settings of another model
            text = ".".join(map(str, place))
            given = partial(edited, place, VALUES[name])
            yield Case(
                "setting of a saved model",
                f"{text} {name}",
                given,
                read,
                said,
                "model|adata|obs|layer|own_weight",
            )


def targets():
    """Yield places where a model cannot be saved."""

    def save(bench, path):
        bench.mgvi.save(path)

    def other_files(bench):
        path = saved(bench)
        (path / "notes.txt").write_text("mine")
        return path

    def of_file(bench):
        (bench.folder / "file").write_text("mine")
        return bench.folder / "file"

    def of_folder(bench):
        (bench.folder / "results").mkdir()
        return bench.folder / "results"

    yield Case(
        "target of a model", "a file", of_file, save, None, "file exists and is not a saved model"
    )
    yield Case(
        "target of a model",
        "below a file",
        lambda b: of_file(b) / "model",
        save,
        None,
        "file/model",
    )
    yield Case("target of a model", "a folder", of_folder, save, None, "results exists and is not")
    yield Case("target of a model", "with other files", other_files, save, None, "notes.txt")
    for name, value in PATHS.items():
        yield Case("target of a model", name, lambda b, v=value: v, save, None, "path|saved model")


CASES = [*files(), *values_of_settings(), *targets()]
