"""A family of models in Transformers: its configuration from a spec, a spec from its configuration, its tensors.

`config` reads what it has fields for and looks at nothing else; whether the rest agrees is found by the way back, which
must give the same model: `spec(config(model)) == model` in canonical form. So no field of a spec is passed over, also
none that a part gets later. The table of tensors serves both ways; each of our arrays is in it once.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np

from arch.blocks.base import Block
from arch.hf.canonical import canonical, unlike
from arch.hf.layouts import Flat, Layout, Linear, Tensor
from arch.hf.plain import Plain
from arch.hf.settings import Settings
from arch.hf.weights import Shapes, shapes
from arch.models.base import Model
from arch.models.trunk import Trunk
from arch.spec import SpecError, UserError

Part = TypeVar("Part")
FAR = 1_000_000
"""More fields than any model has."""


class UnfitError(Exception):
    """A model that a family has no counterpart for: which part, and why."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a configuration states and the network does not decide.

    Attributes:
      context: the longest row that it is known to be good for.
      bos, eos, pad, mask: ids of special tokens; None: there are none.
    """

    context: int = 2048
    bos: int | None = None
    eos: int | None = None
    pad: int | None = None
    mask: int | None = None


@dataclasses.dataclass(frozen=True)
class Planned:
    """A tensor that is to be written: `value` makes it, in float32, when it is its turn."""

    name: str
    shape: tuple[int, ...]
    value: Callable[[], np.ndarray]


class Family(abc.ABC):
    """Attributes:
    model_type: the name in `config.json`.
    architecture: the class with a head.
    native: constants that are fields here, not folded (`arch.hf.plain`).
    defaults: of the fields of `config.json`, as in Transformers.
    ignored: regular expressions; tensors of published checkpoints that the function does not depend on.
    since: the first release of Transformers that computes the same, where that is no 5.0.
    base: what the names of tensors begin with, which checkpoints of the bare model lack.
    """

    model_type: ClassVar[str]
    architecture: ClassVar[str]
    native: ClassVar[frozenset[str]] = frozenset()
    defaults: ClassVar[Mapping[str, Any]] = {}
    since: ClassVar[str] = ""
    base: ClassVar[str] = ""
    ignored: ClassVar[tuple[str, ...]] = (r"rotary_emb\.inv_freq$", r"position_ids$")

    @abc.abstractmethod
    def config(self, model: Any, facts: Facts) -> dict[str, Any]:
        """The fields of the configuration of a canonical model. Raises UnfitError."""

    @abc.abstractmethod
    def spec(self, settings: Settings) -> Model:
        """The model of a configuration. Raises UserError for what has no part here."""

    @abc.abstractmethod
    def tensors(self, model: Any) -> list[Tensor]:
        """Every tensor of a model that `spec` gave."""

    def settings(self, values: Mapping[str, Any], name: str = "config.json") -> Settings:
        """The configuration with the defaults of this family."""
        return Settings(values, self.defaults, name)

    def read(self, values: Mapping[str, Any], name: str = "config.json") -> Model:
        """`spec` with one line for whatever is wrong."""
        try:
            return self.spec(self.settings(values, name))
        except SpecError as error:
            raise UserError(f"{name}: {'; '.join(str(error).splitlines())}") from error

    def table(self, model: Model) -> tuple[list[Tensor], Shapes]:
        """The tensors of a model and the shapes of its arrays. Raises AssertionError unless each is in there once."""
        tensors, known = self.tensors(model), shapes(model)
        held = [path for tensor in tensors for path in tensor.paths]
        assert sorted(held) == sorted(known), (set(held) ^ set(known), [p for p in held if held.count(p) > 1])
        return tensors, known

    def fit(self, plain: Plain, facts: Facts) -> tuple[dict[str, Any], Model, frozenset[str]]:
        """(configuration, the model that it stands for, paths of arrays there that are zero since ours lacks them).

        Raises UnfitError: the first part that has no counterpart.
        """
        config = self.config(plain.model, facts)
        try:
            target = self.read(config)
        except UserError as error:
            raise UnfitError(str(error).removeprefix("config.json: ")) from error
        wrong = [one for one in unlike(plain.model, canonical(target)) if not _widened(*one)]
        if wrong:
            raise UnfitError(told(*wrong[0], self.model_type, len(wrong) - 1))
        known = shapes(target)
        lacking = frozenset(path for path in known if path not in plain.weights)
        assert all(path.endswith("bias") for path in lacking), lacking
        for path, weight in plain.weights.items():
            if known.get(path) != weight.shape:
                raise UnfitError(f"{path} of shape {list(weight.shape)} has no place in {self.model_type}")
        return config, target, lacking

    def distance(self, plain: Plain, facts: Facts) -> int:
        """In how many fields a model differs from the nearest one of this family; of those to choose a message by."""
        try:
            target = self.read(self.config(plain.model, facts))
        except UserError:
            return FAR
        except UnfitError as error:
            return 2 * FAR if str(error).startswith("model=") else FAR
        return len([one for one in unlike(plain.model, canonical(target)) if not _widened(*one)])

    def planned(self, plain: Plain, target: Model, lacking: frozenset[str]) -> list[Planned]:
        """The tensors of `plain`, which `fit` has found to be a `target`."""
        tensors, known = self.table(target)

        def made(tensor: Tensor) -> np.ndarray:
            arrays = [np.zeros(known[path], np.float32) if path in lacking else plain.weights[path].value()
                      for path in tensor.paths]  # fmt: skip
            return np.ascontiguousarray(tensor.layout.join(arrays))

        found = []
        for tensor in tensors:
            shape = tensor.layout.shape([known[path] for path in tensor.paths])
            names = (tensor.name, *(tensor.copies if tensor.written else ()))
            found += [Planned(name, shape, functools.partial(made, tensor)) for name in names]
        constants = self.constants(target)
        return found + [
            Planned(name, value.shape, functools.partial(_itself, value)) for name, value in constants.items()
        ]

    def constants(self, model: Any) -> Mapping[str, np.ndarray]:
        """Name -> tensor that a checkpoint of this family has and that is the same for all of ours."""
        return {}

    def absorbed(self, tensors: Mapping[str, np.ndarray], take: Callable[[str], Any]) -> Mapping[str, np.ndarray]:
        """`tensors` by name with what a checkpoint holds beside them added; `take(name)` is such a tensor, or None."""
        return tensors


def _itself(value: np.ndarray) -> np.ndarray:
    return value


def _widened(path: str, ours: Any, theirs: Any) -> bool:
    """A bias that the family has and ours lacks is one of zeros."""
    return path.endswith(".bias") and ours is False and theirs is True


def told(path: str, ours: Any, theirs: Any, family: str, more: int) -> str:
    """One line about a part without a counterpart."""
    words = path.replace("block.each.", "layer ")
    head, _, tail = words.partition(".")
    if words.startswith("layer "):
        words = f"{head} {tail}".strip()
    rest = f", and {more} more" if more else ""
    return f"{words}={ours!r} has no counterpart: {family} has {theirs!r} there{rest}"


def want(value: Any, kind: type[Part], where: str) -> Part:
    """`value`, if it is of `kind` exactly; a subclass is another part. Raises UnfitError."""
    if type(value) is not kind:
        raise UnfitError(f"{where}={type(value).__name__} has no counterpart; {kind.__name__} would have one")
    return value


def has_bias(linear: Any) -> bool:
    """Whether a linear map has a bias; one of another kind than `Dense` is found by the way back."""
    return bool(getattr(linear, "bias", False))


def first_block(trunk: Trunk) -> Block:
    """The block of the first layer of a canonical trunk."""
    blocks: Sequence[Block] = trunk.block.each  # type: ignore[union-attr]
    return blocks[0]


def linear(name: str, path: str, bias: bool, inputs: int = 1, layout: type[Layout] = Linear) -> list[Tensor]:
    """The tensors of a linear map: `name.weight`, and `name.bias` if it has one."""
    weight = Tensor(f"{name}.weight", (f"{path}.kernel",), layout(inputs))  # type: ignore[call-arg]
    return [weight, *([Tensor(f"{name}.bias", (f"{path}.bias",), Flat())] if bias else [])]


def norm(name: str, path: str, bias: bool = False, layout: Layout = Flat()) -> list[Tensor]:
    """The tensors of a norm."""
    weight = Tensor(f"{name}.weight", (f"{path}.gain",), layout)
    return [weight, *([Tensor(f"{name}.bias", (f"{path}.bias",), Flat())] if bias else [])]


def table(name: str, path: str, copies: tuple[str, ...] = ()) -> Tensor:
    """An embedding table; `copies`: what is tied to it."""
    return Tensor(name, (path,), Flat(2), copies)


def attention(name: str, path: str, bias: bool, names: str = "{}_proj") -> list[Tensor]:
    """Separate projections, `names` being made of q, k, v and o."""
    return [
        tensor
        for x in "qkvo"
        for tensor in linear(f"{name}.{names.format(x)}", f"{path}.{x}", bias, inputs=2 if x == "o" else 1)
    ]
