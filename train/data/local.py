"""Documents in local files: plain text, JSON Lines and Parquet. What is wrong in a file is said with file and line."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from arch.spec import UserError
from train.data import cache, kinds
from train.data.paths import matching


@dataclasses.dataclass(frozen=True)
class Files:
    """The files that a pattern names, and how documents lie in them."""

    pattern: str
    format: str
    field: str
    per: str

    def paths(self) -> list[Path]:
        """The files in sorted order. Raises UserError if there are none, or one is compressed."""
        found = matching(self.pattern)
        try:
            for path in found:
                kinds.refuse_packed(path)
        except OSError as error:
            raise unreadable(error) from error
        return found

    def kind(self, path: Path) -> str:
        """How the documents lie in a file."""
        return self.format if self.format != "auto" else kinds.kind_of(path)

    def sha256(self) -> list[str]:
        """The content of the files, as one hash each; with how it is read, where nothing else says that."""
        try:
            return [cache.file_sha256(path) + self._told(path) for path in self.paths()]
        except OSError as error:
            raise unreadable(error) from error

    def _told(self, path: Path) -> str:
        told = kinds.told_apart(path, self.kind(path)) if self.format == "auto" else None
        return f" {told}" if told else ""

    def documents(self) -> Iterator[str]:
        """The documents, file by file; empty ones are left out. Raises UserError at what cannot be read."""
        for path in self.paths():
            texts: Iterator[str]
            try:
                kind = self.kind(path)
                if kind == kinds.JSONL:
                    texts = json_lines(path, self.field)
                elif kind == kinds.PARQUET:
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
            value = _json(line, field, f"{path}:{number}")
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


def _json(line: str, field: str, where: str) -> Any:
    """What a line of JSON holds. Raises UserError if it is none, or has two values of `field`."""
    try:
        value = json.loads(line)
        pairs = json.loads(line, object_pairs_hook=tuple) if line.count(json.dumps(field)) > 1 else ()
    except ValueError as error:
        raise UserError(f"{where}: not JSON: {error}; each line must be one JSON object") from None
    except RecursionError:
        raise UserError(f"{where}: is nested too deeply; each line must be one JSON object") from None
    if isinstance(value, dict) and sum(name == field for name, _ in pairs) > 1:
        raise UserError(f"{where}: has two fields {field!r}; which of them is the text?")
    return value


def parquet(path: Path, column: str) -> Iterator[str]:
    """The texts of a column; null is left out."""
    import pyarrow as pa  # heavy, and needed for this format only
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as stream, pq.ParquetFile(stream) as table:
            schema = table.schema_arrow
            if column not in schema.names:
                raise UserError(f"{path}: no column {column!r}; it has {', '.join(map(repr, schema.names))}")
            if schema.names.count(column) > 1:
                raise UserError(f"{path}: has two columns {column!r}; which of them is the text?")
            kind = schema.field(column).type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise UserError(f"{path}: column {column!r} holds {kind}, not text")
            for batch in table.iter_batches(columns=[column], batch_size=1024):
                yield from (text for text in batch.column(column).to_pylist() if text is not None)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: not a whole Parquet file ({reason})") from error


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
