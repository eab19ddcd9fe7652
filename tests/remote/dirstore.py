"""An object store over a folder, as `dirstore://`: whole objects, no append, rename or link.

What goes wrong is asked for in files beside the objects, so that a test can ask a child process:
`.down` fails every request, `.slow` holds the seconds of a PUT, `.listed` a name that each listing
has as well. `.puts` lists what was put, with sizes.
Imports nothing of ours: children load it by its path.
"""

import hashlib
import os
import time
import uuid
from pathlib import Path
from typing import Any, NoReturn

import fsspec
from fsspec.spec import AbstractFileSystem


class DirStore(AbstractFileSystem):  # type: ignore[misc]  # untyped
    """The objects of the folder $DIRSTORE."""

    protocol = "dirstore"
    cachable = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.folder = Path(os.environ["DIRSTORE"])

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        self._answer()
        place = self._place(path)
        if place.is_dir():
            return {"name": self._strip_protocol(path), "size": 0, "type": "directory"}
        content = place.read_bytes()
        return {
            "name": self._strip_protocol(path),
            "size": len(content),
            "type": "file",
            "ETag": hashlib.md5(content).hexdigest(),
            "LastModified": place.stat().st_mtime,
        }

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        self._answer()
        place, path = self._place(path), self._strip_protocol(path)
        if not place.exists():
            raise FileNotFoundError(path)
        if place.is_file():
            return [self.info(path)] if detail else [path]
        names = sorted(p.name for p in place.iterdir() if path or not p.name.startswith("."))
        found = [f"{path}/{name}".strip("/") for name in names]
        infos = [self.info(name) for name in found]
        listed = self.folder / ".listed"
        if listed.exists():
            infos.append({"name": f"{path}/{listed.read_text()}", "size": 3, "type": "file"})
        return infos if detail else [info["name"] for info in infos]

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        self._answer()
        if mode != "rb":
            raise NotImplementedError(f"objects are put as a whole, not opened for {mode!r}")
        return self._place(path).open("rb")

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        self._answer()
        slow = self.folder / ".slow"
        if slow.exists():
            time.sleep(float(slow.read_text()))
        place = self._place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        part = self.folder / f".{uuid.uuid4().hex}"
        part.write_bytes(value)
        try:
            if mode == "create":
                os.link(part, place)
            else:
                os.replace(part, place)
        finally:
            part.unlink(missing_ok=True)
        with (self.folder / ".puts").open("a") as log:
            log.write(f"{path} {len(value)}\n")

    def put_file(self, lpath: str, rpath: str, **_: Any) -> None:
        self.pipe_file(rpath, Path(lpath).read_bytes())

    def rm_file(self, path: str) -> None:
        self._answer()
        self._place(path).unlink()
        with (self.folder / ".puts").open("a") as log:
            log.write(f"-{path} 0\n")

    def mkdirs(self, path: str, exist_ok: bool = False) -> None:
        """Stores have no folders."""

    def mv(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("objects have no rename")

    def _answer(self) -> None:
        if (self.folder / ".down").exists():
            raise ConnectionError("the store is down")

    def _place(self, path: str) -> Path:
        return self.folder / str(self._strip_protocol(path))


fsspec.register_implementation("dirstore", DirStore, clobber=True)
