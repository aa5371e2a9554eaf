"""The bundle on disk: a folder (or a zip of it) with ``manifest.json`` and every file that it lists.

Opened only when whole: every file is checked by size and SHA-256. Written to a temporary name and renamed.
Low planes alone may come later, if asked for: without them a store's narrower graphs run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from pydantic import TypeAdapter, ValidationError

from runtimes.cache import cache_folder, whole_folder
from runtimes.errors import BundleError, NotABundleError
from runtimes.notebook import html_table
from runtimes.spec import OLDEST_SCHEMA, SCHEMA_VERSION, CostTable, FileRecord, Manifest, Variant

MANIFEST = "manifest.json"
_COPY_AGAIN = "compile again, or copy the bundle whole"
_NAME_IT = "name the folder or zip that adaptive-compile wrote"
_COST_TABLES = TypeAdapter(tuple[CostTable, ...])


@dataclass(frozen=True, slots=True, repr=False)
class Bundle:
    """An opened, verified bundle.

    ``location`` is the folder or zip the user named; ``folder`` is where its files lie unpacked;
    ``missing`` are the low planes that have not come yet.
    """

    location: Path
    folder: Path
    manifest: Manifest
    missing: frozenset[str] = frozenset()

    @classmethod
    def open(cls, path: str | os.PathLike[str], partial: bool = False) -> Bundle:
        """Open and verify the bundle at ``path``, a folder or a zip (unpacked once, to the user's cache).

        ``partial``: low planes of its stores may be missing; the 8-bit graphs are then not available.

        Raises: BundleError if it is missing, of an unknown schema, incomplete, altered or unsafe.
        """
        if not isinstance(path, str | os.PathLike):
            reason = f"is {type(path).__name__}, not a path"
            raise NotABundleError(repr(path), reason, "give the folder or zip that adaptive-compile wrote")
        location = Path(path)
        if not location.exists():
            raise NotABundleError(location, "does not exist", "check the path, or run adaptive-compile")
        if location.is_dir():
            return cls._verified(location, location, partial)
        folder = _unpacked(location)
        try:
            return cls._verified(location, folder, partial)
        except BundleError:
            # The cached copy may have been damaged since; if the zip itself is bad, this fails again.
            shutil.rmtree(folder)
            return cls._verified(location, _unpacked(location), partial)

    @classmethod
    def _verified(cls, location: Path, folder: Path, partial: bool) -> Bundle:
        manifest = _read_manifest(folder / MANIFEST, location)
        missing = frozenset(file for file in _low_planes(manifest) if not os.path.lexists(folder / file))
        for file, record in manifest.files.items():
            if file not in missing:
                _verify(folder, file, record, location)
        if missing and not partial:
            fix = "fetch it"
            if any(graph.bits in (4, 2) for graph in manifest.graphs):
                fix += ", or open with partial=True (adaptive-run --partial) to do without 8-bit graphs"
            raise BundleError(location / min(missing), "is missing", fix)
        return cls(location, folder, manifest, missing)

    def available(self, graph: str, target: str | None = None) -> bool:
        """Whether every file of the graph called ``graph`` is there. Raises: KeyError if it is unknown."""
        return self.missing.isdisjoint(self.manifest.files_of(self.manifest.graph(graph, target)))

    def absent(self, target: str | None = None) -> frozenset[str]:
        """The graphs that cannot be run on a target: it has none of that name, or files are missing."""
        every = {graph.name for graph in self.manifest.graphs_of()}
        there = {
            graph.name for graph in self.manifest.graphs_of(target) if self.available(graph.name, target)
        }
        return frozenset(every - there)

    def require_target(self, target: str | None) -> None:
        """Raises: BundleError if the bundle has no graphs for ``target``; None is its own."""
        if target is not None and target not in self.manifest.targets:
            known = ", ".join(self.manifest.targets)
            fix = f"use one of {known}, or compile it for another that adaptive-compile --list-targets shows"
            raise BundleError(self.location, f"has no graphs for target {target}", fix)

    def __repr__(self) -> str:
        manifest = self.manifest
        variants = ", ".join(variant.name for variant in manifest.variants)
        targets = ", ".join(manifest.targets)
        lacking = f", without {', '.join(sorted(self.missing))}" if self.missing else ""
        return (
            f"<Bundle {str(self.location)!r}: {manifest.model} ({manifest.preset}) for {targets}, "
            f"{len(manifest.labels)} labels, variants {variants}{lacking}>"
        )

    def _repr_html_(self) -> str:
        manifest = self.manifest
        return html_table(
            {
                "bundle": self.location,
                "model": f"{manifest.model} ({manifest.preset})",
                "targets": ", ".join(manifest.targets),
                "labels": ", ".join(manifest.labels),
                "variants": ", ".join(variant.name for variant in manifest.variants),
                "steps": f"{manifest.steps.rate_hz:g} a second",
                "not there yet": ", ".join(sorted(self.missing)) or None,
            }
        )

    def require(self, graph: str, target: str | None = None) -> None:
        """Raises: BundleError if the graph called ``graph`` is not available; KeyError if it is unknown."""
        lacking = self.missing.intersection(self.manifest.files_of(self.manifest.graph(graph, target)))
        if lacking:
            reason = f"is missing, and graph {graph} needs it"
            raise BundleError(self.location / min(lacking), reason, "fetch it, and refresh")

    def refresh(self) -> Bundle:
        """The bundle with the low planes that have come since; this one if none has.

        Bring a plane under another name and rename it: one that is half there is an altered one.

        Raises: BundleError if a plane is altered, or another bundle lies there now.
        """
        unpacked = self.folder != self.location  # from a zip, which another may have replaced
        if not unpacked and not any(os.path.lexists(self.folder / file) for file in self.missing):
            return self
        fresh = Bundle.open(self.location, partial=True)
        if fresh.manifest != self.manifest:
            raise BundleError(self.location, "is another bundle than was opened", "open it anew")
        return fresh if fresh.missing != self.missing else self

    def path(self, file: str) -> Path:
        """Absolute path of one of the bundle's files. Raises: BundleError if it is not listed."""
        if file not in self.manifest.files:
            raise BundleError(self.location / file, "is not listed in the manifest", _COPY_AGAIN)
        return (self.folder / file).resolve()

    def variant(self, name: str | None = None, target: str | None = None) -> Variant:
        """The variant called ``name``, or the default one: the first that ``target`` has the graphs of.

        Raises: BundleError if there is none of that name.
        """
        try:
            chosen = self.manifest.variant(name)
            others = self.manifest.variants if name is None else ()
            graphs = {graph.name for graph in self.manifest.graphs_of(target)}
            return next((one for one in (chosen, *others) if one.graphs <= graphs), chosen)
        except KeyError:
            known = ", ".join(variant.name for variant in self.manifest.variants)
            raise BundleError(self.location, f"has no variant {name}", f"use one of {known}") from None

    @property
    def device_costs_path(self) -> Path:
        """Where this device's own cost tables are kept: beside the bundle, which stays as it was compiled."""
        name = self.location.resolve()
        return name.with_name(name.name + ".cost.json")

    def device_costs(self) -> tuple[CostTable, ...]:
        """Cost tables measured on this device by adaptive-bench; empty if there are none.

        Raises: BundleError if the file beside the bundle is damaged.
        """
        path = self.device_costs_path
        if not path.exists():
            return ()
        try:
            return _COST_TABLES.validate_json(path.read_bytes())
        except ValidationError as error:
            raise BundleError(
                path, _first_complaint(error), "delete it and run adaptive-bench again"
            ) from error

    def save_device_costs(self, table: CostTable) -> Path:
        """Keep ``table`` beside the bundle, in place of one of the same device, providers and threads."""
        kept = [old for old in self.device_costs() if old.setup != table.setup]
        path = self.device_costs_path
        growing = path.with_name(f".{path.name}.part")
        growing.write_bytes(_COST_TABLES.dump_json((table, *kept), indent=1))
        growing.replace(path)
        return path

    def costs(self, device: str, provider: str) -> CostTable | None:
        """The cost table that fits best, or None if the bundle has none at all.

        One of this device with this provider before one of this device, the device's own file before the
        manifest; failing both, the manifest's first.
        """
        tables = (*self.device_costs(), *self.manifest.cost_tables)
        here = [table for table in tables if table.device == device]
        fitting = [table for table in here if table.providers[:1] == (provider,)]
        return next(iter((*fitting, *here, *self.manifest.cost_tables)), None)


def check_destination(target: Path) -> None:
    """Raises: BundleError if something is at ``target`` that is not a bundle, or it cannot be written
    there.
    """
    if target.exists() and not (target / MANIFEST).is_file():
        raise BundleError(target, "exists and is not a bundle", "move it away, or name another destination")
    parent = next(folder for folder in target.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise BundleError(target, f"{parent} is not a writable folder", "name another destination")


def write_bundle(destination: str | Path, folder: str | Path, fields: Mapping[str, object]) -> Bundle:
    """Write ``folder``'s files and a manifest of ``fields`` (all but ``files``) as a bundle.

    An existing bundle is replaced whole.

    Raises: BundleError if ``destination`` exists and is not a bundle, or the fields do not make a manifest.
    """
    target, source = Path(destination), Path(folder)
    check_destination(target)
    records = {
        path.relative_to(source).as_posix(): _record(path)
        for path in sorted(source.rglob("*"))
        if path.is_file() and path != source / MANIFEST
    }
    manifest = _validated({**fields, "files": records}, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    # mkdtemp in the same folder: a rename never crosses file systems, so it is atomic.
    growing = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        for file in records:
            (growing / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file, growing / file)
        (growing / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
        growing.chmod(0o755)
        _take_place(growing, target)
    finally:
        shutil.rmtree(growing, ignore_errors=True)
    return Bundle.open(target)


def write_zip(bundle: Bundle, destination: str | Path) -> Path:
    """Write ``bundle`` as one zip file, stored uncompressed (weights do not shrink), and return its path."""
    target = Path(destination)
    growing = target.with_name(f".{target.name}.part")
    with zipfile.ZipFile(growing, "w", zipfile.ZIP_STORED) as archive:
        for file in (MANIFEST, *(file for file in bundle.manifest.files if file not in bundle.missing)):
            # A fixed date: the same bundle gives the same zip, and so the same cache folder.
            archive.writestr(zipfile.ZipInfo(file), (bundle.folder / file).read_bytes())
    growing.replace(target)
    return target


def _take_place(new: Path, target: Path) -> None:
    """Rename ``new`` to ``target``; an old bundle steps aside first and comes back if that fails."""
    if not target.exists():
        new.rename(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    target.rename(aside / target.name)
    try:
        new.rename(target)
    except OSError:
        (aside / target.name).rename(target)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _unpacked(location: Path) -> Path:
    """Folder of the unpacked zip, keyed by the zip's own hash."""
    folder = cache_folder("bundles") / _sha256(location)
    if folder.is_dir():
        return folder
    try:
        with zipfile.ZipFile(location) as archive, whole_folder(folder) as growing:
            _unpack(archive, growing, location)
    except (zipfile.BadZipFile, EOFError) as error:
        with location.open("rb") as file:
            if file.read(2) != b"PK":
                raise NotABundleError(
                    location, "is not a bundle: it is no folder and no zip", _NAME_IT
                ) from None
        raise BundleError(location, f"is not a whole zip ({error})", _COPY_AGAIN) from error
    return folder


def _unpack(archive: zipfile.ZipFile, folder: Path, location: Path) -> None:
    """Unpack the manifest and what it lists, nothing else; the zip may hold one folder around them."""
    names = [name for name in archive.namelist() if not name.endswith("/")]
    for name in names:
        _inside(name, location)
    tops = {PurePosixPath(name).parts[0] for name in names}
    prefix = f"{tops.pop()}/" if len(tops) == 1 and MANIFEST not in names else ""
    if prefix + MANIFEST not in names:
        raise NotABundleError(location, f"is not a bundle: it has no {MANIFEST}", _NAME_IT)
    manifest = _parse_manifest(archive.read(prefix + MANIFEST), location)
    may_come_later = _low_planes(manifest)
    packed_files = [file for file in manifest.files if prefix + file in names or file not in may_come_later]
    for file in packed_files:
        if prefix + file not in names:
            raise BundleError(location / file, "is missing", _COPY_AGAIN)
        if archive.getinfo(prefix + file).file_size != manifest.files[file].bytes:
            raise BundleError(location / file, "size differs from the manifest", _COPY_AGAIN)
    for file in (MANIFEST, *packed_files):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        with archive.open(prefix + file) as packed, (folder / file).open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked, 1 << 20)


def _read_manifest(path: Path, location: Path) -> Manifest:
    if not path.is_file():
        raise NotABundleError(location, f"is not a bundle: it has no {MANIFEST}", _NAME_IT)
    return _parse_manifest(path.read_bytes(), location)


def _parse_manifest(text: bytes, location: Path) -> Manifest:
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise BundleError(location / MANIFEST, f"is not valid JSON ({error})", _COPY_AGAIN) from error
    if not isinstance(fields, dict):
        raise BundleError(location / MANIFEST, "is not a JSON object", _COPY_AGAIN)
    version = fields.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        reason = f"has schema {version}, and the newest known here is {SCHEMA_VERSION}"
        raise BundleError(location / MANIFEST, reason, "upgrade adaptive-video")
    if isinstance(version, int) and version < OLDEST_SCHEMA:
        reason = f"has schema {version}, and the oldest read here is {OLDEST_SCHEMA}"
        raise BundleError(
            location / MANIFEST, reason, "compile again: trained results are reused as far as they fit"
        )
    return _validated(fields, location)


def _validated(fields: Mapping[str, object], location: Path) -> Manifest:
    try:
        manifest = Manifest.model_validate(fields)
    except ValidationError as error:
        raise BundleError(location / MANIFEST, _first_complaint(error), _COPY_AGAIN) from error
    for file in manifest.files:
        _inside(file, location)
    return manifest


def _low_planes(manifest: Manifest) -> frozenset[str]:
    """The files that a partial bundle may lack."""
    return frozenset(store.low for store in manifest.stores)


def _inside(file: str, location: Path) -> None:
    """Refuse a name that could lead out of the bundle on any system."""
    leaves = ".." in PurePosixPath(file).parts or PurePosixPath(file).is_absolute()
    if leaves or not file or "\\" in file or PureWindowsPath(file).drive:
        raise BundleError(
            location, f"lists {file!r}, a path that leaves the bundle", "do not trust it; compile again"
        )


def _verify(folder: Path, file: str, record: FileRecord, location: Path) -> None:
    path = folder / file
    if not path.is_file():
        raise BundleError(location / file, "is missing", _COPY_AGAIN)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BundleError(
            location / file, "is a link that leaves the bundle", "copy the bundle with links followed"
        )
    if path.stat().st_size != record.bytes:
        reason = f"is {path.stat().st_size} bytes where the manifest says {record.bytes}"
        raise BundleError(location / file, reason, _COPY_AGAIN)
    if _sha256(path) != record.sha256:
        raise BundleError(location / file, "SHA-256 differs from the manifest", _COPY_AGAIN)


def _record(path: Path) -> FileRecord:
    return FileRecord(bytes=path.stat().st_size, sha256=_sha256(path))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_complaint(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])
