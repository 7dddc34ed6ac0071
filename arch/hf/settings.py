"""What a `config.json` says, read with types and with the defaults of Transformers' class. Errors are one line."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from arch.layers.feed_forward import Activation
from arch.spec import UserError

ACTS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
"""Transformers' names of activations -> ours."""

THEIRS: dict[str, str] = {"silu": "silu", "relu": "relu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh"}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The fields of a configuration.

    Attributes:
      values: as JSON has them.
      defaults: of fields that are not there.
      name: what errors call it.
    """

    values: Mapping[str, Any]
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    name: str = "config.json"

    def get(self, field: str) -> Any:
        """The value, the default, or None."""
        return self.values.get(field, self.defaults.get(field))

    def _typed(self, field: str, value: Any, kinds: tuple[type, ...], wanted: str) -> Any:
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise self.wrong(field, wanted)
        return value

    def wrong(self, field: str, wanted: str) -> UserError:
        """The error for a field."""
        return UserError(f"{self.name}: {field}={self.get(field)!r}: must be {wanted}")

    def integer(self, field: str) -> int:
        value = self._typed(field, self.get(field), (int,), "a whole number above 0")
        if value < 1:
            raise self.wrong(field, "a whole number above 0")
        return int(value)

    def maybe(self, field: str) -> int | None:
        """A whole number, or None."""
        return None if self.get(field) is None else self.integer(field)

    def number(self, field: str) -> float:
        return float(self._typed(field, self.get(field), (int, float), "a number"))

    def flag(self, field: str) -> bool:
        return bool(self._typed(field, self.get(field), (bool,), "true or false"))

    def words(self, field: str) -> list[str]:
        value = self._typed(field, self.get(field), (list,), "a list of words")
        return [self._typed(field, word, (str,), "a list of words") for word in value]

    def act(self, field: str) -> Activation:
        """An activation, by our name."""
        value = self.get(field)
        if not isinstance(value, str) or value not in ACTS:
            raise self.wrong(field, f"one of {', '.join(ACTS)}")
        return ACTS[value]

    def only(self, field: str, *allowed: Any) -> None:
        """Refuses a value that has no counterpart here."""
        if self.get(field) not in allowed:
            raise self.wrong(field, f"{' or '.join(map(repr, allowed))}, for which there is a part here")

    def part(self, field: str, defaults: Mapping[str, Any] | None = None) -> Settings:
        """The configuration in a field."""
        value = self._typed(field, self.get(field), (dict,), "a configuration")
        return Settings(value, self.defaults if defaults is None else defaults, f"{self.name}: {field}")

    def rope(self, *, theta: float = 10_000.0, fraction: float = 1.0, of: str | None = None) -> tuple[float, float]:
        """(base, fraction of a head that is rotated); `of`: of the layers of one kind. Refuses scaled positions."""
        held = self.get("rope_parameters")
        held = {} if held is None else held
        if of is not None and isinstance(held, dict):
            held = held.get(of) or {}
        scaling = self.get("rope_scaling")
        for told in (held, scaling):
            if told is None:
                continue
            if not isinstance(told, dict):
                raise self.wrong("rope_parameters", "a configuration")
            kind = told.get("rope_type", told.get("type", "default"))
            if kind != "default":
                raise UserError(
                    f"{self.name}: rope_type={kind!r}: must be 'default'; scaled positions have no part here"
                )
        base = held.get("rope_theta", self.get("rope_theta"))
        part = held.get("partial_rotary_factor", self.get("partial_rotary_factor"))
        for value in (base, part):
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise self.wrong("rope_parameters", "numbers")
        return float(theta if base is None else base), float(fraction if part is None else part)


def rope(base: float, **more: float) -> dict[str, Any]:
    """Rotary positions as a configuration states them."""
    return {"rope_type": "default", "rope_theta": base, **more}


def kinds(settings: Settings, depth: int, default: Sequence[str]) -> list[str]:
    """`layer_types` of each layer, "full_attention" or "sliding_attention"."""
    found = list(default) if settings.get("layer_types") is None else settings.words("layer_types")
    if len(found) != depth or any(kind not in ("full_attention", "sliding_attention") for kind in found):
        raise settings.wrong("layer_types", f"full_attention or sliding_attention for each of {depth} layers")
    return found
