"""Documents in local files: plain text, JSON Lines and Parquet. What is wrong in a file is said with file and line."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import json
from collections.abc import Generator, Iterator
from pathlib import Path

from arch.spec import UserError
from train.data import cache

FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")


@dataclasses.dataclass(frozen=True)
class Files:
    """The files that a pattern names, and how documents lie in them."""

    pattern: str
    format: str
    field: str
    per: str

    def paths(self) -> list[Path]:
        """The files in sorted order. Raises UserError if there are none."""
        pattern = str(Path(self.pattern).expanduser())
        if Path(pattern).is_dir():
            raise UserError(f"{pattern} is a folder; name the files in it, e.g. {pattern}/**/*.txt")
        found = sorted(path for path in map(Path, glob.glob(pattern, recursive=True)) if path.is_file())
        if not found and glob.has_magic(pattern):
            raise UserError(f"no file matches {pattern} (looked from {Path.cwd()})")
        if not found:
            raise UserError(f"no such file: {pattern} (looked from {Path.cwd()})")
        for path in found:
            if path.suffix in PACKED:
                raise UserError(f"{path} is compressed; unpack it first")
        return found

    def sha256(self) -> list[str]:
        """The content of the files, as one hash each."""
        try:
            return [cache.file_sha256(path) for path in self.paths()]
        except OSError as error:
            raise unreadable(error) from error

    def documents(self) -> Iterator[str]:
        """The documents, file by file; empty ones are left out. Raises UserError at what cannot be read."""
        for path in self.paths():
            kind = self.format if self.format != "auto" else FORMATS.get(path.suffix, "text")
            texts: Iterator[str]
            try:
                if kind == "jsonl":
                    texts = json_lines(path, self.field)
                elif kind == "parquet":
                    texts = parquet(path, self.field)
                else:
                    texts = plain(path, self.per)
                yield from (text for text in texts if text.strip())
            except OSError as error:
                raise unreadable(error) from error


def plain(path: Path, per: str) -> Iterator[str]:
    """Documents of a text file: the whole file, its lines, or its paragraphs (parted by blank lines)."""
    gathered: list[str] = []
    for line in lines(path):
        if per == "line":
            yield line.rstrip("\n")
        elif per == "paragraph" and not line.strip():
            yield "".join(gathered).rstrip("\n")
            gathered = []
        else:
            gathered.append(line)
    yield "".join(gathered) if per == "file" else "".join(gathered).rstrip("\n")


def json_lines(path: Path, field: str) -> Generator[str, None, None]:
    """The text `field` of each line, a JSON object."""
    with contextlib.closing(lines(path)) as found:  # also where a line is refused
        for number, line in enumerate(found, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except ValueError as error:
                raise UserError(f"{path}:{number}: not JSON: {error}; each line must be one JSON object") from None
            if not isinstance(value, dict):
                raise UserError(f"{path}:{number}: {type(value).__name__} where a JSON object with {field!r} should be")
            if field not in value:
                raise UserError(f"{path}:{number}: no field {field!r}; it has {', '.join(map(repr, value)) or 'none'}")
            text = value[field]
            if not isinstance(text, str):
                raise UserError(f"{path}:{number}: field {field!r} holds {type(text).__name__}, not text")
            try:
                text.encode()
            except UnicodeEncodeError:
                raise UserError(f"{path}:{number}: field {field!r} holds half a surrogate pair: not text") from None
            yield text


def parquet(path: Path, column: str) -> Iterator[str]:
    """The texts of a column; null is left out."""
    import pyarrow as pa  # heavy, and needed for this format only
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            schema = table.schema_arrow
            if column not in schema.names:
                raise UserError(f"{path}: no column {column!r}; it has {', '.join(map(repr, schema.names))}")
            kind = schema.field(column).type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise UserError(f"{path}: column {column!r} holds {kind}, not text")
            for batch in table.iter_batches(columns=[column], batch_size=1024):
                yield from (text for text in batch.column(0).to_pylist() if text is not None)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a whole Parquet file ({str(error).splitlines()[0]})") from error


def lines(path: Path) -> Generator[str, None, None]:
    """Lines with their newline, as \\n whatever the platform wrote; a byte order mark is dropped."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                where = f"byte {error.start + 1} of the line (0x{line[error.start]:02x})"
                raise UserError(f"{path}:{number}: {where} is not UTF-8; convert the file, e.g. with iconv") from None
            yield text[:-2] + "\n" if text.endswith("\r\n") else text


def unreadable(error: OSError) -> UserError:
    return UserError(f"cannot read {error.filename}: {error.strerror or error}")
